"""Accuracy with its interval, what it cost, and how it is spread over kinds of questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.metrics.efficiency import Efficiency, efficiency
from videobrain.evaluation.metrics.intervals import Difference, Interval, clustered, paired, percent
from videobrain.evaluation.metrics.outcomes import Verdicts, needs_verdict, outcome, scored
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample

_DURATIONS = (
    (60.0, "under 1 min"),
    (180.0, "1 to 3 min"),
    (600.0, "3 to 10 min"),
    (1800.0, "10 to 30 min"),
    (math.inf, "over 30 min"),
)
_ORDER = ("short", "medium", "middle", "long", *(group for _, group in _DURATIONS))
"""Values of slices that do not stand in the order of the alphabet."""


class Accuracy(BaseModel):
    """How many questions were answered rightly, and what became of the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int
    correct: int
    incorrect: int
    unanswered: int
    """Runs that ended without anything that can be read as an answer."""
    errors: int
    """Runs that failed."""
    unscored: int
    """Answers of which nobody can say whether they are right: the truth is not known, or the verdict is missing."""
    missing_verdicts: int = 0
    """Those among them whose truth is known: a judge failed, or there was none."""
    accuracy: Interval | None
    """Correct ones among all whose truth is known and whose verdict is not missing, errors included, clustered by
    video; None where there are none."""
    error_rate: float
    """Errors among all questions."""
    efficiency: Efficiency

    def __str__(self) -> str:
        missing = f", {self.missing_verdicts} verdicts missing" if self.missing_verdicts else ""
        return f"{self.accuracy or 'not known'}, errors {percent(self.error_rate)}, {self.questions} questions{missing}"


def accuracy(records: Sequence[Record], *, verdicts: Verdicts | None = None) -> Accuracy:
    """Accuracy of a run, or of a part of it.

    Args:
        records: Finished questions.
        verdicts: Scores of a judge by the sample's key, for answers in words.
    """
    outcomes = [outcome(record, verdicts=verdicts) for record in records]
    counted = scored(records, verdicts=verdicts)
    videos = [record.sample.video for record, _ in counted]
    return Accuracy(
        questions=len(records),
        correct=outcomes.count("correct"),
        incorrect=outcomes.count("incorrect"),
        unanswered=outcomes.count("unanswered"),
        errors=outcomes.count("error"),
        unscored=outcomes.count(None),
        missing_verdicts=sum(kind is None and needs_verdict(one) for one, kind in zip(records, outcomes, strict=True)),
        accuracy=clustered([right for _, right in counted], videos) if counted else None,
        error_rate=outcomes.count("error") / len(records) if records else 0.0,
        efficiency=efficiency(records),
    )


def slices(records: Sequence[Record]) -> dict[str, dict[str, list[Record]]]:
    """The records by every slice that the benchmark names, such as ``["duration"]["long"]``; any metric takes a part.

    Where a benchmark has no groups of durations but says how long its videos are, ``duration`` is one of
    ``under 1 min``, ``1 to 3 min``, ``3 to 10 min``, ``10 to 30 min`` and ``over 30 min``.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        for name, value in slices_of(record.sample).items():
            found.setdefault(name, {}).setdefault(value, []).append(record)
    return {
        name: dict(sorted(parts.items(), key=lambda part: _place(part[0]))) for name, parts in sorted(found.items())
    }


def slices_of(sample: Sample) -> dict[str, str]:
    """The slices that a question is in, with its value of each; see `slices`."""
    if "duration" in sample.slices or sample.duration_seconds is None:
        return sample.slices
    return {**sample.slices, "duration": _duration_group(sample.duration_seconds)}


def accuracy_by_slice(records: Sequence[Record], *, verdicts: Verdicts | None = None) -> dict[str, dict[str, Accuracy]]:
    """`accuracy` of every part that `slices` gives."""
    return {
        name: {value: accuracy(part, verdicts=verdicts) for value, part in parts.items()}
        for name, parts in slices(records).items()
    }


def macro_accuracy(parts: Mapping[str, Accuracy]) -> float | None:
    """Mean of the accuracies of the parts, each weighing the same, as MLVU gives it over its tasks (M-Avg).

    Parts without an accuracy are left out; None where none has one.
    """
    known = [part.accuracy.value for part in parts.values() if part.accuracy is not None]
    return sum(known) / len(known) if known else None


def accuracy_difference(
    ours: Sequence[Record],
    theirs: Sequence[Record],
    *,
    our_verdicts: Verdicts | None = None,
    their_verdicts: Verdicts | None = None,
) -> Difference | None:
    """How far the accuracy of one run is above another's on the questions that both were scored on.

    None where there is no such question. See `paired` for the interval and the p-value.
    """
    ones = {record.sample.key: (record.sample.video, right) for record, right in scored(ours, verdicts=our_verdicts)}
    others = {record.sample.key: right for record, right in scored(theirs, verdicts=their_verdicts)}
    both = [key for key in ones if key in others]
    if not both:
        return None
    return paired([ones[key][1] for key in both], [others[key] for key in both], [ones[key][0] for key in both])


def _duration_group(seconds: float) -> str:
    return next(group for below, group in _DURATIONS if seconds < below)


def _place(value: str) -> tuple[int, str]:
    """Where a value stands among those of its slice: numbers by size, known words in their order, then the rest."""
    if value.isdecimal():
        return int(value), ""
    return _ORDER.index(value) if value in _ORDER else len(_ORDER), value
