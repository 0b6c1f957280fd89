"""The commands below ``videobrain train`` that train large models."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from videobrain.training.verl.config import TrainingConfig
    from videobrain.training.verl.launch import StepDone

SHOWN_METRICS = {"train/loss": "loss", "train/grad_norm": "grad_norm", "train/lr": "lr", "val/loss": "val_loss"}
"""What of verl's metrics progress shows, and what it calls it."""


def register(train: typer.Typer) -> None:
    """Add the commands to those of ``videobrain train``."""
    train.command()(sft)
    train.command()(export)


def sft(
    trajectories: Annotated[list[Path], typer.Argument(help="Files of trajectories.", metavar="TRAJECTORIES…")],
    out: Annotated[Path, typer.Option(help="Directory of the training; the same one goes on where it stopped.")],
    recipe: Annotated[str | None, typer.Option(help="Where to begin: paper, lora-80gb, lora-24gb or cpu.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Directory or hub id of the model. [default: the recipe's]")
    ] = None,
    validate_on: Annotated[list[Path] | None, typer.Option(help="Trajectories whose loss is only measured.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the trajectories. [default: 1]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps instead.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Trajectories of a step. [default: 32]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate. [default: 1e-5]")] = None,
    lora_rank: Annotated[int | None, typer.Option(min=0, help="Rank of adapters; 0 trains all weights.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a trajectory. [default: 32768]")] = None,
    save_steps: Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints. [default: 20]")] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cuda|cpu", help="Where. [default: auto]")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs of each machine. [default: 1]")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines; needs --rendezvous. [default: 1]")] = None,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where several machines meet, each with this command.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any other field of SftConfig.")
    ] = None,
    verl: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Any key of verl's configuration.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print verl's command and configuration.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Fine-tune a model on trajectories, or go on where that was stopped (extra `train`)."""
    from videobrain.training.verl.config import configured
    from videobrain.training.verl.recipes import SFT_RECIPES
    from videobrain.training.verl.sft import SftConfig, run_sft

    given = {
        "model": model,
        "validate_on": validate_on,
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "lora_rank": lora_rank,
        "max_tokens": max_tokens,
        "save_steps": save_steps,
        "device": device,
        "gpus": gpus,
        "nodes": nodes,
        "rendezvous": rendezvous,
    }
    if recipe is not None and recipe not in SFT_RECIPES:
        raise typer.BadParameter(f"{recipe!r} is none of {', '.join(SFT_RECIPES)}", param_hint="--recipe")
    fields: dict[str, Any] = dict(SFT_RECIPES[recipe].fields) if recipe is not None else {}
    fields |= {name: value for name, value in given.items() if value is not None} | assignments(set_, "--set")
    if "model" not in fields:
        raise typer.BadParameter("name a model, or a recipe that has one", param_hint="--model")
    fields |= {"train": trajectories, "out": out}
    fields["verl"] = {**fields.get("verl", {}), **assignments(verl, "--verl")}
    with Errors():
        config = configured(SftConfig, fields)
        if dry_run:
            show_plan(config)
            return
        done = run_sft(config, on_step=None if quiet else show_step)
        sys.stdout.write(f"{done.checkpoint}\n")


def export(
    source: Annotated[Path, typer.Argument(help="A training's directory, or one of its checkpoints.")],
    out: Annotated[Path, typer.Option(help="Directory of the model; it must not exist.")],
    base: Annotated[
        str | None, typer.Option(help="The model that was trained. [default: as the training's directory says]")
    ] = None,
) -> None:
    """Write the model of a checkpoint as local:DIR and vllm:DIR take it, adapters merged."""
    from videobrain.training.verl.export import export_model

    with Errors():
        sys.stdout.write(f"{export_model(source, out, base=base)}\n")


# --- What all trainings' commands share ------------------------------------------------------------------------------


class Errors:
    """Turns an error of ours within its block into words and an exit status."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        from videobrain.errors import InputError, VideoBrainError

        if isinstance(error, VideoBrainError):
            _fail(str(error), 2 if isinstance(error, InputError) else 1)
        if isinstance(error, KeyboardInterrupt):
            _fail("interrupted; the same command goes on from there", 130)


def assignments(texts: list[str] | None, option: str) -> dict[str, Any]:
    """``NAME=VALUE`` as names with values: JSON where it is, else text."""
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def show_plan(config: TrainingConfig) -> None:
    """Print the command, the files that it reads, and verl's configuration where verl is there to say what that is."""
    from videobrain.errors import InputError, MissingDependencyError

    with suppress(InputError):  # a plan can be made before its samples are there
        config = config.in_steps(config.rows())
    sys.stdout.write(f"{config.launch().shell()}\n\n")
    for path, text in config.files().items():
        sys.stdout.write(f"{path}\n{json.dumps(json.loads(text), indent=1)}\n\n")
    try:
        sys.stdout.write(config.check())
    except MissingDependencyError as error:
        sys.stdout.write(json.dumps(config.compile(), indent=1) + "\n")
        sys.stderr.write(f"warning: The keys were not held against verl's own. {error}\n")


def show_step(done: StepDone, metrics: Mapping[str, str] = SHOWN_METRICS) -> None:
    """One line about a step on stderr, with these of its metrics under these names."""
    shown = [f"{name} {done.metrics[metric]:.4g}" for metric, name in metrics.items() if metric in done.metrics]
    sys.stderr.write(f"step {done.step}  {'  '.join(shown)}\n")


def _fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(status)
