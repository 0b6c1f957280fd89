"""Exact search against HNSW: time, building time and recall, for frames of scenes and queries unlike any frame.

    python -m tests.benchmarks.hnsw [VECTORS ...]

This is where `videobrain.index.search.HNSW_THRESHOLD` comes from. Text embeddings lie apart from image embeddings, so
queries here are random directions: the hard case, where many frames are nearly as good as the best.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from tests.benchmarks.machine import describe
from videobrain.index.search import HnswGraph, ranking, similarities

DIMENSION, K, QUERIES = 768, 16, 50


def scenes(count: int, seed: int) -> np.ndarray:
    """Runs of twenty unit vectors that resemble each other, as the frames of a scene do."""
    random = np.random.default_rng(seed)
    vectors = np.repeat(random.normal(size=(count // 20 + 1, DIMENSION)).astype(np.float32), 20, axis=0)[:count]
    vectors += 0.6 * random.normal(size=vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=int, nargs="*", default=[5_000, 20_000])
    print(describe("numpy", "hnswlib"))
    queries = scenes(20 * QUERIES, seed=1)[::20]
    for count in parser.parse_args().vectors:
        vectors = scenes(count, seed=0)
        exact: list[set[int]] = []

        def search_exactly(vectors: np.ndarray = vectors, exact: list[set[int]] = exact) -> None:
            exact.extend(set(ranking(similarities(vectors, query))[:K].tolist()) for query in queries)

        cost = seconds(search_exactly) / QUERIES
        print(f"{count:>9,} vectors, exact: {1e3 * cost:.2f} ms a query, {1e6 * cost / count:.2f} µs a vector")
        for links in (16, 32):
            graph = HnswGraph(DIMENSION, links=links)
            building = seconds(lambda graph=graph, vectors=vectors: graph.add(vectors))
            for effort in (200, 400, 800):
                graph.effort = effort
                found: list[set[int]] = []
                asking = seconds(
                    lambda g=graph, f=found: f.extend({s.position for s in g.search(q, K)} for q in queries)
                )
                recall = np.mean([len(e & f) / K for e, f in zip(exact, found, strict=True)])
                print(
                    f"          links {links}, ef {effort}: built in {building:.1f} s, "
                    f"{1e3 * asking / QUERIES:.2f} ms a query, recall {recall:.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
