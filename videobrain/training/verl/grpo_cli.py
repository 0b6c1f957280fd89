"""The command ``videobrain train grpo``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from videobrain.training.cli import Errors, assignments, show_plan, show_step

SHOWN_METRICS = {
    "critic/score/mean": "reward",
    "rollout/accuracy": "accuracy",
    "rollout/tool_used": "tool_used",
    "rollout/frames": "frames",
    "actor/grad_norm": "grad_norm",
    "validation/reward": "validation_reward",
    "validation/accuracy": "validation_accuracy",
}
"""What of verl's metrics progress shows, and what it calls it."""


def register(train: typer.Typer) -> None:
    """Add the command to ``videobrain train``."""
    train.command()(grpo)


def grpo(
    samples: Annotated[list[Path], typer.Argument(help="Files of samples.", metavar="SAMPLES…")],
    out: Annotated[Path, typer.Option(help="Directory of the training; the same one goes on where it stopped.")],
    recipe: Annotated[str, typer.Option(help="Where to begin: paper, one-gpu or cpu.")] = "paper",
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Directory or hub id of the policy. [default: the recipe's]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="File of fields (JSON), which go before the recipe's.")] = None,
    validate_on: Annotated[list[Path] | None, typer.Option(help="Samples that are asked and never trained.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps. [default: one pass]")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of GrpoConfig.")
    ] = None,
    verl: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Any key of verl's configuration.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print verl's command and configuration.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Train a policy by reinforcement learning on questions, or go on where that was stopped (extra `train`)."""
    from videobrain.training.verl.config import configured
    from videobrain.training.verl.grpo import RECIPES, GrpoConfig, run_grpo

    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r} is none of {', '.join(RECIPES)}", param_hint="--recipe")
    fields: dict[str, Any] = {**RECIPES[recipe], **_fields_of(config)}
    given = {"model": model, "validate_on": validate_on, "steps": steps}
    fields |= {name: value for name, value in given.items() if value} | assignments(set_, "--set")
    if "model" not in fields:
        raise typer.BadParameter("name a model, or a recipe that has one", param_hint="--model")
    fields |= {"samples": samples, "out": out}
    fields["verl"] = {**fields.get("verl", {}), **assignments(verl, "--verl")}
    with Errors():
        made = configured(GrpoConfig, fields)
        if dry_run:
            show_plan(made)
            return
        done = run_grpo(made, on_step=None if quiet else lambda step: show_step(step, SHOWN_METRICS))
        sys.stdout.write(f"{done.checkpoint}\n")


def _fields_of(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        fields = json.loads(file.read_text("utf-8"))
        return dict(fields)
    except (OSError, ValueError, TypeError) as error:
        raise typer.BadParameter(f"{file} is no file with one JSON object: {error}", param_hint="--config") from error
