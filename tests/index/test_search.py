"""Exact and approximate search over matrices of embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from videobrain.index.search import HnswGraph, Scored, ranking, similarities, spread_out


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scenes(count: int, dimension: int = 64, seed: int = 0) -> npt.NDArray[np.float32]:
    """Runs of twenty vectors that resemble each other, as the frames of a scene do."""
    random = np.random.default_rng(seed)
    centres = np.repeat(random.normal(size=(count // 20 + 1, dimension)), 20, axis=0)[:count]
    return unit(centres + 0.5 * random.normal(size=(count, dimension)))


def test_equal_rows_tie_and_the_earlier_wins() -> None:
    row = unit(np.random.default_rng(1).normal(size=(1, 768)))
    for count in (1, 3, 7, 64, 1001):
        scores = similarities(np.repeat(row, count, axis=0), unit(np.random.default_rng(2).normal(size=(1, 768)))[0])
        assert len(set(scores.tolist())) == 1
        assert ranking(scores).tolist() == list(range(count))


def test_ranking_matches_a_plain_sort() -> None:
    vectors = scenes(500)
    scores = similarities(vectors, vectors[17])
    assert ranking(scores)[0] == 17
    assert ranking(scores).tolist() == sorted(range(500), key=lambda i: (-scores[i], i))


@pytest.mark.parametrize(
    ("gap", "expected"), [(0.0, [3, 4, 5]), (1.0, [3, 4, 5]), (1.5, [3, 5, 1]), (2.5, [3, 0]), (100.0, [3])]
)
def test_near_duplicates_in_time_are_left_out(gap: float, expected: list[int]) -> None:
    order = [3, 4, 5, 2, 1, 0]
    ranked = [Scored(position, 1.0 - 0.1 * i) for i, position in enumerate(order)]
    seconds = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert [s.position for s in spread_out(ranked, seconds, k=3, min_gap_seconds=gap)] == expected


def test_graph_gives_what_it_has() -> None:
    graph = HnswGraph(64)
    vectors = scenes(30)
    assert graph.search(vectors[0], 5) == []
    graph.add(vectors[:3])
    assert sorted(s.position for s in graph.search(vectors[0], 500)) == [0, 1, 2]
    graph.add(vectors[3:])
    found = graph.search(vectors[20], 500)
    assert len(found) == 30
    assert found[0] == Scored(20, 1.0)
    assert found == sorted(found, key=lambda s: (-s.similarity, s.position))


def test_graph_recall_against_exact_search() -> None:
    vectors, queries = scenes(5000), scenes(50, seed=3)
    graph = HnswGraph(64)
    assert graph.add(vectors)  # beyond its first size, so it has grown
    hits = 0
    for query in queries:
        exact = set(ranking(similarities(vectors, query))[:16].tolist())
        hits += len(exact & {s.position for s in graph.search(query, 16)})
    assert hits / (16 * len(queries)) >= 0.95


def test_graph_building_can_be_stopped() -> None:
    graph = HnswGraph(64)
    assert not graph.add(scenes(2000), stop=lambda: len(graph) >= 512)
    assert len(graph) == 512
