"""Temporal search: whether the frames that were looked at show the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.metrics.efficiency import Efficiency, efficiency
from videobrain.evaluation.metrics.intervals import Interval, clustered
from videobrain.evaluation.record import Record


class Found(NamedTuple):
    """How the frames of one question meet its evidence, each from 0 to 1."""

    precision: float
    recall: float
    f1: float


class Search(BaseModel):
    """How the frames that were shown meet the evidence: means over the questions, clustered by video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int
    """Those whose evidence is known."""
    precision: Interval
    recall: Interval
    f1: Interval
    """Mean of the questions' F1, which is not the F1 of the two means."""
    efficiency: Efficiency


def temporal_search(records: Sequence[Record], *, tolerance_seconds: float = 0.0) -> Search | None:
    """Precision, recall and F1 of the frames that were shown against the spans in which the answer is seen.

    Of one question, precision is the share of the frames that lie within a span, recall the share of the spans that a
    frame lies in, and F1 their harmonic mean. A frame that was shown twice counts once. A question for which no frame
    was shown has 0 for all three, be it by a blind strategy or an error.

    Args:
        records: Finished questions; those without a true span are left out.
        tolerance_seconds: How far outside a span a frame may lie and still count, such as 5 where the evidence is a
            list of instants.

    Returns:
        None where no question has a true span.
    """
    chosen = [record for record in records if record.sample.spans]
    if not chosen:
        return None
    videos = [record.sample.video for record in chosen]
    found = [found_by(record, tolerance_seconds=tolerance_seconds) for record in chosen]
    return Search(
        questions=len(chosen),
        precision=clustered([one.precision for one in found], videos),
        recall=clustered([one.recall for one in found], videos),
        f1=clustered([one.f1 for one in found], videos),
        efficiency=efficiency(chosen),
    )


def found_by(record: Record, *, tolerance_seconds: float = 0.0) -> Found:
    """Precision, recall and F1 of one question that has a true span; the ends of a span belong to it."""
    frames, spans = sorted(set(record.seen_seconds)), record.sample.spans
    inside = [
        [start - tolerance_seconds <= frame <= end + tolerance_seconds for start, end in spans] for frame in frames
    ]
    if not any(map(any, inside)):
        return Found(0.0, 0.0, 0.0)
    precision = sum(map(any, inside)) / len(frames)
    recall = sum(map(any, zip(*inside, strict=True))) / len(spans)
    return Found(precision, recall, 2 * precision * recall / (precision + recall))
