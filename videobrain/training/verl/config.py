"""What the configurations of all trainings through verl share.

A configuration is data that is checked when it is made. `TrainingConfig.compile` turns it into verl's keys,
`TrainingConfig.launch` into the command that runs it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from videobrain.errors import ConfigurationError, MissingDependencyError
from videobrain.files import whole_file
from videobrain.text import misfits
from videobrain.training.verl.cpu import cpu_environment
from videobrain.training.verl.launch import Launch
from videobrain.training.verl.overrides import arguments, composed

Device = Literal["cpu", "cuda"]
FROZEN_VISION_MODULE = "videobrain.training.verl.frozen_vision"
VISION_MODULES = r"(.*\.)?(visual|vision_tower|vision_model)\..*"
"""Names of the modules of vision towers, as a regular expression that matches the whole name."""

CHECKPOINTS, LOGS = "checkpoints", "logs"
"""Directories in that of a training."""


class TrainingConfig(BaseModel, ABC):
    """What all trainings through verl have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_name: ClassVar[str]
    """File of verl's configuration that the overrides are held against."""
    ray: ClassVar[bool] = False
    """Whether verl starts the workers through Ray."""

    # What is trained
    model: str
    """Directory or hub id of the model that is trained."""
    out: Path
    """Directory of the training: checkpoints, logs, curves. The same one goes on where it stopped."""
    lora_rank: int = Field(default=0, ge=0)
    """Rank of the adapters; 0 trains all weights."""
    lora_alpha: int | None = Field(default=None, ge=1)
    """Scale of the adapters; by default twice the rank."""
    train_vision: bool = False
    """Train the vision tower too; the paper leaves it as it is."""

    # How long, how fast
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the data."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps instead of `epochs`."""
    batch_size: int = Field(ge=1)
    """Samples of one optimiser step, over all devices."""

    # Where
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: the GPUs where torch finds any, else the CPU, which serves for tests and small models only."""
    gpus: int = Field(default=1, ge=1)
    """GPUs of each machine; on the CPU so many processes."""
    nodes: int = Field(default=1, ge=1)
    """Machines."""
    offload: bool = False
    """Keep weights and the optimiser's state in the machine's memory while they are not used."""
    gradient_checkpointing: bool = True
    """Compute activations a second time instead of keeping them."""
    attention: Literal["auto", "flash_attention_2", "sdpa"] = "auto"
    """``auto``: flash attention on GPUs where it is installed, else torch's own, which pads sequences."""

    # What is kept
    save_steps: int | None = Field(default=20, ge=1)
    """Steps between checkpoints, the most that a kill can cost. There is one at the end too; None has only that."""
    keep_checkpoints: int | None = Field(default=2, ge=1)
    """How many of the newest stay; None keeps all."""
    loggers: tuple[str, ...] = ("console", "tensorboard")
    """verl's names of where metrics go. The console is always one: progress is read from it."""

    verl: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keys of verl's configuration, which go before ours: ``{"optim.weight_decay": 0.1}``. A key that verl's
    schema leaves out is written ``+key``."""

    @field_validator("out")
    @classmethod
    def _absolute(cls, out: Path) -> Path:
        # verl's processes may have another working directory
        return out.expanduser().absolute()

    @field_validator("model")
    @classmethod
    def _model_from_anywhere(cls, model: str) -> str:
        place = Path(model).expanduser()
        return str(place.absolute()) if place.is_dir() else model

    @field_validator("loggers")
    @classmethod
    def _progress_can_be_read(cls, loggers: tuple[str, ...]) -> tuple[str, ...]:
        return loggers if "console" in loggers else ("console", *loggers)

    @model_validator(mode="after")
    def _adapters_make_sense(self) -> Self:
        if self.lora_alpha is not None and not self.lora_rank:
            raise ValueError("lora_alpha is the scale of adapters, and there are none: lora_rank is 0")
        return self

    # --- To verl ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def overrides(self, device: Device) -> dict[str, JsonValue]:
        """verl's keys for this training, those of `verl` not among them."""

    @abstractmethod
    def command(self, device: Device) -> tuple[str, ...]:
        """The command that runs verl, without verl's keys."""

    @abstractmethod
    def rows(self) -> int:
        """How many samples there are to train on.

        Raises:
            InputError: A file of them cannot be used.
        """

    def in_steps(self, rows: int) -> Self:
        """The same training with its epochs counted in steps.

        verl forgets an epoch where it goes on from a checkpoint at the end of one, and then ends as if all were done.
        It does as many steps as it is told.

        Args:
            rows: How many samples there are.
        """
        if self.steps is not None:
            return self
        return self.model_copy(update={"steps": self.epochs * (rows // self.batch_size)})

    def owed(self, step: int, measured: Mapping[str, float]) -> dict[str, JsonValue]:
        """verl's keys for what a start that was killed after the checkpoint of a step has left undone.

        Args:
            step: That of the newest checkpoint.
            measured: What was measured at it.
        """
        return {}

    def files(self) -> Mapping[Path, str]:
        """Files that verl's processes read beside their command, with the JSON that has to stand in them."""
        return {}

    def write_files(self) -> None:
        """Write those files."""
        for path, text in self.files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                file.write(text.encode() + b"\n")

    def compile(self) -> dict[str, JsonValue]:
        """Everything in which this training differs from verl's defaults, as verl's keys."""
        made = self.overrides(self.found_device())
        bare = {key.lstrip("+"): key for key in made}
        for key, value in self.verl.items():
            # The last word is the user's, with or without the plus that we found necessary.
            made.pop(bare.get(key.lstrip("+"), key), None)
            made[key] = value
        return made

    def check(self) -> str:
        """verl's whole configuration for this training, in YAML.

        Raises:
            ConfigurationError: verl's schema does not have a key; the error names it.
            MissingDependencyError: verl is not installed.
        """
        config = composed(self.schema_name, self.compile())
        from omegaconf import OmegaConf

        return str(OmegaConf.to_yaml(config))

    def launch(self) -> Launch:
        """The command that runs this training, and its environment."""
        device = self.found_device()
        hydra = ["hydra.output_subdir=null", *arguments({"hydra.run.dir": str(self.out / LOGS)})]
        return Launch(
            command=(*self.command(device), *arguments(self.compile()), *hydra),
            environment=self.environment(device),
        )

    def environment(self, device: Device) -> dict[str, str]:
        """Environment variables of verl's processes, beside those that there are."""
        variables = {
            "HYDRA_FULL_ERROR": "1",
            "TENSORBOARD_DIR": str(self.out / "tensorboard"),
        }
        root = str(Path(__file__).parents[3])
        if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
            # A checkout: verl's processes must find the same package, wherever they run.
            paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
        if device == "cpu":
            variables |= cpu_environment(ray=self.ray)
        return variables

    def found_device(self) -> Device:
        """The device, looked for where none is named.

        Raises:
            MissingDependencyError: It has to be looked for, and torch is not installed.
        """
        if self.device != "auto":
            return self.device
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError("Training of large models needs torch.", extra="train") from error
        return "cuda" if torch.cuda.is_available() else "cpu"

    # --- Parts that several trainings share --------------------------------------------------------------------------

    def found_attention(self, device: Device) -> str:
        """The implementation of attention, looked for where none is named."""
        from importlib.util import find_spec

        if self.attention != "auto":
            return self.attention
        return "flash_attention_2" if device == "cuda" and find_spec("flash_attn") is not None else "sdpa"

    def model_overrides(self, prefix: str, device: Device) -> dict[str, JsonValue]:
        """verl's keys of the model, which stand below `prefix`."""
        attention = self.found_attention(device)
        made: dict[str, JsonValue] = {
            f"{prefix}.path": self.model,
            f"+{prefix}.override_config.attn_implementation": attention,
            # Without padding several sequences stand in one row, which only flash attention keeps apart.
            f"{prefix}.use_remove_padding": attention == "flash_attention_2",
            f"{prefix}.enable_gradient_checkpointing": self.gradient_checkpointing,
        }
        if self.lora_rank:
            made[f"{prefix}.lora_rank"] = self.lora_rank
            made[f"{prefix}.lora_alpha"] = self.lora_alpha or 2 * self.lora_rank
            if not self.train_vision:
                made[f"{prefix}.exclude_modules"] = VISION_MODULES
        elif not self.train_vision:
            # verl's own key for it (freeze_vision_tower) has no effect in its engine for FSDP.
            made[f"{prefix}.external_lib"] = FROZEN_VISION_MODULE
        return made

    def engine_overrides(self, prefix: str, device: Device) -> dict[str, JsonValue]:
        """verl's keys of the engine that trains, which stand below `prefix`."""
        made: dict[str, JsonValue] = {
            # FSDP1 takes no model with weights of which only some are trained, and none on the CPU.
            f"{prefix}.strategy": "fsdp2",
            f"{prefix}.param_offload": self.offload,
            f"{prefix}.optimizer_offload": self.offload,
        }
        if device == "cpu":
            # Few CPUs are quick in bfloat16, and compiling costs more than it saves there.
            made[f"{prefix}.use_torch_compile"] = False
            made[f"+{prefix}.mixed_precision"] = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
        return made

    def trainer_overrides(self, device: Device) -> dict[str, JsonValue]:
        """verl's keys of the trainer."""
        return {
            "trainer.device": device,
            "trainer.nnodes": self.nodes,
            "trainer.n_gpus_per_node": self.gpus,
            "trainer.project_name": "videobrain",
            "trainer.experiment_name": self.out.name,
            "trainer.default_local_dir": str(self.out / CHECKPOINTS),
            "trainer.logger": list(self.loggers),
            "trainer.resume_mode": "auto",
            # verl leaves without a last checkpoint where its epochs end before its steps.
            "trainer.total_epochs": self.epochs if self.steps is None else self.steps,
            "trainer.total_training_steps": self.steps,
            "trainer.save_freq": self.save_steps or -1,
        }


def python_module(module: str) -> tuple[str, ...]:
    """The command that runs a module in this environment."""
    return (sys.executable, "-m", module)


C = TypeVar("C", bound=TrainingConfig)


def configured(kind: type[C], fields: Mapping[str, Any]) -> C:
    """A configuration of fields from outside.

    Raises:
        ConfigurationError: A field is unknown, missing or wrong; the error names each.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        wrong = misfits(error, whole="the whole")
        raise ConfigurationError(f"The training cannot be configured so: {wrong}.") from error
