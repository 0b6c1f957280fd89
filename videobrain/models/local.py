"""`LocalModel`: a model in this process, off the event loop, one reply at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from videobrain.errors import ModelError, ModelTimeoutError
from videobrain.models.engine import Engine, Stopped
from videobrain.models.messages import ChatReply, ChatRequest, ModelEvent, TextDelta
from videobrain.models.profiles import profile_for, stated_profile
from videobrain.models.protocol import ModelCapacity, ModelProfile
from videobrain.models.turns import Turns
from videobrain.settings import Settings

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LOCK_POLL_SECONDS = 0.05
_CLOSE_SECONDS = 1.0
"""Time that closing gives to what is under way."""


class LocalModel:
    """A vision-language model that transformers runs in this process.

    It is loaded in a worker thread by the first `capacity()` or `complete()`, on the first accelerator that torch
    finds, else on the CPU. Concurrent requests wait for each other. A cancelled request ends between two layers of
    the model, so within moments; reading weights from disk cannot be cut short, and is then used by the next call.

    Args:
        model: Directory or hub id.
        settings: By default those of the environment.
        profile: What the model can do; by default what its directory, its family and its processor say.
        name: What it is called in logs and traces; by default the model string.

    Raises:
        ConfigurationError: The directory's ``videobrain.json`` cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        settings: Settings | None = None,
        profile: ModelProfile | None = None,
        name: str | None = None,
    ) -> None:
        self._source = str(Path(model).expanduser()) if model.startswith("~") else model
        self._name = name or f"local:{self._source}"
        self._settings = settings or Settings()
        self._given_profile = profile
        self._profile = profile or profile_for(self._source).model_copy(update={"constrains": True})
        self._engine: Engine | None = None
        self._turn = Turns()
        self._thread = anyio.CapacityLimiter(1)
        # A turn ends as soon as its task is cancelled; the thread holds this until it has really ended.
        self._busy = threading.Lock()
        self._closing = False
        self._stops: set[threading.Event] = set()

    @property
    def name(self) -> str:
        """The model string."""
        return self._name

    @property
    def profile(self) -> ModelProfile:
        """What the model can do; exact once `capacity()` has loaded it."""
        return self._profile

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """Load the model where that is not done yet, and say how long its context is.

        Raises:
            MissingDependencyError: The extra ``local`` is not installed.
            ModelStartError: The model cannot be loaded.
        """
        engine = self._engine
        if engine is None:
            engine = await self._in_thread(self._load)
        return ModelCapacity(model=self._source, max_model_len=engine.max_model_len)

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        """Continue the conversation.

        Raises:
            ModelTimeoutError: The reply, from its turn on, took longer than the settings allow, or the run is over.
            ContextLengthError: Prompt and reply do not fit the model's context.
            ModelError: The reply failed otherwise; see `videobrain.models.engine.Engine.generate`.
        """
        await self.capacity()

        def generate(stop: threading.Event) -> ChatReply:
            def send(text: str) -> None:
                if on_event is not None and not stop.is_set():
                    anyio.from_thread.run_sync(on_event, TextDelta(text=text))

            streams = on_event is not None and self._settings.stream_replies
            return self._load(stop).generate(request, stop=stop, on_text=send if streams else None)

        with anyio.move_on_after(request.timeout_seconds):
            return await self._in_thread(generate, seconds=self._settings.request_timeout_seconds)
        raise ModelTimeoutError(
            f"The model {self._source!r} did not finish its reply within {request.timeout_seconds:.3g} s, "
            "which is what was left of the run.",
            hint="Allow the run more time (Limits(seconds=…)).",
        )

    async def aclose(self) -> None:
        """End running replies and free the weights; a later call loads the model anew.

        Weights that are just being read or fetched are freed as soon as they are there.
        """
        for stop in self._stops:
            stop.set()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._unload)

    async def _in_thread(self, work: Callable[[threading.Event], T], *, seconds: float | None = None) -> T:
        """Do `work` when it is its turn, within `seconds` from then."""
        stop = threading.Event()
        self._stops.add(stop)
        try:
            async with self._turn:
                with anyio.fail_after(seconds):
                    return await anyio.to_thread.run_sync(
                        self._alone, work, stop, abandon_on_cancel=True, limiter=self._thread
                    )
        except TimeoutError as error:
            raise ModelTimeoutError(
                f"The model {self._source!r} did not finish its reply within {seconds:g} s.",
                hint="Raise VIDEOBRAIN_REQUEST_TIMEOUT_SECONDS, or serve the model with vLLM.",
            ) from error
        except Stopped as error:
            raise ModelError(f"The model {self._source!r} was closed while it was replying.") from error
        finally:
            stop.set()
            self._stops.discard(stop)

    def _alone(self, work: Callable[[threading.Event], T], stop: threading.Event) -> T:
        while not self._busy.acquire(timeout=_LOCK_POLL_SECONDS):
            if stop.is_set():
                raise Stopped
        try:
            return work(stop)
        finally:
            if self._closing:
                self._free()
            self._busy.release()

    def _load(self, stop: threading.Event) -> Engine:
        if self._engine is None:
            started = time.monotonic()
            self._engine = Engine.load(self._source, offline=self._settings.offline, stop=stop)
            _log.info("Loaded %s in %.1f s", self._source, time.monotonic() - started)
            if self._given_profile is None:
                found = self._engine.profile(self._profile)
                self._profile = found.model_copy(update=stated_profile(self._source))
        return self._engine

    def _unload(self) -> None:
        self._closing = True
        # Weights that are being read or fetched cannot be given up halfway: their thread frees them then.
        if self._busy.acquire(timeout=_CLOSE_SECONDS):
            try:
                self._free()
            finally:
                self._busy.release()

    def _free(self) -> None:
        engine, self._engine, self._closing = self._engine, None, False
        if engine is not None:
            engine.free()
