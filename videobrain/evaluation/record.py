"""One finished question of a run: a line of its results file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from videobrain.evaluation.sample import Sample
from videobrain.result import Span, Usage


class Prediction(BaseModel):
    """What a model said. The truth never stands here."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    text: str = ""
    """Its answer as it was given."""
    choice: str | None = None
    """Letter of the option that was chosen; None where none can be read from the text."""
    spans: tuple[Span, ...] = ()
    """Spans in seconds, the best first."""
    span_scores: tuple[float, ...] = ()
    """How sure it is of each, where it says so; else empty."""
    saliency: tuple[float, ...] = ()
    """A score for each clip of the video, for highlights."""

    @model_validator(mode="after")
    def _scores_belong_to_spans(self) -> Prediction:
        if self.span_scores and len(self.span_scores) != len(self.spans):
            raise ValueError(f"{len(self.span_scores)} scores of {len(self.spans)} spans")
        return self


class Record(BaseModel):
    """A question, its truth, and what one model with one strategy made of it: enough to compute every metric again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: Sample
    benchmark: str
    model: str
    strategy: str
    settings: str
    """Digest of all else that an answer depends on."""
    prediction: Prediction | None = None
    """None where the run failed."""
    error: str | None = None
    """Why it failed."""
    stop_reason: str | None = None
    seen_seconds: tuple[float, ...] = ()
    """Timestamps of the frames that were shown in the run that answered, in that order; as all times of a record they
    are seconds of the whole video, also where the question is about a part of it."""
    subtitles: bool | None = None
    """Whether it was asked with subtitles; None where the run failed."""
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()
    trace: str | None = None
    """The trace of the run that answered, as a path within the run's directory."""
    evidence_trace: str | None = None
    """That of the second run, which was asked for the evidence, where there was one."""

    @model_validator(mode="after")
    def _either_said_something_or_failed(self) -> Record:
        if (self.prediction is None) == (self.error is None):
            raise ValueError("a record has a prediction or an error, one of them")
        return self
