"""Search over several videos at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Literal

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt

from videobrain.errors import InputError
from videobrain.index.frame_index import FrameHit, FrameIndex, Progress
from videobrain.index.search import HNSW_THRESHOLD, HnswGraph, Scored, check_query, spread_out

Backend = Literal["auto", "exact", "hnsw"]


class Library:
    """Several videos that are searched together.

    Args:
        indexes: One index per video, all with the same encoder.
        backend: ``exact`` compares the query with every frame. ``hnsw`` asks a graph, which its first search builds:
            that takes minutes from some 100,000 frames on. ``auto`` is exact until `prepare` has built a graph, which
            it does from `HNSW_THRESHOLD` frames on. Searches of a range of time are always exact. By default
            ``settings.search_backend``.
    """

    def __init__(self, indexes: Sequence[FrameIndex], *, backend: Backend | None = None) -> None:
        if not indexes:
            raise InputError("There is no video to search.", hint="Name at least one.")
        if len({id(index.encoder) for index in indexes}) > 1:
            raise InputError(
                "The videos are indexed by different encoders.", hint="Share one SharedEncoder among them."
            )
        self._indexes = list(indexes)
        self._encoder = indexes[0].encoder
        self._settings = indexes[0].settings
        self._backend: Backend = backend or self._settings.search_backend
        self._preparing = anyio.Lock()
        self._graph: HnswGraph | None = None
        self._places: list[tuple[int, int]] = []  # position in the graph -> video, frame

    def __repr__(self) -> str:
        return f"Library({len(self._indexes)} videos, {self._backend!r}, graph of {len(self._places)} frames)"

    async def search(
        self,
        query: str,
        *,
        k: int = 4,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> list[FrameHit]:
        """The `k` frames of all videos that are most similar to `query`, best first.

        Args:
            query: What to look for, in a few words.
            k: How many frames to find.
            start_seconds: Start of the range within each video.
            end_seconds: End of the range within each video; None for its end.
            progress: Told of the frames that have to be embedded first, of one video at a time.

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded.
            InputError: The query is empty, `k` is less than 1, or no video has a frame in the range.
            DecodeTimeoutError: Decoding overran its deadline.
        """
        check_query(query, k)
        await self._encoder.load()
        vector = await self._encoder.embed_text(query)
        whole = start_seconds <= 0 and end_seconds is None
        if whole and self._backend == "hnsw":
            await self.prepare(progress=progress)
        if whole and self._graph is not None:
            return await self._search_graph(self._graph, vector, k)
        hits: list[tuple[int, FrameHit]] = []
        found_range = False
        for number, index in enumerate(self._indexes):
            bounds = index.video.table.indices_between(start_seconds, np.inf if end_seconds is None else end_seconds)
            if whole:
                bounds = range(len(index.video.table))
            if bounds:
                found_range = True
                frames = index.candidates(bounds.start, bounds.stop)
                await index.ensure(frames, progress=progress)
                hits.extend((number, hit) for hit in await index.nearest(frames, vector, k=k))
        if not found_range:
            raise InputError(f"No video has a frame between {start_seconds} and {end_seconds} seconds.")
        hits.sort(key=lambda pair: (-pair[1].similarity, pair[0], pair[1].frame_index))
        return [hit for _, hit in hits[:k]]

    async def prepare(self, *, progress: Progress | None = None) -> None:
        """Embed all videos and, where the backend asks for it, build the graph.

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded.
            DecodeTimeoutError: Decoding overran its deadline.
        """
        async with self._preparing:
            if self._graph is not None:
                return
            wanted = [index.candidates() for index in self._indexes]
            total, done = sum(map(len, wanted)), 0
            for index, frames in zip(self._indexes, wanted, strict=True):
                await index.ensure(frames, progress=_shifted(progress, done, total))
                done += len(frames)
            if self._backend == "hnsw" or (self._backend == "auto" and total >= HNSW_THRESHOLD):
                await self._build_graph(wanted)

    async def _build_graph(self, wanted: Sequence[Sequence[int]]) -> None:
        graph = HnswGraph(self._encoder.dimension)
        places: list[tuple[int, int]] = []
        cancelled = threading.Event()
        try:
            for number, (index, frames) in enumerate(zip(self._indexes, wanted, strict=True)):
                known, vectors = await index.embeddings(frames)
                add = partial(graph.add, vectors, stop=cancelled.is_set)
                await anyio.to_thread.run_sync(add, abandon_on_cancel=True)
                places.extend((number, frame) for frame in known)
        finally:
            cancelled.set()
        self._graph, self._places = graph, places

    async def _search_graph(self, graph: HnswGraph, vector: npt.NDArray[np.float32], k: int) -> list[FrameHit]:
        asked = 4 * k
        while True:
            found = await anyio.to_thread.run_sync(graph.search, vector, asked, abandon_on_cancel=True)
            hits = self._spread(found, k)
            if len(hits) == k or asked >= len(graph):
                return hits
            asked *= 4

    def _spread(self, found: Sequence[Scored], k: int) -> list[FrameHit]:
        """Suppress near-duplicates within each video, then take the best."""
        places = self._places
        best: list[tuple[Scored, int, int]] = []
        for number, index in enumerate(self._indexes):
            here = [scored for scored in found if places[scored.position][0] == number]
            seconds = [float(index.video.table.timestamps_seconds[places[s.position][1]]) for s in here]
            ranked = (Scored(i, scored.similarity) for i, scored in enumerate(here))
            for kept in spread_out(ranked, seconds, k=k, min_gap_seconds=self._settings.min_gap_seconds):
                best.append((kept, number, places[here[kept.position].position][1]))
        best.sort(key=lambda each: (-each[0].similarity, each[1], each[2]))
        return [self._indexes[number].hit(frame, scored.similarity) for scored, number, frame in best[:k]]


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress on one video as progress on all of them."""
    return None if progress is None else lambda done, _: progress(before + done, total)
