"""The frame index: the embeddings of one video's frames, made when they are needed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt
from anyio.streams.memory import MemoryObjectSendStream
from pydantic import BaseModel, ConfigDict

from videobrain.errors import InputError
from videobrain.index.encoder import Embeddings, FrameEncoder
from videobrain.index.grid import candidate_frames, dense_frames
from videobrain.index.search import Scored, check_query, ranking, similarities, spread_out
from videobrain.index.shared import SharedEncoder
from videobrain.index.store import IndexStore, StoredIndex
from videobrain.settings import Settings
from videobrain.video.frame import FRAME_SIZES, Frame

if TYPE_CHECKING:
    from videobrain.video import Video

Progress = Callable[[int, int], None]
"""Called with the frames that are embedded and those that will be."""

_MOST_AT_ONCE = 64
"""Frames decoded while as many are embedded, where `Settings.encoder_batch_size` is larger still."""
_BATCHES_AHEAD = 1
"""Decoded batches that wait, so that one that is slow to decode does not stop the encoder. A search waits at most for
the batches that a build has claimed: these, the one being embedded and the one being decoded."""
_SAVE_SECONDS = 20.0
"""What a long build may lose when its process is killed."""
_LAST_SAVE_SECONDS = 1.0


class FrameHit(BaseModel):
    """A frame that a search found."""

    model_config = ConfigDict(frozen=True)

    frame_index: int
    timestamp_seconds: float
    similarity: float
    """Cosine similarity to the query."""
    video: str
    """The video, as its source was given."""


class FrameIndex:
    """Finds the frames of one video that look most like a text.

    Only frames that a search needs and that are not embedded yet are decoded and embedded. Which frames it looks at
    follows from the range and the settings alone, so that its results never depend on what was embedded before.
    Searches and builds may run side by side; each frame is embedded once.

    Args:
        video: The video.
        encoder: What embeds frames and text; share one `SharedEncoder` among all indexes.
        store: Where embeddings are kept between runs; None keeps them in memory only.
        settings: Density of the grid, gap between results.
    """

    def __init__(
        self,
        video: Video,
        encoder: SharedEncoder | FrameEncoder,
        store: IndexStore | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.video = video
        self.encoder = encoder if isinstance(encoder, SharedEncoder) else SharedEncoder(encoder)
        self.settings = settings or Settings()
        self._store = store
        self._threads = anyio.CapacityLimiter(2)
        self._opening = anyio.Lock()
        self._opened = False
        self._rows: dict[int, int] = {}  # frame index -> row of _vectors
        self._vectors: Embeddings = np.empty((0, 0), np.float32)
        self._undecodable: set[int] = set()
        self._claims: dict[int, anyio.Event] = {}  # frames that some task is embedding now
        self._unsaved = False
        self._saved_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"FrameIndex({self.video.info.source!r}, {self.encoder.name!r}, {len(self)} frames)"

    @property
    def frames(self) -> list[int]:
        """The frames that are embedded, sorted."""
        return sorted(self._rows)

    async def search(
        self, query: str, *, k: int = 4, start_frame: int = 0, end_frame: int | None = None
    ) -> list[FrameHit]:
        """The `k` frames of ``[start_frame, end_frame)`` most similar to `query`, in time order.

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded.
            InputError: The range is empty, or the query is, or `k` is less than 1.
            DecodeTimeoutError: Decoding overran its deadline.
        """
        frames = self.candidates(start_frame, end_frame)
        check_query(query, k)
        await self._open()
        vector = await self.encoder.embed_text(query)
        await self.ensure(frames)
        return sorted(await self.nearest(frames, vector, k=k), key=lambda hit: hit.frame_index)

    async def build(self, *, progress: Progress | None = None) -> None:
        """Embed every frame that searches of long ranges look at.

        What was done is kept when the build is cancelled; the next one goes on from there.

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded.
            DecodeTimeoutError: Decoding overran its deadline.
        """
        await self.ensure(dense_frames(self.video.table, self.settings), progress=progress)

    def candidates(self, start_frame: int = 0, end_frame: int | None = None) -> list[int]:
        """The frames that a search of a range looks at.

        Raises:
            InputError: The range holds no frame.
        """
        end_frame = len(self.video.table) if end_frame is None else end_frame
        frames = candidate_frames(self.video.table, start_frame, end_frame, self.settings)
        if not frames:
            raise InputError(
                f"There is no frame in [{start_frame}, {end_frame}) of {self.video.info.source}.",
                hint=f"It has frames 0 to {len(self.video.table) - 1}.",
            )
        return frames

    async def ensure(self, frames: Sequence[int], *, progress: Progress | None = None) -> None:
        """Embed those of `frames` that are not embedded yet; frames that cannot be decoded are passed over.

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded.
            DecodeTimeoutError: Decoding overran its deadline.
        """
        await self._open()
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, len(frames))

        try:
            while missing := self._missing(frames):
                advance(len(frames) - len(missing) - done)
                free = [frame for frame in missing if frame not in self._claims]
                if free:
                    await self._embed(free, advance)
                else:
                    # Another task has them; if it gives up, they are free at the next turn.
                    await self._claims[missing[0]].wait()
            advance(len(frames) - done)
        finally:
            with anyio.move_on_after(_LAST_SAVE_SECONDS, shield=True):
                await self.save()

    async def nearest(self, frames: Sequence[int], query: npt.NDArray[np.float32], *, k: int) -> list[FrameHit]:
        """The `k` of `frames` nearest to an embedded query, best first; those not embedded are passed over."""
        known, vectors = self._embedded(frames)
        seconds = self.video.table.timestamps_seconds

        def work() -> list[Scored]:
            scores = similarities(vectors(), query)
            ranked = (Scored(int(i), float(scores[i])) for i in ranking(scores))
            times = [float(seconds[frame]) for frame in known]
            return spread_out(ranked, times, k=k, min_gap_seconds=self.settings.min_gap_seconds)

        found = await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        return [self.hit(known[position], similarity) for position, similarity in found]

    async def embeddings(self, frames: Sequence[int]) -> tuple[list[int], Embeddings]:
        """Those of `frames` that are embedded, and their embeddings."""
        known, vectors = self._embedded(frames)
        return known, await anyio.to_thread.run_sync(vectors, abandon_on_cancel=True, limiter=self._threads)

    def hit(self, frame_index: int, similarity: float) -> FrameHit:
        """A frame of this video as the result of a search."""
        return FrameHit(
            frame_index=frame_index,
            timestamp_seconds=float(self.video.table.timestamps_seconds[frame_index]),
            similarity=similarity,
            video=self.video.info.source,
        )

    async def save(self) -> None:
        """Write what is new to the store; does nothing without a store, or where nothing is new."""
        if self._store is None or not self._unsaved:
            return
        self._unsaved = False
        self._saved_at = time.monotonic()
        store, rows, vectors = self._store, dict(self._rows), self._vectors

        def work() -> StoredIndex:
            frames = sorted(rows)
            index = StoredIndex(np.array(frames, np.int64), vectors[[rows[frame] for frame in frames]])
            names = {"video": self.video.info.source, "encoder": self.encoder.name}
            return store.save(self.video.key, self.encoder.fingerprint, index, **names)

        self._adopt(await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads))

    async def _open(self) -> None:
        """Load the encoder, and what is stored for it and this video; once."""
        if self._opened:
            return
        async with self._opening:
            if self._opened:
                return
            await self.encoder.load()
            self._vectors = np.empty((0, self.encoder.dimension), np.float32)
            if self._store is not None:
                stored = await anyio.to_thread.run_sync(
                    self._store.load,
                    self.video.key,
                    self.encoder.fingerprint,
                    abandon_on_cancel=True,
                    limiter=self._threads,
                )
                if stored is not None:
                    self._adopt(stored)
            self._opened = True

    def _adopt(self, stored: StoredIndex) -> None:
        """Take over embeddings that are not known yet; none of them if they cannot be this video's or encoder's."""
        frames: list[int] = stored.frames.tolist()
        fits = stored.vectors.shape[1] == self.encoder.dimension
        if not fits or not frames or frames[0] < 0 or frames[-1] >= len(self.video.table):
            return
        if self._rows:
            self._add(frames, stored.vectors)
        else:  # without a copy: a long video's embeddings are large enough for one to hold up the event loop
            self._rows, self._vectors = dict(zip(frames, range(len(frames)), strict=True)), stored.vectors

    def _add(self, frames: Sequence[int], vectors: Embeddings) -> None:
        # What is known stays: another process may have stored a frame while it was embedded here.
        new = [i for i, frame in enumerate(frames) if frame not in self._rows]
        if len(new) < len(frames):
            frames, vectors = [frames[i] for i in new], vectors[new]
        count = len(self._rows)
        if count + len(frames) > len(self._vectors):
            # A new array, so that searches under way keep theirs.
            grown = np.empty((max(2 * count, count + len(frames)), vectors.shape[1]), np.float32)
            grown[:count] = self._vectors[:count]
            self._vectors = grown
        self._vectors[count : count + len(frames)] = vectors
        self._rows.update(zip(frames, range(count, count + len(frames)), strict=True))

    def _missing(self, frames: Iterable[int]) -> list[int]:
        return [frame for frame in frames if frame not in self._rows and frame not in self._undecodable]

    def _embedded(self, frames: Sequence[int]) -> tuple[list[int], Callable[[], Embeddings]]:
        """Those of `frames` that are embedded, and a function that gathers their embeddings in any thread."""
        known = [frame for frame in frames if frame in self._rows]
        rows = [self._rows[frame] for frame in known]
        vectors = self._vectors
        return known, lambda: vectors[rows]

    async def _embed(self, frames: Sequence[int], advance: Callable[[int], None]) -> None:
        """Decode a batch while the one before it is embedded."""
        send, receive = anyio.create_memory_object_stream[tuple[list[int], list[Frame]]](_BATCHES_AHEAD)
        mine: set[int] = set()
        try:
            async with _first_error(), receive, anyio.create_task_group() as tasks:
                tasks.start_soon(self._decode, frames, mine, send)
                async for batch, decoded in receive:
                    vectors = await self.encoder.embed_images([frame.pixels for frame in decoded])
                    self._add([frame.frame_index for frame in decoded], vectors)
                    self._undecodable.update(self._missing(batch))
                    self._unsaved = self._unsaved or bool(decoded)
                    self._release(batch)
                    mine.difference_update(batch)
                    advance(len(batch))
                    if time.monotonic() - self._saved_at > _SAVE_SECONDS:
                        await self.save()
        finally:
            self._release(mine)

    async def _decode(
        self,
        frames: Sequence[int],
        mine: set[int],
        send: MemoryObjectSendStream[tuple[list[int], list[Frame]]],
    ) -> None:
        queue = list(reversed(frames))
        most = min(self.settings.encoder_batch_size, _MOST_AT_ONCE)
        size = min(4, most)  # the encoder idles while the first batch is decoded
        async with send:
            while queue:
                batch: list[int] = []
                while queue and len(batch) < size:
                    frame = queue.pop()
                    # Claimed late, batch by batch, so that a search does not wait for the end of a build.
                    if frame not in self._claims and frame not in self._rows:
                        batch.append(frame)
                size = min(2 * size, most)
                if batch:
                    claim = anyio.Event()
                    self._claims.update(dict.fromkeys(batch, claim))
                    mine.update(batch)
                    await send.send((batch, await self.video.frames(batch, size=FRAME_SIZES[0])))

    def _release(self, frames: Iterable[int]) -> None:
        for frame in list(frames):
            self._claims.pop(frame).set()


@asynccontextmanager
async def _first_error() -> AsyncIterator[None]:
    """Raise what a task raised, not a group around it: callers catch our errors by their types."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
