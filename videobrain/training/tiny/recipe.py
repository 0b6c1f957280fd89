"""The tiny model from nothing: an encoder, a vision-language model in stages, and the directory that holds both."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from videobrain.errors import ConfigurationError, MissingDependencyError
from videobrain.evaluation.metrics import percent
from videobrain.installed import installed_version
from videobrain.models import ModelProfile
from videobrain.models.profiles import PROFILE_FILE
from videobrain.report.words import took
from videobrain.settings import Settings
from videobrain.training.tiny.card import FACTS, Facts, StageFacts, write_card
from videobrain.training.tiny.curves import Curve, draw_curves, read_curve
from videobrain.training.tiny.encoder import CURVE, Recipe, build_model, encoder_stage, train_encoder
from videobrain.training.tiny.model import FRAME_TOKENS, TinyShape, make_tiny_model, parameters, save_tiny_model
from videobrain.training.tiny.stages import Stage
from videobrain.training.tiny.tokenizer import MERGE, PATCH_PIXELS, make_tiny_processor
from videobrain.training.tiny.trainer import CURRICULUM, VlmStage, load_weights, train_stage
from videobrain.world.vocabulary import TAG

_log = logging.getLogger(__name__)

VERSION = 11
"""Of all that a stage depends on and no recipe says: data, prompts, oracle, loss. Stages of another are done anew."""
_PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "open_clip": "open_clip_torch",
    "matplotlib": "matplotlib",
}
_KERNELS = "4096"
"""Kernels that torch keeps on a CPU, one for each shape of a product of matrices: the usual 1,024 are too few."""
_LOCK_SECONDS = 30.0
"""The processes that make batches outlive a killed training for some seconds, and hold its lock."""


@dataclass(frozen=True, slots=True)
class TinyRecipe:
    """What is trained.

    Attributes:
        name: For people.
        encoder: The frame encoder; the training's seed replaces its own.
        shape: Sizes of the vision-language model.
        curriculum: Its stages, each beginning with the weights of the one before.
        workers: Processes that make batches; None for half the machine's cores. The result does not depend on it, nor
            on the next two.
        report_steps: Steps between two lines of the log of a stage.
        checkpoint_seconds: Time between two checkpoints of a stage.
    """

    name: str
    encoder: Recipe
    shape: TinyShape
    curriculum: tuple[VlmStage, ...]
    workers: int | None = None
    report_steps: int = 100
    checkpoint_seconds: float = 120.0


FULL = TinyRecipe("full", Recipe(), TinyShape(), CURRICULUM)
"""The model that comes with the package."""
QUICK = TinyRecipe(
    name="quick",
    encoder=Recipe(
        side=32, width=8, text_width=32, text_layers=1, dimension=32, steps=24, batch=8, captions=2, every=8
    ),
    shape=TinyShape(text_hidden=64, text_layers=1, text_heads=2, text_key_heads=1, text_inner=64, vision_hidden=32),
    curriculum=tuple(replace(stage, steps=6, frames=16, rounds=1) for stage in CURRICULUM),
    workers=0,
    report_steps=1,
    checkpoint_seconds=0.0,
)
"""A few steps of a smaller model, in under a minute: everything is there, and nothing has been learnt."""


class Progress(NamedTuple):
    """How far a stage is."""

    stage: str
    step: int
    steps: int
    loss: float
    accuracy: float
    """Share of words that the model would write; of the encoder its recall."""
    seconds_left: float
    """Of this stage; 0 when it is done."""

    def __str__(self) -> str:
        left = f"{took(self.seconds_left)} left" if self.seconds_left else "done"
        shares = f"loss {self.loss:.3f}  accuracy {percent(self.accuracy):>7}"
        return f"{self.stage:12}  {self.step:6,} of {self.steps:,} steps  {shares}  {left}"


def train_tiny(
    out: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    recipe: TinyRecipe = FULL,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the tiny model and its encoder from nothing, or do what is left of it. Blocking.

    Killed at any moment, a second call goes on from the last checkpoint; with everything trained it takes seconds.

    Args:
        out: Directory of the result. It appears whole or not at all; one that an earlier call wrote is replaced.
        cache: Directory that keeps the stages; by default ``tiny`` in the settings' ``cache_dir``.
        seed: Seed of everything.
        recipe: What is trained.
        progress: Told how it goes, some times a minute.

    Returns:
        `out`, for ``local:`` and ``vllm:`` model strings.

    Raises:
        MissingDependencyError: A package of the extra ``tiny`` is not installed.
        ConfigurationError: `out` is something else, or another training uses `cache`.
        OSError: A directory cannot be written.
    """
    _require_packages()
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS)
    out = Path(out).resolve()
    cache = (Settings().cache_dir / "tiny" if cache is None else Path(cache)).resolve()
    _check_places(out, cache)
    tell = progress or (lambda _: None)
    with _locked(cache):
        encoder = replace(recipe.encoder, seed=seed)
        done = [encoder_stage(encoder, cache)]
        encoder_out = _train_encoder(encoder, done[0], tell)
        for number, (vlm_stage, stage) in enumerate(vlm_stages(recipe, cache, seed)):
            start = _weights(done[-1]) if number else None
            _train_stage(recipe, vlm_stage, stage, seed + number, start, tell)
            done.append(stage)
        with _whole_directory(out) as aside:
            processor = make_tiny_processor()
            model = make_tiny_model(processor, recipe.shape, seed=seed)
            load_weights(model, _weights(done[-1]))
            save_tiny_model(model, processor, aside)
            shutil.copytree(encoder_out, aside / "encoder")
            profile = {"profile": tiny_profile().model_dump(exclude_unset=True)}
            _write_json(aside / PROFILE_FILE, json.dumps(profile, indent=2))
            curves = _keep_logs(done, aside / "training")
            facts = _facts(recipe, seed, model, aside, done, curves)
            _write_json(aside / FACTS, facts.model_dump_json(indent=2))
            write_card(aside)
            _check_places(out, cache)  # an hour has passed
    return out


def vlm_stages(recipe: TinyRecipe, cache: Path, seed: int = 0) -> list[tuple[VlmStage, Stage]]:
    """The stages of the vision-language model, with the directories that `train_stage` works in.

    A stage that was trained elsewhere with the same configuration counts as done when its directory, with
    ``weights.safetensors`` and ``log.jsonl``, is given the name of the stage's.
    """
    vocabulary = json.dumps(make_tiny_processor().tokenizer.get_vocab(), sort_keys=True)
    config: dict[str, Any] = {
        "version": VERSION,
        "world": TAG,
        "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest(),
        "shape": asdict(recipe.shape),
        "before": None,
    }
    stages = []
    for number, each in enumerate(recipe.curriculum):
        stage = Stage(each.name, {**config, "stage": asdict(each), "seed": seed + number}, cache)
        config = {**config, "before": stage.digest}
        stages.append((each, stage))
    return stages


def tiny_profile() -> ModelProfile:
    """What ``videobrain.json`` says of the model: a frame of any size costs the same."""
    return ModelProfile(
        name="tiny",
        image_patch=PATCH_PIXELS * MERGE,
        image_min_tokens=FRAME_TOKENS,
        image_max_tokens=FRAME_TOKENS,
        image_extra_tokens=2,
        native_tools=False,  # its chat template could, but it has learnt calls in tags alone
        constrain_replies=True,  # or one multiple-choice answer in ten is none of the options
        prompts="compact",
        encoder="encoder",
        knows="synthetic world",
    )


def _train_encoder(recipe: Recipe, place: Stage, tell: Callable[[Progress], None]) -> Path:
    def told(point: dict[str, Any]) -> None:
        step = int(point["step"])
        left = point["seconds"] / step * (recipe.steps - step)
        tell(Progress("encoder", step, recipe.steps, point["loss"], point["recall"], left))

    _tell_if_done(place, tell)
    out = place.cache / "encoder"
    return train_encoder(out, cache=place.cache, seed=recipe.seed, recipe=recipe, log=_log.info, progress=told)


def _train_stage(
    recipe: TinyRecipe, stage: VlmStage, place: Stage, seed: int, start: Path | None, tell: Callable[[Progress], None]
) -> None:
    def told(line: dict[str, Any]) -> None:
        end = stage.end_of_round(line["step"])
        left = (end - line["step"]) / max(0.001, line["steps_per_second"])  # rounded, so perhaps to 0
        tell(Progress(stage.name, line["step"], end, line["loss"], line["accuracy"]["all"], left))

    def work(directory: Path) -> None:
        train_stage(
            stage,
            directory,
            start=start,
            shape=recipe.shape,
            seed=seed,
            workers=max(1, (os.cpu_count() or 1) // 2) if recipe.workers is None else recipe.workers,
            report_steps=recipe.report_steps,
            checkpoint_seconds=recipe.checkpoint_seconds,
            progress=told,
        )

    _tell_if_done(place, tell)
    place.run(work)


def _tell_if_done(stage: Stage, tell: Callable[[Progress], None]) -> None:
    if stage.done:
        curve = read_curve(stage.name, _log_of(stage))
        accuracy = next(iter(curve.accuracy.values()))
        tell(Progress(stage.name, curve.steps[-1], curve.steps[-1], curve.loss[-1], accuracy[-1], 0.0))


def _log_of(stage: Stage) -> Path:
    return stage.directory / (CURVE if stage.name == "encoder" else "log.jsonl")


def _weights(stage: Stage) -> Path:
    return stage.directory / "weights.safetensors"


@contextmanager
def _whole_directory(path: Path) -> Iterator[Path]:
    """Gives a directory that becomes `path` at the end of the block; where the block fails, `path` stays as it was."""
    aside, old = (path.with_name(f".{path.name}.{kind}") for kind in ("part", "old"))
    if old.exists() and not path.exists():  # killed between the two renames below
        old.rename(path)
    _remove(aside, old)
    aside.mkdir()
    try:
        yield aside
        if path.exists():
            path.rename(old)
        aside.rename(path)
        _remove(old)
    finally:
        _remove(aside)


def _remove(*directories: Path) -> None:
    for directory in directories:
        if directory.exists():
            shutil.rmtree(directory)


def _write_json(path: Path, text: str) -> None:
    path.write_text(f"{text}\n", "utf-8")


def _keep_logs(stages: list[Stage], target: Path) -> list[Curve]:
    """Copy the log of each stage, and draw them; returns their curves."""
    target.mkdir()
    curves = []
    for stage in stages:
        log = target / f"{stage.name}.jsonl"
        shutil.copyfile(_log_of(stage), log)
        curves.append(read_curve(stage.name, log))
    draw_curves(curves, target / "curves.png")
    return curves


def _facts(
    recipe: TinyRecipe, seed: int, model: Any, directory: Path, stages: list[Stage], curves: list[Curve]
) -> Facts:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    encoder = build_model(recipe.encoder)
    return Facts(
        recipe=recipe.name,
        version=installed_version(),
        seed=seed,
        parameters=parameters(model),
        encoder_parameters=parameters(encoder),
        weights_bytes=(directory / "model.safetensors").stat().st_size,
        encoder_bytes=(directory / "encoder" / "open_clip_model.safetensors").stat().st_size,
        vocabulary=model.config.text_config.vocab_size,
        context_tokens=model.config.text_config.max_position_embeddings,
        machine=f"{os.cpu_count()} CPU cores, {device}, Python {platform.python_version()}",
        packages={package: version(package) for package in _PACKAGES.values() if package != "matplotlib"},
        stages=tuple(
            StageFacts(
                name=stage.name,
                digest=stage.digest,
                steps=curve.steps[-1],
                minutes=round(curve.seconds / 60, 1),
                loss=curve.loss[-1],
                accuracy={kind: shares[-1] for kind, shares in curve.accuracy.items()},
            )
            for stage, curve in zip(stages, curves, strict=True)
        ),
    )


def _require_packages() -> None:
    for module, package in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(f"Training the tiny model needs the package {package}.", extra="tiny")


def _check_places(out: Path, cache: Path) -> None:
    """Fail before an hour of training where its result could not be written."""
    if cache.is_relative_to(out):
        raise ConfigurationError(
            f"The cache {cache} lies in {out}, which is written anew.", hint="Name a cache outside of it."
        )
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and not (out / FACTS).is_file():
        raise ConfigurationError(
            f"{out} exists and was not written by this training.",
            hint="Name a directory that does not exist, or one that a training of the tiny model wrote.",
        )
    place = next(parent for parent in out.parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise ConfigurationError(f"{out} cannot be made: {place} is no directory that can be written to.")
    out.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(cache / ".lock", timeout=_LOCK_SECONDS):
            yield
    except filelock.Timeout as error:
        raise ConfigurationError(
            f"Another training works in {cache}.", hint="Wait until it has ended, or name another cache."
        ) from error
