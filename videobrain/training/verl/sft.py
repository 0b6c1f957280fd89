"""Supervised fine-tuning of the sampling policy on trajectories, through verl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from videobrain.errors import ConfigurationError, InputError
from videobrain.models.profiles import profile_for
from videobrain.training.verl.config import Device, TrainingConfig, python_module
from videobrain.training.verl.cpu import SFT_MODULE
from videobrain.training.verl.launch import StepDone
from videobrain.training.verl.rows import TrajectoryRows
from videobrain.training.verl.run import TrainingResult, run_training

_VERL_MODULE = "verl.trainer.sft_trainer"
_DATASET = "pkg://videobrain.training.verl.dataset"


_MAY_CHANGE = frozenset({"rendezvous", "tokens_per_gpu", "max_tokens"})
"""What may be other when a training goes on, beside what may be in every one."""


class SftConfig(TrainingConfig):
    """Supervised fine-tuning: what, on what, and with what.

    config = SftConfig(model="Qwen/Qwen3-VL-8B-Instruct", train=("taught/trajectories.jsonl",), out="sft-8b")
    run_sft(config)
    """

    schema_name: ClassVar[str] = "sft_trainer_engine"

    train: tuple[Path, ...] = Field(min_length=1)
    """Files of trajectories."""
    validate_on: tuple[Path, ...] = ()
    """Files of trajectories whose loss is measured and never trained."""
    validate_steps: int | None = Field(default=None, ge=1)
    """Steps between validations; by default there is one at the end."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; it falls along a cosine afterwards."""
    batch_size: int = Field(default=32, ge=1)
    """Trajectories of one optimiser step, over all devices."""
    max_tokens: int = Field(default=32768, ge=1)
    """Tokens of a trajectory, those of its images included. A longer one is an error that names it."""
    tokens_per_gpu: int | None = Field(default=None, ge=1)
    """Tokens that go through a device at once, by default `max_tokens`: a batch goes through in parts of this size."""
    loader_processes: int | None = Field(default=None, ge=0)
    """Processes that prepare trajectories for each device; by default 4, and none on the CPU."""
    rendezvous: str | None = Field(default=None, pattern=r"^[\w.\-\[\]:]+:\d+$")
    """``HOST:PORT`` of one of several machines, on each of which the same command is started."""

    @field_validator("train", "validate_on")
    @classmethod
    def _absolute_files(cls, files: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(file.expanduser().absolute() for file in files)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.batch_size % (self.gpus * self.nodes):
            raise ValueError(f"batch_size {self.batch_size} is no multiple of the {self.gpus * self.nodes} devices")
        if self.tokens_per_gpu is not None and self.tokens_per_gpu < self.max_tokens:
            raise ValueError(f"tokens_per_gpu {self.tokens_per_gpu} is less than max_tokens {self.max_tokens}")
        if self.validate_steps is not None and not self.validate_on:
            raise ValueError("validate_steps is how often validate_on is looked at, and that names no file")
        if (self.nodes > 1) != (self.rendezvous is not None):
            raise ValueError("rendezvous is where several machines meet: give it with nodes above 1, and only then")
        return self

    def overrides(self, device: Device) -> dict[str, JsonValue]:
        """verl's keys for this training, those of `verl` not among them."""
        loaders = self.loader_processes
        return {
            **self.model_overrides("model", device),
            **self.engine_overrides("engine", device),
            "optim.lr": self.learning_rate,
            "optim.lr_warmup_steps_ratio": self.warmup,
            "optim.lr_scheduler_type": "cosine",
            "data.custom_cls.path": _DATASET,
            "data.custom_cls.name": "TrajectoryDataset",
            "data.train_files": [str(file) for file in self.train],
            "data.val_files": [str(file) for file in self.validate_on] or None,
            "data.train_batch_size": self.batch_size,
            "data.use_dynamic_bsz": True,
            "data.max_length": self.max_tokens,
            "data.max_token_len_per_gpu": self.tokens_per_gpu or self.max_tokens,
            "data.num_workers": (0 if device == "cpu" else 4) if loaders is None else loaders,
            **self.trainer_overrides(device),
            "trainer.max_ckpt_to_keep": self.keep_checkpoints,
            "trainer.test_freq": self.validate_steps or -1,
        }

    def command(self, device: Device) -> tuple[str, ...]:
        """The command that runs verl, without verl's keys."""
        meeting = ["--standalone"]
        if self.rendezvous is not None:
            meeting = [f"--nnodes={self.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={self.rendezvous}"]
        return (
            *python_module("torch.distributed.run"),
            *meeting,
            f"--nproc-per-node={self.gpus}",
            "-m",
            SFT_MODULE if device == "cpu" else _VERL_MODULE,
        )

    def rows(self) -> int:
        """How many trajectories there are to train on.

        Raises:
            InputError: A file of them cannot be read, or there is not one.
        """
        return len(TrajectoryRows(self.train))

    def check_files(self) -> None:
        """See to it that the files are there and are enough for a batch.

        Raises:
            InputError: A file is missing, empty or damaged, a trace of it is gone, or its trajectories were asked in
                other words than the model is.
            ConfigurationError: There are fewer trajectories than a batch has.
        """
        for files, what in ((self.train, "train"), (self.validate_on, "validate_on")):
            if not files:
                continue
            for file in files:
                rows = TrajectoryRows([file])
                rows.check()
                asked, own = rows.prompts(0), profile_for(self.model).prompts
                if asked and asked != own:
                    raise InputError(
                        f"The trajectories {file} have the prompts {asked!r}, and {self.model} is asked with {own!r}.",
                        hint=f"Let the teacher answer with VIDEOBRAIN_PROMPTS={own}.",
                    )
            count = len(TrajectoryRows(files))
            if count < self.batch_size:
                raise ConfigurationError(
                    f"There are {count} trajectories to {what}, and a batch has {self.batch_size}.",
                    hint=f"Lower batch_size to {count} or less, or give more.",
                )


def run_sft(config: SftConfig, *, on_step: Callable[[StepDone], object] | None = None) -> TrainingResult:
    """Fine-tune, or go on where that was stopped, or return at once where all is done. Blocking.

    Args:
        config: What is trained on what.
        on_step: Called with each step that is done.

    Raises:
        InputError: A file of trajectories cannot be used.
        ConfigurationError: A key is unknown to verl, or the directory holds another training.
        MissingDependencyError: verl is not installed.
        TrainingFailedError: The training failed; says after which step, why, and where its log is.
    """
    config.check_files()
    return run_training(config, name="sft", on_step=on_step, may_change=_MAY_CHANGE)
