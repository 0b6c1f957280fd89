"""A checkpoint of a training as the directory of a model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from videobrain.errors import ConfigurationError, InputError, MissingDependencyError
from videobrain.models.profiles import PROFILE_FILE, stated_profile
from videobrain.training.verl.checkpoint import find_checkpoint, read_weights
from videobrain.training.verl.run import model_of


def export_model(source: Path, out: Path, *, base: str | None = None) -> Path:
    """Write the model of a checkpoint as ``local:`` and ``vllm:`` model strings take it. Blocking, with the whole model
    in memory.

    Weights come from the checkpoint, adapters merged; what is no weight comes from the model that was trained:
    processor, chat template, settings of its generation, its ``videobrain.json`` and the frame encoder in it.

    Args:
        source: A training's directory, whose last checkpoint is taken, or a ``global_step_N`` in it.
        out: Directory to write; it must not exist, and is whole or not there.
        base: Directory or hub id of the model that was trained, where `source` is in no training's directory.

    Returns:
        `out`.

    Raises:
        InputError: There is no checkpoint, it is damaged, or it is of another model than `base`.
        ConfigurationError: `out` exists, or it is not known which model was trained.
        MissingDependencyError: torch or transformers is not installed.
    """
    source, out = source.expanduser().absolute(), out.expanduser().absolute()
    if out.exists():
        raise ConfigurationError(f"{out} exists already.", hint="Name a new directory.")
    checkpoint = find_checkpoint(source)
    base = base or next((found for place in (source, *source.parents) if (found := model_of(place))), None)
    if base is None:
        raise ConfigurationError(f"{source} does not tell which model was trained.", hint="Name it with --base.")
    aside = out.with_name(f".{out.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _save(base, checkpoint, aside)
        _copy_profile(Path(base), aside)
        aside.replace(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out


def _save(base: str, checkpoint: Path, out: Path) -> None:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("Writing a model needs torch and transformers.", extra="local") from error
    try:
        model = transformers.AutoModelForImageTextToText.from_pretrained(base)
        processor = transformers.AutoProcessor.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise InputError(f"The model that was trained, {base!r}, cannot be loaded: {error}") from error
    _put(read_weights(checkpoint), model, base)
    model.save_pretrained(out)
    processor.save_pretrained(out)


def _put(weights: dict[str, Any], model: Any, base: str) -> None:
    import torch

    target = model.state_dict()
    unknown = sorted(weights.keys() - target.keys())
    changed = [name for name, weight in weights.items() if name in target and target[name].shape != weight.shape]
    if unknown or changed:
        name = (unknown or changed)[0]
        raise InputError(
            f"The checkpoint is of another model than {base!r}: {name!r} is not there, or of another shape.",
            hint="Name the model that was trained with --base.",
        )
    with torch.no_grad():
        for name, weight in weights.items():
            target[name].copy_(weight)


def _copy_profile(base: Path, out: Path) -> None:
    """The profile of a directory's model, and the frame encoder that lies in the directory."""
    if not (base / PROFILE_FILE).is_file():
        return
    shutil.copy2(base / PROFILE_FILE, out)
    encoder = Path(stated_profile(str(base)).get("encoder") or "")
    if encoder.is_absolute() and encoder.is_dir() and encoder.is_relative_to(base.absolute()):
        shutil.copytree(encoder, out / encoder.relative_to(base.absolute()))
