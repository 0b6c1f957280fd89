"""Runs side by side: which questions they share, and whether they mean the same by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from videobrain.errors import InputError
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample

_MEANT = ("task", "question", "options", "correct_option", "answer", "spans", "clip")
"""What has to be the same in every run for a question to be the same one."""
_NAMED = 3
"""So many questions are named in an error."""


class QuestionKey(NamedTuple):
    """What a question is known by in every run."""

    benchmark: str
    key: str


@dataclass(frozen=True, slots=True)
class PairedQuestion:
    """A question, and what each run made of it.

    Attributes:
        key: Its benchmark and its key there.
        sample: The question, as the first run that has it holds it.
        records: Of each run, in their order; None where the run does not have the question.
    """

    key: QuestionKey
    sample: Sample
    records: tuple[Record | None, ...]


@dataclass(frozen=True)
class PairedRuns:
    """Runs by question.

    Attributes:
        names: Of the runs; the first is the baseline.
        questions: Every question of any run: in the order of the baseline, then those of the next run that are new.
    """

    names: tuple[str, ...]
    questions: tuple[PairedQuestion, ...]

    @cached_property
    def shared(self) -> tuple[PairedQuestion, ...]:
        """The questions that every run has."""
        return tuple(question for question in self.questions if None not in question.records)

    def records(self, run: int) -> list[Record]:
        """What one run made of the shared questions, in their order."""
        return [record for question in self.shared if (record := question.records[run]) is not None]

    def asked(self, run: int) -> int:
        """How many questions one run has."""
        return sum(question.records[run] is not None for question in self.questions)

    def only_in(self, run: int) -> int:
        """How many questions one run alone has."""
        alone = [sum(record is not None for record in question.records) == 1 for question in self.questions]
        return sum(
            one and question.records[run] is not None for one, question in zip(alone, self.questions, strict=True)
        )


def pair(runs: Mapping[str, Sequence[Record]]) -> PairedRuns:
    """Put the answers of several runs to the same question beside each other.

    Questions are the same where benchmark and key are. Where a run has a question more than once, the last record
    counts, as of a question that failed and was asked again.

    Args:
        runs: Records by the run's name; the first run is the baseline.

    Raises:
        InputError: There is no run, a run is empty, no question is in all of them, or a question is not the same one
            in two of them: its text, options or truth differ.
    """
    if not runs:
        raise InputError("There is no run to compare.", hint="Name at least one.")
    found = [{QuestionKey(each.benchmark, each.sample.key): each for each in records} for records in runs.values()]
    for name, records in zip(runs, found, strict=True):
        if not records:
            raise InputError(f"The run {name} holds no finished question.", hint="Leave it out, or let it run first.")
    keys = dict.fromkeys(key for records in found for key in records)
    questions = []
    for key in keys:
        row = tuple(records.get(key) for records in found)
        first = next(record for record in row if record is not None)
        questions.append(PairedQuestion(key, first.sample, row))
    paired = PairedRuns(tuple(runs), tuple(questions))
    if not paired.shared:
        asked = "; ".join(f"{name}: {_said(records)}" for name, records in zip(runs, found, strict=True))
        raise InputError(
            f"No question is in all of these runs ({asked}).", hint="Compare runs of the same benchmark and split."
        )
    _check_meaning(paired)
    return paired


def _said(records: Mapping[QuestionKey, Record]) -> str:
    """What a run is about, for an error."""
    counts = Counter(key.benchmark for key in records)
    return ", ".join(f"{count} of {benchmark}" for benchmark, count in counts.items())


class _Other(NamedTuple):
    """A run in which a question is another one."""

    question: PairedQuestion
    run: str
    fields: list[str]
    """What differs."""


def _check_meaning(paired: PairedRuns) -> None:
    wrong = [other for question in paired.questions for other in _others(paired.names, question)]
    if not wrong:
        return
    named = "; ".join(
        f"{other.question.key.benchmark} {other.question.key.key} in {other.run} ({', '.join(other.fields)})"
        for other in wrong[:_NAMED]
    )
    more = len(wrong) - _NAMED
    raise InputError(
        f"The runs do not mean the same by their questions: {named}{f', and {more} more' if more > 0 else ''}.",
        hint="They were made with different versions of the benchmark's files. Run one of them again.",
    )


def _others(names: Sequence[str], question: PairedQuestion) -> list[_Other]:
    found = []
    for name, record in zip(names, question.records, strict=True):
        if record is not None and record.sample is not question.sample:
            fields = [field for field in _MEANT if getattr(record.sample, field) != getattr(question.sample, field)]
            if fields:
                found.append(_Other(question, name, fields))
    return found
