"""What became of a question, in four ways, and how many there are of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from videobrain.evaluation.metrics.overlap import best_match
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.verdict import CORRECT_FROM as CORRECT_FROM

OutcomeKind = Literal["correct", "incorrect", "unanswered", "error"]
"""``unanswered``: the run came to its end, and nothing in what the model said can be read as an answer.
``error``: the run failed, so the model had no chance."""

Verdicts = Mapping[str, float]
"""A judge's scores from 0 to 1 by the sample's key. A judgement that failed is not there, and so is missing, not 0."""

GROUNDED_FROM = 0.5
"""Overlap (IoU, or IoP for Acc@GQA) from which a span counts as found."""


def outcome(record: Record, *, verdicts: Verdicts | None = None) -> OutcomeKind | None:
    """What became of a question; None where nobody can say.

    A choice is correct where its letter is that of the true option. Spans are correct where the first of them overlaps
    a true one with an IoU of at least 0.5. An answer in words is correct where the judge gives it at least 0.8.

    None is given where there is an answer but no truth (some benchmarks keep theirs) or no verdict, and where it is one
    of highlights without spans.

    Args:
        record: The finished question.
        verdicts: Scores of a judge, for answers in words.
    """
    sample, prediction = record.sample, record.prediction
    if prediction is None:
        return "error"
    if sample.task == "choice":
        if prediction.choice is None:
            return "unanswered"
        return None if sample.letter is None else _graded(prediction.choice == sample.letter)
    if sample.task == "open":
        if not prediction.text.strip():
            return "unanswered"
        score = (verdicts or {}).get(sample.key)
        return None if score is None else _graded(score >= CORRECT_FROM)
    if not prediction.spans:
        return None if prediction.saliency else "unanswered"
    return _graded(best_match(prediction.spans[0], sample.spans).iou >= GROUNDED_FROM) if sample.spans else None


def has_truth(sample: Sample) -> bool:
    """Whether an answer to this can be found right or wrong: some benchmarks keep their truth to themselves."""
    if sample.task == "choice":
        return sample.correct_option is not None
    return sample.answer is not None if sample.task == "open" else bool(sample.spans)


def needs_verdict(record: Record) -> bool:
    """Whether a judge decides this: an answer in words that is not empty, to a question whose truth is known."""
    prediction = record.prediction
    said = prediction is not None and bool(prediction.text.strip())
    return said and record.sample.task == "open" and has_truth(record.sample)


def scored(records: Sequence[Record], *, verdicts: Verdicts | None = None) -> list[tuple[Record, bool]]:
    """The records that count towards accuracy, each with whether it is correct.

    Unanswered questions and errors count as not correct, whatever caused them: leaving them out would reward a model
    that fails on what is hard. Left out are questions without a truth, and answers without a verdict. Where no answer
    in words has one, questions of that kind are left out as a whole: a failed one would stand for all others.
    """
    outcomes = [(record, outcome(record, verdicts=verdicts)) for record in records if has_truth(record.sample)]
    words = {kind for record, kind in outcomes if record.sample.task == "open"}
    unjudged = None in words and not words & {"correct", "incorrect"}
    return [
        (record, kind == "correct")
        for record, kind in outcomes
        if kind is not None and not (unjudged and record.sample.task == "open")
    ]


def _graded(right: bool) -> OutcomeKind:
    return "correct" if right else "incorrect"
