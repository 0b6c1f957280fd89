"""What a judge says of an answer."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from videobrain.evaluation.record import Prediction
from videobrain.evaluation.sample import Sample
from videobrain.result import Usage
from videobrain.text import Text

CORRECT_FROM = 0.8
"""Score of a judge from which an answer counts as correct: a judge that never says exactly 1 would never agree."""


class Verdict(BaseModel):
    """What a judge found."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    score: float = Field(ge=0, le=1)
    """The rubric's score: the weighted mean of `scores`."""
    scores: dict[str, float]
    """By criterion, from 0 to 1."""
    reason: Text
    """Why, in the judge's words."""
    usage: Usage = Usage()
    """What it cost; replies that could not be used are its corrections."""

    @property
    def correct(self) -> bool:
        """Whether the answer counts as correct: a score of at least 0.8."""
        return self.score >= CORRECT_FROM


class MissingVerdict(BaseModel):
    """A judgement that failed. It says nothing of the answer, and least of all that it is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cause: Literal["model_error", "unusable_reply"]
    """``model_error``: the judge could not be asked. ``unusable_reply``: it gave no verdict, however often it was
    asked."""
    message: Text
    """What happened last."""
    usage: Usage = Usage()


class Judgement(BaseModel):
    """A line of ``verdicts.jsonl``: who judged what, by which rubric, and what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """The sample's."""
    content: str
    """Digest of the question, the true answer and the answer: a verdict on one answer is none on another."""
    judge: str
    """Name of the judging model."""
    rubric: str
    """Name and digest of the rubric with its prompt."""
    verdict: Verdict | None = None
    missing: MissingVerdict | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Judgement:
        if (self.verdict is None) == (self.missing is None):
            raise ValueError("a judgement has a verdict or the cause of its missing, one of them")
        return self


def content_of(sample: Sample, prediction: Prediction) -> str:
    """Digest of all that a judge is shown of a question."""
    shown = [sample.question, sample.options, sample.answer, prediction.text]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:32]
