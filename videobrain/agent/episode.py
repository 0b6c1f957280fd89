"""One run as a state machine without I/O.

An `Episode` is told what happened and says what to do next. It builds the messages, reads the replies, corrects the
model, counts, and ends the run. It never awaits, reads a file or opens a socket, so the async runner, trajectory
writers, evaluators, rewards and reinforcement-learning rollouts can all drive it:

    step = episode.start(frames)
    while not isinstance(step, Finish):
        match step:
            case AskModel():
                step = episode.reply(...)      # what the model said
            case CallTool():
                step = episode.observe(...)    # what the tool gave
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from videobrain.agent.choices import LETTERS, format_options, options_pattern
from videobrain.agent.grammar import reply_pattern, violations
from videobrain.agent.plan import LABEL_TOKENS, REPLY_TOKENS
from videobrain.agent.reading import Answered, Call, CheckAnswer, Problem, Rules, read_reply
from videobrain.agent.spans import SpanForm, spans_pattern
from videobrain.agent.steps import (
    AskModel,
    CallTool,
    Conclusion,
    EpisodeConfig,
    Finish,
    Step,
    StopReason,
    ToolOutcome,
)
from videobrain.agent.subtitles import LineTeller
from videobrain.models import ChatReply, ImagePart, Message, TextPart, ToolSchema
from videobrain.models.messages import Part
from videobrain.result import Evidence, Usage
from videobrain.tools import ToolSpec
from videobrain.video import EncodedFrame, evenly_spaced


class Episode:
    """One question on one video, driven from outside.

    Attributes:
        config: What shapes the run.
        messages: The conversation so far; it only grows at the end.
    """

    def __init__(self, config: EpisodeConfig, *, check_answer: CheckAnswer | None = None) -> None:
        self.config = config
        self.messages: list[Message] = []
        self._check_answer = check_answer
        self._tools = {tool.name: tool for tool in config.tools}
        self._accepted: dict[str, list[Mapping[str, Any]]] = {}
        self._shown: set[tuple[int, str]] = set()
        self._evidence: list[Evidence] = []
        self._warnings: list[str] = []
        self._count: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._context = 0
        self._forced_by: StopReason | None = None
        self._call: Call | None = None
        self._conclusion: Conclusion | None = None
        self._lines = LineTeller(config.subtitles) if config.subtitles is not None else None

    # What there is so far ----------------------------------------------------------------------------------------

    @property
    def usage(self) -> Usage:
        """What the run has cost so far; `seconds` is left to the clock's owner."""
        return Usage(**{key: self._count[key] for key in self._count}, tool_calls=dict(+self._calls))

    @property
    def turns_left(self) -> int:
        """Turns that may still follow."""
        return max(0, self.config.limits.turns - self._count["turns"])

    @property
    def frames_left(self) -> int:
        """Frames that may still be shown."""
        return max(0, self.config.limits.frames - self._count["frames"])

    @property
    def replies(self) -> list[str]:
        """The model's replies as it wrote them."""
        return [message.text for message in self.messages if message.role == "assistant"]

    def violations(self) -> list[str]:
        """Format rules of the paper that the run broke; a trajectory is valid where there is none.

        A native call is held against the rules in the tagged form.
        """
        native = self.config.calling == "native"
        replies = []
        for message in self.messages:
            if message.role == "assistant":
                calls = [
                    f'<tool_call>{{"name": {json.dumps(c.name)}, "arguments": {c.arguments}}}</tool_call>'
                    for c in message.tool_calls
                ]
                text = message.text
                if native and not calls and "<answer>" not in text and text.strip():
                    text = f"<answer>{text}</answer>"
                replies.append("".join([text, *calls]))
        broken = violations(replies, self.config.tools, thinking=not native)
        ended_by_one = self._conclusion is not None and self._conclusion.stop_reason == "corrections"
        if corrections := self._count["corrections"] + ended_by_one:
            broken.append(f"replies that had to be corrected: {corrections}")
        return broken

    # What happened -----------------------------------------------------------------------------------------------

    def start(self, frames: Sequence[EncodedFrame]) -> Step:
        """Begin with the initial frames; the first step asks the model."""
        config, prompts = self.config, self.config.prompts
        if not self._tools:
            system = prompts.system_without_tools.format(form=self._form())
        else:
            tools = (
                "\n".join(describe_tool(tool) for tool in config.tools)
                if config.calling == "tags"
                else "\n".join(f"- {tool.name}" for tool in config.tools)
            )
            system = prompts.system.format(tools=tools, form=self._form())
        shown = self._admit(frames, "initial", {}, self.config.limits.frames)
        if config.options:
            form = prompts.answer_choice.format(letters=", ".join(LETTERS[: len(config.options)]))
        elif config.output_schema is not None:
            form = prompts.answer_schema.format(schema=json.dumps(config.output_schema, ensure_ascii=False))
        else:
            form = prompts.answer_open
        head = prompts.question.format(
            question=config.question,
            options=prompts.options.format(options=format_options(config.options)) if config.options else "",
            answer_form=form,
            frame_count=config.frame_count,
            fps=f"{config.fps:.2f}".rstrip("0").rstrip("."),
            duration=f"{config.duration_seconds:.2f}".rstrip("0").rstrip("."),
            shown=len(shown),
        )
        if self._lines is not None and (shown or self._tools):
            head += self._lines.intro
        tail = self._turns_note()
        self._add(Message(role="system", parts=(TextPart(text=system),)))
        self._add(Message(role="user", parts=_parts([head, *self._labelled(shown), tail])))
        return self._ask()

    def reply(self, reply: ChatReply, *, time_low: bool = False) -> Step:
        """Take the model's reply.

        Args:
            reply: What the model said.
            time_low: The run's time is nearly over, so that the next turn has to be the last.
        """
        if self._call is not None or self._conclusion is not None or not self.messages:
            raise RuntimeError("reply() where no reply was asked for")
        last = self._is_last
        self._count["input_tokens"] += reply.input_tokens
        self._count["cached_tokens"] += reply.cached_tokens
        self._count["output_tokens"] += reply.output_tokens
        self._count["cached_replies"] += reply.from_cache
        if reply.input_tokens:
            self._context = reply.input_tokens
        self._add(Message(role="assistant", parts=(TextPart(text=reply.text),), tool_calls=reply.tool_calls))
        if reply.output_tokens:
            self._context = (reply.input_tokens or self._context) + reply.output_tokens
        meaning = read_reply(
            reply,
            Rules(
                tools=self._tools,
                earlier=self._accepted,
                may_call=not last and bool(self._tools),
                may_answer=last or self._count["turns"] >= self.config.min_calls or not self._tools,
                native=self.config.calling == "native",
                options=self.config.options,
                output_schema=self.config.output_schema,
                check_answer=self._check_answer,
                spans=self._span_form,
                options_in_words=self.config.prompts.options_in_words,
            ),
        )
        if isinstance(meaning, Problem):
            if self._count["corrections"] < self.config.limits.corrections:
                return self._correct(meaning.text, time_low)
            found = meaning.salvage or Answered("")
            if found.text:
                self._warnings.append(f"The answer stands in an ill-formed reply: {meaning.text}.")
            return self._finish(found, "corrections")
        self._count["turns"] += 1
        if isinstance(meaning, Answered):
            if self._forced_by:
                self._warnings.append(f"The limit of {_words(self._forced_by)} forced the answer.")
            return self._finish(meaning, "answered")
        self._accepted.setdefault(meaning.name, []).append(meaning.arguments)
        self._call = meaning
        if limit := self._limit_before_call(meaning.name) or self._low(time_low):
            if stopped := self._force(limit):
                return stopped
            return self._observe(self.config.prompts.limit_reached.format(limit=_words(limit)), [])
        self._calls[meaning.name] += 1
        return CallTool(self._count["turns"], meaning.name, meaning.arguments)

    def observe(self, outcome: ToolOutcome, *, time_low: bool = False) -> Step:
        """Take what the tool of the last `CallTool` gave."""
        if self._call is None:
            raise RuntimeError("observe() without a tool call")
        name, prompts = self._call.name, self.config.prompts
        if outcome.kind == "retry":
            self._count["turns"] -= 1
            self._calls[name] -= 1
            self._accepted[name].pop()
            self._call = None
            if self._count["corrections"] >= self.config.limits.corrections:
                return self._finish(Answered(""), "corrections")
            return self._correct(outcome.text, time_low)
        if low := self._low(time_low):
            self._force(low)
        if outcome.kind == "error":
            self._count["failed_calls"] += 1
            text = prompts.tool_failed.format(tool=name, reason=outcome.text)
            if outcome.withdraw:
                self._tools.pop(name, None)
                text += prompts.tool_withdrawn.format(tool=name)
                self._warnings.append(f"{name} was withdrawn: {outcome.text}")
            return self._observe(text, [])
        text = outcome.text
        frames = {_identity(frame): frame for frame in outcome.frames}
        fresh = [frame for identity, frame in frames.items() if identity not in self._shown]
        again = [frame for identity, frame in frames.items() if identity in self._shown]
        if again:
            text += prompts.shown_before.format(frames=", ".join(f"frame {frame.frame_index}" for frame in again))
        room = min(self.frames_left, self.config.limits.frames_per_call)
        shown = self._admit(fresh, name, outcome.similarities, room)
        if left_out := len(fresh) - len(shown):
            reason = "one call" if room == self.config.limits.frames_per_call else "the run"
            text += prompts.frames_left_out.format(count=left_out, reason=f"{reason} may show no more")
            self._warnings.append(f"{left_out} frames of {name} were left out: {reason} may show no more.")
        text = prompts.observation.format(tool=name, text=text.strip())
        if self._lines is not None:
            text += self._lines.found(outcome.lines)
        return self._observe(text, shown)

    def abort(self, limit: StopReason) -> Finish:
        """End the run at once, such as when its time is over."""
        return self._finish(Answered(""), limit)

    # How it goes on ----------------------------------------------------------------------------------------------

    @property
    def _span_form(self) -> SpanForm | None:
        config = self.config
        if config.max_spans is None:
            return None
        return SpanForm(config.max_spans, config.duration_seconds, config.frame_count)

    @property
    def _is_last(self) -> bool:
        out_of_turns = self.turns_left <= 1 and self.config.limits.on_limit == "answer"
        return out_of_turns or self._forced_by is not None or not self._tools

    def _low(self, time_low: bool) -> StopReason | None:
        # Under on_limit="raise" nothing is cut short: the clock's owner aborts when the time is over.
        return "seconds" if time_low and self.config.limits.on_limit == "answer" else None

    def _force(self, limit: StopReason) -> Finish | None:
        """Make the next turn the last one; or end the run where the caller wants limits raised."""
        if self.config.limits.on_limit == "raise":
            return self._finish(Answered(""), limit)
        self._forced_by = self._forced_by or limit
        return None

    def _ask(self, correction: str | None = None) -> AskModel:
        config = self.config
        last = self._is_last
        tools = [] if last else list(self._tools.values())
        room = config.max_output_tokens
        if config.context_tokens is not None:
            room = max(16, min(room, config.context_tokens - int(self._context * 1.05)))
        return AskModel(
            turn=self._count["turns"] + 1,
            last=last,
            tools=tuple(
                ToolSchema(name=tool.name, description=tool.description, parameters=tool.parameters)
                for tool in (self._tools.values() if config.calling == "native" else ())
            ),
            pattern=self._pattern(tools) if config.constrain and config.calling == "tags" else None,
            max_output_tokens=room,
            correction=correction,
            limit=self._forced_by,
        )

    def _pattern(self, tools: Sequence[ToolSpec]) -> str:
        bounds = {"start_frame": (0, self.config.frame_count - 1), "end_frame": (1, self.config.frame_count)}
        options, answer = self.config.options or (), None
        if self._span_form is not None:
            answer = spans_pattern(self._span_form)
        elif options and self.config.prompts.options_in_words:
            options, answer = (), options_pattern(options)
        return reply_pattern(
            [_bounded(tool, bounds) for tool in tools],
            options=len(options),
            output_schema=self.config.output_schema,
            answer_pattern=answer,
            may_answer=not tools or self._count["turns"] >= self.config.min_calls,
            text_characters=self.config.text_characters,
        )

    def _correct(self, problem: str, time_low: bool) -> Step:
        self._count["corrections"] += 1
        if (limit := self._limit() or self._low(time_low)) and (stopped := self._force(limit)):
            return stopped
        note = self.config.prompts.correction.format(problem=problem.rstrip("."), form=self._form())
        self._answer(note + (self.config.prompts.last_turn if self._is_last and self.config.tools else ""))
        return self._ask(problem)

    def _observe(self, text: str, frames: Sequence[EncodedFrame]) -> Step:
        name = self._call.name if self._call else ""
        self._call = None
        tail, labelled = self._turns_note(), self._labelled(frames)
        if not self.messages[-1].tool_calls:
            self._add(Message(role="user", parts=_parts([text, *labelled, tail])))
        elif not frames:
            self._answer(text + tail)
        else:  # servers take images in user messages only
            self._answer(text)
            follow = self.config.prompts.frames_follow.format(tool=name)
            self._add(Message(role="user", parts=_parts([follow, *labelled, tail])))
        return self._ask()

    def _answer(self, text: str) -> None:
        """Answer the model's last message in words: each of its native calls, or else as the user."""
        *others, last = self.messages[-1].tool_calls or (None,)
        for call in others:
            if call is not None:
                self._add(Message(role="tool", parts=(TextPart(text="Not carried out."),), tool_call_id=call.id))
        role: Literal["tool", "user"] = "tool" if last else "user"
        self._add(Message(role=role, parts=(TextPart(text=text),), tool_call_id=last.id if last else None))

    def _turns_note(self) -> str:
        if not self.config.tools:
            return ""
        if self._is_last:
            return self.config.prompts.last_turn
        return self.config.prompts.turns_left.format(turns=self.turns_left)

    def _limit(self) -> StopReason | None:
        """The limit that is reached before a request, if any."""
        limits, count = self.config.limits, self._count
        if limits.input_tokens is not None and count["input_tokens"] >= limits.input_tokens:
            return "input_tokens"
        if limits.output_tokens is not None and count["output_tokens"] >= limits.output_tokens:
            return "output_tokens"
        return None

    def _limit_before_call(self, name: str) -> StopReason | None:
        """The limit that forbids a call of this tool now, if any."""
        if limit := self._limit():
            return limit
        if self.turns_left == 0:
            return "turns"
        frames = self._tools[name].frames_per_call(self.config.limits.frames_per_call)
        if frames > 0 and self.frames_left == 0:
            return "frames"
        if self.config.context_tokens is not None:
            frames = min(frames, self.frames_left)
            next_turn = frames * self.config.frame_tokens + 2 * REPLY_TOKENS
            next_turn += self._lines.tokens_per_message if self._lines is not None else 0
            if self._context + next_turn > self.config.context_tokens:
                return "context"
        return None

    def _finish(self, found: Answered, reason: StopReason) -> Finish:
        if self._conclusion is None:
            self._warnings += found.notes
            if reason != "answered":
                without = "" if found.text else " without an answer"
                self._warnings.append(f"The run ended{without}: the limit of {_words(reason)} was reached.")
            self._warnings += self._lines.warnings if self._lines is not None else []
            self._conclusion = Conclusion(
                found.text,
                found.choice,
                reason,
                evidence=tuple(self._evidence),
                spans=found.spans,
                warnings=tuple(self._warnings),
            )
        return Finish(self._conclusion)

    def _form(self) -> str:
        prompts = self.config.prompts
        match (self.config.calling, bool(self._tools) and not self._is_last):
            case ("tags", True):
                return prompts.form_tags
            case ("tags", False):
                return prompts.form_tags_without_tools
            case (_, True):
                return prompts.form_native
            case _:
                return prompts.form_native_without_tools

    def _admit(
        self, frames: Sequence[EncodedFrame], source: str, similarities: Mapping[int, float], room: int
    ) -> list[EncodedFrame]:
        """Take as many of `frames` as may be shown, evenly spread, and count them."""
        unique = list({_identity(frame): frame for frame in frames}.values())
        admitted = [unique[i] for i in evenly_spaced(0, len(unique), room)] if unique and room > 0 else []
        for frame in admitted:
            self._shown.add(_identity(frame))
            self._evidence.append(
                Evidence(
                    frame_index=frame.frame_index,
                    timestamp_seconds=frame.timestamp_seconds,
                    source=source,
                    similarity=similarities.get(frame.frame_index),
                )
            )
        self._count["frames"] += len(admitted)
        return admitted

    def _labelled(self, frames: Sequence[EncodedFrame]) -> list[str | EncodedFrame]:
        label = self.config.prompts.frame_label
        labelled: list[str | EncodedFrame] = []
        said = self._lines.beside(frames) if self._lines is not None else [""] * len(frames)
        for frame, lines in zip(frames, said, strict=True):
            labelled.append(label.format(frame_index=frame.frame_index, timestamp=frame.timestamp_seconds))
            labelled += [frame, lines]
        return labelled

    def _add(self, message: Message) -> None:
        self.messages.append(message)
        frames = len(message.frames)
        self._context += len(message.text) // 3 + frames * (self.config.frame_tokens - LABEL_TOKENS) + 8


def _identity(frame: EncodedFrame) -> tuple[int, str]:
    """Which frame it is, and which picture of it (a tool may crop): of a still video all frames look the same."""
    return frame.frame_index, frame.digest


def _parts(pieces: Iterable[str | EncodedFrame]) -> tuple[Part, ...]:
    """Message parts; neighbouring texts become one."""
    parts: list[Part] = []
    for piece in pieces:
        if isinstance(piece, EncodedFrame):
            parts.append(ImagePart(frame=piece))
        elif piece:
            if parts and isinstance(parts[-1], TextPart):
                parts[-1] = TextPart(text=parts[-1].text + piece)
            else:
                parts.append(TextPart(text=piece))
    return tuple(parts)


def describe_tool(tool: ToolSpec) -> str:
    """A tool as the tagged protocol writes it into the system prompt."""
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return json.dumps(described, ensure_ascii=False)


def _bounded(tool: ToolSpec, bounds: Mapping[str, tuple[int, int]]) -> ToolSpec:
    """The tool with the video's bounds in its schema, so that a constrained reply keeps to them."""
    properties = dict(tool.parameters.get("properties", {}))
    for name, (least, most) in bounds.items():
        if properties.get(name, {}).get("type") == "integer":
            properties[name] = {**properties[name], "minimum": least, "maximum": most}
    return tool.model_copy(update={"parameters": {**tool.parameters, "properties": properties}})


def _words(limit: str) -> str:
    return limit.replace("_", " ")
