"""What answers cost, to stand beside every accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.record import Record
from videobrain.result import Usage


class Efficiency(BaseModel):
    """What a question cost in the mean, over the questions without an error: those ended before they cost all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int
    """How many the means are taken over."""
    frames: float
    """Frames shown to the model."""
    turns: float
    corrections: float
    tool_calls: dict[str, float]
    """Accepted calls by tool, in order of the tools' names."""
    tool_use: float
    """Share of the questions with at least one call."""
    input_tokens: float
    """Prompt tokens, cached ones included."""
    cached_tokens: float
    output_tokens: float
    cached_replies: float
    """Replies from the cache of replies: their tokens are counted, but their time is not in `seconds`."""
    seconds: float
    """From the question to its answer; with many questions at a time this is not the run's time divided."""


def efficiency(records: Sequence[Record]) -> Efficiency:
    """What the questions cost; all zero where every one of them is an error."""
    done = [record.usage for record in records if record.prediction is not None]

    def mean(what: Callable[[Usage], float]) -> float:
        return sum(map(what, done)) / len(done) if done else 0.0

    return Efficiency(
        questions=len(done),
        frames=mean(lambda usage: usage.frames),
        turns=mean(lambda usage: usage.turns),
        corrections=mean(lambda usage: usage.corrections),
        tool_calls={
            tool: sum(usage.tool_calls.get(tool, 0) for usage in done) / len(done)
            for tool in sorted({tool for usage in done for tool in usage.tool_calls})
        },
        tool_use=mean(lambda usage: any(usage.tool_calls.values())),
        input_tokens=mean(lambda usage: usage.input_tokens),
        cached_tokens=mean(lambda usage: usage.cached_tokens),
        output_tokens=mean(lambda usage: usage.output_tokens),
        cached_replies=mean(lambda usage: usage.cached_replies),
        seconds=mean(lambda usage: usage.seconds),
    )
