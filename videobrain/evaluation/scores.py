"""What a run comes to: its figures as one value."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.asking import WITHOUT_SUBTITLES
from videobrain.evaluation.metrics import (
    Accuracy,
    Grounding,
    Judged,
    Search,
    accuracy,
    accuracy_by_slice,
    grounding,
    judged,
    localised,
    own_figures,
    temporal_search,
)
from videobrain.evaluation.results import is_passing, read_manifest, read_results
from videobrain.evaluation.scoring import scores_by_key, wants_judge
from videobrain.evaluation.verdict_file import read_judgements


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
    grounding: Grounding | None = None
    """How well spans fit; None where none are asked for and none were given."""
    search: Search | None = None
    """How the frames that were shown meet the true spans; None where none are known."""
    own: dict[str, float] = {}
    """The figures that the benchmark's authors report beside accuracy, in percent and under their names."""
    judged: Judged | None = None
    """What a judge found, and how many verdicts are missing; None where no answer wants a judge."""
    without_subtitles: int = 0
    """Questions that were asked without their subtitles, since those could not be used."""
    with_subtitles: int = 0
    """Questions that were asked with subtitles."""
    failed_tools: int = 0
    """Questions in which a tool failed or took too long, so that the model answered without what it had asked for."""
    passing_errors: int = 0
    """Errors that say nothing of their question, since the model's server or a worker failed: asked again next time."""
    limit: int | None = None
    """How many questions were asked for, where not all of the split's."""
    expected_questions: int | None = None
    """How many the split has by its authors' count, where that is known."""
    malformed: int = 0
    """Rows of the benchmark's files that could not be read, at the last start."""
    missing_videos: int = 0
    missing_questions: int = 0
    """Questions that were left out because their video is missing, at the last start."""


def score_run(directory: str | os.PathLike[str], *, judge: str | None = None, rubric: str | None = None) -> Scores:
    """The figures of what a run's directory holds.

    Args:
        directory: The run.
        judge: Whose verdicts count, where there are those of several judges.
        rubric: By which rubric, where there are several.

    Raises:
        InputError: It is no run, or it is damaged.
        ConfigurationError: There are verdicts of several judges or by several rubrics, and none is chosen.
    """
    manifest = read_manifest(directory)
    records = read_results(directory)
    judgements = read_judgements(directory)
    verdicts = scores_by_key(records, judgements, judge=judge, rubric=rubric)
    total = accuracy(records, verdicts=verdicts)
    slices = accuracy_by_slice(records, verdicts=verdicts)
    wanting = [record for record in records if wants_judge(record)]
    return Scores(
        run=str(Path(directory)),
        benchmark=manifest.benchmark,
        split=manifest.split,
        model=manifest.model,
        strategy=manifest.strategy,
        shard=manifest.shard,
        questions=manifest.questions,
        total=total,
        slices=slices,
        grounding=grounding(localised(records), verdicts=verdicts),
        search=temporal_search(records),
        own=own_figures(manifest.benchmark, records, split=manifest.split, verdicts=verdicts),
        judged=judged(wanting, judgements, judge=judge, rubric=rubric) if wanting else None,
        without_subtitles=sum(any(map(_is_about_subtitles, record.warnings)) for record in records),
        with_subtitles=sum(record.subtitles is True for record in records),
        failed_tools=sum(record.usage.failed_calls > 0 for record in records),
        passing_errors=sum(map(is_passing, records)),
        limit=manifest.limit,
        expected_questions=manifest.expected_questions,
        malformed=manifest.malformed,
        missing_videos=manifest.missing_videos,
        missing_questions=manifest.missing_questions,
    )


def _is_about_subtitles(warning: str) -> bool:
    return warning.startswith(WITHOUT_SUBTITLES)
