"""Advantages of rollouts within their groups, as GRPO (arXiv 2402.03300) has them. Plain numbers, no tensors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

LEAST_GROUP = 2
"""A rollout is better or worse than others of its group, so that a group of fewer says nothing."""
_EPSILON = 1e-6


def group_advantages(
    rewards: Sequence[float],
    groups: Sequence[Hashable],
    *,
    counts: Sequence[bool] | None = None,
    by_deviation: bool = True,
) -> list[float]:
    """How much better each rollout is than the mean of its group.

    Args:
        rewards: What each rollout is worth.
        groups: The group of each; a group is the rollouts of one question.
        counts: Whether each rollout takes part; by default all do. One that does not has no part in the mean and the
            deviation of its group, whatever its reward, and its advantage is 0.
        by_deviation: Divide by the standard deviation of the group, as GRPO does and Dr. GRPO (arXiv 2503.20783) does
            not.

    Returns:
        One advantage for each rollout; 0 in a group of which fewer than two count.
    """
    taking_part = [True] * len(rewards) if counts is None else list(counts)
    advantages = [0.0] * len(rewards)
    for members in _members(groups, taking_part).values():
        if len(members) < LEAST_GROUP:
            continue
        mean = math.fsum(rewards[i] for i in members) / len(members)
        scale = 1.0
        if by_deviation:
            squares = math.fsum((rewards[i] - mean) ** 2 for i in members)
            scale = math.sqrt(squares / (len(members) - 1)) + _EPSILON
        for i in members:
            advantages[i] = (rewards[i] - mean) / scale
    return advantages


def difficulty_weights(
    accuracies: Sequence[float],
    groups: Sequence[Hashable],
    *,
    strength: float,
    counts: Sequence[bool] | None = None,
) -> list[float]:
    """Weights of rollouts by how hard their question is for the policy: the fewer of a group are right, the more.

    A group that is never right weighs ``1 + strength``, one that always is ``1 - strength``, and what lies between
    lies between. The weights are then scaled to a mean of 1 over the rollouts that count, so that they move the
    learning from question to question and do not change its pace. This weighting is our own; 0 switches it off.

    Args:
        accuracies: How right each rollout is, from 0 to 1.
        groups: The group of each.
        strength: From 0 to 1.
        counts: Whether each rollout takes part; the weight of one that does not is 0.
    """
    taking_part = [True] * len(accuracies) if counts is None else list(counts)
    weights = [0.0] * len(accuracies)
    for members in _members(groups, taking_part).values():
        mean = math.fsum(accuracies[i] for i in members) / len(members)
        for i in members:
            weights[i] = 1 + strength * (1 - 2 * mean)
    total = math.fsum(weights)
    scale = sum(taking_part) / total if total > 0 else 0.0
    return [weight * scale for weight in weights]


def _members(groups: Sequence[Hashable], taking_part: Sequence[bool]) -> dict[Hashable, list[int]]:
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, (group, counts) in enumerate(zip(groups, taking_part, strict=True)):
        if counts:
            members[group].append(i)
    return members
