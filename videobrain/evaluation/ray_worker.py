"""What runs on the cluster: one `VideoBrain` in a process of its own, which is asked question by question.

Imports nothing of Ray: the driver makes an actor of `Worker`. Whatever goes to a worker or comes back is plain data.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

import videobrain.errors
from videobrain.brain import VideoBrain
from videobrain.errors import ConfigurationError, VideoBrainError
from videobrain.evaluation.asking import HOPELESS
from videobrain.evaluation.executor import About, Posed, ask_here, manifest_here
from videobrain.evaluation.manifest import Manifest
from videobrain.evaluation.sample import Sample
from videobrain.recipe import Recipe
from videobrain.text import misfits

_GATHERING_SECONDS = 0.2
"""Time in which further news are waited for, so that a busy worker does not send each by itself."""


class Place(NamedTuple):
    """Where a worker is."""

    host: str
    process: int


class Refusal(NamedTuple):
    """An error of ours that is not about one question alone. Exceptions themselves do not travel well."""

    kind: str
    message: str
    hint: str

    def error(self) -> VideoBrainError:
        """The error again."""
        kind = getattr(videobrain.errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, VideoBrainError)):
            return VideoBrainError(f"{self.kind}: {self.message}", hint=self.hint)
        return kind(self.message, hint=self.hint)


class News(NamedTuple):
    """What a worker heard of the model's server since it was asked last."""

    replies: int
    overloads: tuple[float, ...]
    """Of each request that was refused for load or timed out, how many seconds ago it was sent: clocks of several
    machines cannot be compared."""


class Told(NamedTuple):
    """A finished question."""

    record: str
    trace: bytes | None
    evidence: bytes | None
    news: News


class Worker:
    """A `VideoBrain` on another machine.

    Args:
        recipe: What it is made of, as JSON.
        about: What the run is about.
    """

    def __init__(self, recipe: str, about: About) -> None:
        self._recipe = recipe
        self._about = about
        self._brain: VideoBrain | None = None
        self._manifest: Manifest | None = None
        self._ears = _Ears()
        self._asking: set[asyncio.Task[object]] = set()

    async def place(self) -> Place:
        """Where it is; answers as soon as there is room for it."""
        return Place(socket.gethostname(), os.getpid())

    async def reach(self) -> str | Refusal:
        """Reach the model; the manifest of a run with it, as JSON."""
        try:
            brain = VideoBrain(**Recipe.model_validate_json(self._recipe).arguments())
            self._brain = await brain.__aenter__()
            self._manifest, _ = await manifest_here(brain, self._about)
        except VideoBrainError as error:
            return _refusal(error)
        except ValidationError as error:
            host = socket.gethostname()
            problem = f"The settings of the worker on {host} cannot be used: {misfits(error)}."
            return _refusal(ConfigurationError(problem, hint=f"Look at the VIDEOBRAIN_* variables of {host}."))
        return self._manifest.model_dump_json()

    async def ask(self, sample: str, video: str, subtitles: str | None) -> Told | Refusal:
        """Ask a question."""
        if self._brain is None or self._manifest is None:
            raise RuntimeError("reach comes first")
        task = asyncio.current_task()
        if task is not None:
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        question = Posed(Sample.model_validate_json(sample), Path(video), Path(subtitles) if subtitles else None)
        try:
            line = await ask_here(
                self._brain, question, self._manifest, self._ears, keep_frames=self._about.keep_frames
            )
        except HOPELESS as error:
            return _refusal(error)
        return Told(line.record.model_dump_json(), line.trace, line.evidence, self._ears.news())

    async def news(self) -> News:
        """What is heard of the server, as soon as there is something."""
        await self._ears.some.wait()
        await asyncio.sleep(_GATHERING_SECONDS)
        return self._ears.news()

    async def close(self) -> None:
        """Stop whatever is under way and free everything."""
        asking = set(self._asking)
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
        if self._brain is not None:
            await self._brain.aclose()


class _Ears:
    """Keeps what is heard until somebody asks."""

    def __init__(self) -> None:
        self.some = asyncio.Event()
        self._replies = 0
        self._overloads: list[float] = []

    def replied(self) -> None:
        self._replies += 1
        self.some.set()

    def overloaded(self, sent_at: float) -> None:
        self._overloads.append(sent_at)
        self.some.set()

    def news(self) -> News:
        now = time.monotonic()
        news = News(self._replies, tuple(now - sent_at for sent_at in self._overloads))
        self._replies, self._overloads = 0, []
        self.some.clear()
        return news


def _refusal(error: VideoBrainError) -> Refusal:
    return Refusal(type(error).__name__, error.message, error.hint)
