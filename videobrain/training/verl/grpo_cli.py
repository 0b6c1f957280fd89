"""The command ``videobrain train grpo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from videobrain.training.verl.grpo import GrpoConfig


def register(train: typer.Typer) -> None:
    """Add the command to ``videobrain train``."""
    train.command()(grpo)


def grpo(
    samples: Annotated[list[Path] | None, typer.Argument(help="Files of samples, as `train classify` writes.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the training; the same one goes on where it stopped.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Directory or hub id of the policy.")] = None,
    recipe: Annotated[
        str, typer.Option(metavar="paper|one-gpu|cpu", help="What the options below it begin with.")
    ] = "paper",
    config: Annotated[Path | None, typer.Option(help="File of fields (JSON), which go before the recipe's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=JSON", help="One field; give it once for each.")
    ] = None,
    verl: Annotated[
        list[str] | None, typer.Option("--verl", metavar="KEY=JSON", help="One of verl's own keys.")
    ] = None,
    validate_on: Annotated[
        list[Path] | None, typer.Option(help="Files of samples that are asked and never trained.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps. [default: one pass]")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the command of verl and end, without verl being there.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Train a policy by reinforcement learning on questions (GRPO), or go on where it was stopped."""
    from rich.console import Console

    from videobrain.errors import TrainingFailedError
    from videobrain.training.verl.grpo import run_grpo
    from videobrain.training.verl.launch import StepDone

    given: dict[str, Any] = {"samples": samples, "out": out, "model": model, "validate_on": validate_on, "steps": steps}
    made = _configured(recipe, config, {name: value for name, value in given.items() if value}, set_, verl)
    if dry_run:
        typer.echo(made.launch().shell())
        return
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False)

    def tell(done: StepDone) -> None:
        named = ("critic/score/mean", "rollout/accuracy", "rollout/tool_used", "rollout/frames", "actor/grad_norm")
        figures = [f"{name} {done.metrics[name]:.4g}" for name in named if name in done.metrics]
        console.print(f"step {done.step}: {', '.join(figures)}", soft_wrap=True)

    try:
        result = run_grpo(made, on_step=tell)
    except TrainingFailedError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from the last checkpoint", err=True)
        raise typer.Exit(130) from None
    typer.echo(str(result.checkpoint))


def _configured(
    recipe: str, file: Path | None, given: dict[str, Any], fields: list[str] | None, keys: list[str] | None
) -> GrpoConfig:
    """The configuration that is meant: the recipe, then the file, then the options.

    Raises:
        ConfigurationError: There is no such recipe, or a field cannot be used.
        InputError: The file cannot be read.
    """
    from pydantic import ValidationError

    from videobrain.errors import ConfigurationError, InputError
    from videobrain.training.verl.grpo import RECIPES, GrpoConfig

    if recipe not in RECIPES:
        raise ConfigurationError(f"There is no recipe {recipe!r}.", hint=f"The recipes: {', '.join(RECIPES)}.")
    made = dict(RECIPES[recipe])
    if file is not None:
        try:
            made |= json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{file} cannot be read: {error}.", hint="It holds one JSON object.") from error
    made |= given
    made |= dict(_pair(text) for text in fields or ())
    if keys:
        made["verl"] = {**made.get("verl", {}), **dict(_pair(text) for text in keys)}
    try:
        return GrpoConfig(**made)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"The training cannot be configured: {f'{where}: ' if where else ''}{first['msg']}.",
            hint="Fields are those of videobrain.training.verl.grpo.GrpoConfig.",
        ) from error


def _pair(text: str) -> tuple[str, Any]:
    """``KEY=JSON``; what is no JSON is a text."""
    from videobrain.errors import ConfigurationError

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"{text!r} sets nothing.", hint="Write NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
