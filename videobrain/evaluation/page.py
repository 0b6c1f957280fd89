"""A comparison as HTML: one page with tables, plot and questions, a page of each question, and one of each trace.

The pages need no network and no server. Everything that a benchmark, a model or a caller wrote is escaped; see
`videobrain.report.page`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from jinja2 import Template
from markupsafe import Markup

from videobrain.agent import Trace
from videobrain.errors import TraceError
from videobrain.evaluation.comparison import Comparison, compare
from videobrain.evaluation.metrics import OutcomeKind, Verdicts, in_short, outcome, slices_of
from videobrain.evaluation.pairing import PairedQuestion, PairedRuns, pair
from videobrain.evaluation.plot import inline
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample
from videobrain.report.page import environment, render, save_report, write_page
from videobrain.report.words import clean, clock
from videobrain.result import Span

INDEX = "index.html"
Traces = Literal["all", "differing", "none"]
"""Of which questions the traces become pages. ``differing``: those that two runs did not end alike."""

_LONGEST_QUESTION, _LONGEST_ANSWER = 180, 60
_NOT_SCORED, _NOT_ASKED = "n", "-"
_CODES: Mapping[OutcomeKind | None, str] = {
    "correct": "r",
    "incorrect": "w",
    "unanswered": "u",
    "error": "e",
    None: _NOT_SCORED,
}
_WORDS = {
    "r": "right",
    "w": "wrong",
    "u": "unanswered",
    "e": "error",
    _NOT_SCORED: "not scored",
    _NOT_ASKED: "not asked",
}
_COLORS = {"r": "good", "w": "bad", "u": "warn", "e": "warn", _NOT_SCORED: "", _NOT_ASKED: ""}


class RunSource(NamedTuple):
    """What the pages need of a run."""

    records: Sequence[Record]
    directory: Path | None = None
    """That in which the records' traces are; None where there are none."""
    verdicts: Verdicts | None = None
    """Scores of a judge by the sample's key, for answers in words."""


class _TracePage(NamedTuple):
    page: str | None
    """As seen from the question's page."""
    problem: str
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one run made of a question, and the page of its trace."""

    run: str
    record: Record | None
    code: str
    brief: str
    page: str | None = None
    no_page: str = ""

    @property
    def words(self) -> str:
        return _WORDS[self.code]

    @property
    def color(self) -> str:
        return _COLORS[self.code]


@dataclass(frozen=True, slots=True)
class _Row:
    """A question in the list."""

    question: str
    truth: str
    page: str
    slices: str
    answers: tuple[_Answer, ...]

    @property
    def codes(self) -> str:
        return " ".join(answer.code for answer in self.answers)


def save_comparison(
    runs: Mapping[str, RunSource],
    directory: str | os.PathLike[str],
    *,
    comparison: Comparison | None = None,
    plot: str | None = None,
    traces: Traces = "all",
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write the pages of a comparison: ``index.html``, and beside it ``questions/`` and ``traces/``.

    A trace's page that is newer than the trace is kept as it is, so that writing the pages again is quick. The list is
    written last, whole or not at all.

    Args:
        runs: By name, the baseline first.
        directory: Where the pages go; it is made where it is missing.
        comparison: The figures of these runs, where they are there already; else they are computed.
        plot: What `accuracy_against_frames` gave; the page has none without it.
        traces: Which traces become pages. One has the size of its trace.
        progress: Called with the number of questions that are written, and of all.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: The runs cannot be compared, see `pair`.
        OSError: A page cannot be written.
    """
    out = Path(directory)
    side = pair({name: run.records for name, run in runs.items()})
    found = comparison or compare(side, verdicts=verdicts_by_run(runs))
    slices = {(part.slice, part.value): number for number, part in enumerate(found.slices)}
    rows = _rows(side, slices, [run.verdicts for run in runs.values()])
    for folder in ("questions", "traces"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    style = _asset("page.css")
    for number, (question, row) in enumerate(zip(side.questions, rows, strict=True)):
        shown = _with_traces(row, list(runs.values()), out, wanted=_wanted(row, traces))
        page = render(
            _template("page_question.html.j2"),
            style=style,
            row=shown,
            sample=question.sample,
            truth=_truth(question.sample, _LONGEST_QUESTION),
            benchmark=question.key.benchmark,
            before=Path(rows[number - 1].page).name if number else None,
            after=Path(rows[number + 1].page).name if number + 1 < len(rows) else None,
            spans=_spans,
        )
        (out / row.page).write_text(page, "utf-8")  # not synced each: the list is what says that all are there
        if progress is not None:
            progress(number + 1, len(rows))
    figures = {"accuracy": "Accuracy"} if found.slices else {}
    if any(part.miou for part in found.slices):
        figures["miou"] = "mIoU"
    page = render(
        _template("page.html.j2"),
        script=_asset("page.js"),
        style=style,
        title=f"Comparison of {len(side.names)} runs" if len(side.names) > 1 else side.names[0],
        comparison=found,
        overall=found.overall,
        in_short=in_short,
        figures=figures,
        plot=Markup(inline(plot)) if plot is not None else None,
        outcomes={code: words for code, words in _WORDS.items() if any(code in row.codes.split() for row in rows)},
        slices=[f"{name}: {value}" for name, value in slices],
        rows=rows,
    )
    return write_page(out / INDEX, page)


def verdicts_by_run(runs: Mapping[str, RunSource]) -> dict[str, Verdicts]:
    """The verdicts of every run that has some, as `compare` takes them."""
    return {name: run.verdicts for name, run in runs.items() if run.verdicts is not None}


def _rows(side: PairedRuns, slices: Mapping[tuple[str, str], int], judged: Sequence[Verdicts | None]) -> list[_Row]:
    return [
        _Row(
            question=_shortened(question.sample.question, _LONGEST_QUESTION),
            truth=_truth(question.sample, _LONGEST_ANSWER),
            page=f"questions/{_digest(*question.key)}.html",
            slices=" ".join(str(slices[part]) for part in _parts_of(question) if part in slices),
            answers=tuple(
                _answer(name, record, verdicts)
                for name, record, verdicts in zip(side.names, question.records, judged, strict=True)
            ),
        )
        for question in side.questions
    ]


def _parts_of(question: PairedQuestion) -> list[tuple[str, str]]:
    """The parts of slices that a question is in."""
    return [("benchmark", question.key.benchmark), *slices_of(question.sample).items()]


def _answer(run: str, record: Record | None, verdicts: Verdicts | None) -> _Answer:
    if record is None:
        return _Answer(run, None, _NOT_ASKED, "")
    said = record.prediction
    brief = ""
    if said is not None and record.sample.task == "open":
        brief = _shortened(said.text, _LONGEST_ANSWER)
    elif said is not None:
        brief = said.choice or _spans(said.spans[:1])
    return _Answer(run, record, _CODES[outcome(record, verdicts=verdicts)], brief)


def _wanted(row: _Row, traces: Traces) -> bool:
    if traces == "differing":
        return len(set(row.codes.split())) > 1
    return traces == "all"


def _with_traces(row: _Row, runs: Sequence[RunSource], out: Path, *, wanted: bool) -> _Row:
    """The row with the page of every trace, which is written where it is not there yet."""
    answers = []
    for answer, run in zip(row.answers, runs, strict=True):
        found = _trace_page(answer.record, run.directory, out, wanted=wanted)
        answers.append(replace(answer, page=found.page, no_page=found.problem))
    return replace(row, answers=tuple(answers))


def _trace_page(record: Record | None, directory: Path | None, out: Path, *, wanted: bool) -> _TracePage:
    """The page of a trace, which is written where it is wanted and not there yet."""
    if record is None or record.trace is None or directory is None:
        return _TracePage(None, "was not kept")
    trace = (directory / record.trace).resolve()
    if not trace.is_relative_to(directory.resolve()):  # a results file may come from somebody else
        return _TracePage(None, "lies outside the run's directory")
    page = out / "traces" / f"{_digest(str(trace))}.html"
    try:
        written = trace.stat().st_mtime
        if not page.exists() or page.stat().st_mtime < written:
            if not wanted:
                return _TracePage(None, "was not made a page")
            save_report(Trace.load(trace), page)
    except TraceError as error:
        return _TracePage(None, str(error).replace(str(trace), record.trace))  # pages are given away: no directories
    except OSError as error:
        return _TracePage(None, f"cannot be read: {error.strerror or error}")
    return _TracePage(f"../traces/{page.name}", "")


def _truth(sample: Sample, longest: int) -> str:
    if sample.letter is not None:
        return sample.letter
    return _shortened(sample.answer or "", longest) or _spans(sample.spans) or "not known"


def _spans(spans: Sequence[Span]) -> str:
    return ", ".join(f"{clock(start)} to {clock(end)}" for start, end in spans)


def _shortened(text: str, longest: int) -> str:
    text = clean(" ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _digest(*parts: str) -> str:
    """A name for a file that is the same each time and can hold no path."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _asset(name: str) -> str:
    return resources.files("videobrain.evaluation").joinpath(name).read_text(encoding="utf-8")


@cache
def _template(name: str) -> Template:
    return environment().from_string(_asset(name))
