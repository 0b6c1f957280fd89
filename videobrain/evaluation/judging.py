"""Verdicts on a run that is there: asked for, counted and kept, whoever answered its questions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import anyio.to_thread

from videobrain.errors import EvaluationStoppedError, ModelError
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.progress import Tally
from videobrain.evaluation.results import iterate_results, read_manifest, read_results
from videobrain.evaluation.scoring import scores_by_key, wants_judge
from videobrain.evaluation.verdict import Judgement
from videobrain.evaluation.verdict_file import read_judgements


class Chosen(TypedDict):
    """Arguments by which verdicts are chosen."""

    judge: str | None
    rubric: str | None


def named(judge: Judge | None) -> Chosen:
    """Whose verdicts count."""
    return {"judge": judge.name if judge else None, "rubric": judge.rubric if judge else None}


def tally_of(directory: Path, judge: Judge) -> Tally:
    """Counts of a run that is there, with the verdicts that it has of this judge. Blocks.

    Raises:
        InputError: It is no run, or it is damaged.
    """
    tally, records = Tally(questions=read_manifest(directory).questions), read_results(directory)
    verdicts = scores_by_key(records, read_judgements(directory), **named(judge))
    for record in records:
        tally.add(record, verdicts.get(record.sample.key), earlier=True)
    return tally


async def judge_run(directory: Path, judge: Judge, tally: Tally, report: Callable[[], None]) -> None:
    """Judge the answers in words of a run that have no verdict of this judge yet.

    Args:
        directory: The run's.
        judge: Who judges.
        tally: Counts the judgements.
        report: Called after each of them; must be quick.

    Raises:
        EvaluationStoppedError: The judge cannot be asked, or its verdicts cannot be written. Those that are there are
            kept.
        InputError: It is no run, or it is damaged.
    """
    records = await anyio.to_thread.run_sync(lambda: [one for one in iterate_results(directory) if wants_judge(one)])
    judged = await anyio.to_thread.run_sync(lambda: scores_by_key(records, read_judgements(directory), **named(judge)))
    tally.to_judge = len(records) - len(judged)

    def note(judgement: Judgement) -> None:
        tally.judge(judgement)
        report()

    try:
        await judge.judge_many(records, directory=directory, on_judgement=note)
    except ModelError as error:
        raise EvaluationStoppedError(
            f"The answers are there, and {judge.name} cannot judge them: {type(error).__name__}: {error.message}",
            hint=f"{error.hint} Then `videobrain score RUN --judge MODEL` judges them alone.".strip(),
        ) from error
