"""What ``videobrain compare`` does: runs are read from their directories, and tables printed and pages written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from videobrain.errors import ConfigurationError, MissingDependencyError
from videobrain.evaluation.comparison import Compared, Comparison, Contrast, compare
from videobrain.evaluation.metrics import in_short, percent
from videobrain.evaluation.page import RunSource, Traces, save_comparison, verdicts_by_run
from videobrain.evaluation.plot import accuracy_against_frames, save_plot
from videobrain.evaluation.results import read_results
from videobrain.evaluation.scoring import scores_by_key
from videobrain.evaluation.verdict_file import read_judgements
from videobrain.report.words import clean

PLOT = "accuracy-frames.svg"
_PIPED_COLUMNS = 240
"""Where no terminal bounds a line, none is broken."""


_TRACES: Mapping[str, Traces] = {"all": "all", "differing": "differing", "none": "none"}


def read_runs(arguments: Sequence[str], *, judge: str | None = None, rubric: str | None = None) -> dict[str, RunSource]:
    """Read runs by name, in the order given.

    Args:
        arguments: Directories of runs, or ``NAME=DIRECTORY``. Without a name, the directory's own is taken, or its
            whole path where two directories have the same.
        judge: Name of the judge whose verdicts count, where there are those of several.
        rubric: Name of the rubric, where there are several.

    Raises:
        InputError: A directory holds no results.
        ConfigurationError: Verdicts of several judges are there and none is chosen, or two runs have the same name.
    """
    named = [_split(argument) for argument in arguments]
    short = [name or path.resolve().name for name, path in named]
    runs: dict[str, RunSource] = {}
    for (given, path), name in zip(named, short, strict=True):
        chosen = str(path) if given is None and short.count(name) > 1 else name
        if chosen in runs:
            raise ConfigurationError(f"Two runs are called {chosen}.", hint=f"Give one a name: 'other={path}'.")
        records = read_results(path)
        verdicts = scores_by_key(records, read_judgements(path), judge=judge, rubric=rubric)
        runs[chosen] = RunSource(records, path, verdicts)
    return runs


class _Named(NamedTuple):
    name: str | None
    path: Path


def _split(argument: str) -> _Named:
    name, equals, path = argument.partition("=")
    if not equals or not name or Path(argument).exists():  # a directory may have the sign in its name
        return _Named(None, Path(argument))
    return _Named(name, Path(path))


def run_compare(
    arguments: Sequence[str],
    *,
    out: Path | None,
    traces: str,
    judge: str | None = None,
    rubric: str | None = None,
    as_json: bool,
    quiet: bool,
    console: Console,
    tell: Callable[[str], object],
) -> None:
    """Read the runs, print what they come to, and write the pages where they are wanted.

    Args:
        arguments: See `read_runs`.
        out: Directory of the pages; None for none.
        traces: ``all``, ``differing`` or ``none``.
        judge: See `read_runs`.
        rubric: See `read_runs`.
        as_json: Print the comparison as one JSON object, not as tables.
        quiet: No progress on standard error.
        console: Where the result goes.
        tell: Takes a line for people beside the result.

    Raises:
        InputError: The runs cannot be read or compared, or an option cannot be used.
    """
    if traces not in _TRACES:
        raise ConfigurationError(f"--traces {traces} is not known.", hint="Give one of all, differing and none.")
    runs = read_runs(arguments, judge=judge, rubric=rubric)
    if out is not None and out.resolve() in [run.directory.resolve() for run in runs.values() if run.directory]:
        raise ConfigurationError(f"{out} is the directory of a run.", hint="Name another one with --out.")
    comparison = compare({name: run.records for name, run in runs.items()}, verdicts=verdicts_by_run(runs))
    if as_json:
        console.file.write(comparison.model_dump_json() + "\n")
    else:
        show(comparison, console)
    if out is not None:
        with _progress(quiet) as progress:
            svg = _plot(comparison, out, tell)
            page = save_comparison(
                runs, out, comparison=comparison, plot=svg, traces=_TRACES[traces], progress=progress
            )
        tell(f"The page is {page}")


def _plot(comparison: Comparison, out: Path, tell: Callable[[str], object]) -> str | None:
    """The plot, which also becomes a file; None where matplotlib is missing, since the pages are worth having."""
    try:
        svg = accuracy_against_frames(comparison)
    except MissingDependencyError as error:
        tell(f"warning: the page has no plot: {error}")
        return None
    save_plot(svg, out / PLOT)
    return svg


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(), transient=True) as bars:
        task = bars.add_task("writing pages", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison as tables: figures, what a question cost, and slices."""
    if not console.is_terminal:
        console.width = _PIPED_COLUMNS
    several = len(comparison.runs) > 1
    console.print(
        f"{comparison.questions} questions on {comparison.videos} videos"
        + (f" that all runs have; differences are those to {clean(comparison.baseline)}" if several else "")
    )
    for run in comparison.runs:
        if run.missing or run.only_here:
            console.print(
                f"{clean(run.name)}: {run.asked} questions, {run.only_here} that no other run has; "
                f"{run.missing} of other runs are missing"
            )
    console.print(_figures(comparison))
    for run in comparison.runs:
        if run.own:
            console.print(f"{clean(run.name)}, as the benchmark's authors report it: {in_short(run.own)}")
    if any(run.with_subtitles for run in comparison.runs):
        asked = ", ".join(f"{clean(run.name)} {run.with_subtitles:,}" for run in comparison.runs)
        console.print(f"Asked with subtitles: {asked}, of {comparison.questions:,} questions")
    console.print(_cost(comparison))
    if comparison.published:
        console.print(_published(comparison))
        console.print(
            f"Published figures are of whole splits, those of the runs above of {comparison.questions:,} questions."
        )
    if comparison.slices:
        console.print(_slices(comparison))


def _figures(comparison: Comparison) -> Table:
    several = len(comparison.runs) > 1
    spans = comparison.overall.miou
    heads = ["accuracy, 95 %", *(["difference, 95 %", "p", "p (Holm)"] if several else []), "unanswered", "errors"]
    if spans:
        heads += ["mIoU, 95 %", *(["difference, 95 %", "p (Holm)"] if several else []), "R1@0.5"]
    table = _table("run", *heads)
    for number, run in enumerate(comparison.runs):
        right = comparison.overall.accuracy[number]
        cells = [_interval(right)]
        if several:
            cells += [_difference(right.contrast), *_p(right.contrast)]
        cells += [percent(run.unanswered_rate), percent(run.accuracy.error_rate)]
        if spans:
            cells.append(_interval(spans[number]))
            if several:
                cells += [_difference(spans[number].contrast), _p(spans[number].contrast)[1]]
            cells.append("-" if run.grounding is None else str(run.grounding.recall["R1@0.5"]))
        table.add_row(clean(run.name), *cells)
    return table


def _cost(comparison: Comparison) -> Table:
    table = _table("run", "frames", "turns", "tool calls", "prompt tokens", "written tokens", "seconds")
    for run in comparison.runs:
        cost = run.accuracy.efficiency
        table.add_row(
            clean(run.name),
            f"{cost.frames:.1f}",
            f"{cost.turns:.2f}",
            f"{sum(cost.tool_calls.values()):.2f}",
            f"{cost.input_tokens:,.0f}",
            f"{cost.output_tokens:,.0f}",
            f"{cost.seconds:.1f}",
        )
    return table


def _published(comparison: Comparison) -> Table:
    table = _table("published, not measured here", "benchmark", "split", "metric", "%", "source")
    for row in comparison.published:
        table.add_row(
            row.system, row.benchmark, row.split or "not stated", row.metric, f"{row.percent:.1f}", row.source
        )
    return table


def _slices(comparison: Comparison) -> Table:
    heads = [head for run in comparison.runs for head in (clean(run.name), "difference", "p (Holm)")]
    table = _table("slice", "questions", heads[0], *heads[3:])
    for part in comparison.slices:
        cells = [
            cell
            for found in part.accuracy
            for cell in (_interval(found), _difference(found.contrast), _p(found.contrast)[1])
        ]
        table.add_row(clean(f"{part.slice}: {part.value}"), str(part.questions), cells[0], *cells[3:])
    return table


def _table(first: str, *heads: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", overflow="fold")
    return table


def _interval(found: Compared) -> str:
    return "-" if found.interval is None else str(found.interval)


def _difference(contrast: Contrast | None) -> str:
    return "-" if contrast is None else str(contrast)


def _p(contrast: Contrast | None) -> list[str]:
    """The p-value, and the corrected one."""
    if contrast is None:
        return ["-", "-"]
    return [f"{p:.3f}" if p >= 0.001 else "< 0.001" for p in (contrast.p, contrast.p_holm)]
