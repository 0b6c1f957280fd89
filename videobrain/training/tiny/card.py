"""The model card of the tiny model: what it knows, what it does not, how it was made, and what was measured."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, ValidationError

from videobrain.errors import ConfigurationError
from videobrain.evaluation.metrics import percent
from videobrain.files import digest_of_model
from videobrain.training.tiny.figures import Evaluation
from videobrain.training.tiny.stages import write_atomically
from videobrain.world import COLOURS, HELD_OUT_PAIRS, SHAPES
from videobrain.world.vocabulary import DIGITS, LETTERS, PATTERNS

FACTS = "training/facts.json"
"""In a directory that `train_tiny` wrote, and no other."""


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


def read_facts(directory: Path) -> Facts:
    """What is known of the training that made a model.

    Raises:
        ConfigurationError: The directory is of something else.
    """
    try:
        return Facts.model_validate_json((directory / FACTS).read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            f"{directory} has no card to write: its {FACTS} is missing or of another version.",
            hint="Name a directory that videobrain train tiny made.",
        ) from error


def write_card(directory: Path, evaluation: Evaluation | None = None) -> Path:
    """Write the card of a model that `train_tiny` made.

    Args:
        directory: Of the model.
        evaluation: What was measured; None where nothing was.

    Returns:
        The card's file.

    Raises:
        ConfigurationError: The directory is of something else, or the evaluation is of other weights.
        OSError: The card cannot be written.
    """
    facts = read_facts(directory)
    ours = weights_digest(directory)
    if evaluation is not None and evaluation.weights != ours:
        other = evaluation.weights or "unknown ones"
        raise ConfigurationError(f"The figures are of other weights, {other}; those in {directory} are {ours}.")
    text = model_card(facts, evaluation)
    return write_atomically(directory / "README.md", lambda path: path.write_text(text, "utf-8"))


def weights_digest(directory: Path) -> str:
    """Digest of the model and of its encoder: of neither the card nor the logs of the training."""
    return digest_of_model([directory, directory / "encoder"])


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
