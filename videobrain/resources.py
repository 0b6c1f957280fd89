"""What the questions of one application share: decoders, frames, indexes, the encoder, the model."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from videobrain.errors import EncoderUnavailableError, InputError, VideoBrainError, VideoError
from videobrain.files import digest_of_model
from videobrain.index import FrameEncoder, FrameHit, FrameIndex, IndexStore, Library, OpenClipEncoder, SharedEncoder
from videobrain.models import ChatModel
from videobrain.models.profiles import manner_of
from videobrain.settings import Settings
from videobrain.tools import SearchFrames, ToolError, ToolRetry
from videobrain.video import Video, VideoPool

_LOGGER = logging.getLogger(__name__)
K = TypeVar("K")
V = TypeVar("V")
_INDEXES_KEPT = 64
"""Indexes in memory at once; an hour of video takes 11 MB. A dropped one is read from disk when it is used again."""
_WARMING_SECONDS = 60.0
"""An index that would take longer than this to warm is left to grow on demand."""


class Reached(NamedTuple):
    """What answers, once it is reached."""

    model: str
    """Its model string, or another name."""
    prompts: str
    """Name of the prompts that it is asked with."""
    constrained: bool
    """Its replies are held to the grammar."""
    encoder: str
    """Name of the frame encoder that searches use."""
    servers: int = 1
    """How many servers share its requests."""
    weights: str = ""
    """Digest of what lies in the directory of the model on this machine; empty where there is none."""


class Resources:
    """Everything that outlives one question; bound to the event loop that uses it.

    Args:
        new_model: Makes the model when it is first needed.
        owns_model: Whether the model is closed with the rest.
        encoder: What the user chose to embed frames; None: what the settings choose, else the model's own.
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
        self._making_model = anyio.Lock()
        if encoder is None and "encoder" in settings.model_fields_set:
            encoder = settings.encoder
        self._chosen_encoder = encoder
        self._encoders: dict[str, SharedEncoder] = {}
        self._store = IndexStore(settings)
        self._indexes: WeakValueDictionary[tuple[str, str], FrameIndex] = WeakValueDictionary()
        self._kept_indexes: OrderedDict[tuple[str, str], FrameIndex] = OrderedDict()
        self._libraries: OrderedDict[tuple[str, ...], Library] = OrderedDict()
        self._warming: dict[str, _Warming] = {}

    async def model(self) -> ChatModel:
        """The model; made on first use, in a thread since a model's directory is looked at.

        Raises:
            ConfigurationError: No model is configured, or it cannot be used.
            MissingDependencyError: The bundled model is meant, and what runs it is not installed.
        """
        async with self._making_model:
            if self._model is None:
                self._model = await anyio.to_thread.run_sync(self._new_model)
            return self._model

    async def reach(self) -> Reached:
        """Start or reach the model, and say by what names it and its encoder go.

        Raises:
            ModelError: It cannot be reached or started.
        """
        model = await self.model()
        capacity = await model.capacity()
        profile = model.profile
        manner = manner_of(profile, self.settings)
        constrained = manner.constrain_replies and profile.constrains
        # The files of somebody's server may be on this machine or not, and the answers are the same.
        own = capacity.address is None and capacity.servers == 1
        places = [place for place in (capacity.model, profile.encoder) if own and place]
        weights = await anyio.to_thread.run_sync(digest_of_model, places)
        encoder = self.encoder(profile.encoder).name
        return Reached(model.name, manner.prompts, constrained, encoder, capacity.servers, weights)

    async def load_encoder(self) -> None:
        """Load the frame encoder, which else the first search does.

        Raises:
            EncoderUnavailableError: It cannot be loaded.
        """
        await self.encoder((await self.model()).profile.encoder).load()

    def encoder(self, own: str | None) -> SharedEncoder:
        """What embeds frames: what the user chose, else the model's `own` encoder, else the default of the settings."""
        chosen = self._chosen_encoder if self._chosen_encoder is not None else own or self.settings.encoder
        name = chosen if isinstance(chosen, str) else chosen.name
        if name not in self._encoders:
            made = OpenClipEncoder(chosen, settings=self.settings) if isinstance(chosen, str) else chosen
            self._encoders[name] = SharedEncoder(made)
        return self._encoders[name]

    def index(self, video: Video, *, own_encoder: str | None) -> FrameIndex:
        """The index of an open video, one for all its questions. Nothing is embedded by this."""
        encoder = self.encoder(own_encoder)
        key = (video.key, encoder.name)
        index = self._indexes.get(key)
        if index is None:
            index = self._indexes[key] = FrameIndex(video, encoder, self._store, self.settings)
        if video.in_memory:  # whoever keeps its index keeps the whole file in memory
            return index
        return _recent(self._kept_indexes, key, lambda: index, _INDEXES_KEPT)

    def library(self, videos: Sequence[Video], *, own_encoder: str | None) -> Library:
        """Several videos that are searched together."""

        def make() -> Library:
            return Library([self.index(video, own_encoder=own_encoder) for video in videos])

        keys = (self.encoder(own_encoder).name, *(video.key for video in videos))
        return _recent(self._libraries, keys, make, 1)

    @asynccontextmanager
    async def warming(self, video: Video, index: Callable[[], FrameIndex]) -> AsyncIterator[Callable[[], None]]:
        """Gives a function that begins to embed a video ahead; embedding ends with the last run that asked for it."""
        key = video.key
        warming = self._warming.setdefault(key, _Warming())
        warming.runs += 1

        def start() -> None:
            if warming.task is None and self.settings.warm_index is not False:
                warming.task = asyncio.create_task(self._warm(index()))

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
        if not self.settings.warm_index and not await anyio.to_thread.run_sync(lambda: index.encoder.weights_local):
            return
        with anyio.CancelScope() as scope:

            def watch(done: int, total: int) -> None:
                cost = index.encoder.seconds_per_frame
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


def search_for_tools(index: Callable[[], FrameIndex]) -> SearchFrames:
    """What tools search with: errors that are the model's own, or mean that there is no search, are told to it."""

    async def search(query: str, *, k: int, start_frame: int, end_frame: int | None) -> list[FrameHit]:
        try:
            return await index().search(query, k=k, start_frame=start_frame, end_frame=end_frame)
        except EncoderUnavailableError as error:
            raise ToolError(f"The frame encoder cannot be loaded: {error}", withdraw=True) from error
        except VideoError:
            raise
        except InputError as error:  # the model's words or range, handed on by a tool that did not look at them
            raise ToolRetry(str(error)) from error

    return search
