"""How large the frames of a run are and how many there may be, decided once before the first request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from videobrain.errors import ContextLengthError
from videobrain.limits import Limits
from videobrain.models import ModelProfile
from videobrain.tools import ToolSpec
from videobrain.video import FRAME_SIZES, FrameSize

PROMPT_TOKENS = 1500
"""Allowance for the system prompt, the question and the tools; longer ones are estimated by their length."""
BYTES_PER_TOKEN = 3
"""Of UTF-8. English prose has over four to a token, JSON and the other scripts of the world about three."""
REPLY_TOKENS = 400
"""Allowance for one reply and the words around an observation; real replies are counted as they come."""
LABEL_TOKENS = 20
"""Allowance for the label before a frame."""
SUBTITLE_SHARE = 4
"""Subtitles get at most this part of what a context has left beside the words of the run."""


class FramePlan(BaseModel):
    """The frames of one run."""

    model_config = ConfigDict(frozen=True)

    size: FrameSize
    """Box that every frame of the run is fitted into."""
    initial_frames: int
    frames: int
    """Frames the whole run may show."""
    frames_per_call: int
    frame_tokens: int
    """Prompt tokens of one frame with its label."""
    context_tokens: int | None
    """The model's context; None where it is not known, and nothing was cut down."""
    reduced: str = ""
    """What was cut down to fit the model, in words."""
    subtitle_tokens: int = 0
    """Tokens of subtitles that the whole run may show; not written where there are none."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if not self.subtitle_tokens:
            written.pop("subtitle_tokens", None)
        return written


def plan_frames(
    *,
    width: int,
    height: int,
    initial_frames: int,
    tools: Sequence[ToolSpec],
    limits: Limits,
    profile: ModelProfile,
    context_tokens: int | None,
    text: str = "",
    subtitle_tokens: int = 0,
) -> FramePlan:
    """Plan a run whose worst case of turns fits the model's context: the resolution gives way first, then the count.

    Args:
        width: Width of the video's frames as displayed, in pixels.
        height: Height of the video's frames as displayed, in pixels.
        initial_frames: Frames shown before the first reply.
        tools: Tools of the run.
        limits: Limits of the run.
        profile: What the model's images cost.
        context_tokens: The model's context, where known.
        text: All that the first request says beside its frames.
        subtitle_tokens: Tokens of subtitles that the run should be able to show; a small context allows fewer.

    Raises:
        ContextLengthError: Not even one small frame fits.
    """
    per_call = max((tool.frames_per_call(limits.frames_per_call) for tool in tools), default=0)
    calls = limits.turns - 1 if tools else 0
    most = min(limits.frames, profile.max_images or limits.frames)
    initial = min(initial_frames, most)
    worst = min(most, initial + calls * per_call)
    few_images = most < min(limits.frames, initial_frames + calls * per_call)

    def tokens_at(size: FrameSize) -> int:
        return profile.image_tokens(*size.fit(width, height)) + LABEL_TOKENS

    def plan(size: FrameSize, initial: int, frames: int, reduced: str, lines: int) -> FramePlan:
        fewer_lines = f"{lines} tokens of subtitles" if lines < subtitle_tokens else ""
        return FramePlan(
            size=size,
            initial_frames=initial,
            frames=frames,
            frames_per_call=limits.frames_per_call,
            frame_tokens=tokens_at(size),
            context_tokens=context_tokens,
            reduced="; ".join(
                filter(None, [f"{most} images in one request" if few_images else "", reduced, fewer_lines])
            ),
            subtitle_tokens=lines,
        )

    if context_tokens is None:
        return plan(FRAME_SIZES[0], initial, most, "", subtitle_tokens)
    text_tokens = max(PROMPT_TOKENS, math.ceil(len(text.encode(errors="replace")) / BYTES_PER_TOKEN))
    room = context_tokens - text_tokens - (calls + 1) * REPLY_TOKENS
    lines = min(subtitle_tokens, max(0, room) // SUBTITLE_SHARE)
    room -= lines
    for size in FRAME_SIZES:
        if worst * tokens_at(size) <= room:
            # What is left of the context may hold more frames than the planned worst case.
            frames = max(worst, min(most, room // tokens_at(size)))
            reduced = (
                "" if size is FRAME_SIZES[0] else f"frames of {size.width}x{size.height} to fit {context_tokens} tokens"
            )
            return plan(size, initial, frames, reduced, lines)
    smallest = FRAME_SIZES[-1]
    frames = room // tokens_at(smallest)
    if frames < 1:
        raise ContextLengthError(
            f"A context of {context_tokens} tokens holds no frame of {smallest.width}x{smallest.height} "
            f"beside {text_tokens} tokens of prompt and question.",
            hint="Serve the model with a larger --max-model-len."
            if text_tokens == PROMPT_TOKENS
            else "Shorten the question, its options or output type, or serve the model with a larger --max-model-len.",
        )
    initial = min(initial, max(1, frames // 2 if calls else frames))
    reduced = (
        f"frames of {smallest.width}x{smallest.height}, {initial} at first and {frames} in all, "
        f"to fit {context_tokens} tokens"
    )
    return plan(smallest, initial, frames, reduced, lines)
