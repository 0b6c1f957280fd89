"""What the questions of one application share: decoders, frames, indexes, the encoder, the model."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from videobrain.errors import VideoBrainError
from videobrain.index import FrameEncoder, FrameIndex, IndexStore, Library, OpenClipEncoder, SharedEncoder
from videobrain.models import ChatModel
from videobrain.settings import Settings
from videobrain.video import Video, VideoPool

_LOGGER = logging.getLogger(__name__)
K = TypeVar("K")
V = TypeVar("V")
_INDEXES_KEPT = 64
"""Indexes in memory at once; an hour of video takes 11 MB. A dropped one is read from disk when it is used again."""
_WARMING_SECONDS = 60.0
"""An index that would take longer than this to warm is left to grow on demand."""


class Resources:
    """Everything that outlives one question; bound to the event loop that uses it.

    Args:
        new_model: Makes the model when it is first needed.
        owns_model: Whether the model is closed with the rest.
        encoder: What embeds frames; by default ``Settings.encoder``.
        settings: The settings.
    """

    def __init__(
        self,
        new_model: Callable[[], ChatModel],
        *,
        owns_model: bool,
        encoder: str | FrameEncoder | None,
        settings: Settings,
    ) -> None:
        self.settings = settings
        self.videos = VideoPool(settings)
        self._new_model = new_model
        self._owns_model = owns_model
        self._model: ChatModel | None = None
        chosen = OpenClipEncoder(encoder, settings=settings) if isinstance(encoder, str | None) else encoder
        self.encoder = SharedEncoder(chosen)
        self._store = IndexStore(settings)
        self._indexes: WeakValueDictionary[str, FrameIndex] = WeakValueDictionary()
        self._kept_indexes: OrderedDict[str, FrameIndex] = OrderedDict()
        self._libraries: OrderedDict[tuple[str, ...], Library] = OrderedDict()
        self._warming: dict[str, _Warming] = {}

    @property
    def model(self) -> ChatModel:
        """The model; made on first use.

        Raises:
            ConfigurationError: No model is configured.
        """
        if self._model is None:
            self._model = self._new_model()
        return self._model

    def index(self, video: Video) -> FrameIndex:
        """The index of an open video, one for all its questions. Nothing is embedded by this."""
        index = self._indexes.get(video.key)
        if index is None:
            index = self._indexes[video.key] = FrameIndex(video, self.encoder, self._store, self.settings)
        if video.in_memory:  # whoever keeps its index keeps the whole file in memory
            return index
        return _recent(self._kept_indexes, video.key, lambda: index, _INDEXES_KEPT)

    def library(self, videos: Sequence[Video]) -> Library:
        """Several videos that are searched together."""
        keys = tuple(video.key for video in videos)
        return _recent(self._libraries, keys, lambda: Library([self.index(video) for video in videos]), 1)

    @asynccontextmanager
    async def warming(self, index: FrameIndex) -> AsyncIterator[Callable[[], None]]:
        """Gives a function that begins to embed ahead; embedding ends with the last run that asked for it."""
        key = index.video.key
        warming = self._warming.setdefault(key, _Warming())
        warming.runs += 1

        def start() -> None:
            if warming.task is None and self.settings.warm_index is not False:
                warming.task = asyncio.create_task(self._warm(index))

        try:
            yield start
        finally:
            warming.runs -= 1
            if warming.runs == 0:
                self._warming.pop(key, None)
                if warming.task is not None:
                    warming.task.cancel()
                    with anyio.CancelScope(shield=True):
                        await asyncio.wait([warming.task])

    async def _warm(self, index: FrameIndex) -> None:
        # Whether weights are on disk takes imports and a look at directories.
        if not self.settings.warm_index and not await anyio.to_thread.run_sync(lambda: self.encoder.weights_local):
            return
        with anyio.CancelScope() as scope:

            def watch(done: int, total: int) -> None:
                cost = self.encoder.seconds_per_frame
                if not self.settings.warm_index and cost is not None and cost * (total - done) > _WARMING_SECONDS:
                    scope.cancel()

            try:
                await index.build(progress=watch)
            except VideoBrainError as error:  # the run meets it again where it matters, when a tool searches
                _LOGGER.info("the index of %s was not warmed: %s", index.video.info.source, error)
            except Exception:  # a bug in somebody's encoder; a search meets it again, but there may be none
                _LOGGER.exception("the index of %s was not warmed", index.video.info.source)

    async def aclose(self) -> None:
        """Free everything; idempotent."""
        for warming in list(self._warming.values()):
            if warming.task is not None:
                warming.task.cancel()
        self._kept_indexes.clear()
        self._libraries.clear()
        await self.videos.aclose()
        if self._model is not None and self._owns_model:
            await self._model.aclose()
            self._model = None


def _recent(kept: OrderedDict[K, V], key: K, make: Callable[[], V], most: int) -> V:
    """The value under `key`, made where it is not there; only the `most` recently used values are kept."""
    value = kept.pop(key, None)
    kept[key] = value = make() if value is None else value
    while len(kept) > most:
        kept.popitem(last=False)
    return value


class _Warming:
    def __init__(self) -> None:
        self.runs = 0
        self.task: asyncio.Task[None] | None = None
