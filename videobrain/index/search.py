"""Nearest frames: exact, and approximate by a navigable graph (HNSW)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from videobrain.errors import InputError, MissingDependencyError
from videobrain.index.encoder import Embeddings

Vector = npt.NDArray[np.float32]

HNSW_THRESHOLD = 300_000
"""Vectors from which a graph is worth building: there an exact search takes 0.1 s on two cores, a graph some 10 ms.
Below, the minutes of building would be won back by thousands of searches only (``python -m tests.benchmarks.hnsw``)."""
_DECIMALS = 6
"""Similarities are compared to this precision: two equal pictures must tie, whatever row of a matrix they stand in."""


class Scored(NamedTuple):
    """A position in a matrix of embeddings and its similarity to the query."""

    position: int
    similarity: float


def check_query(query: str, k: int) -> None:
    """Refuse what cannot be searched for.

    Raises:
        InputError: The query is empty, or `k` is less than 1.
    """
    if not query.strip():
        raise InputError("The query of a search is empty.", hint="Say in a few words what to look for.")
    if k < 1:
        raise InputError(f"A search cannot find {k} frames.", hint="k must be at least 1.")


def similarities(vectors: Embeddings, query: Vector) -> npt.NDArray[np.float64]:
    """Cosine similarity of each row of unit vectors to a unit vector, rounded so that equal rows compare equal."""
    scores: npt.NDArray[np.float64] = (vectors @ query).astype(np.float64)
    return scores.round(_DECIMALS)


def ranking(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Positions from the best score to the worst; among equals the earlier one first."""
    return np.argsort(-scores, kind="stable")


def spread_out(ranked: Iterable[Scored], seconds: Sequence[float], *, k: int, min_gap_seconds: float) -> list[Scored]:
    """The first `k` of a ranking, leaving out those closer in time than `min_gap_seconds` to one already taken."""
    taken: list[Scored] = []
    for scored in ranked:
        if len(taken) == k:
            break
        at = seconds[scored.position]
        if all(abs(at - seconds[other.position]) >= min_gap_seconds for other in taken):
            taken.append(scored)
    return taken


class HnswGraph:
    """A graph over unit vectors for approximate search; positions count from 0 in the order of adding.

    Args:
        dimension: Length of a vector.
        links: Links of a vector (M).

    Attributes:
        effort: Candidates kept while searching (ef). 800 found 99.6 % of the 16 nearest among 50,000 vectors, for
            queries as far from all of them as text is from pictures; 200 found 87 %.
    """

    def __init__(self, dimension: int, *, links: int = 32) -> None:
        try:
            import hnswlib
        except ImportError as error:
            raise MissingDependencyError("Approximate search needs the package hnswlib.", extra="local") from error
        self._graph = hnswlib.Index(space="ip", dim=dimension)
        self._graph.init_index(max_elements=1024, M=links, ef_construction=200, random_seed=0)
        self.effort = 800
        self._lock = threading.Lock()  # adding and asking are not safe side by side

    def __len__(self) -> int:
        return int(self._graph.get_current_count())

    def add(self, vectors: Embeddings, *, stop: Callable[[], bool] = lambda: False) -> bool:
        """Add vectors; returns False if `stop` said so before all were added."""
        for start in range(0, len(vectors), 256):
            if stop():
                return False
            part = vectors[start : start + 256]
            with self._lock:
                count = len(self)
                if count + len(part) > self._graph.get_max_elements():
                    self._graph.resize_index(2 * (count + len(part)))
                self._graph.add_items(part, np.arange(count, count + len(part)))
        return True

    def search(self, query: Vector, k: int) -> list[Scored]:
        """Up to `k` nearest vectors, best first; fewer only where there are fewer."""
        with self._lock:
            k = min(k, len(self))
            if k == 0:
                return []
            self._graph.set_ef(max(self.effort, 2 * k))
            labels, distances = self._graph.knn_query(query[None, :], k=k)
        found = zip(
            labels[0].tolist(), np.round(1.0 - distances[0].astype(np.float64), _DECIMALS).tolist(), strict=True
        )
        return sorted((Scored(int(label), score) for label, score in found), key=lambda s: (-s.similarity, s.position))
