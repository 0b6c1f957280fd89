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
from videobrain.evaluation.metrics.grounding import Grounding, Taken, grounding, localised, overlap_of
from videobrain.evaluation.metrics.intervals import Difference, Interval, clustered, holm, paired, percent
from videobrain.evaluation.metrics.judged import Judged, judged, select_judgements, verdicts_of
from videobrain.evaluation.metrics.nextgqa import nextgqa
from videobrain.evaluation.metrics.outcomes import OutcomeKind, Verdicts, has_truth, needs_verdict, outcome, scored
from videobrain.evaluation.metrics.overlap import Overlap, best_match, covered_seconds, merged, overlap
from videobrain.evaluation.metrics.own import in_short, own_figures
from videobrain.evaluation.metrics.qvhighlights import qvhighlights
from videobrain.evaluation.metrics.search import Found, Search, found_by, temporal_search

__all__ = [
    "Accuracy",
    "Difference",
    "Efficiency",
    "Found",
    "Grounding",
    "Interval",
    "Judged",
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
    "in_short",
    "judged",
    "localised",
    "macro_accuracy",
    "merged",
    "needs_verdict",
    "nextgqa",
    "outcome",
    "overlap",
    "overlap_of",
    "own_figures",
    "paired",
    "percent",
    "qvhighlights",
    "scored",
    "select_judgements",
    "slices",
    "slices_of",
    "temporal_search",
    "verdicts_of",
]
