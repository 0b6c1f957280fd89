"""`CachedModel`: a model whose replies to deterministic requests are kept on disk, and not asked for twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
from pydantic import BaseModel, ConfigDict, ValidationError

from videobrain.errors import ModelError, ModelTimeoutError, RequestRejectedError
from videobrain.models.messages import ChatReply, ChatRequest, ModelEvent, RequestRetried, TextDelta
from videobrain.models.protocol import ChatModel, ModelCapacity, ModelProfile
from videobrain.models.replies import ReplyStore
from videobrain.settings import Settings

_OnEvent = Callable[[ModelEvent], None]
_FlightKey = tuple[asyncio.AbstractEventLoop, bytes]

FILE_NAME = "replies.sqlite"
SCHEMA_VERSION = 1
"""Raise it when the same `ChatRequest` is sent otherwise than before, or a reply is read otherwise."""


class CachedModel:
    """A `ChatModel` that asks another one only what it was not asked before.

    Kept are replies to **deterministic** requests: those of temperature 0, and those with a seed, where the model takes
    that parameter. All else goes through. An error, an empty reply, or one that was cut off or withheld is never kept.

    A reply is found again by a digest of everything that it depends on: the model's name, what it says of itself (name,
    root and address of a server; sizes and times of the files where it is a directory here), and the whole request but
    its time-out: messages, frames by the digest of their JPEG, tools, pattern, tokens, temperature, seed. It comes with
    `ChatReply.from_cache`.

    The same request from several tasks at once is asked once. Where the task that asks is cancelled, or runs out of
    its own time, another one asks. Text deltas and retries reach all of them.

    Replies lie in one file, ``replies.sqlite`` in the cache directory, which several processes may share. At most
    `Settings.reply_cache_bytes` are kept, the newest; `clear` deletes all, and so does deleting the file. A damaged
    file is moved aside and begun anew, with a warning; a disk that cannot be written costs a warning, never a reply.

    Args:
        model: Who is asked. `aclose` closes it.
        path: The file; by default in `Settings.cache_dir`.
        settings: By default those of the environment.
        identity: What tells the model from others of its name, in place of its server's address: for one that is
            served here today and there tomorrow.
    """

    def __init__(
        self,
        model: ChatModel,
        path: str | Path | None = None,
        *,
        settings: Settings | None = None,
        identity: str | None = None,
    ) -> None:
        settings = settings or Settings()
        self._model = model
        self._store = ReplyStore(
            Path(path) if path else settings.cache_dir / FILE_NAME, max_bytes=settings.reply_cache_bytes
        )
        self._given_identity = identity
        self._identity: str | None = None
        # By event loop too: what a task of one loop waits for cannot be set by one of another.
        self._flights: dict[_FlightKey, _Flight] = {}

    def __repr__(self) -> str:
        return f"CachedModel({self._model!r}, {str(self._store.path)!r})"

    @property
    def name(self) -> str:
        """That of the model."""
        return self._model.name

    @property
    def profile(self) -> ModelProfile:
        """That of the model."""
        return self._model.profile

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """That of the model, which is started or reached for it: see `ChatModel.capacity`."""
        capacity = await self._model.capacity(on_event=on_event)
        # Once it was reached, since it may be named only then.
        self._identity = await anyio.to_thread.run_sync(_identity, self.name, capacity, self._given_identity)
        return capacity

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        """Continue the conversation as it was continued before, or ask; see `ChatModel.complete`."""
        if not self._is_deterministic(request):
            return await self._model.complete(request, on_event=on_event)
        began = time.monotonic()
        led: _FlightKey | None = None
        with anyio.move_on_after(request.timeout_seconds):
            if self._identity is None:
                await self.capacity(on_event=on_event)
            key = (asyncio.get_running_loop(), _key(self._identity or "", request))
            while key in self._flights:
                reply = await self._flights[key].reply_of(on_event)
                if reply is not None:
                    return _again(reply, began)
            self._flights[key] = _Flight()
            led = key
        if led is None:
            raise ModelTimeoutError(
                f"{self.name} did not reply within {request.timeout_seconds:.3g} s, all that was left of the run.",
                hint="Allow the run more time (Limits(seconds=…)).",
            )
        return await self._lead(led, request, on_event, began)

    async def clear(self) -> int:
        """Delete all kept replies, those of other models too; returns how many there were.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        return await anyio.to_thread.run_sync(self._store.clear)

    async def aclose(self) -> None:
        """Close the model and the file; idempotent."""
        self._identity = None
        try:
            await self._model.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._store.close)

    async def _lead(self, key: _FlightKey, request: ChatRequest, on_event: _OnEvent | None, began: float) -> ChatReply:
        """The reply for this task, and for all that wait for the same one."""
        flight = self._flights[key]

        def note(event: ModelEvent) -> None:
            flight.note(event)
            if on_event is not None:
                on_event(event)

        try:
            kept = await self._kept(key[1])
            if kept is not None:
                flight.reply = kept.reply
                if kept.streamed:
                    note(TextDelta(text=kept.reply.text))
                return _again(kept.reply, began)
            if request.timeout_seconds is not None:
                left = max(0.0, request.timeout_seconds - (time.monotonic() - began))
                request = request.model_copy(update={"timeout_seconds": left})
            flight.reply = reply = await self._model.complete(request, on_event=note)
            # The model may have found out meanwhile that its server takes no temperature.
            if self._is_deterministic(request) and _is_whole(reply):
                entry = _Kept(reply=reply, streamed=any(isinstance(event, TextDelta) for event in flight.events))
                await anyio.to_thread.run_sync(self._store.put, key[1], entry.model_dump_json().encode())
            return reply
        except ModelError as error:
            # Others may have more time than this task had for its tries.
            if request.timeout_seconds is None or isinstance(error, RequestRejectedError):
                flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.land()

    async def _kept(self, key: bytes) -> _Kept | None:
        value = await anyio.to_thread.run_sync(self._store.get, key)
        if value is None:
            return None
        try:
            return _Kept.model_validate_json(value)
        except ValidationError:
            return None  # of a version with other fields; it will be written over

    def _is_deterministic(self, request: ChatRequest) -> bool:
        profile = self.profile
        greedy = request.temperature == 0 and profile.sends_temperature
        return greedy or (request.seed is not None and profile.sends_seed)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    reply: ChatReply
    streamed: bool
    """It came piece by piece, so that those who asked may know it by its pieces alone."""


class _Flight:
    """A request on its way, as those see it who wait for the same reply."""

    def __init__(self) -> None:
        self.events: list[ModelEvent] = []
        self.reply: ChatReply | None = None
        self.error: ModelError | None = None
        self._landed = False
        self._news = anyio.Event()

    def note(self, event: ModelEvent) -> None:
        """The model says something."""
        self.events.append(event)
        self._ring()

    def land(self) -> None:
        """It is over."""
        self._landed = True
        self._ring()

    async def reply_of(self, on_event: _OnEvent | None) -> ChatReply | None:
        """Wait for its end, telling of everything that happens; None where it ended for a reason of its own.

        Raises:
            ModelError: The model's, as a new object: its callers write into it.
        """
        told = 0
        while True:
            for event in self.events[told:]:
                told += 1
                if on_event is not None:
                    on_event(event)
            if self._landed:
                break
            await self._news.wait()
        if self.error is not None:
            raise _new(self.error) from self.error.__cause__
        if self.reply is None and told and on_event is not None:
            reason = "The task that asked the same ended before its reply."
            on_event(RequestRetried(attempt=1, delay_seconds=0.0, reason=reason))  # makes the pieces so far void
        return self.reply

    def _ring(self) -> None:
        self._news.set()
        self._news = anyio.Event()


def _new(error: ModelError) -> ModelError:
    """An error like this one. Not through its class's own `__init__`, which may take anything."""
    made = type(error).__new__(type(error), *error.args)
    vars(made).update(vars(error), trace=None)
    return made


def _is_whole(reply: ChatReply) -> bool:
    said = bool(reply.text.strip() or reply.tool_calls)
    return said and reply.finish_reason in ("stop", "tool_calls")


def _again(reply: ChatReply, began: float) -> ChatReply:
    return reply.model_copy(update={"from_cache": True, "seconds": time.monotonic() - began})


def _key(identity: str, request: ChatRequest) -> bytes:
    # A frame's JPEG is left out of JSON, its digest is not.
    asked = request.model_dump_json(exclude={"timeout_seconds"})
    return hashlib.sha256(f"{identity}\n{asked}".encode()).digest()


def _identity(name: str, capacity: ModelCapacity, given: str | None) -> str:
    """What tells a model from others, as far as it can be known from here. Looks at the files of a directory."""
    served = capacity.address if given is None else given
    files = [_fingerprint(place) for place in (capacity.model, capacity.root) if place]
    return json.dumps([SCHEMA_VERSION, name, capacity.model, capacity.root, served, files])


def _fingerprint(place: str) -> str:
    """Digest of names, sizes and times of a directory's files; empty where it is no directory on this machine."""
    directory = Path(place)
    try:
        stats = {path.name: path.stat() for path in sorted(directory.iterdir()) if path.is_file()}
    except OSError:
        return ""
    facts = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
