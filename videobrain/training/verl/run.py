"""A training's directory: what it was begun with, how far it is, and running it to its end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from videobrain.errors import ConfigurationError
from videobrain.evaluation.manifest import OPERATIONAL
from videobrain.files import whole_file
from videobrain.training.verl.config import CHECKPOINTS, LOGS, TrainingConfig
from videobrain.training.verl.launch import StepDone, read_metrics, run_command

CONFIG_FILE, METRICS_FILE = "training.json", "metrics.jsonl"
_LOCK = ".lock"
_LATEST, _STEP_PREFIX = "latest_checkpointed_iteration.txt", "global_step_"  # verl's own
_MAY_CHANGE = frozenset(
    {
        *("steps", "epochs", "save_steps", "validate_steps", "keep_checkpoints", "loggers"),
        *("offload", "gradient_checkpointing", "attention"),
    }
)
"""What may be other when a training goes on: how long it goes, what is kept of it, and what only its memory needs."""
_SETTINGS_MAY_CHANGE = (OPERATIONAL - {"model", "prompts", "constrain_replies", "encoder"}) | {"tool_timeout_seconds"}
"""Settings of rollouts that may be other: how the machine works, and how long it may take over a tool."""


class TrainingResult(NamedTuple):
    """A training that is done."""

    out: Path
    """Its directory."""
    step: int
    """The last optimiser step."""
    checkpoint: Path
    """The last checkpoint, which `export_model` takes."""


def run_training(
    config: TrainingConfig,
    *,
    name: str,
    on_step: Callable[[StepDone], object] | None = None,
    may_change: frozenset[str] = frozenset(),
) -> TrainingResult:
    """Train, or go on where that was stopped, or return at once where all is done. Blocking.

    Args:
        config: What is trained. Its keys are held against verl's schema first.
        name: What the training is called, such as ``sft``.
        on_step: Called with each step that is done.
        may_change: Further fields that may be other than those that the directory was begun with.

    Raises:
        ConfigurationError: A key is unknown to verl, or the directory holds another training, or one that is going on.
        MissingDependencyError: verl is not installed.
        TrainingFailedError: The training failed; says after which step, why, and where its log is.
    """
    config.check()
    with _alone(config):
        return _run(config, name, on_step, _MAY_CHANGE | may_change)


@contextmanager
def _alone(config: TrainingConfig) -> Iterator[None]:
    """Keep a second start out of the directory: it would clear away what the first one is writing."""
    config.out.mkdir(parents=True, exist_ok=True)
    if config.nodes > 1 and not config.ray:  # torchrun is started on each machine, in one directory
        yield
        return
    lock = filelock.FileLock(config.out / _LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ConfigurationError(
            f"Another process trains in {config.out}.", hint="Wait until it has ended, or name another directory."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _run(
    config: TrainingConfig, name: str, on_step: Callable[[StepDone], object] | None, may_change: frozenset[str]
) -> TrainingResult:
    out, rows = config.out, config.rows()
    config = config.in_steps(rows)
    before, step = _begun(out), last_step(out)
    now: dict[str, Any] = {"training": name, "rows": rows, "config": config.model_dump(mode="json")}
    if before is not None and step is None:  # it failed before it learnt anything, and binds nobody
        (out / METRICS_FILE).unlink(missing_ok=True)
    elif before is not None:
        _check_same(out, before, now, may_change)
    owed = {} if step is None else config.owed(step, _measured(out, step))
    if step is None or config.steps is None or step < config.steps or owed:
        launch = config.model_copy(update={"verl": {**config.verl, **owed}}).launch()
        _write(out / CONFIG_FILE, now)
        config.write_files()
        _clear(out, config.keep_checkpoints)
        run_command(launch, name=name, logs=out / LOGS, metrics=out / METRICS_FILE, on_step=on_step)
    step = last_step(out)
    if step is None:
        raise ConfigurationError(
            f"The training ended without a checkpoint in {out / CHECKPOINTS}.",
            hint="Its own keys may have switched checkpoints off.",
        )
    return TrainingResult(out, step, checkpoint_of(out, step))


def last_step(out: Path) -> int | None:
    """The step of the newest whole checkpoint of a training; None where there is none."""
    try:
        return int((out / CHECKPOINTS / _LATEST).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # killed while verl wrote it, which it does when the checkpoint is whole
        return max(_checkpoints(out), default=None)


def checkpoint_of(out: Path, step: int) -> Path:
    """Where verl keeps the checkpoint of a step."""
    return out / CHECKPOINTS / f"{_STEP_PREFIX}{step}"


def model_of(out: Path) -> str | None:
    """The model that a training was begun with; None where the directory is none of a training."""
    begun = _begun(out)
    return None if begun is None else str(begun["config"]["model"])


def _begun(out: Path) -> dict[str, Any] | None:
    path = out / CONFIG_FILE
    try:
        found = json.loads(path.read_text("utf-8"))
        found["training"], found["config"]["model"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error!r}.", hint="Name another directory.") from error
    return dict(found)


def _check_same(out: Path, before: dict[str, Any], now: dict[str, Any], may_change: frozenset[str]) -> None:
    if before["training"] != now["training"]:
        raise ConfigurationError(f"{out} holds a training {before['training']!r}.", hint="Name another directory.")
    old, new = _of_weight(before["config"]), _of_weight(now["config"])
    other = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if wrong := [name for name in other if name not in may_change]:
        raise ConfigurationError(
            f"{out} holds a training with another {wrong[0]}: {old.get(wrong[0])!r}, not {new.get(wrong[0])!r}.",
            hint="Name another directory, or train on as it was begun.",
        )
    if before.get("rows", now["rows"]) != now["rows"]:
        raise ConfigurationError(
            f"{out} holds a training on {before['rows']:,} samples, and their files hold {now['rows']:,} now.",
            hint="Put them back as they were, or name another directory: the order in which they come is another one.",
        )


def _of_weight(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the settings that may be other when a training goes on."""
    if "settings" not in config:
        return config
    kept = {name: value for name, value in config["settings"].items() if name not in _SETTINGS_MAY_CHANGE}
    return {**config, "settings": kept}


def _measured(out: Path, step: int) -> Mapping[str, float]:
    """What is known of a step; nothing where it was not measured to its end."""
    try:
        done = read_metrics(out / METRICS_FILE)
    except FileNotFoundError:
        return {}
    return next((each.metrics for each in done if each.step == step), {})


def _clear(out: Path, keep: int | None) -> None:
    """Delete checkpoints that a killed start left half written, and the oldest ones of earlier starts.

    verl itself counts those of its own process alone, and reads which is the newest in a file that a kill can tear.
    """
    last = last_step(out)
    if last is None:
        return
    with whole_file(out / CHECKPOINTS / _LATEST) as file:
        file.write(str(last).encode())
    found = _checkpoints(out)
    whole = sorted(step for step in found if step <= last)
    for step, path in found.items():
        if step > last or (keep is not None and step in whole[:-keep]):
            shutil.rmtree(path, ignore_errors=True)


def _checkpoints(out: Path) -> dict[int, Path]:
    """The directories of checkpoints by step, half-written ones too."""
    return {
        int(path.name.removeprefix(_STEP_PREFIX)): path
        for path in (out / CHECKPOINTS).glob(f"{_STEP_PREFIX}*")
        if path.name.removeprefix(_STEP_PREFIX).isdecimal()
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
