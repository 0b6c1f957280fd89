"""How far a run is, as numbers that any display can show."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from videobrain.evaluation.metrics import has_truth, outcome
from videobrain.evaluation.record import Record
from videobrain.evaluation.verdict import Judgement

_COUNTED = ("done", "earlier", "scored", "correct", "errors", "frames", "judged", "missing_verdicts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a run."""

    questions: int
    """All questions of this start whose video is there."""
    done: int
    """Finished ones, those of earlier starts included."""
    earlier: int
    """Those that earlier starts finished."""
    superseded: int = 0
    """Answers of earlier starts that do not count any more, since their questions read otherwise."""
    correct: int
    scored: int
    """Finished ones that accuracy is taken over."""
    errors: int
    frames: int
    """Frames shown, over all questions without an error."""
    missing_videos: int
    missing_questions: int
    """Questions that are left out because their video is missing."""
    concurrency: int
    """Questions worked on at once, at the most."""
    to_judge: int = 0
    """Answers in words that this start gives to the judge, once all questions are finished."""
    judged: int = 0
    """Those of them that are through, missing verdicts included."""
    missing_verdicts: int = 0
    """Judgements of this start that failed."""
    seconds: float
    """Since this start began to ask."""

    @property
    def accuracy(self) -> float | None:
        """Accuracy so far, errors counting as not correct; None where nothing can be scored yet."""
        return self.correct / self.scored if self.scored else None

    @property
    def frames_per_question(self) -> float | None:
        """Mean of the frames shown; None before there is an answer."""
        answered = self.done - self.errors
        return self.frames / answered if answered else None

    @property
    def per_second(self) -> float | None:
        """Questions that this start finishes in a second; None before the first."""
        finished = self.done - self.earlier
        return finished / self.seconds if finished and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time that the rest takes at this rate; None before the first question is finished."""
        return (self.questions - self.done) / self.per_second if self.per_second else None


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts what is finished; holds no record."""

    questions: int
    missing_videos: int = 0
    missing_questions: int = 0
    to_judge: int = 0
    superseded: int = 0
    clock: Callable[[], float] = time.monotonic
    _counts: Counter[str] = field(default_factory=Counter)
    _began: float | None = None

    def add(self, record: Record, verdict: float | None, *, earlier: bool = False) -> None:
        """Count a finished question.

        Args:
            record: The question.
            verdict: Score of its answer in words, where there is one.
            earlier: An earlier start finished it.
        """
        kind = outcome(record, verdicts={} if verdict is None else {record.sample.key: verdict})
        self._counts["done"] += 1
        self._counts["earlier"] += earlier
        if has_truth(record.sample):
            graded = kind in ("correct", "incorrect")
            if record.sample.task == "open" and not graded:
                self._counts["unjudged" if kind is None else "failed"] += 1
            elif kind is not None:
                self._counts["scored"] += 1
                self._counts["correct"] += kind == "correct"
                self._counts["graded"] += record.sample.task == "open"
        if kind == "error":
            self._counts["errors"] += 1
        else:
            self._counts["frames"] += record.usage.frames

    def judge(self, judgement: Judgement) -> None:
        """Count what a judge says of an answer that was counted without a verdict."""
        self._counts["judged"] += 1
        if judgement.verdict is None:
            self._counts["missing_verdicts"] += 1
        else:
            self._counts["scored"] += 1
            self._counts["graded"] += 1
            self._counts["correct"] += judgement.verdict.correct

    def start(self) -> None:
        """Begin to count time."""
        self._began = self.clock()

    def progress(self, concurrency: int) -> Progress:
        """This moment."""
        counts = {name: self._counts[name] for name in _COUNTED}
        if self._counts["graded"] or not self._counts["unjudged"]:  # see `metrics.scored`
            counts["scored"] += self._counts["failed"]
        return Progress(
            questions=self.questions,
            missing_videos=self.missing_videos,
            missing_questions=self.missing_questions,
            concurrency=concurrency,
            to_judge=self.to_judge,
            superseded=self.superseded,
            seconds=0.0 if self._began is None else self.clock() - self._began,
            **counts,
        )
