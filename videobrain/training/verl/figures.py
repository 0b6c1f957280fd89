"""What is logged of the rollouts of a step and of a validation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

VALIDATION = "validation"
"""What the names of all figures of a validation begin with."""
_BY_CLASS = ("accuracy", "tool_used", "frames")
"""What is broken down by the class of the question, which the behaviour is about."""


def rollout_figures(
    infos: Sequence[Mapping[str, float | str]], groups: Sequence[Hashable], *, group_size: int
) -> dict[str, float]:
    """Figures of the rollouts that a step learns from.

    Args:
        infos: What is known of each, as `Played.figures` gives it.
        groups: The group of each.
        group_size: Rollouts that a group was begun with.

    Returns:
        Means by name, such as ``rollout/accuracy`` and ``rollout/Active/tool_used``; with
        ``rollout/left_out``, the share of rollouts that could not be used, and ``rollout/groups_without_signal``, the
        share of groups whose rollouts are all worth the same, which teach nothing.
    """
    if not infos:
        return {}
    members: dict[Hashable, list[float]] = defaultdict(list)
    for info, group in zip(infos, groups, strict=True):
        members[group].append(math.fsum(float(info[name]) for name in info if name.startswith("reward_")))
    alike = [len(set(worths)) == 1 for worths in members.values()]
    return {
        **_means("rollout", infos),
        "rollout/left_out": 1 - len(infos) / (len(members) * group_size),
        "rollout/groups_without_signal": sum(alike) / len(alike),
    }


def validation_figures(infos: Sequence[Mapping[str, float | str]], *, asked: int) -> dict[str, float]:
    """Figures of the questions that are asked to see how far the policy has come.

    Args:
        infos: What is known of each rollout, as `Played.figures` gives it.
        asked: Rollouts that were begun.

    Returns:
        Means by name, such as ``validation/accuracy`` and ``validation/Active/tool_used``, and ``validation/left_out``.
    """
    return {**_means(VALIDATION, infos), f"{VALIDATION}/left_out": 1 - len(infos) / asked}


def _means(of: str, infos: Sequence[Mapping[str, float | str]]) -> dict[str, float]:
    """The mean of each figure, and by class of those that the behaviour is about."""
    names = sorted({name for info in infos for name, value in info.items() if not isinstance(value, str)})
    means = {f"{of}/{name}": _mean([info[name] for info in infos if name in info]) for name in names}
    classes: dict[str, list[Mapping[str, float | str]]] = defaultdict(list)
    for info in infos:
        classes[str(info.get("class", "unclassified"))].append(info)
    for named, those in sorted(classes.items()):
        for name in _BY_CLASS:
            means[f"{of}/{named}/{name}"] = _mean([info[name] for info in those if name in info])
    return means


def _mean(values: Sequence[float | str]) -> float:
    return math.fsum(float(value) for value in values) / len(values) if values else 0.0
