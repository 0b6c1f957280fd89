"""Gives each question its class by asking a student and a teacher, as the paper's dual model does."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from videobrain.agent import BlindStrategy, Strategy, UniformStrategy
from videobrain.errors import ConfigurationError
from videobrain.evaluation.lines import JsonLines
from videobrain.files import whole_file
from videobrain.models import ChatModel
from videobrain.result import Usage
from videobrain.settings import Settings
from videobrain.training.classification import Classified, Label, Round, Votes, classify_votes
from videobrain.training.rounds import Asking, Copy, Rounds, check_samples, copy_of
from videobrain.training.sample import CLASSES, TrainingSample, write_samples

VOTES = 3
CLASSES_FILE, SAMPLES_FILE, REPORT_FILE, RUNS = "classes.jsonl", "samples.jsonl", "report.md", "runs"
_LABELS: tuple[Label, ...] = ("Direct", "Adaptive", "Active", "dropped", "open")
_EXAMPLES = 3


class ClassifiedSample(BaseModel):
    """A question with its class, what was found out about it, and what that cost: a line of ``classes.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: TrainingSample
    """With its class, where it has one."""
    label: Label
    reason: str
    votes: dict[Round, Votes]
    """Whether each answer of a round was right; None where its run or judgement failed."""
    usage: Usage
    """Of all askings together."""


class Classification(NamedTuple):
    """What became of all questions."""

    questions: tuple[ClassifiedSample, ...]
    """In the order of the samples."""

    @property
    def samples(self) -> tuple[TrainingSample, ...]:
        """Those that have a class."""
        return tuple(each.sample for each in self.questions if each.sample.question_class is not None)

    def counts(self) -> dict[Label, int]:
        """How many questions there are of each label, all five in their order."""
        found = Counter(each.label for each in self.questions)
        return {label: found[label] for label in _LABELS}

    def markdown(self) -> str:
        """How many fall where and why, with examples and costs, as a page of Markdown."""
        count = len(self.questions)
        lines = ["# Classes of the questions", "", "| class | questions | share |", "|---|---|---|"]
        lines += [f"| {label} | {found} | {found / count:.1%} |" for label, found in self.counts().items()]
        usage = sum((each.usage for each in self.questions), Usage())
        lines += [
            "",
            f"{count:,} questions; {usage.turns:,} replies, {usage.frames:,} frames, "
            f"{usage.input_tokens:,} tokens in and {usage.output_tokens:,} out.",
        ]
        for label in _LABELS:
            of_label = [each for each in self.questions if each.label == label]
            if of_label:
                lines += ["", f"## {label}", ""]
            for reason, found in Counter(each.reason for each in of_label).most_common():
                lines += [f"{found:,} x {reason}, such as", ""]
                examples = [each for each in of_label if each.reason == reason][:_EXAMPLES]
                lines += [f"- `{each.sample.key}` {each.sample.question} ({_shown(each.votes)})" for each in examples]
                lines.append("")
        return "\n".join(lines).rstrip() + "\n"


async def classify(
    samples: Iterable[TrainingSample],
    student: str | ChatModel,
    teacher: str | ChatModel,
    out: str | os.PathLike[str],
    *,
    votes: int = VOTES,
    more: str | Strategy = "videobrain",
    asking: Asking | None = None,
) -> Classification:
    """Find out which questions the initial frames suffice for, and write them down with their class.

    Each round is a run of the evaluation room in ``runs/`` of the directory: however a start ends, the same call does
    what is missing and nothing twice. A round asks a question only where it can change the class
    (`classification.classify_votes`).

    Args:
        samples: Questions whose truth is known; answers in words need a judge, or score themselves.
        student: The model that is to be trained: a string, or a model, which its maker closes.
        teacher: A stronger one.
        out: Directory of the runs, of ``classes.jsonl`` (`ClassifiedSample`), of ``samples.jsonl`` with the questions
            that have a class, in the plain format of benchmarks, and of ``report.md``.
        votes: Askings of a question in each round. Each turns the options by one place, so that luck on four options
            does not count as knowledge. What would be the very same request is asked once: an open question at
            temperature 0 or with a seed, and a choice in an order that it had before.
        more: The strategy of the rounds that see more of the video: with tools, or densely such as ``uniform-64``.
        asking: How the questions are asked.

    Raises:
        ConfigurationError: An argument cannot be used, or the directory holds a classification of other models.
        InputError: There are no samples, two have one key, one's truth is not known, or one wants a judge.
        EvaluationStoppedError: A round was stopped by too many errors; what is finished is kept.
    """
    if votes < 1:
        raise ConfigurationError(f"A question needs at least 1 vote in each round, not {votes}.")
    asking = asking or Asking(settings=Settings())
    found = check_samples(samples, asking.judge)
    place = Path(out)
    known: dict[str, dict[Round, list[Copy]]] = {sample.key: {} for sample in found}
    first = UniformStrategy(asking.settings.initial_frames)
    how: dict[str, str | Strategy] = {"blind": BlindStrategy(), "initial": first, "more": more}
    async with Rounds(place / RUNS, asking) as rounds:
        for name in get_args(Round):
            needed = [sample for sample in found if classify_votes(_votes(known[sample.key])) == name]
            if not needed:
                continue
            who, what = name.split("-")
            copies = await rounds.run(
                name,
                needed,
                model=student if who == "student" else teacher,
                strategy=how[what],
                copies=lambda sample: _copies(sample, votes, asking.settings),
            )
            for key, each in copies.items():
                known[key][name] = each
    classification = Classification(tuple(_classified(sample, known[sample.key]) for sample in found))
    await anyio.to_thread.run_sync(_write, place, classification)
    return classification


def _copies(sample: TrainingSample, votes: int, settings: Settings) -> list[TrainingSample]:
    orders = len(sample.options or (None,))
    repeats = settings.temperature == 0 or settings.seed is not None
    return [
        copy_of(sample, number, options=number % orders) for number in range(min(votes, orders) if repeats else votes)
    ]


def _votes(copies: dict[Round, list[Copy]]) -> dict[Round, Votes]:
    return {name: tuple(copy.right for copy in each) for name, each in copies.items()}


def _classified(sample: TrainingSample, copies: dict[Round, list[Copy]]) -> ClassifiedSample:
    votes = _votes(copies)
    found = classify_votes(votes)
    if not isinstance(found, Classified):
        raise AssertionError(f"round {found} was not asked")
    question_class = next((name for name in CLASSES if name == found.label), None)
    return ClassifiedSample(
        sample=sample.of_class(question_class),
        label=found.label,
        reason=found.reason,
        votes=votes,
        usage=sum((copy.record.usage for each in copies.values() for copy in each), Usage()),
    )


def _write(place: Path, classification: Classification) -> None:
    JsonLines(place / CLASSES_FILE, ClassifiedSample).rewrite(classification.questions)
    write_samples(place / SAMPLES_FILE, classification.samples)
    with whole_file(place / REPORT_FILE) as file:
        file.write(classification.markdown().encode())


def _shown(votes: dict[Round, Votes]) -> str:
    def right(each: Sequence[bool | None]) -> str:
        return f"{each.count(True)} of {len(each)}"

    return ", ".join(f"{name} {right(each)}" for name, each in votes.items())
