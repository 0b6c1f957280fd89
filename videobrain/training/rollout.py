"""A finished run beside the truth of its question: what filters of trajectories and terms of a reward look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from videobrain.agent import MessageAdded, ToolFinished, ToolStarted, Trace
from videobrain.agent.events import EpisodeStarted
from videobrain.errors import TraceError
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.metrics.outcomes import has_truth
from videobrain.evaluation.metrics.overlap import best_match
from videobrain.evaluation.predict import prediction_of
from videobrain.evaluation.record import Prediction, Record
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.scoring import own_score
from videobrain.evaluation.verdict import MissingVerdict
from videobrain.result import Answer, Evidence, Span, Usage
from videobrain.training.sample import TrainingSample


class Look(NamedTuple):
    """One accepted tool call."""

    tool: str
    arguments: Mapping[str, Any]
    interval: Span | None
    """The range that it named, in seconds; None for a tool without one."""
    new: tuple[float, ...]
    """Timestamps of the frames that it showed for the first time."""
    again: int
    """Frames that it gave and that had been shown before, or did not fit the limits any more."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A finished run beside the truth."""

    sample: TrainingSample
    answer: str
    """What it answered; empty where it ended without an answer."""
    accuracy: float
    """From 0 to 1; see `accuracy_of`."""
    violations: tuple[str, ...]
    """Format rules of the paper that it broke; it is valid where there is none."""
    usage: Usage
    looks: tuple[Look, ...]
    evidence: tuple[Evidence, ...]
    """Every frame that was shown, the initial ones first. Times are those of the video that was asked about: of the
    clip, where the sample has one."""

    @property
    def spans(self) -> tuple[Span, ...]:
        """The true spans, in seconds of the video that was asked about."""
        return _spans(self.sample)

    @property
    def valid(self) -> bool:
        """Whether it kept to every format rule, without any correction."""
        return not self.violations

    @property
    def used_tool(self) -> bool:
        """Whether at least one call was accepted."""
        return sum(self.usage.tool_calls.values()) > 0

    @classmethod
    def of(cls, trace: Trace, sample: TrainingSample, *, accuracy: float) -> Rollout:
        """What a trace holds, its frames' bytes not needed.

        Args:
            trace: A run of one Episode, as the strategy ``videobrain`` plays it.
            sample: Its question.
            accuracy: How right its answer is.

        Raises:
            TraceError: The trace holds no episode, or no answer: its run failed.
        """
        if trace.answer is None:
            raise TraceError("The trace ends without an answer: its run failed.")
        episode = trace.episodes()[-1]
        return cls(
            sample=sample,
            answer=trace.answer.text,
            accuracy=accuracy,
            violations=tuple(episode.violations()),
            usage=trace.answer.usage,
            looks=_looks(trace),
            evidence=trace.answer.evidence,
        )


async def accuracy_of(sample: Sample, answer: Answer, *, judge: Judge | None = None) -> float | None:
    """How right an answer is, from 0 to 1.

    A choice is right or wrong. An answer in words has the score that its question gives it, where it scores itself as
    those of the synthetic world do, or else the judge's. Of spans it is the first one's IoU with the true one that it
    overlaps best.

    Returns:
        None where nobody can say: the judge failed, there is none, or the truth is not known. It never counts as 0.
    """
    prediction = prediction_of(sample, answer)
    if not has_truth(sample):
        return None
    if sample.task == "choice":
        return float(prediction.choice == sample.letter)
    if sample.task != "open":
        return best_match(prediction.spans[0], _spans(sample)).iou if prediction.spans else 0.0
    if not prediction.text.strip():
        return 0.0
    own = own_score(_record(sample, prediction))
    if own is not None or judge is None:
        return own
    verdict = await judge.judge(sample, prediction)
    return None if isinstance(verdict, MissingVerdict) else verdict.score


def _spans(sample: Sample) -> tuple[Span, ...]:
    begins = sample.begins_seconds
    return tuple(Span(start - begins, end - begins) for start, end in sample.spans)


def _record(sample: Sample, prediction: Prediction) -> Record:
    return Record(sample=sample, benchmark="", model="", strategy="", settings="", prediction=prediction)


def _looks(trace: Trace) -> tuple[Look, ...]:
    looks: list[Look] = []
    fps = 0.0
    call: ToolStarted | None = None
    for event in trace.events:
        match event:
            case EpisodeStarted():
                fps = event.config.fps
            case ToolStarted():
                call = event
            case ToolFinished(in_episode=True) if call is not None and event.outcome.kind != "retry":
                given = len(event.outcome.frames)
                looks.append(Look(call.tool, call.arguments, _interval(call.arguments, fps), (), given))
            case MessageAdded() if looks and event.message.frames:
                new = tuple(frame.timestamp_seconds for frame in event.message.frames)
                looks[-1] = looks[-1]._replace(new=new, again=looks[-1].again - len(new))
            case _:
                pass
    return tuple(looks)


def _interval(arguments: Mapping[str, Any], fps: float) -> Span | None:
    start, end = arguments.get("start_frame"), arguments.get("end_frame")
    if not isinstance(start, int) or not isinstance(end, int) or fps <= 0:
        return None
    return Span(start / fps, end / fps)
