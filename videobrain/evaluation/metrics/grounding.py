"""Temporal grounding: how well the spans of an answer fit the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.metrics.efficiency import Efficiency, efficiency
from videobrain.evaluation.metrics.intervals import Interval, clustered
from videobrain.evaluation.metrics.outcomes import GROUNDED_FROM, Verdicts, scored
from videobrain.evaluation.metrics.overlap import NO_OVERLAP, Overlap, best_match, overlap
from videobrain.evaluation.record import Record

Taken = Literal["first", "together"]
"""How several spans of one answer are meant. ``first``: they are alternatives, the best first, and only it counts but
for R5; it is held against the true span that it fits best. ``together``: all of them are the answer; merged, they are
held against the merged true ones."""

RECALL_AT = (0.3, 0.5, 0.7)
_MANY = 5
"""So many alternatives are looked at for R5."""


class Grounding(BaseModel):
    """How well the spans of a run fit the true ones; an answer without spans, and an error, overlap nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    taken: Taken
    questions: int
    """Those with a true span."""
    without_spans: int
    """Runs that ended without a span."""
    errors: int
    """Runs that failed."""
    miou: Interval
    miop: Interval
    recall: dict[str, Interval]
    """``R1@0.5``: the span overlaps a true one with an IoU of at least 0.5. ``R5@0.5``: one of the first five does."""
    acc_at_iou: Interval | None
    """Questions answered rightly with an IoU of at least 0.5; None where nothing but spans is asked for."""
    acc_at_gqa: Interval | None
    """Questions answered rightly with an IoP of at least 0.5."""
    efficiency: Efficiency


def grounding(
    records: Sequence[Record], *, taken: Taken | None = None, verdicts: Verdicts | None = None
) -> Grounding | None:
    """mIoU, mIoP, R{1,5}@{0.3, 0.5, 0.7}, Acc@IoU and Acc@GQA, with intervals clustered by video.

    On Charades-STA and ActivityNet-Captions these are the figures of their usual scorers (VSLNet's, and that of
    lmms-eval, which agrees with it). NExT-GQA, CG-Bench and QVHighlights have rules of their own: see `nextgqa`,
    `cgbench` and `qvhighlights`.

    Args:
        records: Finished questions; those without a true span are left out.
        taken: What several spans of one answer are; by default what they are in their benchmark.
        verdicts: Scores of a judge by the sample's key, for answers in words.

    Returns:
        None where no question has a true span.
    """
    taken = taken or taken_for(records)
    chosen = [record for record in records if record.sample.spans]
    if not chosen:
        return None
    videos = [record.sample.video for record in chosen]
    found = [overlap_of(record, taken=taken) for record in chosen]
    best = {1: [one.iou for one in found]}
    if taken == "first":
        best[_MANY] = [_best_iou(record, _MANY) for record in chosen]
    recall = {
        f"R{count}@{threshold}": clustered([iou >= threshold for iou in ious], videos)
        for count, ious in best.items()
        for threshold in RECALL_AT
    }
    answered = [
        (record.sample.video, right, overlap_of(record, taken=taken))
        for record, right in scored([record for record in chosen if has_answer(record)], verdicts=verdicts)
    ]
    joint_videos = [video for video, _, _ in answered]
    joint_iou = [right and one.iou >= GROUNDED_FROM for _, right, one in answered]
    joint_iop = [right and one.iop >= GROUNDED_FROM for _, right, one in answered]
    return Grounding(
        taken=taken,
        questions=len(chosen),
        without_spans=sum(record.prediction is not None and not record.prediction.spans for record in chosen),
        errors=sum(record.prediction is None for record in chosen),
        miou=clustered([one.iou for one in found], videos),
        miop=clustered([one.iop for one in found], videos),
        recall=recall,
        acc_at_iou=clustered(joint_iou, joint_videos) if answered else None,
        acc_at_gqa=clustered(joint_iop, joint_videos) if answered else None,
        efficiency=efficiency(chosen),
    )


def taken_for(records: Sequence[Record]) -> Taken:
    """What several spans of one answer are by the rules of the records' benchmark: CG-Bench merges them."""
    return "together" if {record.benchmark for record in records} == {"cgbench"} else "first"


def overlap_of(record: Record, *, taken: Taken = "first") -> Overlap:
    """IoU and IoP of one answer."""
    if record.prediction is None or not record.prediction.spans:
        return NO_OVERLAP
    if taken == "together":
        return overlap(record.prediction.spans, record.sample.spans)
    return best_match(record.prediction.spans[0], record.sample.spans)


def localises(record: Record) -> bool:
    """Whether spans are what is asked for, were asked for in a second run, or were given beside the answer."""
    asked = record.sample.task in ("grounding", "highlights") or record.evidence_trace is not None
    return asked or (record.prediction is not None and bool(record.prediction.spans))


def localised(records: Sequence[Record]) -> list[Record]:
    """The records whose spans are scored: of each task of which one `localises`, all that have true spans.

    So an error or an answer without spans counts as a miss where spans were asked for, and a question that was never
    asked for any does not count.
    """
    tasks = {record.sample.task for record in records if localises(record)}
    return [record for record in records if record.sample.spans and record.sample.task in tasks]


def has_answer(record: Record) -> bool:
    """Whether the question asks for more than spans."""
    return record.sample.task in ("choice", "open")


def _best_iou(record: Record, count: int) -> float:
    """The highest IoU of one of the first spans of an answer."""
    spans = record.prediction.spans[:count] if record.prediction is not None else ()
    return max((best_match(span, record.sample.spans).iou for span in spans), default=0.0)
