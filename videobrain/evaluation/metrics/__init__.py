"""What the answers of a run come to: pure functions over its records.

A figure is a mean over questions; where it has an interval, whole videos were resampled for it. How each of them is
defined stands in ``docs/metrics.md``.
"""

from videobrain.evaluation.metrics.accuracy import (
    Accuracy,
    accuracy,
    accuracy_by_slice,
    accuracy_difference,
    macro_accuracy,
    slices,
    slices_of,
)
from videobrain.evaluation.metrics.cgbench import cgbench
from videobrain.evaluation.metrics.efficiency import Efficiency, efficiency
from videobrain.evaluation.metrics.grounding import Grounding, Taken, grounding, overlap_of
from videobrain.evaluation.metrics.intervals import Difference, Interval, clustered, holm, paired, percent
from videobrain.evaluation.metrics.nextgqa import nextgqa
from videobrain.evaluation.metrics.outcomes import OutcomeKind, Verdicts, has_truth, outcome, scored
from videobrain.evaluation.metrics.overlap import Overlap, best_match, covered_seconds, merged, overlap
from videobrain.evaluation.metrics.qvhighlights import qvhighlights
from videobrain.evaluation.metrics.search import Found, Search, found_by, temporal_search

__all__ = [
    "Accuracy",
    "Difference",
    "Efficiency",
    "Found",
    "Grounding",
    "Interval",
    "OutcomeKind",
    "Overlap",
    "Search",
    "Taken",
    "Verdicts",
    "accuracy",
    "accuracy_by_slice",
    "accuracy_difference",
    "best_match",
    "cgbench",
    "clustered",
    "covered_seconds",
    "efficiency",
    "found_by",
    "grounding",
    "has_truth",
    "holm",
    "macro_accuracy",
    "merged",
    "nextgqa",
    "outcome",
    "overlap",
    "overlap_of",
    "paired",
    "percent",
    "qvhighlights",
    "scored",
    "slices",
    "slices_of",
    "temporal_search",
]
