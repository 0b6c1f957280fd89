"""What the loop itself costs per turn, up to 56 frames: the Episode, the events, and the request's body.

    python -m tests.benchmarks.loop [VIDEO]

The model is a script, so no time is spent on thinking; the time of the tools (decoding, JPEG) and of the openai client
is not counted. Base64 of each frame is, once per frame.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from tests.benchmarks.machine import describe
from tests.benchmarks.models import TEN_MINUTES
from videobrain import Settings, VideoBrain
from videobrain.agent import Event
from videobrain.models import ChatReply, ChatRequest, ModelEvent
from videobrain.models.wire import ImageParts, request_body
from videobrain.testing import ScriptedModel

RUNS = 20
FULL = 48
"""Frames from which on a request is a full one: those of the paper's last two turns."""
TARGET = 5e-3


class WiredModel(ScriptedModel):
    """Builds the body of each request, as a model on a server does, and notes the time when it is done."""

    def __init__(self, script: list[str]) -> None:
        super().__init__(script)
        self._image = ImageParts(max_bytes=2**30, uuids=False)
        self.asked: list[float] = []

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        request_body(request, model="m", profile=self.profile, image=self._image, strict_tools=False)
        self.asked.append(time.perf_counter())
        return await super().complete(request, on_event=on_event)


def script(run: int) -> list[str]:
    def call(turn: int) -> str:
        start = 40 * run + 2400 * turn
        call = {"name": "uniform_sample", "arguments": {"start_frame": start, "end_frame": start + 2000}}
        return f"<thinking>Look.</thinking>\n<tool_call>{json.dumps(call)}</tool_call>"

    return [*(call(turn) for turn in range(5)), "<thinking>Enough.</thinking>\n<answer>yes</answer>"]


async def measure(path: Path) -> bool:
    turns: list[tuple[int, float]] = []
    frames = 0
    with tempfile.TemporaryDirectory() as cache:
        settings = Settings(cache_dir=Path(cache), warm_index=False)
        for run in range(RUNS + 1):
            model = WiredModel(script(run))
            async with VideoBrain(model, settings=settings) as brain:
                marks: list[tuple[str, float]] = []
                sent: list[int] = []

                def note(event: Event, marks: list[tuple[str, float]] = marks, sent: list[int] = sent) -> None:
                    marks.append((event.kind, time.perf_counter()))
                    if event.kind == "request_started":
                        sent.append(event.frames)

                answer = await brain.ask(path, "What happens?", on_event=note)
            frames = answer.usage.frames
            if run:  # the first pays for imports
                turns += zip(sent, _own_time(marks, model.asked), strict=True)
    full = [seconds for sent_frames, seconds in turns if sent_frames >= FULL]
    print(f"{RUNS} runs of 6 turns and {frames} frames: the loop's own time per turn")
    for name, times in (("all turns", [seconds for _, seconds in turns]), (f"turns of {FULL} frames and more", full)):
        mean, median, worst = (1e3 * figure(times) for figure in (statistics.mean, statistics.median, max))
        print(f"{name}: mean {mean:.2f} ms, median {median:.2f} ms, worst {worst:.2f} ms ({len(times)} turns)")
    print(f"target at most {1e3 * TARGET:.0f} ms in the mean of the turns of {FULL} frames and more")
    return statistics.mean(full) <= TARGET


def _own_time(marks: list[tuple[str, float]], asked: list[float]) -> list[float]:
    """Per turn: from the tool's end (or the episode's begin) to the request, and from the reply to the tool's begin."""
    began = [moment for kind, moment in marks if kind in ("tool_finished", "episode_started")]
    ended = [moment for kind, moment in marks if kind in ("tool_started", "finished")]
    return [(sent - start) + (end - sent) for start, sent, end in zip(began, asked, ended, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=TEN_MINUTES)
    arguments = parser.parse_args()
    print(describe("videobrain", "pydantic"))
    raise SystemExit(0 if anyio.run(measure, arguments.video) else 1)


if __name__ == "__main__":
    main()
