"""The front door: `VideoBrain` wires the rooms together."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import ObjectReceiveStream

from videobrain.agent import EpisodeStarted, Event, RequestStarted, Run, Strategy, offers_tools, resolve_strategy
from videobrain.asked import Asked
from videobrain.blocking import LoopThread
from videobrain.errors import (
    ConfigurationError,
    LimitExceeded,
    VideoBrainError,
)
from videobrain.index import FrameEncoder, FrameHit, FrameIndex
from videobrain.limits import Limits
from videobrain.models import ChatModel, resolve_model
from videobrain.models.resolve import own_encoder
from videobrain.resources import Reached, Resources, search_for_tools
from videobrain.result import Answer, Clip, Outcome, Question, SubtitleSource, VideoSource
from videobrain.settings import Settings
from videobrain.tools import Tool, may_search, resolve_tools, tools_for

_LOGGER = logging.getLogger(__name__)
T = TypeVar("T")


class VideoBrain:
    """Answers questions about videos.

    Use it as an asynchronous context manager, one per application: decoders, frames, indexes, connections and a
    managed model server are then shared by all questions and freed at the end. Without ``async with`` each call sets
    up and cleans up for itself.

        async with VideoBrain("openai:Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1") as brain:
            answer = await brain.ask("match.mp4", "Who scores first?")

    Args:
        model: ``openai:NAME``, ``vllm:ID_OR_DIR``, ``local:ID_OR_DIR``, ``tiny`` (the bundled model), or a `ChatModel`
            (which its maker closes). By default ``VIDEOBRAIN_MODEL``, else the one model of the server at `base_url`
            or ``OPENAI_BASE_URL``, else ``tiny``, with a warning.
        base_url: Address of an OpenAI-compatible server, or several addresses of one model, which share the requests:
            a list, or a text with commas between them.
        api_key: Its key; by default ``OPENAI_API_KEY``.
        tools: What the model may do, or names of tools; by default `uniform_sample` and `clip_sample`, and
            `search_subtitles` where the question has subtitles.
        encoder: What embeds frames for `clip_sample`: an open_clip model or a `FrameEncoder`. By default
            ``VIDEOBRAIN_ENCODER``, else the encoder that belongs to the model, else that of `Settings.encoder`.
        strategy: ``videobrain``, ``uniform-N``, ``blind``, or a `Strategy`.
        limits: Limits of every question that brings none.
        settings: By default those of the environment.

    Raises:
        ConfigurationError: A string names no model, tool or strategy.
        MissingDependencyError: The bundled model is named, and what runs it is not installed.
    """

    def __init__(
        self,
        model: str | ChatModel | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        tools: Sequence[Tool[Any] | str] | None = None,
        encoder: str | FrameEncoder | None = None,
        strategy: str | Strategy = "videobrain",
        limits: Limits | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.limits = limits or Limits()
        self.tools = tuple(resolve_tools(tools))
        self._tools_named = tools is not None
        self.strategy = resolve_strategy(strategy)
        self._model = model
        self._base_url = base_url
        self._api_key = api_key
        self._encoder = encoder
        if model is not None:
            self._new_model()  # a wrong model string is reported here; nothing is started by it
        self._shared: Resources | None = None
        self._thread: LoopThread | None = None
        self._thread_lock = threading.Lock()
        self._thread_resources: Resources | None = None

    def __repr__(self) -> str:
        model = self._model if isinstance(self._model, str | None) else self._model.name
        return f"VideoBrain({model!r}, strategy={self.strategy.name!r})"

    async def __aenter__(self) -> Self:
        if self._shared is not None:
            raise RuntimeError("this VideoBrain is entered already")
        resources = self._new_resources()
        # Heavy imports hold the interpreter for some hundred milliseconds; here nobody waits for the loop yet.
        await resources.videos.prepare()
        self._shared = resources
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def entered(self) -> bool:
        """Whether its calls share what they need, that is, whether they stand within its ``async with``."""
        return self._shared is not None

    async def aclose(self) -> None:
        """Free everything, a managed model server and what `ask_sync` keeps among it. Idempotent."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.aclose()
        if self._thread is not None:
            await anyio.to_thread.run_sync(self.close)

    async def reach(self, *, encoder: bool = False) -> Reached:
        """Make the model ready, so that what is wrong with it shows before the first question.

        Args:
            encoder: Load the frame encoder too, where the strategy offers `clip_sample`. A question whose search cannot
                work goes on without it.

        Raises:
            ModelError: A server cannot be reached, or a model cannot be started.
            ConfigurationError: No model is configured, or it cannot be used.
            EncoderUnavailableError: The frame encoder cannot be loaded.
        """
        async with self._resources() as resources:
            reached = await resources.reach()
            # Only now is it known which encoder a served model has of its own.
            if encoder and offers_tools(self.strategy) and any(tool.name == "clip_sample" for tool in self.tools):
                await resources.load_encoder()
            return reached

    async def ask(
        self,
        video: VideoSource,
        question: str,
        *,
        options: Sequence[str] | None = None,
        output_type: type[Any] | None = None,
        max_spans: int | None = None,
        limits: Limits | None = None,
        subtitles: SubtitleSource | None = None,
        subtitles_start_seconds: float = 0.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Answer:
        """Answer one question about one video.

        Args:
            video: Path or bytes of a video; a URL where ``Settings.allow_remote`` is set.
            question: The question.
            options: Texts of the options of a multiple-choice question; the answer then has a `choice`.
            output_type: A type that pydantic can validate; the answer then has an `output` of it.
            max_spans: Ask where in the video the question, a query such as ``the person opens the fridge``, is to be
                seen; the answer then has `spans`, so many at the most, the surest first.
            limits: Limits of this question.
            subtitles: Path of an SRT, WebVTT or LongVideoBench JSON file; or ``"embedded"`` for the video's own stream
                of text (``"embedded:eng"``: of a language, ``"embedded:2"``: of an index). The model gets the lines of
                the frames it sees, and the tool `search_subtitles` beside the default tools.
            subtitles_start_seconds: Time of the subtitles at which the video begins.
            on_event: Called on the event loop with each event of the run; must be quick.

        Raises:
            VideoError: The video cannot be used.
            SubtitleError: The subtitles cannot be used.
            ModelError: The model gives no usable reply.
            LimitExceeded: A limit was reached under ``on_limit="raise"``.
            ConfigurationError: The question or a setting cannot be used.
        """
        async with self._resources() as resources:
            asked = Asked(video, question, options, output_type, max_spans, limits, subtitles, subtitles_start_seconds)
            return await self._answer(resources, asked, on_event)

    @asynccontextmanager
    async def stream(
        self,
        video: VideoSource,
        question: str,
        *,
        options: Sequence[str] | None = None,
        output_type: type[Any] | None = None,
        max_spans: int | None = None,
        limits: Limits | None = None,
        subtitles: SubtitleSource | None = None,
        subtitles_start_seconds: float = 0.0,
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Like `ask`, as a stream of events; the last one is `Finished`. Leaving the context cancels the run.

        async with brain.stream("match.mp4", "Who scores first?") as events:
            async for event in events:
                ...
        """
        send, receive = anyio.create_memory_object_stream[Event](float("inf"))

        async def run() -> None:
            with send:
                await self.ask(
                    video,
                    question,
                    options=options,
                    output_type=output_type,
                    max_spans=max_spans,
                    limits=limits,
                    subtitles=subtitles,
                    subtitles_start_seconds=subtitles_start_seconds,
                    on_event=send.send_nowait,
                )

        with receive:
            task = asyncio.create_task(run())
            try:
                yield _until_done(receive, task)
            finally:
                await _end(task)

    @asynccontextmanager
    async def ask_many(
        self,
        questions: Iterable[Question] | AsyncIterable[Question],
        *,
        concurrency: int = 16,
        keep_frames: bool = False,
    ) -> AsyncIterator[AsyncIterator[Outcome]]:
        """Answer many questions, some at a time; outcomes come as they finish. One failure spoils no other.

        Questions on one video share its decoder, frames and index, so put them next to each other. Leaving the context
        cancels what still runs. Where the iterator of questions fails, those it gave are answered before its error is
        raised.

        Args:
            questions: The questions; an iterator is read only as far as it is worked on.
            concurrency: Questions worked on at once.
            keep_frames: Keep the frames' bytes in the answers' traces. They are what reports show; without them memory
                stays flat however many outcomes are kept.
        """
        if concurrency < 1:
            raise ConfigurationError(f"concurrency must be at least 1, not {concurrency}.")
        source = aiter(questions) if isinstance(questions, AsyncIterable) else _each(questions)
        reading = anyio.Lock()
        send, receive = anyio.create_memory_object_stream[Outcome](0)
        ends: list[Exception] = []  # what ended the questions, once something has

        async def worker(resources: Resources) -> None:
            while True:
                async with reading:
                    if ends:
                        return
                    try:
                        question = await anext(source)
                    except Exception as end:  # noqa: BLE001 - a failing iterator too: what it gave is answered first
                        ends.append(end)
                        return
                await send.send(await self._outcome(resources, question, keep_frames))

        async def run() -> None:
            with send:
                async with self._resources() as resources:
                    workers = [asyncio.create_task(worker(resources)) for _ in range(concurrency)]
                    try:
                        await asyncio.gather(*workers)
                    finally:
                        for task in workers:
                            await _end(task)
                    if not isinstance(ends[0], StopAsyncIteration):
                        raise ends[0]

        with receive:
            task = asyncio.create_task(run())
            try:
                yield _until_done(receive, task)
            finally:
                await _end(task)

    async def index(self, video: VideoSource, *, progress: Callable[[int, int], None] | None = None) -> FrameIndex:
        """Embed a video densely, so that every search in it is quick; the index is kept on disk.

        Args:
            video: The video.
            progress: Called on the event loop with the number of frames embedded and to embed.

        Raises:
            EncoderUnavailableError: The frame encoder cannot be loaded.
        """
        async with self._resources() as resources:
            opened = await resources.videos.open(video)
            index = resources.index(opened, own_encoder=await self._own_encoder())
            await index.build(progress=progress)
            return index

    async def search(
        self,
        video: VideoSource | Sequence[VideoSource],
        query: str,
        *,
        k: int = 4,
        start_seconds: float = 0,
        end_seconds: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[FrameHit]:
        """The frames most similar to a few words: of one video in time order, or of several with the best first.

        Args:
            video: The video, or a list of videos to be searched at once.
            query: A few words that describe what is to be seen.
            k: Number of frames.
            start_seconds: Begin of the range, in each video.
            end_seconds: End of the range (half-open), in each video; None for the whole.
            progress: Called on the event loop with the number of frames embedded and to embed, of one video at a time.

        Raises:
            EncoderUnavailableError: The frame encoder cannot be loaded.
        """
        async with self._resources() as resources:
            sources = [video] if isinstance(video, str | Path | bytes | Clip) else list(video)
            videos = [await resources.videos.open(source) for source in sources]
            library = resources.library(videos, own_encoder=await self._own_encoder())
            hits = await library.search(
                query, k=k, start_seconds=start_seconds, end_seconds=end_seconds, progress=progress
            )
        return sorted(hits, key=lambda hit: hit.frame_index) if len(sources) == 1 else hits

    def ask_sync(
        self,
        video: VideoSource,
        question: str,
        *,
        options: Sequence[str] | None = None,
        output_type: type[Any] | None = None,
        max_spans: int | None = None,
        limits: Limits | None = None,
        subtitles: SubtitleSource | None = None,
        subtitles_start_seconds: float = 0.0,
    ) -> Answer:
        """Like `ask`, for callers without an event loop, and for notebooks whose loop is running.

        The work is done in another thread, whose model and caches are its own and stay until `close` or `aclose`.
        """
        with self._thread_lock:
            thread = self._thread = self._thread or LoopThread()
        asked = Asked(video, question, options, output_type, max_spans, limits, subtitles, subtitles_start_seconds)
        return thread.run(self._answer_in_thread(asked))

    def close(self) -> None:
        """Free what `ask_sync` keeps. Idempotent; ``with VideoBrain(…) as brain:`` calls it at the end."""
        with self._thread_lock:
            thread, self._thread = self._thread, None
            resources, self._thread_resources = self._thread_resources, None
        if thread is not None:
            if resources is not None:
                thread.run(resources.aclose())
            thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -----------------------------------------------------------------------------------------------------------------

    def _new_model(self) -> ChatModel:
        return resolve_model(self._model, base_url=self._base_url, api_key=self._api_key, settings=self.settings)

    async def _own_encoder(self) -> str | None:
        """The encoder of the model that is named; where none is, searching asks for no model."""
        named = self.settings.model if self._model is None else self._model
        if not isinstance(named, str | None):
            return named.profile.encoder
        return await anyio.to_thread.run_sync(own_encoder, named) if named else None

    def _new_resources(self) -> Resources:
        owned = self._model is None or isinstance(self._model, str)
        return Resources(self._new_model, owns_model=owned, encoder=self._encoder, settings=self.settings)

    @asynccontextmanager
    async def _resources(self) -> AsyncIterator[Resources]:
        """What the calls of an entered `VideoBrain` share; else something for this call alone."""
        if self._shared is not None:
            yield self._shared
            return
        resources = self._new_resources()
        try:
            yield resources
        finally:
            with anyio.CancelScope(shield=True):
                await resources.aclose()

    async def _answer_in_thread(self, asked: Asked) -> Answer:
        if self._thread_resources is None:
            self._thread_resources = self._new_resources()
        return await self._answer(self._thread_resources, asked)

    async def _answer(
        self, resources: Resources, asked: Asked, on_event: Callable[[Event], None] | None = None
    ) -> Answer:
        asked.check()
        output = asked.output()
        model = await resources.model()
        opened = await resources.videos.open(asked.video)
        subtitles = None
        if asked.subtitles is not None:
            subtitles = await opened.subtitles(asked.subtitles, start_seconds=asked.subtitles_start_seconds)

        @functools.cache
        def index() -> FrameIndex:  # once the model is reached, since a server has to be asked which model it serves
            return resources.index(opened, own_encoder=model.profile.encoder)

        run = Run(
            asked.question,
            opened,
            options=asked.options,
            output_schema=output.schema,
            check_answer=output.check,
            parse_output=output.parse,
            max_spans=asked.max_spans,
            model=model,
            tools=tools_for(self.tools, named=self._tools_named, subtitles=bool(subtitles)),
            limits=asked.limits or self.limits,
            settings=self.settings,
            search=search_for_tools(index),
            subtitles=subtitles,
        )
        searches = False
        async with resources.warming(opened, index) as start_warming:

            def listen(event: Event) -> None:
                nonlocal searches
                if isinstance(event, EpisodeStarted):
                    searches = searches or may_search(tool.name for tool in event.config.tools)
                elif isinstance(event, RequestStarted) and searches:
                    start_warming()
                if on_event is not None:
                    on_event(event)

            run.listen(listen)
            return await run.execute(self.strategy)

    async def _outcome(self, resources: Resources, question: Question, keep_frames: bool) -> Outcome:
        try:
            if not isinstance(question, Question):
                raise ConfigurationError(f"{question!r:.80} is no Question.")
            answer = await self._answer(resources, Asked.of(question))
        except Exception as error:  # whatever it is, it must not end the others; the caller gets it
            if not isinstance(error, VideoBrainError):
                _LOGGER.exception("question %.200r failed", question)
            if not keep_frames:
                _drop_frames(error)
            return Outcome(question, error=error)
        return Outcome(question, answer=answer if keep_frames else answer.without_frames())


def _drop_frames(error: Exception) -> None:
    """Free the frames' bytes, which a partial answer holds, and the run among the local variables of a traceback."""
    if isinstance(error, LimitExceeded) and error.partial is not None:
        error.partial = error.partial.without_frames()
    if isinstance(error, VideoBrainError) and error.trace is not None:
        error.trace = error.trace.without_frames()
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__


async def _each(questions: Iterable[Question]) -> AsyncIterator[Question]:
    for question in questions:
        yield question


async def _until_done(items: ObjectReceiveStream[T], task: asyncio.Task[None]) -> AsyncIterator[T]:
    """Everything that the task sends, then whatever error ended it."""
    async for item in items:
        yield item
    await task


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has cleaned up; its own error was or will be raised elsewhere."""
    task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
