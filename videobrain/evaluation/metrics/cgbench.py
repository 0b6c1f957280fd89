"""CG-Bench as its authors score it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videobrain.evaluation.metrics.grounding import has_answer, overlap_of
from videobrain.evaluation.metrics.outcomes import scored
from videobrain.evaluation.record import Record

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def cgbench(records: Sequence[Record]) -> dict[str, float]:
    """The figures of CG-Bench about clues, in percent and under its names, not rounded.

    ``mIoU``: mean IoU of all predicted spans, merged, with all clue intervals, merged. ``rec@IoU``: share of the
    questions whose IoU reaches a threshold, in the mean over 0.1, 0.2, 0.3, 0.4 and 0.5. ``acc@IoU``: the same of those
    that are answered rightly too; it is there where the records answer questions. Its ``long-acc.`` is `accuracy`.

    A threshold counts as reached by an IoU equal to it, as in CG-Bench's own scorer; that of VLMEvalKit asks for more.
    Both leave out answers that cannot be read, which raises the figures of a model that often gives none; here they
    count as not found.

    Args:
        records: Finished questions; those without clue intervals are left out, and at least one must have some.
    """
    chosen = [record for record in records if record.sample.spans]
    ious = np.array([overlap_of(record, taken="together").iou for record in chosen])
    figures = {"mIoU": float(100 * ious.mean()), "rec@IoU": _over_thresholds(ious)}
    answered = scored([record for record in chosen if has_answer(record)])
    if answered:
        joint = [overlap_of(record, taken="together").iou if right else -1.0 for record, right in answered]
        figures["acc@IoU"] = _over_thresholds(np.array(joint))
    return figures


def _over_thresholds(ious: NDArray[Any]) -> float:
    return float(100 * np.mean([ious >= threshold for threshold in THRESHOLDS]))
