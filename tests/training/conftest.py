"""Trajectories as a teacher leaves them, recorded on a made video."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from videobrain import Settings, VideoBrain
from videobrain.models import ChatReply, NativeToolCall
from videobrain.testing import ScriptedModel, make_video
from videobrain.training.sample import TrainingSample
from videobrain.training.trajectories import Trajectory

COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def call(start: int, end: int) -> str:
    arguments = json.dumps({"start_frame": start, "end_frame": end})
    return f'<tool_call>{{"name": "uniform_sample", "arguments": {arguments}}}</tool_call>'


def replies(number: int, colour: str) -> list[str]:
    """Of different lengths, one of them with a reply that is corrected."""
    looks = [f"<thinking>{'I look closer. ' * (number + 1)}</thinking>\n{call(10 * number, 10 * number + 20)}"]
    wrong = ["no tags at all"] if number == 1 else []
    return [*looks, *wrong, f"<thinking>It is {colour}.</thinking>\n<answer>{colour}</answer>"]


def native_replies(colour: str) -> list[ChatReply]:
    arguments = json.dumps({"start_frame": 0, "end_frame": 30})
    look = NativeToolCall(id="call_0", name="uniform_sample", arguments=arguments)
    return [ChatReply(text="", tool_calls=(look,), finish_reason="tool_calls"), ChatReply(text=colour)]


async def record(directory: Path, *, native: bool = False, prompts: str | None = None) -> Path:
    """A file of six trajectories with their traces, or of one whose tools were called natively."""
    video = make_video(directory / "video.mp4", seconds=8, fps=10, size=(96, 64), scenes=COLOURS)
    settings = Settings(
        initial_frames=2,
        offline=True,
        warm_index=False,
        tool_calling="native" if native else "tags",
        prompts=prompts,
        cache_dir=directory,
    )
    lines = []
    for number, colour in enumerate(COLOURS[:1] if native else COLOURS):
        script = native_replies(colour) if native else replies(number, colour)
        question = f"Which colour is scene {number} of the video?"
        async with VideoBrain(ScriptedModel(script), tools=["uniform_sample"], settings=settings) as brain:
            answer = await brain.ask(video, question)
        answer.trace.save(directory / "run" / f"{number}.jsonl")
        sample = TrainingSample(key=f"colour-{number}", video=str(video), question=question, task="open", answer=colour)
        line = Trajectory(sample=sample, trace=f"run/{number}.jsonl", usage=answer.usage)
        lines.append(line.model_dump_json() + "\n")
    path = directory / "trajectories.jsonl"
    path.write_text("".join(lines), "utf-8")
    return path


@pytest.fixture(scope="session")
def trajectories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of six trajectories."""
    return asyncio.run(record(tmp_path_factory.mktemp("trajectories")))


@pytest.fixture(scope="session")
def compact_trajectories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, asked in the words that the tiny model is asked in."""
    return asyncio.run(record(tmp_path_factory.mktemp("compact"), prompts="compact"))


@pytest.fixture(scope="session")
def native_trajectories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of one trajectory with native function calling."""
    return asyncio.run(record(tmp_path_factory.mktemp("native"), native=True))
