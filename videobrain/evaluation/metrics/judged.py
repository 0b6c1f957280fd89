"""What a judge's verdicts come to: which one counts for which answer, and how many are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from videobrain.errors import ConfigurationError
from videobrain.evaluation.metrics.intervals import Interval, clustered
from videobrain.evaluation.metrics.outcomes import Verdicts, needs_verdict
from videobrain.evaluation.record import Record
from videobrain.evaluation.verdict import Judgement, Verdict, content_of


class Judged(BaseModel):
    """A judge's verdicts on a run. All figures are of the answers that were judged; see `accuracy` for the run's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: int
    """Answers in words whose truth is known: those that want a verdict."""
    judged: int
    missing: int
    """Answers without a verdict, be it that the judgement failed or that nobody judged."""
    causes: dict[str, int]
    """Of those that are missing, how many for which cause: ``model_error``, ``unusable_reply``, ``not_judged``."""
    accuracy: Interval | None
    """Share of the judged answers that are correct, clustered by video; None where none was judged."""
    score: Interval | None
    """Mean score of the judged answers."""
    criteria: dict[str, Interval]
    """Mean score by criterion of the rubric."""

    def __str__(self) -> str:
        missing = f", {self.missing} verdicts missing" if self.missing else ""
        return f"{self.accuracy or 'not known'} of {self.judged} judged answers{missing}"


def judged(
    records: Sequence[Record], judgements: Iterable[Judgement], *, judge: str | None = None, rubric: str | None = None
) -> Judged:
    """What a judge found in a run, and how much of it is missing.

    Runs that failed and answers that are empty want no verdict, and are no part of this.

    Args:
        records: The run.
        judgements: Of `Judge.judge_many` or `read_judgements`.
        judge: Whose verdicts, where there are several judges.
        rubric: By which rubric, where there are several.

    Raises:
        ConfigurationError: There are verdicts of several judges or by several rubrics, and none is chosen.
    """
    wanted = [record for record in records if needs_verdict(record)]
    found = select_judgements(wanted, judgements, judge=judge, rubric=rubric)
    verdicts: list[Verdict] = []
    videos: list[str] = []
    causes: Counter[str] = Counter()
    for record in wanted:
        judgement = found.get(record.sample.key)
        if judgement is None:
            causes["not_judged"] += 1
        elif judgement.verdict is not None:
            verdicts.append(judgement.verdict)
            videos.append(record.sample.video)
        elif judgement.missing is not None:
            causes[judgement.missing.cause] += 1
    return Judged(
        answers=len(wanted),
        judged=len(verdicts),
        missing=len(wanted) - len(verdicts),
        causes=dict(sorted(causes.items())),
        accuracy=clustered([verdict.correct for verdict in verdicts], videos) if verdicts else None,
        score=clustered([verdict.score for verdict in verdicts], videos) if verdicts else None,
        criteria={
            name: clustered([verdict.scores[name] for verdict in verdicts], videos)
            for name in (verdicts[0].scores if verdicts else ())
        },
    )


def verdicts_of(
    records: Sequence[Record], judgements: Iterable[Judgement], *, judge: str | None = None, rubric: str | None = None
) -> Verdicts:
    """Scores by the samples' keys, as the metrics take them; answers whose verdict is missing are not there.

    A verdict counts for the answer that it was given on: after a run was repeated, those on its former answers count
    for nothing. Of several on one answer the last counts.

    Args:
        records: The run.
        judgements: Of `Judge.judge_many` or `read_judgements`.
        judge: Whose verdicts, where there are several judges.
        rubric: By which rubric, where there are several.

    Raises:
        ConfigurationError: There are verdicts of several judges or by several rubrics, and none is chosen.
    """
    chosen = select_judgements(records, judgements, judge=judge, rubric=rubric)
    return {key: judgement.verdict.score for key, judgement in chosen.items() if judgement.verdict is not None}


def select_judgements(
    records: Sequence[Record], judgements: Iterable[Judgement], *, judge: str | None = None, rubric: str | None = None
) -> dict[str, Judgement]:
    """The judgement that counts for each record, by the samples' keys; see `verdicts_of`."""
    wanted = {
        record.sample.key: content_of(record.sample, record.prediction)
        for record in records
        if record.prediction is not None and needs_verdict(record)
    }
    contents = set(wanted.values())
    found: dict[str, Judgement] = {}
    sources: set[tuple[str, str]] = set()
    for one in judgements:
        if one.content in contents and judge in (None, one.judge) and rubric in (None, one.rubric):
            sources.add((one.judge, one.rubric))
            before = found.get(one.content)
            # A later failure takes nothing away from a verdict.
            if before is None or one.verdict is not None or before.verdict is None:
                found[one.content] = one
    if len(sources) > 1:
        listed = "; ".join(f"judge={name!r}, rubric={by!r}" for name, by in sorted(sources))
        raise ConfigurationError(
            f"There are verdicts of {len(sources)} kinds: {listed}.",
            hint="Choose one of them: by --judge, `videobrain compare` by --judge and --rubric.",
        )
    return {key: found[content] for key, content in wanted.items() if content in found}
