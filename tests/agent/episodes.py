"""Episodes and replies for tests, without a video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from videobrain.agent import AskModel, Episode, EpisodeConfig, Finish, Step, ToolOutcome
from videobrain.agent.reading import CheckAnswer
from videobrain.limits import Limits
from videobrain.models import ChatReply, NativeToolCall
from videobrain.tools import clip_sample, uniform_sample
from videobrain.video import EncodedFrame

TOOLS = (uniform_sample.spec, clip_sample.spec)
ANSWER = "<thinking>It is red.</thinking>\n<answer>red</answer>"


def frame(index: int, digest: str | None = None) -> EncodedFrame:
    digest = digest or f"d{index}"
    return EncodedFrame(
        frame_index=index, timestamp_seconds=index / 25, width=8, height=8, digest=digest, jpeg=digest.encode()
    )


def frames(*indices: int) -> tuple[EncodedFrame, ...]:
    return tuple(frame(index) for index in indices)


def config(**changes: Any) -> EpisodeConfig:
    if "limits" in changes and isinstance(changes["limits"], dict):
        changes["limits"] = Limits(**changes["limits"])
    facts = {"question": "Which colour?", "frame_count": 1000, "fps": 25.0, "duration_seconds": 40.0, "tools": TOOLS}
    return EpisodeConfig(**{**facts, **changes})


def started(
    *, initial: Sequence[EncodedFrame] | None = None, check_answer: CheckAnswer | None = None, **changes: Any
) -> Episode:
    """An Episode that has been given its first frames and waits for a reply."""
    episode = Episode(config(**changes), check_answer=check_answer)
    step = episode.start(frames(0, 500) if initial is None else initial)
    assert isinstance(step, AskModel)
    return episode


def call(name: str, **arguments: Any) -> str:
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<thinking>More is needed.</thinking>\n<tool_call>{body}</tool_call>"


def uniform(start: object = 0, end: object = 100) -> str:
    return call("uniform_sample", start_frame=start, end_frame=end)


def clip(prompt: object = "a car", start: object = 0, end: object = 100) -> str:
    return call("clip_sample", start_frame=start, end_frame=end, prompt=prompt)


def native(*calls: tuple[str, str], text: str = "", **more: Any) -> ChatReply:
    made = tuple(
        NativeToolCall(id=f"id{i}", name=name, arguments=arguments) for i, (name, arguments) in enumerate(calls)
    )
    return ChatReply(text=text, tool_calls=made, finish_reason="tool_calls" if made else "stop", **more)


def say(episode: Episode, text: str, **reply: Any) -> Step:
    return episode.reply(ChatReply(text=text, **reply))


def found(*indices: int, text: str = "Frames.") -> ToolOutcome:
    return ToolOutcome(kind="result", text=text, frames=frames(*indices))


def ended(step: Step) -> Finish:
    assert isinstance(step, Finish)
    return step


def asked(step: Step) -> AskModel:
    assert isinstance(step, AskModel)
    return step
