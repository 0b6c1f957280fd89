"""Where the questions of a run are asked: what a batch wants of any such place, and the place that is this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self

import anyio.to_thread

from videobrain.agent import Event, ReplyReceived, RequestRetrying, RequestStarted, Trace
from videobrain.brain import VideoBrain
from videobrain.errors import EncoderUnavailableError
from videobrain.evaluation.asking import ask_sample
from videobrain.evaluation.concurrency import AdaptiveLimit
from videobrain.evaluation.manifest import Manifest, manifest_of
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample

Concurrency = int | Literal["auto"]
_LOCAL, _LOCAL_AT_ONCE = ("tiny", "local:"), 2
"""A model in the process that asks gives one reply at a time: meanwhile the frames of one more question are decoded."""
_OVERLOADED = {"RateLimitError", "ModelTimeoutError"}


class About(NamedTuple):
    """What all questions of a run have in common, beside who is asked."""

    benchmark: str
    split: str
    subtitles: bool
    """Whether questions that have subtitles are asked with them."""
    evidence: bool
    """Whether it is also asked where answers are seen."""
    keep_frames: bool
    """Whether traces keep the frames' bytes."""


class Posed(NamedTuple):
    """A question that is ready to be asked wherever its files are."""

    sample: Sample
    video: Path
    subtitles: Path | None


class Line(NamedTuple):
    """A finished question as it is written down."""

    record: Record
    trace: bytes | None
    """The file of its trace."""
    evidence: bytes | None = None
    """The file of the trace of the second run, for the evidence."""


class Ready(NamedTuple):
    """What is known once the model is reached."""

    manifest: Manifest
    limit: AdaptiveLimit


class Executor(Protocol):
    """A place where questions are asked, within its context."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def reach(self) -> Ready:
        """Make ready whoever is asked, once, before anything else.

        Raises:
            ModelError: The model cannot be reached or started.
            ConfigurationError: It cannot be used in this place.
        """
        ...

    def deal(self, questions: Sequence[Posed]) -> Iterator[Posed]:
        """The questions in the order in which they are best asked. Each that comes out is given to `ask`."""
        ...

    async def ask(self, question: Posed) -> Line:
        """Ask a question; what goes wrong with it alone is in its record.

        Raises:
            VideoBrainError: One of `asking.HOPELESS`.
        """
        ...


class Listener(Protocol):
    """Hears how the model's server does; `AdaptiveLimit` is one."""

    def replied(self) -> None:
        """A reply came in."""
        ...

    def overloaded(self, sent_at: float) -> None:
        """A request was refused for load, or timed out; it was sent at that monotonic time."""
        ...


class LocalExecutor:
    """Questions are asked in this process, those on one video next to each other.

    Args:
        brain: Who is asked; it is entered for the time of the context where it is not yet.
        about: What the run is about.
        concurrency: Questions at once.
    """

    def __init__(self, brain: VideoBrain, about: About, *, concurrency: Concurrency) -> None:
        self._brain = brain
        self._about = about
        self._concurrency = concurrency
        self._entered = AsyncExitStack()
        self._ready: Ready | None = None

    async def __aenter__(self) -> Self:
        if not self._brain.entered:
            await self._entered.enter_async_context(self._brain)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._entered.aclose()

    async def reach(self) -> Ready:
        """As `Executor.reach`."""
        manifest, servers = await manifest_here(self._brain, self._about)
        self._ready = Ready(manifest, limit_for(manifest.model, self._concurrency, servers=servers))
        return self._ready

    def deal(self, questions: Sequence[Posed]) -> Iterator[Posed]:
        """As they are: they share decoder, frames and index of a video by following each other."""
        return iter(questions)

    async def ask(self, question: Posed) -> Line:
        """As `Executor.ask`."""
        if self._ready is None:
            raise RuntimeError("reach comes first")
        manifest, limit = self._ready
        return await ask_here(self._brain, question, manifest, limit, keep_frames=self._about.keep_frames)


class Here(NamedTuple):
    """What a run with the model of this process is, and how many servers share its requests."""

    manifest: Manifest
    servers: int


async def manifest_here(brain: VideoBrain, about: About) -> Here:
    """Reach the model of this process, and say what a run with it is.

    Raises:
        EncoderUnavailableError: Frames cannot be searched, and the figures would be those of other tools.
    """
    try:
        reached = await brain.reach(encoder=True)
    except EncoderUnavailableError as error:
        without = 'Or leave clip_sample out: --tool uniform_sample (tools=["uniform_sample"]).'
        raise EncoderUnavailableError(error.message, hint=f"{error.hint} {without}".strip()) from error
    manifest = manifest_of(
        brain,
        reached,
        benchmark=about.benchmark,
        split=about.split,
        subtitles=about.subtitles,
        evidence=about.evidence,
    )
    return Here(manifest, reached.servers)


async def ask_here(
    brain: VideoBrain, question: Posed, manifest: Manifest, listener: Listener, *, keep_frames: bool
) -> Line:
    """Ask one question in this process. Raises as `Executor.ask`."""
    watch = _Watch(listener)
    subtitles = question.subtitles if manifest.settings["subtitles"] else None
    finished = await ask_sample(brain, question.sample, question.video, manifest, subtitles=subtitles, on_event=watch)
    if finished.error is not None:
        watch.failed(finished.error)

    def dumped() -> Line:
        traces = (finished.trace, finished.evidence)
        return Line(finished.record, *(_dump(trace, keep_frames) if trace else None for trace in traces))

    return await anyio.to_thread.run_sync(dumped)


def _dump(trace: Trace, keep_frames: bool) -> bytes:
    return (trace if keep_frames else trace.without_frames()).dump()


def limit_for(model: str, concurrency: Concurrency, *, servers: int = 1, workers: int = 1) -> AdaptiveLimit:
    """How many questions at once, over all workers together.

    Args:
        model: The model string. A model on a server is one for all workers; any other one each worker has for itself.
        concurrency: A fixed number, or ``auto``.
        servers: How many share the requests.
        workers: How many processes ask.
    """
    if concurrency != "auto":
        return AdaptiveLimit.fixed(concurrency)
    if model.startswith(_LOCAL):
        return AdaptiveLimit.fixed(_LOCAL_AT_ONCE * workers)
    if model.startswith("vllm:"):
        return AdaptiveLimit.of_servers(workers)
    return AdaptiveLimit.of_servers(servers, workers=workers)


class _Watch:
    """Tells a listener what the events of one question say about the server."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._sent_at = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case RequestStarted():
                self._sent_at = time.monotonic()
            case RequestRetrying():
                if event.error in _OVERLOADED:
                    self._listener.overloaded(self._sent_at)
                self._sent_at = time.monotonic() + event.delay_seconds
            case ReplyReceived():
                self._listener.replied()
            case _:
                pass

    def failed(self, error: Exception) -> None:
        """The question ended with an error, after all tries."""
        if type(error).__name__ in _OVERLOADED:
            self._listener.overloaded(self._sent_at)
