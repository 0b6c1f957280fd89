"""What an answer in words is judged by: named criteria, and the form of a judge's reply to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from videobrain.errors import InputError
from videobrain.text import Text, misfits

_REASON = "reason"
_VALUES: dict[str, Any] = {"yes/no": bool, "score": Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]}


class Criterion(BaseModel):
    """One thing that a judge looks at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    """How it is called in replies and results."""
    description: str = Field(min_length=1)
    """When it is met, for the judge."""
    scale: Literal["yes/no", "score"] = "yes/no"
    """``yes/no``: met or not. ``score``: how far it is met, from 0 to 1."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Its share in the score, relative to the other criteria."""


class Rubric(BaseModel):
    """The criteria of a judgement. Its score is their weighted mean, from 0 to 1; yes is 1 and no is 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    guidance: str = ""
    """What else the judge should know, such as how strict to be about units."""

    @model_validator(mode="after")
    def _names_differ(self) -> Rubric:
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names) or _REASON in names:
            raise ValueError(f"names of criteria must differ, and none may be {_REASON!r}: {', '.join(names)}")
        return self

    @property
    def reply_type(self) -> type[BaseModel]:
        """What a judge replies, as a pydantic model: a ``reason``, then each criterion.

        The reason comes first, so that a model gives its verdict after it has looked at the answer.
        """
        # By alias, since a criterion may have the name of one of pydantic's own methods.
        fields: dict[str, Any] = {_REASON: (Text, ...)} | {
            f"criterion_{number}": (_VALUES[criterion.scale], Field(alias=criterion.name))
            for number, criterion in enumerate(self.criteria)
        }
        return create_model("Verdict", **fields)

    def score(self, scores: Mapping[str, float]) -> float:
        """The weighted mean of the criteria's scores."""
        total = sum(criterion.weight for criterion in self.criteria)
        return sum(criterion.weight * scores[criterion.name] for criterion in self.criteria) / total


def read_rubric(path: str | os.PathLike[str]) -> Rubric:
    """A rubric from a JSON file with the fields of `Rubric`. Blocks.

    Raises:
        InputError: The file cannot be read, or holds no rubric.
    """
    try:
        return Rubric.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"The rubric {path} cannot be read: {error.strerror or error}.") from error
    except ValidationError as error:
        hint = 'It must hold {"name": …, "criteria": [{"name": …, "description": …}]}.'
        raise InputError(f"{path} holds no rubric: {misfits(error, whole='content')}.", hint=hint) from error


CORRECTNESS = Rubric(
    name="correctness",
    criteria=(
        Criterion(
            name="correct",
            description=(
                "As an answer to the question, the answer says what the true answer says. Other words, another order, "
                "another form of the same number, and more detail are fine as long as nothing contradicts the true "
                "answer. It is not met where an essential part is wrong or missing, or where several answers are "
                "given of which only some are right."
            ),
        ),
    ),
)
"""The rubric where none is given: right or not."""
