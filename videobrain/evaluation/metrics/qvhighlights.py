"""QVHighlights as its authors score it: moment retrieval (MR) and highlight detection (HL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample

Floats = NDArray[np.float64]

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
LENGTHS = {"full": (0.0, np.inf), "long": (30.0, 150.0), "middle": (10.0, 30.0), "short": (0.0, 10.0)}
"""Lengths of windows in seconds, each above the first number and up to the second."""
RATINGS = {"Fair": 2, "Good": 3, "VeryGood": 4}
"""The lowest rating, of 0 to 4, that makes a clip a highlight."""
CLIP_SECONDS = 2
_WINDOWS = 10
"""So many predicted windows of a query count."""


def qvhighlights(records: Sequence[Record]) -> dict[str, float]:
    """The figures of QVHighlights' ``standalone_eval``, in percent, under its names, with two decimals as printed.

    Moment retrieval, over all windows (``full``) and by length (``short`` up to 10 s, ``middle`` up to 30 s, ``long``
    beyond): ``MR-full-mAP@0.5`` … ``@0.95`` and their mean ``MR-full-mAP``, ``MR-full-R1@0.5`` … ``@0.95``. A length
    keeps the queries with a true window of that length, of these the true windows of that length, and all predicted
    windows. AP takes the ten best windows; each true window is found once, by the surest that reaches the IoU.
    R1 takes the first window and the true one that it fits best.

    Highlights: ``HL-min-Good-mAP`` and ``HL-min-Good-Hit1``, for ``Fair``, ``Good`` and ``VeryGood``. A clip of 2 s
    is positive for a rater who gave at least that much. mAP is the mean over queries and the three raters; a rater
    without a positive clip counts 0. Hit1 is whether the clip with the highest score is positive for any of them.

    These are left out where the truth has no ratings or no record has scores for clips. A query without windows, or
    without scores, counts 0; the benchmark's own scorer refuses such a submission.

    Args:
        records: Finished queries. For highlights their samples have a duration, and ``extra["relevant_clip_ids"]`` and
            ``extra["saliency_scores"]`` as they stand in the benchmark's file.
    """
    figures: dict[str, float] = {}
    ious = [_ious(record) for record in records]
    surest = [found[_surest_first(record)] for record, found in zip(records, ious, strict=True)]
    for name, (above, most) in LENGTHS.items():
        fits = [[above < end - start <= most for start, end in record.sample.spans] for record in records]
        kept = [number for number, windows in enumerate(fits) if any(windows)]
        if not kept:
            continue
        precision = np.mean([_average_precision(surest[number][:, fits[number]]) for number in kept], axis=0)
        first = np.array([ious[number][:1, fits[number]].max(initial=0.0) for number in kept])
        figures[f"MR-{name}-mAP"] = _printed(precision.mean())
        for threshold, value in zip(IOU_THRESHOLDS, precision, strict=True):
            figures[f"MR-{name}-mAP@{threshold}"] = _printed(value)
            figures[f"MR-{name}-R1@{threshold}"] = _printed(np.mean(first >= threshold))
    rated = [record for record in records if record.sample.extra.get("saliency_scores")]
    if any(record.prediction is not None and record.prediction.saliency for record in rated):
        found = np.mean([_highlights(record) for record in rated], axis=0)
        for name, (ap, hit) in zip(RATINGS, found, strict=True):
            figures[f"HL-min-{name}-mAP"] = _printed(ap)
            figures[f"HL-min-{name}-Hit1"] = _printed(hit)
    return figures


def _surest_first(record: Record) -> list[int]:
    """Places of the windows that count, the surest first; without scores they stand so already."""
    if record.prediction is None:
        return []
    scores = record.prediction.span_scores[:_WINDOWS]
    places = range(len(record.prediction.spans[:_WINDOWS]))
    return sorted(places, key=lambda place: -scores[place]) if scores else list(places)


def _average_precision(ious: Floats) -> Floats:
    """AP of one query at every threshold.

    The envelope of precision over recall is integrated, as in VOC 2011.

    Args:
        ious: IoU of each predicted window, the surest first, with each true one, (predicted, true).
    """
    return np.array([_area(_hits(ious, threshold)) / ious.shape[1] for threshold in IOU_THRESHOLDS])


def _hits(ious: Floats, threshold: float) -> NDArray[np.bool_]:
    """Of each predicted window whether it finds a true one that none before it has found."""
    free = np.ones(ious.shape[1], dtype=bool)
    hits = np.zeros(len(ious), dtype=bool)
    for place, row in enumerate(ious):
        reached = np.flatnonzero(free & (row >= threshold))
        if len(reached):
            hits[place] = True
            free[max(reached, key=lambda true: (row[true], true))] = False  # among equals the last, as in the scorer
    return hits


def _area(hits: NDArray[np.bool_]) -> float:
    """Sum of the precision at every hit, where precision is the best at this recall or a higher one."""
    if not hits.any():
        return 0.0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(np.maximum.accumulate(precision[::-1])[::-1][hits].sum())


def _highlights(record: Record) -> list[tuple[float, float]]:
    """AP of the clips' scores, in the mean over the raters, and whether the best clip is one, for each of `RATINGS`."""
    ratings = _ratings(record.sample)
    saliency = record.prediction.saliency if record.prediction is not None else ()
    if not saliency:
        return [(0.0, 0.0)] * len(RATINGS)
    scores = np.zeros(len(ratings))  # clips without a score have 0, as in the scorer
    scores[: len(saliency)] = saliency[: len(ratings)]
    order = np.argsort(-scores, kind="stable")
    together = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # clips of one score are found together
    best = int(np.argmax(saliency))
    figures = []
    for least in RATINGS.values():
        positive = ratings >= least
        hits = np.cumsum(positive[order], axis=0)[together]
        precision = np.maximum.accumulate((hits / (together + 1)[:, None])[::-1])[::-1]
        found = np.diff(hits, axis=0, prepend=0) > 0
        sums = np.where(found, precision, 0.0).sum(axis=0) / np.maximum(found.sum(axis=0), 1)
        figures.append((float(sums.mean()), float(best < len(positive) and positive[best].any())))
    return figures


def _ratings(sample: Sample) -> NDArray[np.int64]:
    """Ratings of every clip of the video by every rater, (clips, raters); 0 outside the relevant clips."""
    clips: Any = sample.extra["relevant_clip_ids"]
    given: Any = sample.extra["saliency_scores"]
    ratings = np.zeros((int((sample.duration_seconds or 0) / CLIP_SECONDS), len(given[0])), dtype=np.int64)
    ratings[clips] = given
    return ratings


def _ious(record: Record) -> Floats:
    """IoU of every predicted window that counts with every true one, (predicted, true)."""
    predicted = record.prediction.spans[:_WINDOWS] if record.prediction is not None else ()
    ours, theirs = (np.array(spans, dtype=float).reshape(-1, 2) for spans in (predicted, record.sample.spans))
    starts, ends = ours.T[:, :, None]
    true_starts, true_ends = theirs.T
    shared = np.maximum(np.minimum(ends, true_ends) - np.maximum(starts, true_starts), 0)
    union = (ends - starts) + (true_ends - true_starts) - shared
    ious: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious


def _printed(share: float | np.floating[Any]) -> float:
    return float(f"{100 * share:.2f}")
