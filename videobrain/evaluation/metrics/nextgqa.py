"""NExT-GQA as its authors score it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videobrain.evaluation.metrics.outcomes import GROUNDED_FROM, scored
from videobrain.evaluation.metrics.overlap import NO_OVERLAP, Overlap, best_match
from videobrain.evaluation.record import Record

_THRESHOLDS = (0.3, 0.5)


def nextgqa(records: Sequence[Record]) -> dict[str, float]:
    """The figures that ``eval_ground.py`` of NExT-GQA prints, in percent and under its names, not rounded.

    ``Acc@GQA``, ``mIoP``, ``IoP@0.3``, ``IoP@0.5``, ``mIoU``, ``IoU@0.3`` and ``IoU@0.5``; printed with one decimal.
    The first span counts. Its IoU and its IoP are each the highest with any true span. As in that scorer, a span
    without length that lies within a true one has IoP 1 and IoU 0, where other scorers give 0 to both. Unlike there, a
    question without a prediction counts as not found; that scorer leaves it out.

    Args:
        records: Finished questions; those without a true span are left out, and at least one must have one.
    """
    chosen = [record for record in records if record.sample.spans]
    right = {record.sample.key: right for record, right in scored(chosen)}
    found = [_overlap(record) for record in chosen]
    iops, ious = (np.array([getattr(one, name) for one in found]) for name in ("iop", "iou"))
    correct = np.array([right.get(record.sample.key, False) for record in chosen])
    return {
        "Acc@GQA": _share(correct & (iops >= GROUNDED_FROM)),
        "mIoP": _share(iops),
        **{f"IoP@{threshold}": _share(iops >= threshold) for threshold in _THRESHOLDS},
        "mIoU": _share(ious),
        **{f"IoU@{threshold}": _share(ious >= threshold) for threshold in _THRESHOLDS},
    }


def _overlap(record: Record) -> Overlap:
    if record.prediction is None or not record.prediction.spans:
        return NO_OVERLAP
    start, end = span = record.prediction.spans[0]
    if start == end:
        return Overlap(0.0, float(any(first <= start <= last for first, last in record.sample.spans)))
    return best_match(span, record.sample.spans)


def _share(values: NDArray[Any]) -> float:
    return float(100 * values.mean())
