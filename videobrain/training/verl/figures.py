"""What is logged of the rollouts of a step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

_BY_CLASS = ("accuracy", "tool_used", "frames")
"""What is broken down by the class of the question, which the behaviour is about."""


def rollout_figures(
    infos: Sequence[Mapping[str, float | str]], groups: Sequence[Hashable], *, group_size: int
) -> dict[str, float]:
    """Means over the rollouts of a step.

    Args:
        infos: What is known of each, as `Played.figures` gives it.
        groups: The group of each.
        group_size: Rollouts that a group was begun with.

    Returns:
        Figures by name, such as ``rollout/accuracy`` and ``rollout/Active/tool_used``; with
        ``rollout/left_out``, the share of rollouts that could not be used, and ``rollout/groups_without_signal``, the
        share of groups whose rollouts are all as right.
    """
    figures: dict[str, float] = {}
    if not infos:
        return figures
    names = sorted({name for info in infos for name, value in info.items() if not isinstance(value, str)})
    for name in names:
        figures[f"rollout/{name}"] = _mean([info[name] for info in infos if name in info])
    classes: dict[str, list[Mapping[str, float | str]]] = defaultdict(list)
    members: dict[Hashable, list[float]] = defaultdict(list)
    for info, group in zip(infos, groups, strict=True):
        classes[str(info.get("class", "unclassified"))].append(info)
        members[group].append(float(info.get("accuracy", 0.0)))
    for named, those in sorted(classes.items()):
        for name in _BY_CLASS:
            figures[f"rollout/{named}/{name}"] = _mean([info[name] for info in those if name in info])
    figures["rollout/left_out"] = 1 - len(infos) / (len(members) * group_size)
    alike = [len(set(accuracies)) == 1 for accuracies in members.values()]
    figures["rollout/groups_without_signal"] = sum(alike) / len(alike)
    return figures


def _mean(values: Sequence[float | str]) -> float:
    return math.fsum(float(value) for value in values) / len(values) if values else 0.0
