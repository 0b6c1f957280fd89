"""A run on record: its events, and each frame once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from videobrain.agent.episode import Episode
from videobrain.agent.events import (
    EpisodeStarted,
    Event,
    Finished,
    MessageAdded,
    ReplyReceived,
    ToolFinished,
    event_adapter,
)
from videobrain.agent.reading import CheckAnswer
from videobrain.agent.steps import AskModel, CallTool
from videobrain.errors import TraceError
from videobrain.files import whole_file
from videobrain.models import Message
from videobrain.result import Answer
from videobrain.video import EncodedFrame

FORMAT_VERSION = 1


class Trace:
    """The events of one run, in order.

    Attributes:
        events: Every event but the pieces of streamed replies.
    """

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.events: list[Event] = list(events)

    def __repr__(self) -> str:
        return f"Trace({len(self.events)} events, {len(self.frames())} frames)"

    @property
    def messages(self) -> list[Message]:
        """The conversation."""
        return [event.message for event in self.events if isinstance(event, MessageAdded)]

    @property
    def answer(self) -> Answer | None:
        """The answer; None where the run failed before it had one."""
        last = self.events[-1] if self.events else None
        return last.answer if isinstance(last, Finished) else None

    def frames(self) -> dict[str, EncodedFrame]:
        """Every frame of the run by digest."""
        return {frame.digest: frame for event in self.events for frame in _frames_of(event)}

    def without_frames(self) -> Trace:
        """The same trace without the frames' bytes: small, but a report of it has no pictures."""
        return Trace([_with_frames(event, {}) for event in self.events])

    def save(self, path: str | Path) -> Path:
        """Write the trace as JSON lines, each frame's bytes once, ahead of the first event that names it.

        The file is written aside and renamed, so that it is whole or not there.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.writelines(line.encode() + b"\n" for line in self._lines())
        return path

    def dump(self) -> bytes:
        """What stands in the file that `save` writes."""
        return b"".join(line.encode() + b"\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield json.dumps({"kind": "videobrain_trace", "format": FORMAT_VERSION})
        written: set[str] = set()
        for event in self.events:
            for frame in _frames_of(event):
                if frame.digest not in written and frame.jpeg:
                    written.add(frame.digest)
                    jpeg = base64.b64encode(frame.jpeg).decode("ascii")
                    yield json.dumps({"kind": "frame", "digest": frame.digest, "jpeg": jpeg})
            yield event.model_dump_json()

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace that `save` wrote.

        Raises:
            TraceError: The file is missing, damaged, or of another format.
        """
        path = Path(path)
        jpegs: dict[str, bytes] = {}
        events: list[Event] = []
        number = 1
        try:
            with path.open(encoding="utf-8") as file:
                head = json.loads(file.readline() or "null")
                if not isinstance(head, dict) or head.get("kind") != "videobrain_trace":
                    raise TraceError(f"{path} is no trace of videobrain.", hint="Traces are written by Trace.save.")
                if head.get("format") != FORMAT_VERSION:
                    raise TraceError(f"{path} has trace format {head.get('format')}, not {FORMAT_VERSION}.")
                for line in file:
                    number += 1
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError("it is no event")
                    if record.get("kind") == "frame":
                        jpegs[record["digest"]] = base64.b64decode(record["jpeg"], validate=True)
                    else:
                        events.append(_with_frames(event_adapter.validate_python(record), jpegs))
        except OSError as error:
            hint = "A run keeps its traces in RUN/traces; name one of those." if path.is_dir() else ""
            raise TraceError(f"{path} cannot be read: {error.strerror or error}.", hint=hint) from error
        except (ValueError, KeyError, TypeError) as error:
            raise TraceError(f"{path} is damaged at line {number}: {_first_line(error)}.") from error
        trace = cls(events)
        if trace.answer is not None:
            trace.answer._trace = trace
        return trace

    def replay(self, *, check_answer: CheckAnswer | None = None) -> list[Message]:
        """Drive new Episodes with the recorded replies and tool outcomes and compare every message.

        Args:
            check_answer: The check that the run's answers had to pass beside their JSON schema, where there was one.

        Returns:
            The messages, which equal the recorded ones.

        Raises:
            TraceError: A message differs from the recorded one, or the trace holds no episode.
        """
        recorded = [event.message for event in self.events if isinstance(event, MessageAdded)]
        replayed = [message for episode in self.episodes(check_answer=check_answer) for message in episode.messages]
        for position, (old, new) in enumerate(zip(recorded, replayed, strict=False)):
            if old != new:
                raise TraceError(
                    f"Message {position} ({old.role}) does not replay: "
                    f"recorded {old.text[:200]!r}, now {new.text[:200]!r}."
                )
        if len(recorded) != len(replayed):
            raise TraceError(f"The trace has {len(recorded)} messages, its replay {len(replayed)}.")
        return replayed

    def episodes(self, *, check_answer: CheckAnswer | None = None) -> list[Episode]:
        """The run's Episodes, driven anew with the recorded replies and tool outcomes; most strategies play one.

        Args:
            check_answer: As for `replay`.

        Raises:
            TraceError: The trace holds no episode.
        """
        episodes: list[Episode] = []
        messages = 0
        for event in self.events:
            match event:
                case EpisodeStarted():
                    episode = Episode(event.config, check_answer=check_answer)
                    episodes.append(episode)
                    step: object = episode.start(self._initial_frames(messages))
                case MessageAdded():
                    messages += 1
                case ReplyReceived(in_episode=True) if episodes and isinstance(step, AskModel):
                    step = episode.reply(event.reply, time_low=event.time_low)
                case ToolFinished(in_episode=True) if episodes and isinstance(step, CallTool):
                    step = episode.observe(event.outcome, time_low=event.time_low)
                case _:
                    pass
        if not episodes:
            raise TraceError("The trace holds no episode to replay.")
        return episodes

    def _initial_frames(self, messages_before: int) -> tuple[EncodedFrame, ...]:
        """Frames of the first user message of the episode that begins after `messages_before` messages."""
        for message in self.messages[messages_before:]:
            if message.role == "user":
                return message.frames
        return ()


def _frames_of(event: Event) -> tuple[EncodedFrame, ...]:
    match event:
        case MessageAdded():
            return event.message.frames
        case ToolFinished():
            return event.outcome.frames
        case _:
            return ()


def _with_frames(event: Event, jpegs: dict[str, bytes]) -> Event:
    """The event with each frame's bytes taken from `jpegs`; none where they are not there."""

    def filled(frame: EncodedFrame) -> EncodedFrame:
        return frame.model_copy(update={"jpeg": jpegs.get(frame.digest, b"")})

    match event:
        case MessageAdded() if event.message.frames:
            parts = tuple(
                part.model_copy(update={"frame": filled(part.frame)}) if part.kind == "image" else part
                for part in event.message.parts
            )
            return event.model_copy(update={"message": event.message.model_copy(update={"parts": parts})})
        case ToolFinished() if event.outcome.frames:
            frames = tuple(filled(frame) for frame in event.outcome.frames)
            return event.model_copy(update={"outcome": event.outcome.model_copy(update={"frames": frames})})
        case _:
            return event


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
