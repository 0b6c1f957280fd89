"""What an Episode is made with, what it asks its driver to do, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from videobrain.agent.prompts import DEFAULT, PromptProfile
from videobrain.agent.subtitles import EpisodeSubtitles
from videobrain.limits import Limits
from videobrain.models import ToolSchema
from videobrain.result import Evidence, Span
from videobrain.text import Text
from videobrain.tools import ToolSpec
from videobrain.video import EncodedFrame

StopReason = Literal[
    "answered", "turns", "corrections", "frames", "input_tokens", "output_tokens", "context", "seconds"
]
"""``answered``, or what ended the run without an answer: a field of `Limits`, or the model's context."""


class EpisodeConfig(BaseModel):
    """Everything that shapes a run beside what the model and the tools say. Pure data: it stands in the trace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Text
    options: tuple[Text, ...] | None = None
    output_schema: dict[str, Any] | None = None
    frame_count: int
    fps: float
    duration_seconds: float
    tools: tuple[ToolSpec, ...] = ()
    limits: Limits = Limits()
    prompts: PromptProfile = DEFAULT
    calling: Literal["tags", "native"] = "tags"
    constrain: bool = False
    text_characters: int | None = Field(default=None, ge=1)
    """Bound on each text in a constrained reply."""
    min_calls: int = 0
    """Tool calls before an answer is accepted."""
    max_output_tokens: int = 2048
    context_tokens: int | None = None
    frame_tokens: int = 256
    max_spans: int | None = Field(default=None, ge=1)
    """The answer is spans of time, so many at the most; the prompts are then those of `prompt_profile` for spans."""
    subtitles: EpisodeSubtitles | None = None

    @model_validator(mode="after")
    def _answers_in_one_form(self) -> Self:
        if self.max_spans is not None and (self.options or self.output_schema is not None):
            raise ValueError("an answer is an option, a value of a schema or spans, one of them")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_asked_for(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        for field in ("max_spans", "subtitles"):
            if getattr(self, field) is None:
                written.pop(field, None)
        return written


class ToolOutcome(BaseModel):
    """How a tool call ended, as data."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["result", "retry", "error"]
    text: Text = ""
    frames: tuple[EncodedFrame, ...] = ()
    similarities: Mapping[int, float] = Field(default_factory=dict)
    withdraw: bool = False
    lines: tuple[int, ...] = ()
    """Numbers of the lines of the subtitles that it found; not written where there are none."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        if not self.lines:
            written.pop("lines", None)
        return written


@dataclass(frozen=True, slots=True)
class AskModel:
    """Send `Episode.messages` to the model.

    Attributes:
        turn: Number of this turn, from 1; a correction repeats it.
        last: No tool may be called any more.
        tools: Tools for native function calling, on the last turn too; empty under the tagged protocol.
        pattern: Regular expression of the reply, where replies are constrained.
        max_output_tokens: Tokens that the reply may have.
        correction: What was wrong with the reply before, where this is a correction.
        limit: The limit that forces the last turn, where one does.
    """

    turn: int
    last: bool
    tools: tuple[ToolSchema, ...]
    pattern: str | None
    max_output_tokens: int
    correction: str | None = None
    limit: StopReason | None = None


@dataclass(frozen=True, slots=True)
class CallTool:
    """Run a tool; its arguments fit its schema."""

    turn: int
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run came to."""

    text: str
    choice: str | None = None
    stop_reason: StopReason = "answered"
    evidence: tuple[Evidence, ...] = ()
    spans: tuple[Span, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    conclusion: Conclusion


Step = AskModel | CallTool | Finish
