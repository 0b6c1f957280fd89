"""Everything that happens in a run, as typed events.

Progress displays, logs, reports, hooks and tests consume this one stream; nothing else records a run.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from videobrain.agent.plan import FramePlan
from videobrain.agent.steps import EpisodeConfig, StopReason, ToolOutcome
from videobrain.models import ChatReply, Message
from videobrain.result import Answer
from videobrain.text import Text
from videobrain.video import VideoInfo


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())

    at_seconds: float = 0.0
    """Time since the run began."""


class RunStarted(_Event):
    """A run began: what is asked of which video, and of whom."""

    kind: Literal["run_started"] = "run_started"
    question: Text
    options: tuple[Text, ...] | None = None
    video: VideoInfo
    model: str
    strategy: str
    started_at: str
    """Wall-clock time, ISO 8601, UTC."""
    version: str
    """Version of videobrain."""


class FramesPlanned(_Event):
    """The frame size and counts of the run were chosen."""

    kind: Literal["frames_planned"] = "frames_planned"
    plan: FramePlan


class EpisodeStarted(_Event):
    """An Episode began. With the messages that follow it can be replayed."""

    kind: Literal["episode_started"] = "episode_started"
    config: EpisodeConfig


class MessageAdded(_Event):
    """A message joined the conversation."""

    kind: Literal["message_added"] = "message_added"
    message: Message


class RequestStarted(_Event):
    """The conversation was sent to the model."""

    kind: Literal["request_started"] = "request_started"
    turn: int
    """Number of the turn; 0 for a request that a strategy made outside of an Episode."""
    last: bool
    messages: int
    frames: int


class RequestRetrying(_Event):
    """A request failed for a passing reason and will be sent again."""

    kind: Literal["request_retrying"] = "request_retrying"
    attempt: int
    delay_seconds: float
    reason: str
    error: str = ""
    """Name of the error's type that this would have become, such as ``RateLimitError``."""


class ReplyDelta(_Event):
    """A piece of a reply as it is generated. Not kept in traces, which hold the whole reply."""

    kind: Literal["reply_delta"] = "reply_delta"
    text: str


class ReplyReceived(_Event):
    """The model replied."""

    kind: Literal["reply_received"] = "reply_received"
    reply: ChatReply
    time_low: bool = False
    in_episode: bool = True


class ReplyCorrected(_Event):
    """A reply could not be used; the model was told why."""

    kind: Literal["reply_corrected"] = "reply_corrected"
    problem: str


class ToolStarted(_Event):
    """A tool began."""

    kind: Literal["tool_started"] = "tool_started"
    turn: int
    tool: str
    arguments: dict[str, Any]


class ToolProgress(_Event):
    """A tool said something about its progress."""

    kind: Literal["tool_progress"] = "tool_progress"
    tool: str
    text: str


class ToolFinished(_Event):
    """A tool ended."""

    kind: Literal["tool_finished"] = "tool_finished"
    tool: str
    outcome: ToolOutcome
    seconds: float
    time_low: bool = False
    in_episode: bool = True


class LimitReached(_Event):
    """A limit was reached: the next turn is the last, or the run ended."""

    kind: Literal["limit_reached"] = "limit_reached"
    limit: StopReason


class WarningRaised(_Event):
    """Something the reader of the answer should know."""

    kind: Literal["warning_raised"] = "warning_raised"
    text: str


class Failed(_Event):
    """The run ended with an error, which its caller gets. Always the last event."""

    kind: Literal["failed"] = "failed"
    error: str
    """Name of the error's type."""
    message: str


class Finished(_Event):
    """The run ended with an answer. Always the last event."""

    kind: Literal["finished"] = "finished"
    answer: Answer


Event = Annotated[
    RunStarted
    | FramesPlanned
    | EpisodeStarted
    | MessageAdded
    | RequestStarted
    | RequestRetrying
    | ReplyDelta
    | ReplyReceived
    | ReplyCorrected
    | ToolStarted
    | ToolProgress
    | ToolFinished
    | LimitReached
    | WarningRaised
    | Failed
    | Finished,
    Field(discriminator="kind"),
]
"""Any event of a run; `kind` tells which."""

event_adapter: TypeAdapter[Event] = TypeAdapter(Event)
