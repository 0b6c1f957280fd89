"""How sure a figure is: intervals and differences by resampling whole videos."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DRAWS = 10_000
_SEED = 0
_DRAWN_AT_ONCE = 1 << 20
"""Most numbers that stand in memory at a time: figures of many videos are drawn in parts."""
_EXACT_CLUSTERS = 13
"""Up to here all ways to swap two runs are tried, 8,192 of them, and none is drawn."""


class Interval(NamedTuple):
    """A mean, such as a share of right answers, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.value)} ({100 * self.low:.1f} to {100 * self.high:.1f})"


class Difference(NamedTuple):
    """How far one run is above another on the same questions, with its 95 % interval."""

    value: float
    low: float
    high: float
    p: float
    """How often runs of equal merit would differ at least as much, in either direction."""
    questions: int
    """How many questions both were scored on."""

    def __str__(self) -> str:
        points = f"{100 * self.value:+.1f} points ({100 * self.low:+.1f} to {100 * self.high:+.1f})"
        return f"{points}, p = {self.p:.3f}" if self.p >= 0.001 else f"{points}, p < 0.001"


def percent(share: float) -> str:
    """``93.4 %``."""
    return f"{100 * share:.1f} %"


def clustered(
    values: Sequence[float], clusters: Sequence[str], *, bounds: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """Mean and its 95 % interval by a bootstrap of whole clusters: questions on one video are not independent.

    10,000 times as many clusters as there are are drawn with replacement; the interval goes from the 2.5th to the
    97.5th percentile of their means. Where the clusters do not differ, being one or having equal means, drawing them
    shows nothing, and the interval is Wilson's for as many answers as there are clusters. With fewer than about ten
    clusters it is too narrow. The same values give the same interval, in whatever order they come.

    Args:
        values: At least one.
        clusters: Of each value the name of its cluster, such as its video.
        bounds: The least and the largest that a value can be.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the American
    Statistical Association 22 (1927), 209-212.
    """
    sums, counts = _clusters(values, clusters)
    mean = math.fsum(values) / len(values)
    return Interval(mean, *_percentiles(sums, counts, mean, bounds))


def paired(ours: Sequence[float], theirs: Sequence[float], clusters: Sequence[str]) -> Difference:
    """Mean of ``ours - theirs`` over the same questions, its 95 % interval, and whether chance explains it.

    The interval is that of `clustered`; where no question differs it has no width. The p-value is that of a two-sided
    permutation test that swaps the two runs within whole clusters: all swaps up to 13 clusters, 10,000 drawn ones
    beyond. Unlike the interval it stays honest with few videos: three of them never give less than 0.25.

    Args:
        ours: Scores of the one run, at least one, from 0 to 1.
        theirs: Scores of the other, question by question.
        clusters: Of each question the name of its cluster, such as its video.
    """
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    sums, counts = _clusters(differences, clusters)
    mean = math.fsum(differences) / len(differences)
    low, high = _percentiles(sums, counts, mean, (-1.0, 1.0)) if differences.any() else (0.0, 0.0)
    return Difference(mean, low, high, _swapped(sums), len(differences))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being many, by Holm's step-down method, in the order given.

    The smallest of n is multiplied by n, the next by n - 1, and so on; none becomes smaller than one before it or
    larger than 1. Where those below 0.05 are called differences, the chance that any of them is none is at most 5 %,
    however the tests depend on each other.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
    (1979), 65-70.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = largest
    return adjusted


def _clusters(values: Sequence[float] | Floats, clusters: Sequence[str]) -> tuple[Floats, NDArray[np.intp]]:
    """Sum and number of the values of each cluster."""
    if len(values) != len(clusters) or not len(values):
        raise ValueError(f"{len(values)} values in {len(clusters)} clusters: there must be one cluster for each value")
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    weights = np.asarray(values, dtype=float)
    order = np.lexsort((weights, members))  # sums of floats depend on it
    sums: Any = np.bincount(members[order], weights=weights[order])
    return sums, np.bincount(members)


def _percentiles(
    sums: Floats, counts: NDArray[np.intp], mean: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    if np.ptp(sums / counts) < 1e-9:
        return _wilson(mean, len(counts), *bounds)
    generator = np.random.default_rng(_SEED)
    means = []
    for size in _parts(len(counts)):
        drawn = generator.integers(len(counts), size=(size, len(counts)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def _wilson(mean: float, count: int, least: float, largest: float) -> tuple[float, float]:
    share, z = (mean - least) / (largest - least), NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = (least + (largest - least) * min(1.0, max(0.0, end)) for end in (centre - reach, centre + reach))
    return low, high


def _swapped(sums: Floats) -> float:
    sums = sums[sums != 0]  # swapping where both are alike changes nothing
    found = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()  # sums of the same numbers in another order differ a little
    if len(sums) <= _EXACT_CLUSTERS:
        ways = np.arange(1 << len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float(np.mean(np.abs((2 * ways - 1) @ sums) >= found))
    generator = np.random.default_rng(_SEED)
    extreme = 0
    for size in _parts(len(sums)):
        signs = 2 * generator.integers(2, size=(size, len(sums))) - 1
        extreme += int(np.count_nonzero(np.abs(signs @ sums) >= found))
    return (extreme + 1) / (_DRAWS + 1)  # what was found is one of the ways


def _parts(clusters: int) -> Iterator[int]:
    """Sizes of the parts in which the draws are made."""
    size = max(_DRAWN_AT_ONCE // clusters, 1)
    for first in range(0, _DRAWS, size):
        yield min(size, _DRAWS - first)
