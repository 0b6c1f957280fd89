"""Plays rollouts: a question of a training asked as an application asks it, and what came of it beside the truth."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field

from videobrain.agent import LimitReached, ToolFinished, Trace
from videobrain.brain import VideoBrain
from videobrain.errors import MissingDependencyError, RolloutError, SubtitleError, VideoBrainError
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.predict import predict
from videobrain.files import whole_file
from videobrain.models import ChatModel, resolve_model
from videobrain.models.engine import processor_facts
from videobrain.models.profiles import profile_for, stated_profile
from videobrain.models.protocol import ModelProfile
from videobrain.recipe import Recipe
from videobrain.result import Answer, Clip
from videobrain.training.reward import Worth
from videobrain.training.reward_spec import RewardSpec
from videobrain.training.rollout import Rollout, accuracy_of
from videobrain.training.sample import TrainingSample
from videobrain.training.token_model import Generate, TokenModel, TokenTrajectory

_LOGGER = logging.getLogger(__name__)
_UNSAFE = re.compile(r"[^\w.-]+")


class PlaySettings(BaseModel):
    """What rollouts are played with, as plain data that goes to other processes."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    """Directory or hub id of the policy, which settles how it is asked."""
    recipe: Recipe
    """Tools, encoder, strategy, limits and settings; its model is not looked at."""
    reward: RewardSpec = RewardSpec()
    judge: str | None = None
    """Model string of the judge of answers in words."""
    judge_base_url: str | None = None
    context_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a whole conversation, its images included."""
    traces: Path | None = None
    """Directory to which each rollout is written; None writes none."""


class Played(NamedTuple):
    """A rollout that counts."""

    rollout: Rollout
    worth: Worth
    trajectory: TokenTrajectory
    answer: Answer

    def figures(self) -> dict[str, float | str]:
        """What is worth watching in a training, by name."""
        rollout = self.rollout
        return {
            "accuracy": rollout.accuracy,
            "valid": float(rollout.valid),
            "tool_used": float(rollout.used_tool),
            "tool_calls": float(sum(rollout.usage.tool_calls.values())),
            "frames": float(rollout.usage.frames),
            "turns": float(rollout.usage.turns),
            "answered": float(self.answer.stop_reason == "answered"),
            "replies": float(self.trajectory.replies),
            "rewritten_replies": float(self.trajectory.rewritten),
            "class": rollout.sample.question_class or "unclassified",
            **{f"reward_{name}": value for name, value in self.worth.terms.items()},
        }


class Player:
    """Asks questions of a policy whose tokens somebody else samples. An asynchronous context manager.

    All rollouts share one `VideoBrain`: its decoders, frames, indexes and encoder. Many may be played at once.

    Args:
        processor: The policy's processor.
        settings: What rollouts are played with.

    Raises:
        ConfigurationError: The reward or something of the recipe cannot be used.
        MissingDependencyError: transformers is not installed.
    """

    def __init__(self, processor: Any, settings: PlaySettings) -> None:
        self._settings = settings
        self._reward = settings.reward.reward()
        self._model = TokenModel(
            processor,
            name=settings.model,
            profile=_profile(settings.model, processor),
            eos_token_ids=_eos_token_ids(settings.model),
            max_model_len=settings.context_tokens,
        )
        given = {**settings.recipe.arguments(), "model": self._model, "base_url": None}
        self._brain = VideoBrain(**given)
        self._judge_model: ChatModel | None = None
        self._judge: Judge | None = None
        if settings.judge is not None:
            self._judge_model = resolve_model(
                settings.judge, base_url=settings.judge_base_url, settings=self._brain.settings
            )
            self._judge = Judge(self._judge_model)

    async def __aenter__(self) -> Self:
        await self._brain.__aenter__()
        try:
            # A search that cannot work would teach the policy to do without, a judge that cannot, to answer choices.
            await self._brain.reach(encoder=True)
            if self._judge_model is not None:
                await self._judge_model.capacity()
        except BaseException:
            await self._aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._aclose()

    async def _aclose(self) -> None:
        await self._brain.aclose()
        if self._judge_model is not None:
            await self._judge_model.aclose()

    async def play(self, sample: TrainingSample, generate: Generate, *, name: str | None = None) -> Played:
        """Play one rollout.

        Args:
            sample: The question.
            generate: Samples the policy's replies.
            name: What its trace is called within the directory of traces; none is written without it.

        Raises:
            RolloutError: It is to be left out: its run or a tool failed, or was cut by the clock, it has no reply, or
                nobody can say how right its answer is. The cause is chained to it.
        """
        shown = sample.video if sample.clip is None else Clip(Path(sample.video), *sample.clip)
        with self._model.rollout(generate) as tokens:
            try:
                try:
                    done = await predict(self._brain, sample, shown, subtitles=sample.subtitles)
                except SubtitleError as error:  # as in an evaluation, by which the question was classified
                    _LOGGER.warning("the subtitles of %r cannot be used: %s", sample.key, error.message)
                    done = await predict(self._brain, sample, shown)
            except Exception as error:  # a bug of a tool too: it is nothing that the policy is to learn from
                if not isinstance(error, VideoBrainError):
                    _LOGGER.exception("the rollout of %r failed", sample.key)
                if isinstance(error, VideoBrainError) and error.trace is not None:
                    await self._keep(name, error.trace, {"left_out": f"{type(error).__name__}: {error}"})
                raise RolloutError(f"The run of {sample.key!r} failed: {type(error).__name__}: {error}") from error
        answer, trajectory = done.answer, tokens.trajectory()
        if trajectory is None:
            raise await self._left_out(name, answer, f"The run of {sample.key!r} has no reply.")
        if any(isinstance(event, LimitReached) and event.limit == "seconds" for event in answer.trace.events):
            # Also where it was made to answer, since the time was nearly over: it might have gone on.
            raise await self._left_out(name, answer, f"The run of {sample.key!r} was cut by the clock.")
        if failed := _failed_tool(answer.trace):
            raise await self._left_out(name, answer, f"A tool of the run of {sample.key!r} failed: {failed}")
        try:
            accuracy = await accuracy_of(sample, answer, judge=self._judge)
        except VideoBrainError as error:
            problem = f"The judge of {sample.key!r} failed: {error}"
            raise await self._left_out(name, answer, problem) from error
        if accuracy is None:
            problem = f"Nobody can say how right the answer to {sample.key!r} is."
            raise await self._left_out(name, answer, problem)
        rollout = await anyio.to_thread.run_sync(lambda: Rollout.of(answer.trace, sample, accuracy=accuracy))
        try:
            worth = self._reward(rollout)
        except Exception as error:  # a term of the user's own
            problem = f"The reward of {sample.key!r} failed: {type(error).__name__}: {error}"
            raise await self._left_out(name, answer, problem) from error
        played = Played(rollout, worth, trajectory, answer)
        told = {"key": sample.key, "reward": worth.total, **played.figures(), "violations": list(rollout.violations)}
        await self._keep(name, answer.trace, told)
        return played

    async def _left_out(self, name: str | None, answer: Answer, problem: str) -> RolloutError:
        await self._keep(name, answer.trace, {"left_out": problem})
        return RolloutError(problem)

    async def _keep(self, name: str | None, trace: Trace, told: dict[str, Any]) -> None:
        directory = self._settings.traces
        if name is None or directory is None:
            return
        *folders, last = (_UNSAFE.sub("_", part).strip(".") or "_" for part in name.split("/"))
        place = directory.joinpath(*folders)

        def write() -> None:
            trace.save(place / f"{last}.jsonl")
            with whole_file(place / f"{last}.reward.json") as file:
                file.write(json.dumps(told, indent=1).encode() + b"\n")

        try:
            await anyio.to_thread.run_sync(write)
        except OSError as error:  # what a training is about is not its traces
            _LOGGER.warning("the rollout %s cannot be kept: %s", name, error)


def _failed_tool(trace: Trace) -> str:
    """What the first tool said that failed, which is none of the policy's doing; empty where none did."""
    for event in trace.events:
        if isinstance(event, ToolFinished) and event.in_episode and event.outcome.kind == "error":
            return event.outcome.text or event.tool
    return ""


def _profile(model: str, processor: Any) -> ModelProfile:
    """How the policy is asked: as the same directory is when it is served or run in process."""
    return profile_for(model).model_copy(update={**processor_facts(processor), **stated_profile(model)})


def _eos_token_ids(model: str) -> list[int] | None:
    """The tokens that end a reply of the model; None where it names none, and its tokenizer's one does."""
    try:
        from transformers import GenerationConfig
    except ImportError as error:
        raise MissingDependencyError("Rollouts need transformers.", extra="train") from error
    try:
        named = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:
        return None
    return [named] if isinstance(named, int) else named
