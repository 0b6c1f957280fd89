"""The strategies that come with videobrain: the paper's loop, and the baselines of one shot and of none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from videobrain.agent.runner import Run, Strategy
from videobrain.agent.steps import Conclusion
from videobrain.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class VideoBrainStrategy:
    """A few uniform frames, then tools until the model answers (arXiv 2602.04094).

    Attributes:
        initial_frames: Frames shown at first; None takes ``Settings.initial_frames``.
        min_calls: Tool calls before an answer is accepted.
    """

    initial_frames: int | None = None
    min_calls: int = 0

    @property
    def name(self) -> str:
        """``videobrain``."""
        return "videobrain"

    async def run(self, run: Run) -> Conclusion:
        """Drive one Episode with the run's tools."""
        tools = list(run.tools.values())
        plan = await run.plan(initial_frames=self.initial_frames or run.settings.initial_frames, tools=tools)
        frames = await run.initial_frames(plan.initial_frames)
        episode = run.episode(plan, tools, turns=run.limits.turns, min_calls=self.min_calls)
        return await run.drive(episode, frames)


@dataclass(frozen=True, slots=True)
class UniformStrategy:
    """One shot from N evenly spaced frames, no tools: the baseline.

    Attributes:
        frames: How many frames; fewer where the model's context or the limits hold fewer.
    """

    frames: int = 32

    @property
    def name(self) -> str:
        """``uniform-N``."""
        return f"uniform-{self.frames}"

    async def run(self, run: Run) -> Conclusion:
        """Ask once."""
        plan = await run.plan(initial_frames=self.frames, tools=())
        if plan.initial_frames < self.frames:
            run.warn(f"{self.name} saw only {plan.initial_frames} frames: more fit neither the limits nor the context.")
        frames = await run.initial_frames(plan.initial_frames)
        return await run.drive(run.episode(plan, (), turns=1), frames)


@dataclass(frozen=True, slots=True)
class BlindStrategy:
    """The question alone, no frames, no tools: what a guess is worth."""

    @property
    def name(self) -> str:
        """``blind``."""
        return "blind"

    async def run(self, run: Run) -> Conclusion:
        """Ask once."""
        plan = await run.plan(initial_frames=0, tools=())
        return await run.drive(run.episode(plan, (), turns=1), ())


def offers_tools(strategy: Strategy) -> bool:
    """Whether a strategy may offer the run's tools to the model: all may but the baselines."""
    return not isinstance(strategy, UniformStrategy | BlindStrategy)


def resolve_strategy(strategy: str | Strategy) -> Strategy:
    """A strategy by name: ``videobrain``, ``uniform``, ``uniform-N`` or ``blind``; strategies themselves pass.

    Raises:
        ConfigurationError: There is none of this name.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy == "videobrain":
        return VideoBrainStrategy()
    if match := re.fullmatch(r"uniform(?:-([1-9]\d{0,3}))?", strategy):
        return UniformStrategy(int(match[1])) if match[1] else UniformStrategy()
    if strategy == "blind":
        return BlindStrategy()
    raise ConfigurationError(
        f"There is no strategy {strategy!r}.", hint="Known are videobrain, uniform, uniform-N and blind."
    )
