"""A reward as plain data, for files of configuration and for other processes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from videobrain.errors import ConfigurationError
from videobrain.training.reward import (
    FORMAT_WEIGHT,
    Gate,
    Measure,
    Reward,
    Term,
    accuracy,
    behaviour_of,
    evidence_iou,
    evidence_recall,
    frames_shown,
    is_correct,
    is_valid,
    keeps_format,
    relevance,
    repetition,
)

NEEDS_CLASS = "behaviour"
"""The measure that looks at a sample's class."""


MEASURES: Mapping[str, Measure] = {
    "format": keeps_format,
    "accuracy": accuracy,
    "behaviour": behaviour_of,
    "evidence_recall": evidence_recall,
    "evidence_iou": evidence_iou,
    "relevance": relevance,
    "repetition": repetition,
    "frames_shown": frames_shown,
}
"""Measures that have a name."""
GATES: Mapping[str, Gate] = {"valid": is_valid, "tool_used": lambda rollout: rollout.used_tool}
"""Gates that have a name, beside ``correct``, which takes a bound."""


class TermSpec(BaseModel):
    """One term of a reward."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: str
    """A name of `MEASURES`, or ``package.module:function`` for a function that takes a `Rollout` and gives a number."""
    weight: float = 1.0
    gate: str | None = None
    """When it counts: ``valid``, ``correct``, ``tool_used``, or ``package.module:function`` for a function that takes a
    `Rollout` and says yes or no. By default always."""
    name: str | None = None
    """What it is called in figures; by default as the measure is."""

    @property
    def label(self) -> str:
        """What it is called in figures."""
        return self.name or self.measure.rpartition(":")[2]


class RewardSpec(BaseModel):
    """A reward. The default is the paper's (`behaviour_aware`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    terms: tuple[TermSpec, ...] = Field(
        default=(
            TermSpec(measure="format", weight=FORMAT_WEIGHT),
            TermSpec(measure="accuracy"),
            TermSpec(measure="behaviour"),
        ),
        min_length=1,
    )
    gate: Literal["valid", "none"] = "valid"
    """``valid``: a rollout that broke a format rule is worth 0."""
    correct_from: float | None = Field(default=None, ge=0, le=1)
    """Accuracy from which an answer counts as correct for ``behaviour``; by default 0.5 of an IoU and 0.8 else."""

    @property
    def needs_class(self) -> bool:
        """Whether samples have to be classified for it."""
        return any(term.measure == NEEDS_CLASS for term in self.terms)

    def reward(self) -> Reward:
        """The reward itself.

        Raises:
            ConfigurationError: A measure or a gate is not known or cannot be imported, or two terms have one name.
        """
        terms = tuple(
            Term(term.label, self._measure(term.measure), term.weight, self._gate(term.gate)) for term in self.terms
        )
        return Reward(terms, is_valid if self.gate == "valid" else None)

    def _measure(self, named: str) -> Measure:
        if named == NEEDS_CLASS:
            return partial(behaviour_of, correct_from=self.correct_from)
        if named in MEASURES:
            return MEASURES[named]
        measure: Measure = _imported("measure", named, MEASURES)
        return measure

    def _gate(self, named: str | None) -> Gate | None:
        if named is None:
            return None
        if named == "correct":
            return partial(is_correct, correct_from=self.correct_from)
        if named in GATES:
            return GATES[named]
        gate: Gate = _imported("gate", named, ("correct", *GATES))
        return gate


def _imported(kind: str, named: str, known: Iterable[str]) -> Any:
    """A function of the user's own."""
    module, colon, function = named.partition(":")
    if not colon:
        raise ConfigurationError(
            f"There is no {kind} {named!r} for a reward.",
            hint=f"Name one of {', '.join(known)}, or a function of yours as package.module:function.",
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"The {kind} {named!r} cannot be imported: {error}", hint="Its module must be on PYTHONPATH."
        ) from error
    if not callable(found):
        raise ConfigurationError(f"The {kind} {named!r} is no function.")
    return found
