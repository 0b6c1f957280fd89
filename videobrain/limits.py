"""What one question may cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Bounds on one run. They are checked before a request, after a reply and before a tool call.

    The defaults for turns come from the VideoBrain paper (at most five tool calls and one answer).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: int = Field(default=6, ge=1)
    """Accepted replies of the model; on the last one it must answer."""
    corrections: int = Field(default=3, ge=0)
    """Replies that may be ill-formed and are answered by a correction; they use up no turn."""
    frames: int = Field(default=128, ge=1)
    """Frames shown to the model in the whole run."""
    frames_per_call: int = Field(default=20, ge=1)
    """Frames that one tool call may show."""
    input_tokens: int | None = Field(default=None, ge=1)
    """Prompt tokens, summed over all requests of the run."""
    output_tokens: int | None = Field(default=None, ge=1)
    """Generated tokens, summed over all requests of the run."""
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Wall-clock time of the run. It cuts a hanging request too."""
    on_limit: Literal["answer", "raise"] = "answer"
    """``answer``: the model gets one last turn without tools. ``raise``: the caller gets `LimitExceeded`."""
