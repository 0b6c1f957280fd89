"""Which frames to look at: pure functions of an interval."""

from __future__ import annotations

import numpy as np


def evenly_spaced(start: int, end: int, n: int) -> list[int]:
    """Up to `n` frame indices spread evenly over ``[start, end)``, sorted and unique.

    The VideoBrain protocol's rule: `n` points by linspace(start, end - 1, n), rounded down, duplicates removed. An
    interval shorter than `n` gives all its frames, an empty one none.
    """
    if end <= start or n < 1:
        return []
    if end - start <= n:
        return list(range(start, end))
    if n == 1:
        return [start]
    # Integer arithmetic: linspace in floating point can fall one short of an exact integer.
    return sorted({start + (i * (end - 1 - start)) // (n - 1) for i in range(n)})


def unique_sorted(indices: object) -> list[int]:
    """`indices` as a sorted list of plain integers without duplicates."""
    return [int(i) for i in np.unique(np.asarray(indices, dtype=np.int64))]
