"""A tool as data, and the three ways a call ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import jsonschema

from videobrain.models.messages import ToolSchema
from videobrain.video.frame import EncodedFrame

RepeatRule = Literal["interval", "prompt", "arguments", "allow"]
"""What counts as a repeated call: an interval equal to or within one frame of an earlier one, a prompt used before,
equal arguments; or nothing (the tool may be called again and again)."""


class ToolSpec(ToolSchema):
    """What the model is told of a tool and what the Episode holds its calls to. Pure data: it can stand in a trace."""

    repeats: RepeatRule = "arguments"
    max_frames: int | None = None
    """Frames that one call gives at the most; None means as many as the limits allow."""

    @cached_property
    def _validator(self) -> Any:
        return jsonschema.Draft202012Validator(self.parameters)

    def frames_per_call(self, most: int) -> int:
        """Frames that one call may give where `most` is the run's own bound."""
        return most if self.max_frames is None else min(self.max_frames, most)

    def problems(self, arguments: Mapping[str, Any]) -> list[str]:
        """What is wrong with the arguments of a call, in words for the model; empty where nothing is."""
        found = []
        for error in sorted(self._validator.iter_errors(dict(arguments)), key=lambda e: [str(p) for p in e.path]):
            where = ".".join(str(part) for part in error.path)
            found.append(f"{where}: {_shorten(error.message)}" if where else _shorten(error.message))
        properties = self.parameters.get("properties", {})
        if not found and {"start_frame", "end_frame"} <= properties.keys():
            start, end = arguments.get("start_frame"), arguments.get("end_frame")
            if isinstance(start, int | float) and isinstance(end, int | float) and start >= end:
                found.append(f"start_frame must be smaller than end_frame, but {start} is not smaller than {end}")
        if not found and isinstance(prompt := arguments.get("prompt"), str) and not prompt.strip():
            found.append("prompt must not be empty")
        return found

    def repeated(self, arguments: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a call repeats one of the `earlier` accepted calls of this tool (rules 7 and 8 of the protocol)."""
        match self.repeats:
            case "interval":
                return any(
                    all(_near(arguments.get(name), other.get(name)) for name in ("start_frame", "end_frame"))
                    for other in earlier
                )
            case "prompt":
                prompt = _normal(arguments.get("prompt"))
                return any(prompt == _normal(other.get("prompt")) for other in earlier)
            case "arguments":
                return any(dict(arguments) == dict(other) for other in earlier)
            case "allow":
                return False


def _near(one: object, other: object) -> bool:
    """Whether two bounds are within one frame; one that was left to the tool equals no number."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1
    return bool(one == other)


def _normal(prompt: object) -> str:
    return " ".join(str(prompt or "").casefold().split())


def _shorten(message: str, limit: int = 200) -> str:
    return message if len(message) <= limit else message[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call found.

    Attributes:
        text: Words for the model.
        frames: Frames for the model, in time order. Those it has seen already are named instead of sent again.
        similarities: Cosine similarity by frame index, where the tool searched.
        lines: Numbers of lines of the subtitles (``ctx.subtitles.lines``) for the model, in the order they are to be
            read. Those it has seen already are named instead of said again.
    """

    text: str = ""
    frames: Sequence[EncodedFrame] = ()
    similarities: Mapping[int, float] = field(default_factory=dict)
    lines: Sequence[int] = ()


class ToolRetry(Exception):
    """Raised by a tool: the call cannot be done as it is; the model is told why and may correct it.

    It counts as a correction, not as a turn.
    """


class ToolError(Exception):
    """Raised by a tool: the call was right but failed. The model is told and goes on without it.

    Attributes:
        withdraw: The tool will fail again, so that it is not offered any more in this run.
        overran: It took longer than it may. A synchronous one still runs in its thread, where Python cannot stop it.
    """

    def __init__(self, message: str, *, withdraw: bool = False, overran: bool = False) -> None:
        super().__init__(message)
        self.withdraw = withdraw
        self.overran = overran
