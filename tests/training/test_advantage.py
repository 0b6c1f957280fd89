"""Advantages within groups, and weights of questions by difficulty."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videobrain.training.advantage import difficulty_weights, group_advantages

REWARDS = [1.55, 0.05, 0.05, 0.25, 1.0, 1.0]
GROUPS = ["a", "a", "a", "a", "b", "b"]


def test_better_than_the_mean_of_its_group() -> None:
    advantages = group_advantages([1, 0, 0, 5, 5], ["a", "a", "a", "b", "b"], by_deviation=False)
    assert advantages == pytest.approx([2 / 3, -1 / 3, -1 / 3, 0, 0])


def test_divided_by_the_deviation_of_the_group() -> None:
    mean = sum(REWARDS[:4]) / 4
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in REWARDS[:4]) / 3)
    expected = [(reward - mean) / deviation for reward in REWARDS[:4]]
    advantages = group_advantages(REWARDS, GROUPS)
    assert advantages[:4] == pytest.approx(expected, abs=1e-4)
    assert advantages[4:] == [0, 0]


def test_what_does_not_count_has_no_part_in_its_group() -> None:
    with_it = group_advantages([1, 0, 100], ["a"] * 3, counts=[True, True, False])
    without = group_advantages([1, 0], ["a"] * 2)
    assert with_it == [*without, 0]


def test_a_lone_survivor_has_no_advantage() -> None:
    assert group_advantages([1.55], ["a"]) == [0]
    assert group_advantages([1.55, 1, 0], ["a", "b", "b"], counts=[True, True, False]) == [0, 0, 0]


@given(st.lists(st.tuples(st.floats(-2, 2), st.sampled_from("abc"), st.booleans()), max_size=30))
def test_advantages_of_a_group_sum_to_nothing(rollouts: list[tuple[float, str, bool]]) -> None:
    rewards, groups, counts = ([rollout[i] for rollout in rollouts] for i in range(3))
    for by_deviation in (True, False):
        advantages = group_advantages(rewards, groups, counts=counts, by_deviation=by_deviation)
        assert all(math.isfinite(advantage) for advantage in advantages)
        for group in "abc":
            those = [advantage for advantage, of in zip(advantages, groups, strict=True) if of == group]
            assert math.fsum(those) == pytest.approx(0, abs=1e-3)


def test_hard_questions_weigh_more() -> None:
    weights = difficulty_weights([0, 0, 1, 0, 1, 1], ["hard", "hard", "half", "half", "easy", "easy"], strength=0.5)
    assert weights == pytest.approx([1.5, 1.5, 1, 1, 0.5, 0.5])


def test_weights_do_not_change_the_pace() -> None:
    accuracies, groups = [0, 0, 0, 1, 0, 1], ["a", "a", "b", "b", "c", "c"]
    counts = [True, True, True, True, True, False]
    weights = difficulty_weights(accuracies, groups, strength=1.0, counts=counts)
    assert sum(weights) == pytest.approx(5)
    assert weights[5] == 0
    assert weights[0] > weights[2] == weights[3]


def test_without_strength_all_weigh_the_same() -> None:
    assert difficulty_weights([0, 1, 0.5], ["a", "b", "b"], strength=0) == pytest.approx([1, 1, 1])


def test_where_all_is_known_nothing_is_learnt_at_full_strength() -> None:
    assert difficulty_weights([1, 1], ["a", "a"], strength=1) == [0, 0]
