"""The async side of a run: it asks the model, runs the tools, keeps the clock and reports what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

import anyio

from videobrain.agent.episode import Episode
from videobrain.agent.events import (
    EpisodeStarted,
    Event,
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
from videobrain.agent.plan import FramePlan, plan_frames
from videobrain.agent.prompts import prompt_profile
from videobrain.agent.reading import CheckAnswer
from videobrain.agent.steps import AskModel, CallTool, Conclusion, EpisodeConfig, Finish, Step, ToolOutcome
from videobrain.agent.trace import Trace
from videobrain.errors import DecodeTimeoutError, LimitExceeded
from videobrain.limits import Limits
from videobrain.models import ChatModel, ChatReply, ChatRequest, Message, ModelEvent, RequestRetried, ToolSchema
from videobrain.result import Answer, Usage
from videobrain.settings import Settings
from videobrain.tools import FrameAccess, Remaining, SearchFrames, Tool, ToolContext, ToolError, ToolRetry
from videobrain.video import EncodedFrame, FrameSize, Video, evenly_spaced

_TIME_LOW = 0.2
"""Share of the run's seconds that is kept for the last turn."""


@runtime_checkable
class Strategy(Protocol):
    """A way of answering a question about a video. Other loops plug in here.

    A strategy may do anything a `Run` offers; what it returns becomes the answer. Whatever it does through the run
    is counted, limited, recorded and cancelled like everything else.
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
        video: The open video.
        model: The model.
        tools: The tools on offer.
        limits: The limits of the run.
        settings: The settings.
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
    ) -> None:
        self.question = question
        self.options = tuple(options) if options else None
        self.output_schema = output_schema
        self.video = video
        self.model = model
        self.tools = {tool.name: tool for tool in tools}
        self.limits = limits
        self.settings = settings
        self.events: list[Event] = []
        self._search = search
        self._check_answer = check_answer
        self._parse_output = parse_output
        self._on_event: Callable[[Event], None] | None = None
        self._began = time.monotonic()
        self._size = FrameSize(640, 360)
        self._usage = Usage()

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return time.monotonic() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Time until the run is cut; None without such a limit."""
        return None if self.limits.seconds is None else max(0.0, self.limits.seconds - self.seconds)

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
        capacity = await self.model.capacity()
        plan = plan_frames(
            width=self.video.info.width,
            height=self.video.info.height,
            initial_frames=initial_frames,
            tools=[tool.spec for tool in tools],
            limits=self.limits,
            profile=self.model.profile,
            context_tokens=capacity.max_model_len,
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
        """Ask the model to continue a conversation.

        Raises:
            ModelError: The model gives no usable reply.
        """
        request = ChatRequest(
            messages=tuple(messages),
            tools=tuple(tools),
            pattern=pattern,
            max_output_tokens=max_output_tokens or self.settings.max_output_tokens,
            temperature=self.settings.temperature,
            seed=self.settings.seed,
            timeout_seconds=self.seconds_left,
        )
        return await self.model.complete(request, on_event=self._on_model_event)

    async def call(self, name: str, arguments: Mapping[str, Any], remaining: Remaining) -> ToolOutcome:
        """Run a tool; a retry or a failure is an outcome, anything else it raises is a bug and propagates."""
        context = ToolContext(
            video=self.video,
            frames=FrameAccess(self.video, self._size, self.settings.jpeg_quality),
            search=self._search,
            remaining=remaining,
            emit=lambda text: self.emit(ToolProgress(tool=name, text=text)),
        )
        try:
            result = await self.tools[name].run(context, arguments, timeout_seconds=self.settings.tool_timeout_seconds)
        except ToolRetry as retry:
            return ToolOutcome(kind="retry", text=str(retry))
        except ToolError as error:
            return ToolOutcome(kind="error", text=str(error), withdraw=error.withdraw)
        except DecodeTimeoutError as error:
            return ToolOutcome(kind="error", text=error.message)
        return ToolOutcome(
            kind="result", text=result.text, frames=tuple(result.frames), similarities=dict(result.similarities)
        )

    def episode(self, plan: FramePlan, tools: Sequence[Tool[Any]], *, turns: int, min_calls: int = 0) -> Episode:
        """An Episode for this run's question, to be driven by `drive`."""
        profile = self.model.profile
        calling = self.settings.tool_calling if profile.native_tools else "tags"
        if calling != self.settings.tool_calling:
            self.warn(f"{self.model.name} calls no tools natively; the tagged protocol was used.")
        constrain = self.settings.constrain_replies and profile.constrains
        if constrain != self.settings.constrain_replies:
            self.warn(f"{self.model.name} cannot hold replies to a grammar; they were not constrained.")
        config = EpisodeConfig(
            question=self.question,
            options=self.options,
            output_schema=self.output_schema,
            frame_count=len(self.video.table),
            fps=self.video.info.fps,
            duration_seconds=self.video.info.duration_seconds,
            tools=tuple(tool.spec for tool in tools),
            limits=self.limits.model_copy(update={"turns": turns, "frames": plan.frames}),
            prompts=prompt_profile(profile.prompts),
            calling=calling,
            constrain=constrain,
            min_calls=min_calls,
            max_output_tokens=self.settings.max_output_tokens,
            context_tokens=plan.context_tokens,
            frame_tokens=plan.frame_tokens,
        )
        self.emit(EpisodeStarted(config=config))
        return Episode(config, check_answer=self._check_answer)

    async def drive(self, episode: Episode, frames: Sequence[EncodedFrame]) -> Conclusion:
        """Play an Episode to its end with this run's model and tools."""
        deadline = float("inf") if self.seconds_left is None else anyio.current_time() + self.seconds_left
        driver = _Driver(self, episode)
        with anyio.CancelScope(deadline=deadline) as scope:
            return await driver.play(frames)
        if scope.cancelled_caught:
            driver.announce("seconds")
        return episode.abort("seconds").conclusion

    def charge(self, usage: Usage) -> None:
        """Set what the run has cost so far."""
        self._usage = usage

    def _on_model_event(self, event: ModelEvent) -> None:
        if isinstance(event, RequestRetried):
            self.emit(RequestRetrying(attempt=event.attempt, delay_seconds=event.delay_seconds, reason=event.reason))
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
                version=version("videobrain"),
            )
        )
        # The strategy has a moment to conclude by itself when the time is over.
        left = self.seconds_left
        with anyio.CancelScope(deadline=float("inf") if left is None else anyio.current_time() + left + 1) as scope:
            conclusion = await strategy.run(self)
        if scope.cancelled_caught:
            conclusion = Conclusion("", stop_reason="seconds", warnings=("The run ended: its time was over.",))
        raised = [event.text for event in self.events if isinstance(event, WarningRaised)]
        missing = [f"Frames missing in the video: {gap.reason}" for gap in self.video.missing]
        answered = conclusion.stop_reason == "answered"
        answer = Answer(
            text=conclusion.text,
            choice=conclusion.choice,
            output=self._parse_output(conclusion.text) if self._parse_output and answered else None,
            evidence=conclusion.evidence,
            spans=conclusion.spans,
            usage=self._usage.model_copy(update={"seconds": round(self.seconds, 6)}),
            stop_reason=conclusion.stop_reason,
            warnings=(*raised, *conclusion.warnings, *dict.fromkeys(missing)),
        )
        self.emit(Finished(answer=answer))
        answer._trace = Trace(self.events)
        if not answered and self.limits.on_limit == "raise":
            raise LimitExceeded(
                f"The limit of {conclusion.stop_reason.replace('_', ' ')} was reached before there was an answer.",
                hint=f"Raise Limits.{conclusion.stop_reason}, or use on_limit='answer'."
                if conclusion.stop_reason in Limits.model_fields
                else "Serve the model with a larger --max-model-len.",
                limit=conclusion.stop_reason,
                partial=answer,
            )
        return answer


class _Driver:
    """Carries out the steps of an Episode and reports them."""

    def __init__(self, run: Run, episode: Episode) -> None:
        self._run = run
        self._episode = episode
        self._reported = 0
        self._announced: set[str] = set()

    async def play(self, frames: Sequence[EncodedFrame]) -> Conclusion:
        step: Step = self._episode.start(frames)
        while True:
            self._report(step)
            match step:
                case AskModel():
                    step = await self._ask(step)
                case CallTool():
                    step = await self._call(step)
                case Finish(conclusion):
                    if conclusion.stop_reason != "answered":
                        self.announce(conclusion.stop_reason)
                    return conclusion

    async def _ask(self, step: AskModel) -> Step:
        run, episode = self._run, self._episode
        frames = sum(len(message.frames) for message in episode.messages)
        run.emit(RequestStarted(turn=step.turn, last=step.last, messages=len(episode.messages), frames=frames))
        reply = await run.complete(
            episode.messages, tools=step.tools, pattern=step.pattern, max_output_tokens=step.max_output_tokens
        )
        time_low = run._time_low
        run.emit(ReplyReceived(reply=reply, time_low=time_low))
        return episode.reply(reply, time_low=time_low)

    async def _call(self, step: CallTool) -> Step:
        run, episode = self._run, self._episode
        run.emit(ToolStarted(turn=step.turn, tool=step.name, arguments=dict(step.arguments)))
        began = run.seconds
        remaining = Remaining(
            turns=episode.turns_left,
            frames=episode.frames_left,
            frames_per_call=min(run.limits.frames_per_call, episode.frames_left),
            seconds=run.seconds_left,
        )
        outcome = await run.call(step.name, step.arguments, remaining)
        time_low = run._time_low
        run.emit(ToolFinished(tool=step.name, outcome=outcome, seconds=run.seconds - began, time_low=time_low))
        return episode.observe(outcome, time_low=time_low)

    def _report(self, step: Step) -> None:
        if isinstance(step, AskModel):
            if step.correction:
                self._run.emit(ReplyCorrected(problem=step.correction))
            if step.limit:
                self.announce(step.limit)
        for message in self._episode.messages[self._reported :]:
            self._run.emit(MessageAdded(message=message))
        self._reported = len(self._episode.messages)
        self._run.charge(self._episode.usage)

    def announce(self, limit: Any) -> None:
        if limit not in self._announced:
            self._announced.add(limit)
            self._run.emit(LimitReached(limit=limit))
