"""Whether an answer in words is right: the seam for a judge, and questions that know their answer themselves."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from videobrain.evaluation.manifest import digest, key_of
from videobrain.evaluation.record import Prediction, Record
from videobrain.evaluation.sample import Sample
from videobrain.world import WorldQuestion


class Judge(Protocol):
    """Scores answers in words."""

    async def score(self, sample: Sample, prediction: Prediction) -> float | None:
        """How right an answer is, from 0 to 1; None where that cannot be said.

        It is called by several tasks at once. What it raises is logged, and the verdict is missing: a later start asks
        again.

        Args:
            sample: The question with its truth.
            prediction: The answer, whose text is not empty.
        """


class Scored(BaseModel):
    """A judge's score, as a line of ``scores.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """See `score_key`."""
    score: float = Field(ge=0, le=1)


def own_score(record: Record) -> float | None:
    """The score of an answer in words whose question scores it itself: those of the synthetic world do.

    None for any other record.
    """
    if record.sample.task != "open" or record.prediction is None or "world" not in record.sample.extra:
        return None
    try:
        question = WorldQuestion.model_validate(record.sample.extra["world"])
    except ValidationError:  # somebody else's `extra`
        return None
    return float(question.accepts(record.prediction.text))


def score_key(record: Record) -> str:
    """Key of a verdict: a digest of the question, the answer, and the truth that it was held against."""
    said = record.prediction.text if record.prediction else ""
    return digest([key_of(record), record.sample.answer, said])[:32]


def wants_judge(record: Record) -> bool:
    """Whether a record has an answer that only a judge can score."""
    sample, prediction = record.sample, record.prediction
    if sample.task != "open" or sample.answer is None or prediction is None or not prediction.text.strip():
        return False
    return own_score(record) is None
