"""A run in the terminal: progress while it goes on, a table at its end, and the list of benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from videobrain.evaluation.benchmarks import BenchmarkRow, LoadedBenchmark
from videobrain.evaluation.metrics import Accuracy, in_short, percent
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.results import SUPERSEDED_FILE
from videobrain.evaluation.scores import Scores
from videobrain.report.words import counted

_LINE_SECONDS = 30.0
"""Time between two lines of progress where nothing can move, as in a log file."""
_PROBLEMS = 20
_FILE_WIDTH = 140
"""Characters of a table's line in a file, where no terminal says how many there are."""


class EvaluationDisplay:
    """Shows the progress of a run. Use it as a context manager and pass it as ``on_progress``.

    In a terminal one line is kept up to date; elsewhere a line comes from time to time.

    Args:
        quiet: Show nothing.
        file: Where to write; standard error by default.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, *, quiet: bool = False, file: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.progress: Progress | None = None
        """The last one."""
        self._name = ""
        self._console = _console(file, stderr=True, quiet=quiet)
        self._clock = clock
        self._live: Live | None = None
        self._told_at = float("-inf")

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.quiet:
            self._live = Live(
                console=self._console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
                get_renderable=self._line,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, progress: Progress) -> None:
        """Show a moment of the run."""
        first, self.progress = self.progress is None, progress
        if first and progress.earlier:
            self._console.print(Text(f"{counted(progress.earlier, 'question')} finished earlier."), soft_wrap=True)
        if first and progress.superseded:
            answers = counted(progress.superseded, "answer")
            said = f"{answers} put aside in {SUPERSEDED_FILE}: the questions read otherwise now, and are asked again."
            self._console.print(Text(said, "yellow"), soft_wrap=True)
        if self._live is None and self._clock() - self._told_at >= _LINE_SECONDS:
            self._told_at = self._clock()
            self._console.print(Text(words_of(progress)), soft_wrap=True)

    def of_run(self, name: str, progress: Progress) -> None:
        """Show a moment of one of several runs that follow each other."""
        if name != self._name:
            self._name, self.progress = name, None
            self._console.print(Text(name, "bold"))
        self(progress)

    def problems(self, benchmark: LoadedBenchmark) -> None:
        """Say what is wrong with the benchmark's files."""
        others = [problem for problem in benchmark.problems if problem.kind != "video"]
        for problem in others[:_PROBLEMS]:
            self._console.print(Text(str(problem), "yellow"), soft_wrap=True)
        if more := len(others[_PROBLEMS:]):
            self._console.print(Text(f"… and {more} more problems of the files.", "yellow"), soft_wrap=True)
        expected = benchmark.expected_questions
        if expected is not None and len(benchmark.samples) < expected:
            said = f"The files hold {len(benchmark.samples):,} of the split's {counted(expected, 'question')}."
            self._console.print(Text(said, "yellow"), soft_wrap=True)
        if benchmark.benchmark.subtitles and not any(sample.subtitles for sample in benchmark.samples):
            folders = " or ".join(benchmark.benchmark.subtitles)
            said = f"No subtitles were found in {folders}: the questions are asked without."
            self._console.print(Text(said, "yellow"), soft_wrap=True)
        if videos := len(benchmark.missing_videos):
            left_out = len(benchmark.samples) - len(benchmark.playable)
            said = f"{_count(videos, 'video is', 'videos are')} missing: {counted(left_out, 'question')} left out."
            self._console.print(Text(said, "yellow"), soft_wrap=True)

    def _line(self) -> Table:
        table = Table.grid(padding=(0, 1))
        if self.progress is None:
            table.add_row(Text("reaching the model"))
        else:
            bar = ProgressBar(total=self.progress.questions or 1, completed=self.progress.done, width=24)
            table.add_row(bar, Text(words_of(self.progress), no_wrap=True, overflow="ellipsis"))
        return table


def words_of(progress: Progress) -> str:
    """A moment of a run as one line."""
    words = [f"{progress.done:,} of {counted(progress.questions, 'question')}"]
    if progress.per_second is not None:
        words.append(f"{60 * progress.per_second:.1f} a minute")
    if progress.seconds_left is not None and progress.done < progress.questions:
        words.append(f"{_spoken(progress.seconds_left)} left")
    if progress.accuracy is not None:
        words.append(f"accuracy {percent(progress.accuracy)}")
    if progress.frames_per_question is not None:
        words.append(f"{progress.frames_per_question:.1f} frames each")
    words.append(counted(progress.errors, "error"))
    if progress.done < progress.questions:
        words.append(f"{progress.concurrency} at once")
    if progress.to_judge:
        words.append(f"{progress.judged:,} of {counted(progress.to_judge, 'answer')} judged")
    if progress.missing_verdicts:
        words.append(_count(progress.missing_verdicts, "verdict missing", "verdicts missing"))
    return ", ".join(words)


def print_scores(scores: Scores, file: TextIO) -> None:
    """Write the table of a run."""
    console = _console(file)
    total = scores.total
    where = f"{scores.benchmark} ({scores.split}), {scores.model}, {scores.strategy}"
    console.print(Text(where + (f", shard {scores.shard}" if scores.shard else ""), "bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("questions", "accuracy, 95 % interval", "unanswered", "errors", "frames", "turns", "seconds"):
        table.add_column(name, justify="right")
    table.add_row("all", *_cells(total), style="bold")
    for name, parts in scores.slices.items():
        for value, part in parts.items():
            table.add_row(f"{name}: {value}", *_cells(part))
    console.print(table)
    for line in _remarks(scores):
        console.print(Text(line), soft_wrap=True)


def print_benchmarks(rows: Sequence[BenchmarkRow], file: TextIO) -> None:
    """Write the list of benchmarks."""
    console = _console(file)
    for row in rows:
        asks = f"  {row.task}" + (f"; {row.questions} questions" if row.questions else "")
        console.print(Text(row.name, "bold").append(asks if row.task else "", "not bold"), soft_wrap=True)
        for name, text in (("licence", row.licence), ("to download", row.download)):
            if not text:
                continue
            if console.is_terminal:
                console.print(Padding(Text(f"{name}: {text}"), (0, 0, 0, 4)))
            else:  # whoever reads a file wraps lines as they like
                console.print(Text(f"    {name}: {text}"), soft_wrap=True)


def _cells(part: Accuracy) -> list[str]:
    cost = part.efficiency
    return [
        f"{part.questions:,}",
        str(part.accuracy) if part.accuracy else "not known",
        f"{part.unanswered:,}",
        f"{part.errors:,} ({percent(part.error_rate)})",
        f"{cost.frames:.1f}",
        f"{cost.turns:.1f}",
        f"{cost.seconds:.1f}",
    ]


def _remarks(scores: Scores) -> list[str]:
    cost = scores.total.efficiency
    remarks = []
    if scores.grounding is not None:
        fit = scores.grounding
        recall = ", ".join(f"{name} {share}" for name, share in fit.recall.items() if name.startswith("R1"))
        remarks.append(f"Spans of {counted(fit.questions, 'question')}: mIoU {fit.miou}, {recall}.")
    if scores.search is not None:
        found = scores.search
        remarks.append(
            f"Frames shown against the evidence of {counted(found.questions, 'question')}: "
            f"recall {found.recall}, precision {found.precision}, F1 {found.f1}."
        )
    if scores.own:
        remarks.append(f"As the authors of {scores.benchmark} report it: {in_short(scores.own)}.")
    judge, without = scores.judged, scores.total.unscored - scores.total.missing_verdicts
    if without:
        remarks.append(f"{counted(without, 'question')} without a known truth, left out of the accuracy.")
    if judge is not None and judge.missing:
        causes = ", ".join(f"{count:,} {cause.replace('_', ' ')}" for cause, count in judge.causes.items())
        missing = _count(judge.missing, "verdict is", "verdicts are")
        remarks.append(f"{missing} missing ({causes}), left out of the accuracy: --judge MODEL judges those answers.")
    if scores.with_subtitles:
        remarks.append(
            f"Asked with subtitles: {scores.with_subtitles:,} of {counted(scores.total.questions, 'question')}."
        )
    if scores.without_subtitles:
        remarks.append(
            f"{counted(scores.without_subtitles, 'question')} asked without subtitles, which could not be used."
        )
    calls = ", ".join(f"{tool} {count:.2f}" for tool, count in cost.tool_calls.items())
    remarks.append(
        f"Per question: {cost.input_tokens:,.0f} tokens read ({cost.cached_tokens:,.0f} from a cache), "
        f"{cost.output_tokens:,.0f} written, {cost.corrections:.2f} corrections"
        + (f"; calls: {calls}." if calls else ".")
    )
    if scores.failed_tools:
        remarks.append(
            f"In {counted(scores.failed_tools, 'question')} a tool failed, and the model went on without it: "
            "the column warnings of the records says why."
        )
    if scores.passing_errors:
        remarks.append(
            f"{counted(scores.passing_errors, 'error')} of the server or of a worker, not of the question: "
            "the same command asks again."
        )
    if scores.malformed:
        remarks.append(f"{counted(scores.malformed, 'row')} of the benchmark could not be read.")
    if scores.missing_videos:
        missing = _count(scores.missing_videos, "video is", "videos are")
        remarks.append(f"{missing} missing: {counted(scores.missing_questions, 'question')} left out.")
    if scores.total.questions < scores.questions:
        remarks.append(f"{scores.total.questions:,} of {counted(scores.questions, 'question')} finished.")
    if scores.limit is not None and scores.total.questions <= scores.limit:
        remarks.append(f"Limited to the first {counted(scores.limit, 'question')}.")
    whole = scores.expected_questions
    if whole is not None and scores.shard is None and scores.total.questions < whole:
        remarks.append(
            f"These are {scores.total.questions:,} of the split's {whole:,} questions: no figure of the whole split."
        )
    remarks.append(f"Results: {scores.run}")
    return remarks


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _console(file: TextIO | None, *, stderr: bool = False, quiet: bool = False) -> Console:
    console = Console(
        file=file, stderr=stderr and file is None, quiet=quiet, highlight=False, markup=False, emoji=False
    )
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console
