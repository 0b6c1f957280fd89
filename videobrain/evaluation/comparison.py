"""Runs held against each other, question by question: pure functions over their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.benchmarks import Published, published_for
from videobrain.evaluation.metrics import (
    Accuracy,
    Difference,
    Grounding,
    Interval,
    Taken,
    Verdicts,
    accuracy,
    clustered,
    grounding,
    holm,
    localised,
    overlap_of,
    own_figures,
    paired,
    scored,
    slices,
)
from videobrain.evaluation.metrics.grounding import taken_for
from videobrain.evaluation.pairing import PairedQuestion, PairedRuns, QuestionKey, pair
from videobrain.evaluation.record import Record

Runs = Mapping[str, Sequence[Record]] | PairedRuns
"""Records by the name of their run, the baseline first; or runs that `pair` has put side by side."""


class Contrast(BaseModel):
    """How far a run is above the baseline on the same questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    """Lower end of its 95 % interval."""
    high: float
    p: float
    """How often runs of equal merit would differ at least as much, in either direction."""
    p_holm: float
    """The same after Holm's correction, for all differences that stand together in one table."""
    questions: int
    """How many both were scored on."""

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


class Compared(BaseModel):
    """A figure of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval: Interval | None
    """None where there is nothing to take it over."""
    contrast: Contrast | None
    """Against the baseline; None for the baseline itself, and where both share no scored question."""


class Part(BaseModel):
    """All shared questions, or those with one value of a slice, and the figures of every run on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slice: str
    """Such as ``duration``; empty for all questions."""
    value: str
    """Such as ``long``."""
    questions: int
    videos: int
    accuracy: tuple[Compared, ...]
    """In the order of the runs."""
    miou: tuple[Compared, ...] | None
    """Mean IoU of the spans, over what each run was asked for spans of; None where no run was."""


class RunSummary(BaseModel):
    """One run on the questions that all runs share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    strategy: str
    asked: int
    """Questions that the run has in all; its figures are those of the shared ones."""
    only_here: int
    """Questions that no other run has."""
    missing: int
    """Questions of other runs that this one does not have."""
    accuracy: Accuracy
    unanswered_rate: float
    """Unanswered among all shared questions."""
    grounding: Grounding | None
    """None where this run was not asked for spans."""
    with_subtitles: int = 0
    """Shared questions that were asked with subtitles."""
    own: dict[str, float] = {}
    """What the benchmark's authors report (`own_figures`), where all questions are of one benchmark."""


class Comparison(BaseModel):
    """What runs come to on the same questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: str
    """Name of the first run, which the others are held against."""
    questions: int
    """How many all runs share: every figure is taken over these."""
    videos: int
    runs: tuple[RunSummary, ...]
    overall: Part
    slices: tuple[Part, ...]
    published: tuple[Published, ...] = ()
    """What others published for these benchmarks as a whole."""


class _Score(NamedTuple):
    key: QuestionKey
    video: str
    value: float


class _Questions(NamedTuple):
    """A part of the questions, before its figures."""

    slice: str
    value: str
    questions: Sequence[PairedQuestion]


class _Raw(NamedTuple):
    interval: Interval | None
    difference: Difference | None


def compare(runs: Runs, *, taken: Taken | None = None, verdicts: Mapping[str, Verdicts] | None = None) -> Comparison:
    """Hold runs against the first one, on the questions that all of them have.

    Errors and unanswered questions are not correct, as in `accuracy`. Every difference is one of `metrics.paired`:
    whole videos are resampled for its interval, and swapped for its p-value. The same records give the same figures.
    ``p_holm`` is corrected over the runs for the overall differences, and over all parts of all slices and all runs
    for those of slices; accuracy and mIoU are families of their own.

    Spans are scored of each run by itself, where it was asked for them (`metrics.localised`).

    Args:
        runs: Records by the run's name, the baseline first.
        taken: What several spans of one answer are; by default what they are in their benchmark.
        verdicts: By the run's name, scores of a judge by the sample's key, for answers in words.

    Raises:
        InputError: See `pair`.
    """
    side = runs if isinstance(runs, PairedRuns) else pair(runs)
    judged = [(verdicts or {}).get(name) for name in side.names]
    right = _in_all([_scores(side, run, verdicts=judged[run]) for run in range(len(side.names))])
    ious = [_ious(side.records(run), taken) for run in range(len(side.names))]
    parts = _parts(side)
    (overall,) = _figures([_Questions("", "", side.shared)], right, ious)
    return Comparison(
        baseline=side.names[0],
        questions=len(side.shared),
        videos=overall.videos,
        runs=tuple(
            _summary(side, run, taken=taken, verdicts=judged[run], right=right[run]) for run in range(len(side.names))
        ),
        overall=overall,
        slices=tuple(_figures(parts, right, ious)),
        published=published_for(dict.fromkeys(question.key.benchmark for question in side.shared)),
    )


def _summary(
    side: PairedRuns,
    run: int,
    *,
    taken: Taken | None,
    verdicts: Verdicts | None,
    right: Sequence[_Score],
) -> RunSummary:
    records = side.records(run)
    found = accuracy(records, verdicts=verdicts).model_copy(update={"accuracy": _interval(right)})
    asked = side.asked(run)
    benchmarks = list(dict.fromkeys(record.benchmark for record in records))
    return RunSummary(
        name=side.names[run],
        model=", ".join(dict.fromkeys(record.model for record in records)),
        strategy=", ".join(dict.fromkeys(record.strategy for record in records)),
        asked=asked,
        only_here=side.only_in(run),
        missing=len(side.questions) - asked,
        accuracy=found,
        unanswered_rate=found.unanswered / found.questions,
        grounding=grounding(localised(records), taken=taken, verdicts=verdicts),
        with_subtitles=sum(record.subtitles is True for record in records),
        own=own_figures(benchmarks[0], records, verdicts=verdicts) if len(benchmarks) == 1 else {},
    )


def _scores(side: PairedRuns, run: int, *, verdicts: Verdicts | None) -> list[_Score]:
    """Whether each shared question was answered rightly, of those that can be scored."""
    counted = {_key(record): float(right) for record, right in scored(side.records(run), verdicts=verdicts)}
    return [
        _Score(question.key, question.sample.video, counted[question.key])
        for question in side.shared
        if question.key in counted
    ]


def _in_all(scores: Sequence[Sequence[_Score]]) -> list[list[_Score]]:
    """The scores of the questions that every run has one of: an answer of one of them may have no verdict."""
    keys = set.intersection(*({score.key for score in run} for run in scores))
    return [[score for score in run if score.key in keys] for run in scores]


def _interval(scores: Sequence[_Score]) -> Interval | None:
    return clustered([score.value for score in scores], [score.video for score in scores]) if scores else None


def _ious(records: Sequence[Record], taken: Taken | None) -> list[_Score]:
    """How well the spans fit of the questions that a run was asked for spans of."""
    how = taken or taken_for(records)
    return [
        _Score(_key(record), record.sample.video, overlap_of(record, taken=how).iou) for record in localised(records)
    ]


def _parts(side: PairedRuns) -> list[_Questions]:
    """The shared questions by every slice that divides them."""
    by_key = {question.key: question for question in side.shared}
    found = slices(side.records(0))
    benchmarks: dict[str, list[Record]] = {}
    for record in side.records(0):
        benchmarks.setdefault(record.benchmark, []).append(record)
    return [
        _Questions(name, value, [by_key[_key(record)] for record in records])
        for name, values in ({"benchmark": benchmarks} | found).items()
        for value, records in values.items()
        if len(records) < len(side.shared)
    ]


def _figures(
    parts: Sequence[_Questions],
    right: Sequence[Sequence[_Score]],
    ious: Sequence[Sequence[_Score]],
) -> list[Part]:
    """Figures of every part, the p-values corrected over all of them."""
    rights = _corrected([[_raw(questions, scores, right[0]) for scores in right] for _, _, questions in parts])
    spans = _corrected([[_raw(questions, scores, ious[0]) for scores in ious] for _, _, questions in parts])
    return [
        Part(
            slice=name,
            value=value,
            questions=len(questions),
            videos=len({question.sample.video for question in questions}),
            accuracy=rights[number],
            miou=None if all(each.interval is None for each in spans[number]) else spans[number],
        )
        for number, (name, value, questions) in enumerate(parts)
    ]


def _raw(questions: Sequence[PairedQuestion], scores: Sequence[_Score], baseline: Sequence[_Score]) -> _Raw:
    """A figure of one run on some questions, and how far it is above the baseline; both before any correction."""
    wanted = {question.key for question in questions}
    chosen = [score for score in scores if score.key in wanted]
    interval = _interval(chosen)
    if scores is baseline or not chosen:
        return _Raw(interval, None)
    theirs = {score.key: score.value for score in baseline}
    both = [score for score in chosen if score.key in theirs]
    ours = [score.value for score in both]
    other = [theirs[score.key] for score in both]
    return _Raw(interval, paired(ours, other, [score.video for score in both]) if both else None)


def _corrected(rows: Sequence[Sequence[_Raw]]) -> list[tuple[Compared, ...]]:
    """The figures with the p-values of all of them corrected together."""
    found = [raw.difference.p for row in rows for raw in row if raw.difference is not None]
    adjusted = iter(holm(found))
    return [
        tuple(
            Compared(
                interval=raw.interval,
                contrast=None
                if raw.difference is None
                else Contrast(**raw.difference._asdict(), p_holm=next(adjusted)),
            )
            for raw in row
        )
        for row in rows
    ]


def _key(record: Record) -> QuestionKey:
    return QuestionKey(record.benchmark, record.sample.key)
