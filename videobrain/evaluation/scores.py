"""What a run comes to: its figures as one value."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.metrics import Accuracy, accuracy, accuracy_by_slice
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import read_manifest, read_results, read_scores
from videobrain.evaluation.scoring import own_score, score_key


class Scores(BaseModel):
    """The figures of a run. How each is defined stands in ``docs/metrics.md``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    """Its directory."""
    benchmark: str
    split: str
    model: str
    strategy: str
    shard: str | None
    questions: int
    """How many the run is about; fewer are finished where it was stopped."""
    total: Accuracy
    """Over all finished questions."""
    slices: dict[str, dict[str, Accuracy]]
    """The same by every slice that the benchmark names, and by duration."""
    missing_videos: int = 0
    missing_questions: int = 0
    """Questions that were left out because their video is missing, at the last start."""


def score_run(directory: str | os.PathLike[str], *, missing_videos: int = 0, missing_questions: int = 0) -> Scores:
    """The figures of what a run's directory holds.

    Args:
        directory: The run.
        missing_videos: How many videos are known to be missing.
        missing_questions: How many questions are about them.

    Raises:
        InputError: It is no run, or it is damaged.
    """
    manifest = read_manifest(directory)
    records = read_results(directory)
    verdicts = verdicts_of(directory, records)
    return Scores(
        run=str(Path(directory)),
        benchmark=manifest.benchmark,
        split=manifest.split,
        model=manifest.model,
        strategy=manifest.strategy,
        shard=manifest.shard,
        questions=manifest.questions,
        total=accuracy(records, verdicts=verdicts),
        slices=accuracy_by_slice(records, verdicts=verdicts),
        missing_videos=missing_videos,
        missing_questions=missing_questions,
    )


def verdicts_of(directory: str | os.PathLike[str], records: list[Record]) -> dict[str, float]:
    """Scores of a run's answers in words by the sample's key, as the metrics take them.

    They are those of a judge in the run's directory, and those of questions that score themselves.

    Raises:
        InputError: The file of verdicts is damaged.
    """
    judged = read_scores(directory)
    found = ((record, judged.get(score_key(record), own_score(record))) for record in records)
    return {record.sample.key: score for record, score in found if score is not None}
