"""Intervals and differences by resampling videos: known values, and whether they hold what they promise."""

from __future__ import annotations

import random

import numpy as np
import pytest

from videobrain.evaluation.metrics import Difference, Interval, clustered, intervals, paired


def test_videos_that_do_not_differ_are_not_certain() -> None:
    # Wilson's interval, by https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval: for 10 of 10,
    # from 10 / (10 + 1.96^2); for 3 of 5 on one video as for one answer.
    assert clustered([1.0] * 20, [str(n // 2) for n in range(20)]) == pytest.approx((1, 10 / (10 + 1.959964**2), 1))
    assert clustered([0.0] * 10, list("abcdefghij")) == pytest.approx((0, 0, 1 - 10 / (10 + 1.959964**2)))
    alone = clustered([1, 1, 1, 0, 0], ["a"] * 5)
    assert (alone.value, alone.low, alone.high) == pytest.approx((0.6, 0.0773, 0.9637), abs=1e-3)
    apart = paired([1, 0] * 3, [0, 0] * 3, ["a", "a", "b", "b", "c", "c"])
    assert apart.low < 0 < apart.value == 0.5 < apart.high < 1  # p is 0.25
    assert paired([1, 0], [1, 0], ["a", "b"])[:3] == (0, 0, 0)


def test_an_interval_says_what_it_is() -> None:
    assert str(Interval(0.934, 0.9, 0.96)) == "93.4 % (90.0 to 96.0)"
    assert str(Difference(0.05, -0.01, 0.111, 0.0421, 9)) == "+5.0 points (-1.0 to +11.1), p = 0.042"
    assert str(Difference(-0.05, -0.1, -0.01, 0.0001, 9)) == "-5.0 points (-10.0 to -1.0), p < 0.001"


@pytest.mark.parametrize("clusters", [2, 37, 300])
def test_drawing_in_parts_changes_nothing(clusters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    names = [str(name) for name in generator.integers(clusters, size=3 * clusters)]
    ours, theirs = generator.random((2, 3 * clusters))
    whole = clustered(ours, names), paired(ours, theirs, names)
    monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", 7919)
    assert (clustered(ours, names), paired(ours, theirs, names)) == whole


def test_the_interval_holds_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_DRAWS", 500)
    generator = np.random.default_rng(2)
    names = [str(number // 4) for number in range(160)]
    held = alone = 0
    for _ in range(200):  # the four questions on a video are answered alike
        values = np.repeat(generator.random(40) < 0.6, 4).astype(float)
        held += clustered(values, names).low <= 0.6 <= clustered(values, names).high
        found = clustered(values, [str(number) for number in range(160)])
        alone += found.low <= 0.6 <= found.high
    assert 0.89 <= held / 200 <= 0.99
    assert alone / 200 < 0.8


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 1, 1], 2 / 8),
        ([1] * 6, 2 / 64),
        ([1, -1], 1),
        ([0, 0], 1),
        ([1, 1, 1, 0, 0], 2 / 8),
        ([2, 1, -1], 6 / 8),
        ([0.1, 0.2, -0.3, 0.0], 1),
    ],
)
def test_all_ways_to_swap_a_few_videos_are_counted(differences: list[float], p: float) -> None:
    found = paired(differences, [0] * len(differences), [str(number) for number in range(len(differences))])
    assert found.p == p
    assert found.value == pytest.approx(np.mean(differences))
    assert found.questions == len(differences)


def test_many_videos_are_drawn() -> None:
    names = [str(number) for number in range(30)]
    certain = paired([1.0] * 30, [0.0] * 30, names)
    assert certain.p == 1 / 10_001
    mixed = paired([1.0] * 20 + [0.0] * 10, [0.0] * 20 + [1.0] * 10, names)
    assert mixed.p == pytest.approx(0.0987, abs=0.01)  # of 30 coins at least 20 on one side, in both directions


def test_equal_runs_are_found_different_as_rarely_as_the_p_value_says() -> None:
    generator = np.random.default_rng(3)
    names = [str(number // 5) for number in range(50)]
    found = []
    for _ in range(300):
        ours, theirs = np.repeat(generator.random((2, 10)), 5, axis=1) + 0.1 * generator.random((2, 50))
        found.append(paired(ours, theirs, names).p)
    assert np.mean(np.array(found) <= 0.05) <= 0.08
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_a_swap_within_a_video_is_one_swap() -> None:
    ours, theirs = [1.0] * 8, [0.0] * 8
    assert paired(ours, theirs, ["v"] * 8).p == 1
    assert paired(ours, theirs, ["v", "w"] * 4).p == 0.5


def test_every_value_has_a_cluster() -> None:
    for values, names in (([], []), ([1.0], []), ([1.0], ["a", "b"])):
        with pytest.raises(ValueError, match="one cluster for each value"):
            clustered(values, names)


def test_the_order_of_the_questions_changes_no_digit() -> None:
    chance = random.Random(0)
    rows = [(chance.random(), chance.random(), f"v{number % 7}") for number in range(60)]
    found = set()
    for _ in range(5):
        chance.shuffle(rows)
        ours, theirs, names = zip(*rows, strict=True)
        found.add((clustered(ours, names), paired(ours, theirs, names)))
    assert len(found) == 1
