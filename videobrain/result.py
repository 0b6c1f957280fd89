"""What goes in and what comes out: questions, answers, evidence, usage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from videobrain.errors import TraceError
from videobrain.limits import Limits

if TYPE_CHECKING:
    from videobrain.agent.trace import Trace


WholeVideo = str | Path | bytes
"""A path, the file's bytes, or (with ``allow_remote``) an http(s) URL."""
SubtitleSource = str | Path
"""Subtitles: a file's path; or ``embedded``, ``embedded:LANGUAGE`` or ``embedded:INDEX`` for a stream of the video."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a video, which can be asked about as if there were nothing else of it.

    Its frames and times are counted from its own start.
    """

    video: WholeVideo
    start_seconds: float
    end_seconds: float
    """Half-open; may lie behind the video's end."""


VideoSource = WholeVideo | Clip
"""A video: a path, the file's bytes, (with ``allow_remote``) an http(s) URL, or a part of one of these."""


class Span(NamedTuple):
    """A half-open range of time, in seconds from the container's start."""

    start_seconds: float
    end_seconds: float


class Evidence(BaseModel):
    """A frame that the model was shown."""

    model_config = ConfigDict(frozen=True)

    frame_index: int
    timestamp_seconds: float
    source: str
    """``initial``, or the name of the tool that gave the frame."""
    similarity: float | None = None
    """Cosine similarity to the prompt of a semantic search."""


class Usage(BaseModel):
    """What a run cost."""

    model_config = ConfigDict(frozen=True)

    turns: int = 0
    """Accepted replies."""
    corrections: int = 0
    """Ill-formed replies that were answered by a correction."""
    frames: int = 0
    """Frames shown to the model."""
    tool_calls: Mapping[str, int] = Field(default_factory=dict)
    """Accepted calls by tool."""
    failed_calls: int = 0
    """Those whose tool failed or took too long, so that the model went on without what it had asked for."""
    input_tokens: int = 0
    """Prompt tokens over all requests, cached ones included."""
    cached_tokens: int = 0
    output_tokens: int = 0
    cached_replies: int = 0
    """Replies that were taken from the cache of replies. Their tokens are counted, though nobody paid for them now."""
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """What both cost together; seconds are added up."""
        counts = {
            name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields if name != "tool_calls"
        }
        return Usage(**counts, tool_calls=dict(Counter(self.tool_calls) + Counter(other.tool_calls)))


class Answer(BaseModel):
    """The answer to one question, with what it rests on and what it cost."""

    model_config = ConfigDict(frozen=True)

    text: str
    """The model's answer; empty where the run ended without one (see `stop_reason`)."""
    choice: str | None = None
    """Letter of the chosen option, where the question had options."""
    output: Any = None
    """The answer as `output_type`, where one was asked for."""
    evidence: tuple[Evidence, ...] = ()
    """Every frame the model was shown, in the order shown."""
    spans: tuple[Span, ...] = ()
    """Where in the video, the surest first, where `max_spans` was asked for; none where it is not to be seen."""
    usage: Usage = Usage()
    stop_reason: str = "answered"
    """``answered``; or why the run ended without an answer: a field of `Limits`."""
    warnings: tuple[str, ...] = ()
    """What the reader should know: missing frames, withdrawn tools, a forced last turn."""

    _trace: Trace | None = PrivateAttr(default=None)

    @property
    def trace(self) -> Trace:
        """Every event of the run.

        Raises:
            TraceError: The answer was read from JSON, which does not hold its trace.
        """
        if self._trace is None:
            raise TraceError(
                "This answer carries no trace.", hint="Save it with answer.trace.save(PATH) right after the run."
            )
        return self._trace

    def without_frames(self) -> Answer:
        """The same answer, its trace without the frames' bytes: small, but a report of it has no pictures."""
        answer = self.model_copy()
        answer._trace = self._trace.without_frames() if self._trace is not None else None
        return answer

    def save_report(self, path: str | Path) -> Path:
        """Write the run as one self-contained HTML page; returns its path."""
        from videobrain.report import save_report  # the report reads traces, so it lives upstairs

        return save_report(self.trace, path)

    def _repr_html_(self) -> str:
        from videobrain.report import notebook_html

        return notebook_html(self)


class Question(BaseModel):
    """One question on one video."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    video: VideoSource
    question: str
    options: tuple[str, ...] | None = None
    """Texts of the options of a multiple-choice question, without letters."""
    max_spans: int | None = Field(default=None, ge=1)
    """The question is a query, and the answer has `spans`, so many at the most, instead of words."""
    key: str | None = None
    """The caller's own key; comes back unchanged."""
    limits: Limits | None = None
    subtitles: SubtitleSource | None = None
    """Its subtitles, as `VideoBrain.ask` takes them."""
    subtitles_start_seconds: float = 0.0
    """Time of the subtitles at which the video begins."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one question of a batch: an answer or an error, never both."""

    question: Question
    answer: Answer | None = None
    error: Exception | None = None
    """A `VideoBrainError`, or what a tool or strategy of the user's own raised."""
