"""A question that is cancelled, at whatever moment, ends within two seconds and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.index.encoders import ColourEncoder
from videobrain import Answer, Event, Settings, VideoBrain
from videobrain.testing import FakeServer, Fault, ScriptedModel, make_video
from videobrain.tools import ToolContext, clip_sample, tool, uniform_sample

pytestmark = pytest.mark.anyio

SECONDS = 2.0
"""What the documentation promises."""
ANSWER = "<thinking>The frames suffice.</thinking>\n<answer>red</answer>"


def call(name: str, **arguments: object) -> str:
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<thinking>More frames are needed.</thinking>\n<tool_call>{body}</tool_call>"


@tool(max_frames=8)
async def watch_closely(ctx: ToolContext, start_frame: int, end_frame: int) -> str:
    """Decode every frame of a range, which takes long.

    Args:
        start_frame: First frame of the range.
        end_frame: Frame after the last one of the range.
    """
    ctx.emit("looking")
    await ctx.frames.at(range(start_frame, end_frame))
    return "Seen."


Moment = Callable[["Asked"], bool]
NEVER: Moment = lambda asked: False  # noqa: E731  # one word for a default


class Asked:
    """An ask in a task of its own, which ends when told to.

    Attributes:
        kinds: Kinds of the events so far.
    """

    def __init__(self, brain: VideoBrain, video: Path, cancel_at: Moment = NEVER) -> None:
        self.kinds: list[str] = []
        self._cancel_at = cancel_at
        self._cancelled_at: float | None = None
        self._task = asyncio.create_task(self._work(brain, video))

    async def _work(self, brain: VideoBrain, video: Path) -> Answer:
        async with brain:
            return await brain.ask(video, "Which colour comes first?", on_event=self._note)

    def _note(self, event: Event) -> None:
        self.kinds.append(event.kind)
        if self._cancelled_at is None and self._cancel_at(self):
            self.cancel()

    def cancel(self) -> None:
        self._cancelled_at = time.monotonic()
        self._task.cancel()

    @property
    def seconds_since_cancelled(self) -> float:
        assert self._cancelled_at is not None, self.kinds
        return time.monotonic() - self._cancelled_at

    async def answered(self) -> Answer:
        return await self._task

    async def ended(self) -> None:
        """Wait for the end of the cancelled task; fails where it came late or not by the cancelling."""
        await asyncio.wait([self._task], timeout=10)
        took = self.seconds_since_cancelled
        assert self._task.done()
        assert took < SECONDS, (took, self.kinds)
        # Cancelled while it closes, a question with its answer may end either way.
        assert self._task.cancelled() or (self.kinds[-1] == "finished" and self._task.exception() is None), self.kinds

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(1000):
            if condition():
                return
            assert not self._task.done(), self.kinds
            await anyio.sleep(0.01)
        raise AssertionError(f"it never came to that: {self.kinds}")


def open_files() -> list[str]:
    """What this process has open, by the names that the system gives it."""
    gc.collect()
    found = []
    for descriptor in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        try:
            found.append(str(descriptor.readlink()).partition(":[")[0])  # sockets and pipes have numbers of their own
        except FileNotFoundError:
            continue  # the listing's own
    return sorted(found)


@dataclass
class Before:
    """What there was before a question, to be compared with what is left of it."""

    cache: Path
    encoder: ColourEncoder
    files: list[str] = field(default_factory=open_files)
    tasks: int = field(default_factory=lambda: len(asyncio.all_tasks()))

    async def left(self) -> list[str]:
        """In words; empty where there is nothing."""
        found = ["the encoder works"] if self.encoder.working else []
        if (tasks := len(asyncio.all_tasks())) != self.tasks:
            found.append(f"{tasks - self.tasks} tasks")
        found += [str(path) for path in self.cache.rglob("*") if path.suffix in (".tmp", ".part")]
        found += (Counter(open_files()) - Counter(self.files)).elements()
        if not found:
            used = time.process_time()
            await anyio.sleep(0.1)
            found += ["a busy thread"] if time.process_time() - used > 0.05 else []
        return found

    async def again_after(self, asked: Asked) -> None:
        """Fails unless all is as it was two seconds after the cancelling."""
        while left := await self.left():
            assert asked.seconds_since_cancelled < SECONDS, (left, asked.kinds)
            await anyio.sleep(0.02)


async def test_at_every_event(tmp_path: Path) -> None:
    video = make_video(tmp_path / "scenes.mp4", seconds=40, fps=10)
    script = [
        call("uniform_sample", start_frame=100, end_frame=200),
        "nonsense",
        call("clip_sample", start_frame=0, end_frame=400, prompt="blue"),
        ANSWER,
    ]

    encoder = ColourEncoder(seconds=0.01)

    def ask(place: str, cancel_at: Moment = NEVER) -> Asked:
        settings = Settings(cache_dir=tmp_path / place)
        return Asked(VideoBrain(ScriptedModel(script), encoder=encoder, settings=settings), video, cancel_at)

    whole = ask("whole")
    await whole.answered()
    assert len(whole.kinds) > 20
    before = Before(tmp_path, encoder)
    for position in range(len(whole.kinds)):
        asked = ask(f"{position}", lambda asked, after=position + 1: len(asked.kinds) == after)
        await asked.ended()
        assert asked.kinds[: position + 1] == whole.kinds[: position + 1]
        await before.again_after(asked)


SCRIPT: list[str | Fault] = [
    Fault.status(500),
    call("uniform_sample", start_frame=2000, end_frame=9000),
    "nonsense",
    call("clip_sample", start_frame=0, end_frame=900, prompt="green"),
    call("watch_closely", start_frame=0, end_frame=30),
    ANSWER,
]
KINDS = {
    *("run_started", "frames_planned", "episode_started", "message_added", "request_started", "request_retrying"),
    *("reply_received", "reply_corrected", "tool_started", "tool_progress", "tool_finished", "finished"),
}


class Film:
    """Asks about a long film through a server, with an encoder that takes its time."""

    def __init__(self, video: Path, cache: Path) -> None:
        self.video = video
        self.cache = cache
        self.encoder = ColourEncoder(seconds=0.05)

    def ask(self, server: FakeServer, cancel_at: Moment = NEVER) -> Asked:
        brain = VideoBrain(
            base_url=server.base_url,
            api_key="none",
            tools=[uniform_sample, clip_sample, watch_closely],
            encoder=self.encoder,
            settings=Settings(cache_dir=self.cache, warm_index=True),
        )
        return Asked(brain, self.video, cancel_at)


def serve(script: list[Any]) -> FakeServer:
    """A server with this script, whose rest a cancelled question leaves unused."""
    steps = iter(script)
    return FakeServer(lambda body: next(steps))


@pytest.fixture
def film(videos: Path, tmp_path: Path) -> Film:
    return Film(videos / "bbb_448x252_av.mp4", tmp_path / "cache")


async def test_at_every_kind_of_event_on_a_long_film(film: Film) -> None:
    with serve(SCRIPT) as server:
        whole = film.ask(server)
        await whole.answered()
    assert set(whole.kinds) == KINDS
    before = Before(film.cache, film.encoder)
    for kind in sorted(KINDS):
        with serve(SCRIPT) as server:
            asked = film.ask(server, lambda asked, kind=kind: asked.kinds[-1] == kind)
            await asked.ended()
        assert kind in asked.kinds
        await before.again_after(asked)


@pytest.mark.parametrize("amid", ["request", "decode", "embedding"])
async def test_amid_what_takes_long(amid: str, film: Film) -> None:
    with serve([ANSWER]) as server:  # imports and pools
        await film.ask(server).answered()
    before = Before(film.cache, film.encoder)
    film.encoder.seconds = 1.0  # the smallest batch takes four seconds, and embedding ends with the frame it is at
    step: Any = {
        "request": Fault.hang(),
        "decode": call("watch_closely", start_frame=0, end_frame=14_000),
        "embedding": call("clip_sample", start_frame=0, end_frame=14_000, prompt="green"),
    }[amid]
    with serve([step]) as server:
        asked = film.ask(server)
        if amid == "request":
            await asked.until(lambda: len(server.requests) == 1)
        else:
            await asked.until(lambda: "tool_started" in asked.kinds)
        await anyio.sleep(0.4)
        await asked.until(lambda: amid != "embedding" or film.encoder.working)
        assert asked.kinds[-1] in {"request_started", "tool_started", "tool_progress"}
        asked.cancel()
        await asked.ended()
    await before.again_after(asked)
