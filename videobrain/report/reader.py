"""Reads a trace into a `RunView`: one walk over the events, whatever became of the run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from videobrain.agent.events import (
    EpisodeStarted,
    Event,
    Failed,
    Finished,
    FramesPlanned,
    LimitReached,
    MessageAdded,
    ReplyCorrected,
    ReplyDelta,
    ReplyReceived,
    RequestRetrying,
    RequestStarted,
    RunStarted,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    WarningRaised,
)
from videobrain.agent.grammar import parse_reply
from videobrain.agent.plan import FramePlan
from videobrain.agent.steps import EpisodeConfig
from videobrain.agent.subtitles import EpisodeSubtitles
from videobrain.agent.trace import Trace
from videobrain.models import ChatReply, Message, NativeToolCall
from videobrain.report.lines import lines_beside
from videobrain.report.rows import rows_of
from videobrain.report.timeline import TimeAxis, film
from videobrain.report.view import (
    COLORS,
    CallView,
    FrameView,
    NoteView,
    PromptView,
    ReplyView,
    RunView,
    SectionView,
    StepView,
)
from videobrain.report.words import spoken
from videobrain.result import Usage
from videobrain.video import EncodedFrame

_KNOWN_COLORS = {"uniform_sample": 1, "clip_sample": 2}


def read_trace(trace: Trace) -> RunView:
    """Everything that a report says about a run."""
    reader = _Reader(trace.frames())
    for event in trace.events:
        reader.read(event)
    return reader.view(trace)


class _Reader:
    def __init__(self, frames: Mapping[str, EncodedFrame]) -> None:
        self._frames = frames
        self._started: RunStarted | None = None
        self._plan: FramePlan | None = None
        self._config: EpisodeConfig | None = None
        self._subtitles: EpisodeSubtitles | None = None
        self._sections: list[SectionView] = []
        self._steps: list[StepView] = []
        self._warnings: list[str] = []
        self._usage: Counter[str] = Counter()
        self._calls: list[CallView] = []
        self._colors: dict[str, int] = {}
        self._places: dict[str, int] = {}
        self._shown: set[str] = set()
        self._evidence: Counter[int] = Counter()
        self._placed = 0
        self._episodes = 0
        self._now = 0.0
        self._reply: ReplyView | None = None
        self._call: CallView | None = None
        self._awaited: dict[str, FrameView] = {}
        """Frames that a tool gave, by digest, until the message comes that shows them to the model."""

    def read(self, event: Event) -> None:
        self._now = max(self._now, event.at_seconds)
        match event:
            case RunStarted():
                self._started = event
            case FramesPlanned():
                self._plan = event.plan
            case EpisodeStarted():
                self._start_episode(event)
            case MessageAdded():
                self._add_message(event.message)
            case RequestStarted():
                self._start_turn(event)
            case RequestRetrying():
                wait = f"; sent again after {event.delay_seconds:.1f} s"
                self._note(NoteView("retry", f"Try {event.attempt} failed: {event.reason.rstrip('.')}{wait}."))
            case ReplyReceived():
                self._add_reply(event)
            case ReplyCorrected():
                if self._reply is not None:
                    self._reply.corrected = True
                self._usage["corrections"] += 1
                self._note(NoteView("correction", event.problem))
            case ToolStarted():
                self._start_tool(event)
            case ToolProgress():
                if self._call is not None:
                    self._call.progress.append(event.text)
            case ToolFinished():
                self._finish_tool(event)
            case LimitReached():
                limit = f"The limit of {spoken(event.limit)} was reached."
                self._note(NoteView("limit", limit if event.limit != "context" else "The model's context was full."))
            case WarningRaised():
                self._warnings.append(event.text)
                self._note(NoteView("warning", event.text))
            case Failed():
                self._warnings.append(f"{event.error}: {event.message}")
                self._note(NoteView("warning", f"The run failed: {event.message}"))
            case Finished() | ReplyDelta():
                pass

    # The conversation --------------------------------------------------------------------------------------------

    def _section(self) -> SectionView:
        if not self._sections:
            self._sections.append(SectionView("start", "Start", 0.0))
        return self._sections[-1]

    def _note(self, note: NoteView) -> None:
        self._section().blocks.append(note)

    def _start_episode(self, event: EpisodeStarted) -> None:
        self._episodes += 1
        self._config = self._config or event.config
        self._subtitles = event.config.subtitles
        self._reply = self._call = None
        first = self._episodes == 1
        title = "Start" if first else f"Episode {self._episodes}"
        if first and self._sections:  # warnings may come before
            return
        self._sections.append(SectionView("start" if first else f"episode-{self._episodes}", title, event.at_seconds))

    def _start_turn(self, event: RequestStarted) -> None:
        last = self._sections[-1] if self._sections else None
        if last is not None and last.turn == event.turn:
            return  # a correction repeats its turn
        prefix = f"e{self._episodes}-" if self._episodes > 1 else ""
        anchor = self._fresh_anchor(f"{prefix}turn-{event.turn}")
        self._sections.append(SectionView(anchor, f"Turn {event.turn}", event.at_seconds, event.turn, event.last))

    def _fresh_anchor(self, wanted: str) -> str:
        taken = {section.anchor for section in self._sections}
        anchor, copy = wanted, 1
        while anchor in taken:
            copy += 1
            anchor = f"{wanted}-{copy}"
        return anchor

    def _add_message(self, message: Message) -> None:
        if message.role == "assistant":
            if self._reply is None or self._reply.reply.text != message.text:
                self._note(NoteView("words", message.text, message.role))
            return
        said = lines_beside(message, self._subtitles)
        if self._section().turn is None:
            frames = [self._place(frame, 0, said.get(frame.digest, ())) for frame in message.frames]
            self._section().blocks.append(PromptView(message.role, _transcript(message), frames))
            self._show(frames)
            return
        others = []
        for frame in message.frames:
            if awaited := self._awaited.pop(frame.digest, None):
                awaited.state = "new"
                awaited.lines = tuple(said.get(frame.digest, ()))
                self._show([awaited])
            else:
                others.append(self._place(frame, 0, said.get(frame.digest, ())))
        self._show(others)
        if others:
            self._section().blocks.append(PromptView(message.role, _transcript(message), others))
        else:
            self._note(NoteView("words", _transcript(message), message.role))

    def _show(self, frames: Iterable[FrameView]) -> None:
        for view in frames:
            self._shown.add(view.frame.digest)
            self._usage["frames"] += 1

    def _place(self, frame: EncodedFrame, color: int, lines: Iterable[str] = ()) -> FrameView:
        self._placed += 1
        picture = self._frames.get(frame.digest, frame)
        first = self._places.setdefault(frame.digest, self._placed)
        same_as = None if first == self._placed else first
        return FrameView(self._placed, picture, color, same_as=same_as, lines=tuple(lines))

    def _add_reply(self, event: ReplyReceived) -> None:
        reply = event.reply
        parsed = parse_reply(reply.text)
        thinking = [text for text in (reply.reasoning.strip(), *parsed.thinking) if text]
        calls = [self._new_call(call.name, call.arguments, call.problem) for call in parsed.calls]
        calls += [self._native_call(call) for call in reply.tool_calls]
        # A call that stood bare in the reply has been read from these very words.
        outside = "" if parsed.calls and parsed.outside.strip("` \n").endswith("}") else parsed.outside
        self._reply = ReplyView(reply, thinking, outside, calls, [text for text in parsed.answers if text])
        self._call = None
        self._awaited.clear()
        self._section().blocks.append(self._reply)
        self._usage["turns"] += 1
        for key in ("input_tokens", "cached_tokens", "output_tokens"):
            self._usage[key] += getattr(reply, key)
        again = sum(isinstance(block, ReplyView) for block in self._section().blocks) > 1
        self._steps.append(
            StepView(
                f"{self._section().title}: model" + (", again" if again else ""),
                max(0.0, event.at_seconds - reply.seconds),
                reply.seconds,
                reply.input_tokens,
                reply.cached_tokens,
                reply.output_tokens,
            )
        )

    def _native_call(self, call: NativeToolCall) -> CallView:
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            return self._new_call(call.name, None, f"the arguments are not valid JSON: {call.arguments}")
        if not isinstance(arguments, dict):
            return self._new_call(call.name, None, f"the arguments are no object: {call.arguments}")
        return self._new_call(call.name, arguments)

    def _new_call(self, name: str, arguments: Mapping[str, object] | None, problem: str = "") -> CallView:
        view = CallView(f"call-{len(self._calls) + 1}", name, arguments, self._color(name), problem)
        self._calls.append(view)
        return view

    def _color(self, name: str) -> int:
        if name in _KNOWN_COLORS:
            return _KNOWN_COLORS[name]
        others = COLORS - len(_KNOWN_COLORS)
        return self._colors.setdefault(name, len(_KNOWN_COLORS) + 1 + len(self._colors) % others)

    def _start_tool(self, event: ToolStarted) -> None:
        waiting = [call for call in self._reply.calls if not call.started] if self._reply is not None else []
        call = next((call for call in waiting if call.name == event.tool), None)
        if call is None:
            call = self._new_call(event.tool, event.arguments)
            reply = self._reply or ReplyView(ChatReply(text=""), [], "", [], [])
            if self._reply is None:
                self._section().blocks.append(reply)
            reply.calls.append(call)
        call.started, call.arguments = True, event.arguments
        self._call = call

    def _finish_tool(self, event: ToolFinished) -> None:
        call = self._call
        if call is None or call.name != event.tool:
            return
        call.outcome, call.seconds = event.outcome, event.seconds
        if self._subtitles is not None:
            call.lines = [self._subtitles.subtitles.lines[number] for number in event.outcome.lines]
        for frame in event.outcome.frames:
            view = self._place(frame, call.color)
            view.similarity = event.outcome.similarities.get(frame.frame_index)
            view.state = "again" if frame.digest in self._shown else "left_out"
            call.frames.append(view)
            if view.state == "left_out":
                self._awaited[frame.digest] = view
        begun = max(0.0, event.at_seconds - event.seconds)
        self._steps.append(StepView(f"{self._section().title}: {call.name}", begun, event.seconds, color=call.color))

    # The whole ---------------------------------------------------------------------------------------------------

    def view(self, trace: Trace) -> RunView:
        axis = self._axis()
        answer = trace.answer
        rows = rows_of(axis, self._sections)
        started = [call for call in self._calls if call.started]
        usage = answer.usage if answer is not None else self._counted(started)
        places = {view.number: view for view in self._all_frames()}
        pictured = [tick for row in rows for tick in row.ticks if places[tick.frame].pictured]
        first = [tick for tick in rows[0].ticks if places[tick.frame].pictured] if rows else []
        strip = first if len(first) >= 6 else sorted(pictured, key=lambda tick: tick.x)
        named = {call.name: call.color for call in self._calls if call.frames}
        return RunView(
            started=self._started,
            plan=self._plan,
            config=self._config,
            answer=answer,
            usage=usage,
            warnings=answer.warnings if answer is not None else tuple(self._warnings),
            sections=self._sections,
            closed=self._reply is not None and bool(self._reply.answers),
            steps=self._steps,
            seconds=usage.seconds or self._now,
            axis=axis,
            rows=rows,
            film=film(strip),
            legend=[("first frames", 0), *named.items()],
        )

    def _counted(self, started: list[CallView]) -> Usage:
        counts = dict(self._usage)
        counts["turns"] = max(0, self._usage["turns"] - self._usage["corrections"])
        calls = Counter(call.name for call in started if call.outcome is None or call.outcome.kind != "retry")
        failed = sum(call.outcome is not None and call.outcome.kind == "error" for call in started)
        return Usage(**counts, tool_calls=dict(calls), failed_calls=failed, seconds=self._now)

    def _all_frames(self) -> Iterable[FrameView]:
        for section in self._sections:
            for block in section.blocks:
                if isinstance(block, PromptView):
                    yield from block.frames
        for call in self._calls:
            yield from call.frames

    def _axis(self) -> TimeAxis:
        known = list(self._frames.values())
        if self._started is not None:
            info = self._started.video
            return TimeAxis(info.duration_seconds, info.frame_count, known)
        if self._config is not None:
            return TimeAxis(self._config.duration_seconds, self._config.frame_count, known)
        return TimeAxis(max((frame.timestamp_seconds for frame in known), default=0.0), 0, known)


def _transcript(message: Message) -> str:
    """The text of a message with its frames as words."""
    parts = [
        part.text if part.kind == "text" else f"[picture of frame {part.frame.frame_index}]" for part in message.parts
    ]
    return "".join(parts).strip()
