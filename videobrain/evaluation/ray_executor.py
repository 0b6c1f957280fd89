"""Questions that are asked on a Ray cluster. The driver is this process: it deals, counts and writes; workers ask."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import anyio

from videobrain.errors import ConfigurationError, EvaluationStoppedError, ModelError, WorkerDiedError
from videobrain.evaluation.asking import failed_record
from videobrain.evaluation.concurrency import AdaptiveLimit
from videobrain.evaluation.executor import About, Concurrency, Line, Posed, Ready, limit_for
from videobrain.evaluation.manifest import Manifest
from videobrain.evaluation.ray_session import RayCluster, RaySession, gpus_of, places
from videobrain.evaluation.ray_worker import News, Refusal, Told, Worker
from videobrain.evaluation.record import Record
from videobrain.evaluation.spreading import Spread
from videobrain.models.servers import addresses
from videobrain.recipe import Recipe

_TRIES = 2
"""How often a question is asked whose worker dies. It may be the question that kills them."""
_CLOSE_SECONDS = 5.0
"""Time that workers have to free what they hold, such as a model server of their own, before they are ended."""
_LOGGER = logging.getLogger(__name__)


class RayExecutor:
    """Questions are asked by processes on a cluster, all those on one video by the same one.

    A process that dies is replaced, and the questions that it worked on are asked once more.

    Args:
        recipe: What the `VideoBrain` of each worker is made of.
        about: What the run is about.
        concurrency: Questions at once, over all workers.
        cluster: What is taken of the cluster.
        videos: How many videos the questions are about: more workers would have nothing to do.
    """

    def __init__(
        self, recipe: Recipe, about: About, *, concurrency: Concurrency, cluster: RayCluster, videos: int
    ) -> None:
        self._recipe = recipe
        self._about = about
        self._concurrency = concurrency
        self._cluster = cluster
        self._videos = videos
        self._session = RaySession()
        self._workers: list[_Worker] = []
        self._ready: Ready | None = None
        self._spread = Spread((), 0)

    async def __aenter__(self) -> Self:
        await self._session.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.gather(*(worker.close() for worker in self._workers))
            finally:
                await self._session.close()

    async def reach(self) -> Ready:
        """As `Executor.reach`, on every worker.

        Raises:
            ConfigurationError: There is no room for the workers, they cannot be started, or they would not all give
                the same answers.
        """
        machines = await self._session.machines()
        gpus = gpus_of(machines, self._cluster)
        number = min(places(machines, self._cluster, gpus=gpus), max(1, self._videos))
        self._workers = [
            _Worker(self._session, self._recipe, self._about, self._cluster, gpus=gpus) for _ in range(number)
        ]
        starting = [asyncio.create_task(worker.start()) for worker in self._workers]
        try:
            first, *others = await asyncio.gather(*starting)
        except _GoneError as gone:
            raise ConfigurationError(
                f"A worker on the Ray cluster cannot be started: {gone}",
                hint="Each machine needs the same versions of videobrain, Ray and Python.",
            ) from gone
        finally:
            for task in starting:
                task.cancel()
        for other in others:
            _check_same(first, other)
        servers = len(addresses(self._recipe.base_url))
        self._ready = Ready(first, limit_for(first.model, self._concurrency, servers=servers, workers=number))
        for worker in self._workers:
            worker.take_up(self._ready)
        return self._ready

    def deal(self, questions: Sequence[Posed]) -> Iterator[Posed]:
        """Those on one video for one worker, as many for each as for the others."""
        self._spread = Spread(questions, len(self._workers))
        return self._spread

    async def ask(self, question: Posed) -> Line:
        """As `Executor.ask`.

        Raises:
            EvaluationStoppedError: No worker is left, and none can be started.
        """
        if self._ready is None:
            raise RuntimeError("reach comes first")
        tries = 0
        try:
            while tries < _TRIES:
                number = self._spread.worker_of(question)
                worker = self._workers[number]
                try:
                    await worker.alive()
                except _GoneError as gone:
                    _LOGGER.warning("a worker on the Ray cluster cannot be started again: %s", gone)
                    if not self._spread.lose(number):
                        raise EvaluationStoppedError(
                            f"No worker on the Ray cluster is left: {gone}",
                            hint="Mend the cluster. Then the same command goes on.",
                        ) from gone
                    continue
                try:
                    return await worker.ask(question)
                except _GoneError as gone:
                    tries += 1
                    _LOGGER.info("a worker died while it worked on question %r: %s", question.sample.key, gone)
        finally:
            self._spread.ended(question)
        died = WorkerDiedError(
            f"The worker that was asked died, {tries} times in a row.",
            hint="Ray's logs say why; too little memory is the common cause.",
        )
        return Line(failed_record(question.sample, self._ready.manifest, died), None)


class _GoneError(Exception):
    """The process of a worker is not there, or not any more."""


class _Worker:
    """One place on the cluster, and the process that has it at present."""

    def __init__(self, session: RaySession, recipe: Recipe, about: About, cluster: RayCluster, *, gpus: float) -> None:
        self._session = session
        self._recipe = recipe
        self._about = about
        self._cluster = cluster
        self._gpus = gpus
        self._actor: Any = None
        self._starting = anyio.Lock()
        self._ready: Ready | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> Manifest:
        """Start a process and reach the model in it.

        Raises:
            _GoneError: There is no room for it in time, or it died.
            VideoBrainError: The model cannot be reached or used.
        """
        actor = self._actor = await self._session.start(
            Worker, (self._recipe.model_dump_json(), self._about), self._cluster, gpus=self._gpus
        )
        try:
            place = await asyncio.wait_for(actor.place.remote(), self._cluster.start_seconds)
            reached = await actor.reach.remote()
        except TimeoutError as error:
            await self._end()
            raise _GoneError(f"there was no room for it in {self._cluster.start_seconds:g} s.") from error
        except self._session.lost as error:
            await self._end()
            raise _GoneError(_last_line(error)) from error
        if isinstance(reached, Refusal):
            raise reached.error()
        _LOGGER.info("a worker is process %d on %s", place.process, place.host)
        return Manifest.model_validate_json(reached)

    def take_up(self, ready: Ready) -> None:
        """Begin to listen: from now on it is known what is right, and who wants to know of the server."""
        self._ready = ready
        self._listening = asyncio.create_task(self._listen(self._actor, ready.limit))

    async def alive(self) -> None:
        """Make sure that there is a process, a new one where the last one died.

        Raises:
            _GoneError: There is none, and a new one cannot be had or reaches no model.
            ConfigurationError: A new one would give other answers.
        """
        async with self._starting:
            if self._actor is not None or self._ready is None:
                return
            try:
                manifest = await self.start()
            except ModelError as error:  # such as a GPU that its last process still holds: the others go on
                await self._end()
                raise _GoneError(f"{type(error).__name__}: {error.message}") from error
            _check_same(self._ready.manifest, manifest)
            self.take_up(self._ready)

    async def ask(self, question: Posed) -> Line:
        """Ask a question.

        Raises:
            _GoneError: The process died.
            VideoBrainError: One of `asking.HOPELESS`.
        """
        actor, ready = self._actor, self._ready
        if actor is None or ready is None:
            raise _GoneError("it died a moment ago.")
        subtitles = str(question.subtitles.absolute()) if question.subtitles else None
        try:
            told: Told | Refusal = await actor.ask.remote(
                question.sample.model_dump_json(), str(question.video.absolute()), subtitles
            )
        except self._session.lost as error:
            if self._actor is actor:  # the first of its questions that gets to know
                self._actor = None
            raise _GoneError(_last_line(error)) from error
        if isinstance(told, Refusal):
            raise told.error()
        _hear(told.news, ready.limit)
        return Line(Record.model_validate_json(told.record), told.trace, told.evidence)

    async def close(self) -> None:
        """Let the process free what it holds, and end it."""
        if self._listening is not None:
            self._listening.cancel()
        if self._actor is not None:
            with contextlib.suppress(TimeoutError, self._session.any_error):
                await asyncio.wait_for(self._actor.close.remote(), _CLOSE_SECONDS)
        await self._end()

    async def _end(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            await self._session.kill(actor)

    async def _listen(self, actor: Any, limit: AdaptiveLimit) -> None:
        """Hear of the server while long questions are under way. What is finished brings its own news."""
        with contextlib.suppress(*self._session.lost):
            while True:
                _hear(await actor.news.remote(), limit)


def _hear(news: News, limit: AdaptiveLimit) -> None:
    for _ in range(news.replies):
        limit.replied()
    for seconds in news.overloads:
        limit.overloaded(time.monotonic() - seconds)


def _check_same(one: Manifest, other: Manifest) -> None:
    """Fail where two workers would give answers that do not belong into one run."""
    different = one.differences(other)
    different += [
        f"{name} is {other.versions[name]}, not {version}"
        for name, version in one.versions.items()
        if other.versions[name] != version
    ]
    if different:
        raise ConfigurationError(
            f"The machines of the Ray cluster are not alike: {'; '.join(different)}.",
            hint="Install the same versions on all, and set the same VIDEOBRAIN_* variables.",
        )


def _last_line(error: Exception) -> str:
    """What Ray says in the end, which is the cause; before it come names of things of its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
