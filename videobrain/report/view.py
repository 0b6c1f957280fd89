"""What a report says, as plain values: the conversation as steps, each frame with its place and picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from videobrain.agent.events import RunStarted
from videobrain.agent.plan import FramePlan
from videobrain.agent.steps import EpisodeConfig, ToolOutcome
from videobrain.models import ChatReply
from videobrain.report.timeline import Row, Tick, TimeAxis
from videobrain.result import Answer, Usage
from videobrain.video import EncodedFrame, PlacedLine

COLORS = 7
"""Colours for tools; further tools take them again from the first."""


@dataclass(slots=True)
class FrameView:
    """A frame at one place of the conversation.

    Attributes:
        number: Number on the page; its id is ``frame-NUMBER``.
        frame: The frame.
        color: Number of its source's colour.
        similarity: To the prompt of a semantic search.
        state: ``new``: shown to the model here. ``again``: it had been shown before. ``left_out``: kept back.
        same_as: Number of the place that holds its picture, where that is another.
        lines: What the model was told here of the subtitles.
    """

    number: int
    frame: EncodedFrame
    color: int
    similarity: float | None = None
    state: Literal["new", "again", "left_out"] = "new"
    same_as: int | None = None
    lines: tuple[str, ...] = ()

    @property
    def url(self) -> str | None:
        """The picture as a data URL; None where there is none, or where it stands at another place."""
        return self.picture if self.same_as is None and self.pictured else None

    @property
    def picture(self) -> str:
        """The picture as a data URL, also where it stands at another place."""
        return "data:image/jpeg;base64," + base64.b64encode(self.frame.jpeg).decode("ascii")

    @property
    def pictured(self) -> bool:
        """The page holds the picture, here or at another place."""
        return bool(self.frame.jpeg)


@dataclass(slots=True)
class CallView:
    """A tool call that the model made.

    Attributes:
        anchor: Its id on the page.
        name: The tool's name as the model wrote it.
        arguments: The arguments; None where they could not be read.
        problem: Why it is no call.
        started: The tool was run.
        outcome: What the tool gave.
        lines: Lines of the subtitles that it found.
    """

    anchor: str
    name: str
    arguments: Mapping[str, Any] | None
    color: int
    problem: str = ""
    started: bool = False
    outcome: ToolOutcome | None = None
    seconds: float = 0.0
    progress: list[str] = field(default_factory=list)
    frames: list[FrameView] = field(default_factory=list)
    lines: list[PlacedLine] = field(default_factory=list)


@dataclass(slots=True)
class ReplyView:
    """A reply of the model."""

    reply: ChatReply
    thinking: list[str]
    outside: str
    calls: list[CallView]
    answers: list[str]
    corrected: bool = False
    kind: Literal["reply"] = "reply"


@dataclass(slots=True)
class NoteView:
    """Something that happened: a retry, a correction, a limit, a warning, or words between the parties."""

    kind: Literal["retry", "correction", "limit", "warning", "words"]
    text: str
    role: str = ""


@dataclass(slots=True)
class PromptView:
    """What the model was told before its first reply."""

    role: str
    text: str
    frames: list[FrameView] = field(default_factory=list)
    kind: Literal["prompt"] = "prompt"


Block = ReplyView | NoteView | PromptView


@dataclass(slots=True)
class SectionView:
    """A part of the conversation: what opens an episode, or one turn."""

    anchor: str
    title: str
    at_seconds: float
    turn: int | None = None
    last: bool = False
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of the run on the clock."""

    label: str
    at_seconds: float
    seconds: float
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    color: int | None = None


@dataclass(slots=True)
class RunView:
    """A whole run."""

    started: RunStarted | None
    plan: FramePlan | None
    config: EpisodeConfig | None
    answer: Answer | None
    usage: Usage
    warnings: tuple[str, ...]
    sections: list[SectionView]
    closed: bool
    """The conversation ends with the model's answer."""
    steps: list[StepView]
    seconds: float
    axis: TimeAxis
    rows: list[Row]
    film: tuple[Tick, ...]
    legend: list[tuple[str, int]]
    """Names of what showed frames, with their colours."""
