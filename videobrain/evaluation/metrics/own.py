"""The figures that a benchmark's authors report beside, or in the place of, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from videobrain.evaluation.metrics.accuracy import accuracy_by_slice, macro_accuracy
from videobrain.evaluation.metrics.cgbench import cgbench
from videobrain.evaluation.metrics.grounding import localised
from videobrain.evaluation.metrics.nextgqa import nextgqa
from videobrain.evaluation.metrics.outcomes import Verdicts
from videobrain.evaluation.metrics.qvhighlights import qvhighlights
from videobrain.evaluation.record import Record

_OF_SPANS: Mapping[str, Callable[[Sequence[Record]], dict[str, float]]] = {
    "nextgqa": nextgqa,
    "cgbench": cgbench,
    "qvhighlights": qvhighlights,
}
_MLVU_TASKS = {"dev": 7, "test": 9}
"""Tasks with options in each split of MLVU: a mean over a part of them is no M-Avg."""


def own_figures(
    benchmark: str, records: Sequence[Record], *, split: str = "dev", verdicts: Verdicts | None = None
) -> dict[str, float]:
    """The figures of a benchmark under its authors' names, in percent; empty where accuracy is what they report.

    Args:
        benchmark: Its name.
        records: Finished questions.
        split: Which part of the benchmark they are of, where it matters.
        verdicts: Scores of a judge by the sample's key, for answers in words.
    """
    if benchmark == "mlvu":
        choices = [record for record in records if record.sample.task == "choice"]
        tasks = accuracy_by_slice(choices, verdicts=verdicts).get("type", {})
        mean = macro_accuracy(tasks) if len(tasks) >= _MLVU_TASKS.get(split, 1) else None
        return {} if mean is None else {"M-Avg": 100 * mean}
    chosen = localised(records)
    return _OF_SPANS[benchmark](chosen) if benchmark in _OF_SPANS and chosen else {}


def in_short(figures: Mapping[str, float]) -> str:
    """Such figures in a line, without those at single thresholds."""
    return ", ".join(f"{name} {value:.1f}" for name, value in figures.items() if "@0." not in name)
