"""The model card of the tiny model: what it knows, what it does not, how it was made, and what was measured."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, ValidationError

from videobrain.errors import ConfigurationError
from videobrain.evaluation.metrics import percent
from videobrain.training.tiny.figures import Evaluation
from videobrain.world import COLOURS, HELD_OUT_PAIRS, SHAPES
from videobrain.world.vocabulary import DIGITS, LETTERS, PATTERNS


class StageFacts(BaseModel):
    """How one stage went.

    Attributes:
        name: What was learnt.
        digest: Of all that its result depends on.
        steps: Optimizer steps.
        minutes: Time that they took.
        loss: At the end.
        accuracy: At the end, by kind.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    steps: int
    minutes: float
    loss: float
    accuracy: dict[str, float]


class Facts(BaseModel):
    """What a training made, of what size, with what and on what.

    Attributes:
        recipe: Name of the recipe.
        version: Version of videobrain.
        seed: Seed of everything.
        parameters: Weights of the vision-language model.
        encoder_parameters: Weights of the encoder.
        weights_bytes: Size of the file of the model's weights.
        encoder_bytes: Size of the file of the encoder's weights.
        vocabulary: Tokens that the model knows.
        context_tokens: Tokens that fit its context.
        machine: What the last stage ran on.
        packages: Versions of the packages that trained it.
        stages: The encoder's stage and those of the model.
    """

    model_config = ConfigDict(frozen=True)

    recipe: str
    version: str
    seed: int
    parameters: int
    encoder_parameters: int
    weights_bytes: int
    encoder_bytes: int
    vocabulary: int
    context_tokens: int
    machine: str
    packages: dict[str, str]
    stages: tuple[StageFacts, ...]


def read_evaluation(path: Path) -> Evaluation:
    """What `videobrain.training.tiny.evaluate` found.

    Raises:
        ConfigurationError: The file cannot be read, or holds something else.
    """
    hint = "Name the results.json that python -m videobrain.training.tiny.evaluate writes."
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.", hint=hint) from error
    except ValidationError as error:
        raise ConfigurationError(f"{path} holds no evaluation of this version.", hint=hint) from error


def model_card(facts: Facts, evaluation: Evaluation | None) -> str:
    """The card as Markdown.

    Args:
        facts: Of the training.
        evaluation: What was measured; None where nothing was.
    """
    # Markdown: escaping for HTML would spoil it, and nothing in it comes from outside.
    environment = Environment(
        loader=PackageLoader("videobrain.training.tiny", "."),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template("card.md.j2").render(
        facts=facts,
        evaluation=evaluation,
        colours=list(COLOURS),
        shapes=SHAPES,
        digits=DIGITS,
        letters=LETTERS,
        patterns=PATTERNS,
        held_out=sorted(map(str, HELD_OUT_PAIRS)),
    )
