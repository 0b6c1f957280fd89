"""The async side of a run: it asks the model, runs the tools, keeps the clock and reports what happens."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

import anyio

from videobrain.agent.driver import Driver
from videobrain.agent.episode import Episode
from videobrain.agent.events import (
    EpisodeStarted,
    Event,
    Failed,
    Finished,
    FramesPlanned,
    LimitReached,
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
from videobrain.agent.plan import FramePlan, plan_frames
from videobrain.agent.prompts import prompt_profile
from videobrain.agent.reading import CheckAnswer
from videobrain.agent.steps import AskModel, Conclusion, EpisodeConfig, ToolOutcome
from videobrain.agent.subtitles import EpisodeSubtitles, subtitle_prompts, tokens_of
from videobrain.agent.trace import Trace
from videobrain.errors import DecodeTimeoutError, LimitExceeded, ModelTimeoutError, VideoBrainError
from videobrain.installed import installed_version
from videobrain.limits import Limits
from videobrain.models import ChatModel, ChatReply, ChatRequest, Message, ModelEvent, RequestRetried, ToolSchema
from videobrain.models.profiles import manner_of
from videobrain.result import Answer, Usage
from videobrain.settings import Settings
from videobrain.text import well_formed
from videobrain.tools import (
    FrameAccess,
    Remaining,
    SearchFrames,
    SubtitleAccess,
    Tool,
    ToolContext,
    ToolError,
    ToolRetry,
)
from videobrain.video import FRAME_SIZES, EncodedFrame, Subtitles, Video, evenly_spaced
from videobrain.world import is_world_video

_TIME_LOW = 0.2
"""Share of the run's seconds that is kept for the last turn."""
_MOMENT = 0.1
"""A request that times out with fewer seconds left than this was cut by the run's own limit."""


@runtime_checkable
class Strategy(Protocol):
    """A way of answering a question about a video. Other loops plug in here.

    A strategy may do anything a `Run` offers; what it returns becomes the answer. Its requests and tool calls are
    counted, recorded, cancelled with the run and cut when the run's time is over. The other limits bind an Episode; a
    strategy that asks the model by itself (`Run.complete`) keeps to them itself.
    """

    @property
    def name(self) -> str:
        """For traces and result tables."""

    async def run(self, run: Run) -> Conclusion:
        """Answer the run's question."""


class Run:
    """One question on one open video, with everything a strategy needs.

    Attributes:
        question: The question.
        options: Texts of the options of a multiple-choice question, or None.
        output_schema: JSON schema of the answer, or None.
        max_spans: How many spans of time the answer may have, or None where it is no spans.
        video: The open video.
        model: The model.
        tools: The tools on offer.
        limits: The limits of the run.
        settings: The settings.
        subtitles: The video's subtitles; None where there are none, or no line lies in the video.
    """

    def __init__(
        self,
        question: str,
        video: Video,
        *,
        model: ChatModel,
        tools: Sequence[Tool[Any]],
        limits: Limits,
        settings: Settings,
        search: SearchFrames,
        options: Sequence[str] | None = None,
        output_schema: dict[str, Any] | None = None,
        check_answer: CheckAnswer | None = None,
        parse_output: Callable[[str], Any] | None = None,
        max_spans: int | None = None,
        subtitles: Subtitles | None = None,
    ) -> None:
        self.question = well_formed(question)
        self.options = tuple(well_formed(option) for option in options) if options else None
        self.output_schema = output_schema
        self.max_spans = max_spans
        self.video = video
        self.model = model
        self.tools = {tool.name: tool for tool in tools}
        self.limits = limits
        self.settings = settings
        self.subtitles = subtitles or None
        self.events: list[Event] = []
        self._search = search
        self._check_answer = check_answer
        self._parse_output = parse_output
        self._about_subtitles = subtitles.warnings if subtitles is not None else ()
        self._lines = SubtitleAccess(self.subtitles) if self.subtitles is not None else None
        self._on_event: Callable[[Event], None] | None = None
        self._began = time.monotonic()
        self._size = FRAME_SIZES[0]
        self._usages: dict[Episode | None, Usage] = {}  # None: what was done outside of any Episode
        self._shown: set[tuple[int, str]] = set()

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Time until the run is cut; None without such a limit."""
        return None if self.limits.seconds is None else max(0.0, self.limits.seconds - self.seconds)

    @property
    def usage(self) -> Usage:
        """What the run has cost so far, over all its Episodes and requests."""
        total = sum(self._usages.values(), Usage())
        return total.model_copy(update={"seconds": round(self.seconds, 6)})

    def listen(self, on_event: Callable[[Event], None]) -> None:
        """Have a function called with each event from now on."""
        self._on_event = on_event

    def emit(self, event: Event) -> None:
        """Report an event; it is stamped with the run's time."""
        stamped = event.model_copy(update={"at_seconds": round(self.seconds, 6)})
        if not isinstance(stamped, ReplyDelta):
            self.events.append(stamped)
        if self._on_event is not None:
            self._on_event(stamped)

    def warn(self, text: str) -> None:
        """Tell the reader of the answer something."""
        self.emit(WarningRaised(text=text))

    async def plan(self, *, initial_frames: int, tools: Sequence[Tool[Any]]) -> FramePlan:
        """Choose the frame size and counts of the run. Call it once, before frames are asked for."""
        capacity = await self.model.capacity(on_event=self._on_model_event)
        plan = plan_frames(
            width=self.video.info.width,
            height=self.video.info.height,
            initial_frames=initial_frames,
            tools=[tool.spec for tool in tools],
            limits=self.limits,
            profile=self.model.profile,
            context_tokens=capacity.max_model_len,
            text=self._opening(tools),
            subtitle_tokens=self._subtitle_tokens,
        )
        self._size = plan.size
        self.emit(FramesPlanned(plan=plan))
        return plan

    async def frames(self, indices: Sequence[int]) -> list[EncodedFrame]:
        """Frames by index, in the run's size. Those that cannot be decoded are left out."""
        return await self.video.encoded(indices, size=self._size)

    async def initial_frames(self, count: int) -> list[EncodedFrame]:
        """Evenly spaced frames of the whole video."""
        return await self.frames(evenly_spaced(0, len(self.video.table), count))

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSchema] = (),
        pattern: str | None = None,
        max_output_tokens: int | None = None,
    ) -> ChatReply:
        """Ask the model to continue a conversation, outside of any Episode.

        Raises:
            ModelError: The model gives no usable reply.
        """
        reply = (await self._ask(0, False, messages, tools, pattern, max_output_tokens)).reply
        shown = {(frame.frame_index, frame.digest) for message in messages for frame in message.frames}
        new, self._shown = len(shown - self._shown), self._shown | shown
        tokens = {name: getattr(reply, name) for name in ("input_tokens", "output_tokens", "cached_tokens")}
        self._count({"frames": new, "cached_replies": int(reply.from_cache), **tokens})
        return reply

    async def _ask(
        self,
        turn: int,
        last: bool,
        messages: Sequence[Message],
        tools: Sequence[ToolSchema],
        pattern: str | None,
        max_output_tokens: int | None,
    ) -> ReplyReceived:
        frames = sum(len(message.frames) for message in messages)
        self.emit(RequestStarted(turn=turn, last=last, messages=len(messages), frames=frames))
        request = ChatRequest(
            messages=tuple(messages),
            tools=tuple(tools),
            may_call=not last,
            pattern=pattern,
            max_output_tokens=max_output_tokens or self.settings.max_output_tokens,
            temperature=self.settings.temperature,
            seed=self.settings.seed,
            timeout_seconds=self.seconds_left,
        )
        try:
            reply = await self.model.complete(request, on_event=self._on_model_event)
        except ModelTimeoutError:
            if self.seconds_left is not None and self.seconds_left < _MOMENT:
                await anyio.sleep(2)  # it was cut by the run's limit, whose scope ends this wait in a moment
            raise
        event = ReplyReceived(reply=reply, time_low=self._time_low, in_episode=turn > 0)
        self.emit(event)
        return event

    async def call(self, name: str, arguments: Mapping[str, Any], remaining: Remaining) -> ToolOutcome:
        """Run a tool outside of any Episode; a retry or failure is an outcome, other errors are bugs and propagate."""
        outcome = (await self._call(0, name, arguments, remaining)).outcome
        if outcome.kind != "retry":
            self._count({"failed_calls": int(outcome.kind == "error")}, calls=[name])
        return outcome

    async def _call(self, turn: int, name: str, arguments: Mapping[str, Any], remaining: Remaining) -> ToolFinished:
        self.emit(ToolStarted(turn=turn, tool=name, arguments=dict(arguments)))
        began = self.seconds
        outcome = await self._outcome(name, arguments, remaining)
        event = ToolFinished(
            tool=name,
            outcome=outcome,
            seconds=self.seconds - began,
            time_low=self._time_low,
            in_episode=turn > 0,
        )
        self.emit(event)
        return event

    async def _outcome(self, name: str, arguments: Mapping[str, Any], remaining: Remaining) -> ToolOutcome:
        context = ToolContext(
            video=self.video,
            frames=FrameAccess(self.video, self._size, self.settings.jpeg_quality),
            search=self._search,
            remaining=remaining,
            emit=lambda text: self.emit(ToolProgress(tool=name, text=text)),
            subtitles=self._lines,
        )
        try:
            result = await self.tools[name].run(context, arguments, timeout_seconds=self.settings.tool_timeout_seconds)
        except ToolRetry as retry:
            return ToolOutcome(kind="retry", text=str(retry))
        except ToolError as error:
            if not error.withdraw:  # of which the Episode warns
                hint = f"{error} The setting tool_timeout_seconds gives it more time."
                self.warn(hint if error.overran else f"{name} failed: {error}")
            return ToolOutcome(kind="error", text=str(error), withdraw=error.withdraw)
        except DecodeTimeoutError as error:
            self.warn(f"{name} failed: {error}")
            return ToolOutcome(kind="error", text=error.message)
        return ToolOutcome(
            kind="result",
            text=result.text,
            frames=tuple(result.frames),
            similarities=dict(result.similarities),
            lines=self._checked(name, result.lines),
        )

    def _checked(self, name: str, lines: Sequence[int]) -> tuple[int, ...]:
        """Numbers of lines that a tool gave, all of which must be there."""
        count = len(self.subtitles) if self.subtitles is not None else 0
        if wrong := [number for number in lines if not 0 <= number < count]:
            raise IndexError(f"tool {name} gave line {wrong[0]} of the subtitles, which have {count} lines")
        return tuple(int(number) for number in lines)

    def episode(self, plan: FramePlan, tools: Sequence[Tool[Any]], *, turns: int, min_calls: int = 0) -> Episode:
        """An Episode for this run's question, to be driven by `drive`."""
        profile = self.model.profile
        if self.settings.tool_calling == "native" and not profile.native_tools:
            self.warn(f"{self.model.name} calls no tools natively; the tagged protocol was used.")
        wanted = manner_of(profile, self.settings).constrain_replies
        if wanted and not profile.constrains:
            self.warn(f"{self.model.name} cannot hold replies to a grammar; they were not constrained.")
        config = self._config(
            tools,
            limits=self.limits.model_copy(update={"turns": turns, "frames": plan.frames}),
            constrain=wanted and profile.constrains,
            text_characters=self.settings.text_characters,
            min_calls=min_calls,
            max_output_tokens=self.settings.max_output_tokens,
            context_tokens=plan.context_tokens,
            frame_tokens=plan.frame_tokens,
            subtitle_tokens=plan.subtitle_tokens,
        )
        self.emit(EpisodeStarted(config=config))
        return Episode(config, check_answer=self._check_answer)

    @property
    def _subtitle_tokens(self) -> int:
        """Tokens of subtitles that the run should be able to show."""
        return min(self.settings.subtitle_tokens, tokens_of(self.subtitles)) if self.subtitles is not None else 0

    def _config(self, tools: Sequence[Tool[Any]], *, subtitle_tokens: int = 0, **planned: Any) -> EpisodeConfig:
        profile = self.model.profile
        prompts = manner_of(profile, self.settings).prompts
        subtitles = None
        if self.subtitles is not None:
            beside = subtitle_prompts(prompts)
            subtitles = EpisodeSubtitles(subtitles=self.subtitles, prompts=beside, tokens=subtitle_tokens)
        return EpisodeConfig(
            question=self.question,
            options=self.options,
            output_schema=self.output_schema,
            max_spans=self.max_spans,
            frame_count=len(self.video.table),
            fps=self.video.info.fps,
            duration_seconds=self.video.info.duration_seconds,
            tools=tuple(tool.spec for tool in tools),
            prompts=prompt_profile(prompts, max_spans=self.max_spans),
            calling=self.settings.tool_calling if profile.native_tools else "tags",
            subtitles=subtitles,
            **planned,
        )

    def _opening(self, tools: Sequence[Tool[Any]]) -> str:
        """All that an Episode's first request says beside its frames, native tools included."""
        episode = Episode(self._config(tools))
        step = episode.start(())
        native = step.tools if isinstance(step, AskModel) else ()
        said = [message.text for message in episode.messages]
        return "\n".join([*said, *(tool.model_dump_json() for tool in native)])

    async def drive(self, episode: Episode, frames: Sequence[EncodedFrame]) -> Conclusion:
        """Play an Episode to its end with this run's model and tools."""
        deadline = float("inf") if self.seconds_left is None else anyio.current_time() + self.seconds_left
        driver = Driver(self, episode)
        with anyio.CancelScope(deadline=deadline) as scope:
            return await driver.play(frames)
        if scope.cancelled_caught:
            driver.announce("seconds")
        return episode.abort("seconds").conclusion

    def charge(self, episode: Episode) -> None:
        """Note what an Episode has cost so far."""
        self._usages[episode] = episode.usage

    def _count(self, more: Mapping[str, int], *, calls: Sequence[str] = ()) -> None:
        """Add to what was done outside of any Episode."""
        self._usages[None] = self._usages.get(None, Usage()) + Usage(**more, tool_calls=Counter(calls))

    def _on_model_event(self, event: ModelEvent) -> None:
        if isinstance(event, RequestRetried):
            self.emit(RequestRetrying(**event.model_dump(exclude={"kind"})))
        else:
            self.emit(ReplyDelta(text=event.text))

    @property
    def _time_low(self) -> bool:
        left = self.seconds_left
        return left is not None and self.limits.seconds is not None and left < _TIME_LOW * self.limits.seconds

    async def execute(self, strategy: Strategy) -> Answer:
        """Run a strategy and make its conclusion an answer.

        Raises:
            LimitExceeded: A limit was reached under ``on_limit="raise"``.
            VideoBrainError: The video, the model or the strategy failed.
        """
        self.emit(
            RunStarted(
                question=self.question,
                options=self.options,
                video=self.video.info,
                model=self.model.name,
                strategy=strategy.name,
                started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                version=installed_version(),
            )
        )
        for warning in self._about_subtitles:
            self.warn(warning)
        # The strategy has a moment to conclude by itself when the time is over.
        left = self.seconds_left
        with anyio.CancelScope(deadline=float("inf") if left is None else anyio.current_time() + left + 1) as scope:
            try:
                conclusion = await strategy.run(self)
            except Exception as error:
                self.emit(Failed(error=type(error).__name__, message=well_formed(str(error))))
                if isinstance(error, VideoBrainError):
                    error.trace = Trace(self.events)
                raise
        if scope.cancelled_caught:
            self.emit(LimitReached(limit="seconds"))
            conclusion = Conclusion("", stop_reason="seconds", warnings=("The run ended: its time was over.",))
        if self.model.profile.knows is not None and not is_world_video(self.video):
            self.warn(
                f"This is a guess: {self.model.name} was trained on the {self.model.profile.knows} of videobrain, "
                "and this video is not from there. Ask a model that knows real videos."
            )
        raised = [event.text for event in self.events if isinstance(event, WarningRaised)]
        missing = [str(gap).capitalize() for gap in self.video.missing]
        answered = conclusion.stop_reason == "answered"
        answer = Answer(
            text=conclusion.text,
            choice=conclusion.choice,
            output=self._parse_output(conclusion.text) if self._parse_output and answered else None,
            evidence=conclusion.evidence,
            spans=conclusion.spans,
            usage=self.usage,
            stop_reason=conclusion.stop_reason,
            warnings=(*raised, *conclusion.warnings, *missing),
        )
        self.emit(Finished(answer=answer))
        answer._trace = Trace(self.events)
        if not answered and self.limits.on_limit == "raise":
            exceeded = LimitExceeded(
                f"The limit of {conclusion.stop_reason.replace('_', ' ')} was reached before there was an answer.",
                hint=f"Raise Limits.{conclusion.stop_reason}, or use on_limit='answer'."
                if conclusion.stop_reason in Limits.model_fields
                else "Serve the model with a larger --max-model-len.",
                limit=conclusion.stop_reason,
                partial=answer,
            )
            exceeded.trace = answer._trace
            raise exceeded
        return answer
