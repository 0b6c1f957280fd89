"""What a rollout is worth: named terms with weights and gates. The default is the paper's behaviour-aware reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from videobrain.errors import ConfigurationError, InputError
from videobrain.evaluation.metrics.outcomes import CORRECT_FROM, GROUNDED_FROM
from videobrain.evaluation.metrics.overlap import overlap
from videobrain.evaluation.predict import MAX_SPANS
from videobrain.training.rollout import Rollout
from videobrain.training.sample import QuestionClass

Measure = Callable[[Rollout], float]
"""Looks at a rollout and gives a number; any plain function may be a term."""
Gate = Callable[[Rollout], bool]

FORMAT_WEIGHT = 0.05


def is_valid(rollout: Rollout) -> bool:
    """The gate of the paper: whether the rollout kept to every format rule."""
    return rollout.valid


def is_correct(rollout: Rollout, correct_from: float | None = None) -> bool:
    """Whether its answer counts as right, as in an evaluation: from an IoU of 0.5, where spans are the answer, else
    from an accuracy of 0.8, since a judge hardly ever says exactly 1.

    Args:
        rollout: A rollout.
        correct_from: Another bound.
    """
    usual = GROUNDED_FROM if rollout.sample.task in MAX_SPANS else CORRECT_FROM
    return rollout.accuracy >= (usual if correct_from is None else correct_from)


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a reward."""

    name: str
    measure: Measure
    weight: float = 1.0
    gate: Gate | None = None
    """Where it says no, the term counts 0."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a rollout is worth, and why."""

    total: float
    terms: Mapping[str, float]
    """What each term adds, its weight included; their sum is the total."""


@dataclass(frozen=True)
class Reward:
    """The sum of weighted terms, or 0 where the gate says no.

        reward = behaviour_aware().plus(Term("frames", frames_shown, weight=-0.001))
        reward(Rollout.of(answer.trace, sample, accuracy=1.0)).total

    Raises:
        ConfigurationError: Two terms have one name.
    """

    terms: tuple[Term, ...]
    gate: Gate | None = is_valid

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigurationError(f"The reward has several terms {twice[0]!r}.", hint="Name each term differently.")

    def __call__(self, rollout: Rollout) -> Worth:
        """What a rollout is worth.

        Raises:
            InputError: A term needs what the sample does not have, such as its class.
            ValueError: A term is no finite number.
        """
        closed = self.gate is not None and not self.gate(rollout)
        parts = {term.name: 0.0 if closed else _value(term, rollout) for term in self.terms}
        for name, value in parts.items():
            if not math.isfinite(value):
                raise ValueError(f"the term {name!r} is {value}")
        return Worth(sum(parts.values()), parts)

    def plus(self, *terms: Term) -> Reward:
        """The same reward with further terms."""
        return Reward((*self.terms, *terms), self.gate)

    def without(self, *names: str) -> Reward:
        """The same reward without the terms of these names.

        Raises:
            ConfigurationError: There is no such term.
        """
        if unknown := sorted(set(names) - {term.name for term in self.terms}):
            known = ", ".join(term.name for term in self.terms)
            raise ConfigurationError(f"The reward has no term {unknown[0]!r}.", hint=f"Its terms: {known}.")
        return Reward(tuple(term for term in self.terms if term.name not in names), self.gate)


def _value(term: Term, rollout: Rollout) -> float:
    if term.gate is not None and not term.gate(rollout):
        return 0.0
    return term.weight * term.measure(rollout)


def behaviour_aware(*, correct_from: float | None = None) -> Reward:
    """The reward of VideoBrain (arXiv 2602.04094): format 0.05, accuracy up to 1, behaviour up to 0.5.

    An invalid rollout totals 0; the most is 1.55.

    Args:
        correct_from: Accuracy from which an answer counts as correct for the behaviour; by default as `is_correct`
            says.
    """
    return Reward(
        (
            Term("format", keeps_format, FORMAT_WEIGHT),
            Term("accuracy", accuracy),
            Term("behaviour", lambda rollout: behaviour_of(rollout, correct_from=correct_from)),
        )
    )


# --- Measures --------------------------------------------------------------------------------------------------------


def keeps_format(rollout: Rollout) -> float:
    """1 where it keeps to every format rule, else 0."""
    return float(rollout.valid)


def accuracy(rollout: Rollout) -> float:
    """How right the answer is, from 0 to 1."""
    return rollout.accuracy


def behaviour(question_class: QuestionClass, *, correct: bool, used_tool: bool) -> float:
    """The paper's table of behaviour.

    | class | correct, no tool | correct, tool used | wrong, tool used | wrong, no tool |
    |---|---|---|---|---|
    | Direct | 0.5 | 0 | 0 | 0 |
    | Adaptive | 0.5 | 0.5 | 0 | 0 |
    | Active | 0 | 0.5 | 0.2 | 0 |
    """
    match question_class:
        case "Direct":
            return 0.5 if correct and not used_tool else 0.0
        case "Adaptive":
            return 0.5 if correct else 0.0
        case "Active":
            return (0.5 if correct else 0.2) if used_tool else 0.0


def behaviour_of(rollout: Rollout, *, correct_from: float | None = None) -> float:
    """The `behaviour` of a rollout, from 0 to 0.5.

    Raises:
        InputError: Its sample is not classified.
    """
    question_class = rollout.sample.question_class
    if question_class is None:
        raise InputError(
            f"The sample {rollout.sample.key!r} has no class, which the reward of behaviour needs.",
            hint="Classify the samples first (videobrain train classify), or leave that term out.",
        )
    return behaviour(question_class, correct=is_correct(rollout, correct_from), used_tool=rollout.used_tool)


def evidence_recall(rollout: Rollout) -> float:
    """Share of the true spans of which at least one shown frame lies within, from 0 to 1; 0 where none is known."""
    spans = rollout.spans
    times = [shown.timestamp_seconds for shown in rollout.evidence]
    seen = sum(any(start <= time < end for time in times) for start, end in spans)
    return seen / len(spans) if spans else 0.0


def evidence_iou(rollout: Rollout) -> float:
    """IoU of the interval of the last tool call that named one with the true spans, from 0 to 1; 0 without any."""
    looked = [look.interval for look in rollout.looks if look.interval is not None]
    return overlap(looked[-1:], rollout.spans).iou if looked and rollout.spans else 0.0


def relevance(rollout: Rollout) -> float:
    """How much of what each call newly showed lies in the true spans: the mean over the calls, from 0 to 1.

    A call that gave no frame, such as a search in subtitles, does not count.
    """
    spans = rollout.spans
    shares = [
        sum(any(start <= time < end for start, end in spans) for time in look.new) / len(look.new) if look.new else 0.0
        for look in rollout.looks
        if look.new or look.again
    ]
    return sum(shares) / len(shares) if shares else 0.0


def repetition(rollout: Rollout) -> float:
    """Share of the frames of all calls that showed nothing new, from 0 to 1. Give it a negative weight."""
    again = sum(look.again for look in rollout.looks)
    given = again + sum(len(look.new) for look in rollout.looks)
    return again / given if given else 0.0


def frames_shown(rollout: Rollout) -> float:
    """Frames that were shown, the initial ones included. Give it a small negative weight: a cost per frame."""
    return float(rollout.usage.frames)
