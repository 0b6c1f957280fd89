"""Whether an answer in words is right: by the question itself where it knows, else by the verdicts of a judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from videobrain.evaluation.metrics import Verdicts, needs_verdict, verdicts_of
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.verdict import Judgement
from videobrain.world import WorldQuestion


def own_score(record: Record) -> float | None:
    """The score of an answer in words whose question scores it itself: those of the synthetic world do.

    None for any other record.
    """
    question = _question_that_knows(record.sample)
    return None if question is None or record.prediction is None else float(question.accepts(record.prediction.text))


def scores_itself(sample: Sample) -> bool:
    """Whether a question in words knows which answers are right, so that it wants no judge."""
    return _question_that_knows(sample) is not None


def _question_that_knows(sample: Sample) -> WorldQuestion | None:
    if sample.task != "open" or "world" not in sample.extra:
        return None
    try:
        question = WorldQuestion.model_validate(sample.extra["world"])
    except ValidationError:  # somebody else's `extra`
        return None
    return None if question.kind == "unanswerable" else question


def wants_judge(record: Record) -> bool:
    """Whether a record has an answer that only a judge can score."""
    return needs_verdict(record) and own_score(record) is None


def scores_by_key(
    records: Sequence[Record], judgements: Iterable[Judgement], *, judge: str | None = None, rubric: str | None = None
) -> Verdicts:
    """Scores of a run's answers in words by the sample's key, as the metrics take them.

    They are those of questions that score themselves, and those of a judge.

    Args:
        records: The run.
        judgements: What stands in its file of verdicts.
        judge: Whose verdicts, where there are several judges.
        rubric: By which rubric, where there are several.

    Raises:
        ConfigurationError: There are verdicts of several judges or by several rubrics, and none is chosen.
    """
    own = {record.sample.key: score for record in records if (score := own_score(record)) is not None}
    return {**verdicts_of(records, judgements, judge=judge, rubric=rubric), **own}
