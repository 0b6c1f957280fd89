"""Plays an Episode with a run's model and tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from videobrain.agent.episode import Episode
from videobrain.agent.events import LimitReached, MessageAdded, ReplyCorrected
from videobrain.agent.steps import AskModel, CallTool, Conclusion, Finish, Step, StopReason
from videobrain.tools import Remaining
from videobrain.video import EncodedFrame

if TYPE_CHECKING:
    from videobrain.agent.runner import Run


class Driver:
    """Carries out the steps of an Episode and reports them."""

    def __init__(self, run: Run, episode: Episode) -> None:
        self._run = run
        self._episode = episode
        self._reported = 0
        self._announced: set[StopReason] = set()

    async def play(self, frames: Sequence[EncodedFrame]) -> Conclusion:
        """Begin with these frames and go on until the Episode ends."""
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
        event = await run._ask(step.turn, step.last, episode.messages, step.tools, step.pattern, step.max_output_tokens)
        return episode.reply(event.reply, time_low=event.time_low)

    async def _call(self, step: CallTool) -> Step:
        run, episode = self._run, self._episode
        remaining = Remaining(
            turns=episode.turns_left,
            frames=episode.frames_left,
            frames_per_call=min(run.limits.frames_per_call, episode.frames_left),
            seconds=run.seconds_left,
        )
        event = await run._call(step.turn, step.name, step.arguments, remaining)
        return episode.observe(event.outcome, time_low=event.time_low)

    def _report(self, step: Step) -> None:
        if isinstance(step, AskModel):
            if step.correction:
                self._run.emit(ReplyCorrected(problem=step.correction))
            if step.limit:
                self.announce(step.limit)
        for message in self._episode.messages[self._reported :]:
            self._run.emit(MessageAdded(message=message))
        self._reported = len(self._episode.messages)
        self._run.charge(self._episode)

    def announce(self, limit: StopReason) -> None:
        """Report a limit, once."""
        if limit not in self._announced:
            self._announced.add(limit)
            self._run.emit(LimitReached(limit=limit))
