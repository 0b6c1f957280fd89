"""Reinforcement learning of the sampling policy on questions, through verl."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from videobrain.agent import resolve_strategy
from videobrain.errors import ConfigurationError, MissingDependencyError
from videobrain.limits import Limits
from videobrain.models import resolve_model
from videobrain.recipe import Recipe
from videobrain.settings import Settings
from videobrain.tools import resolve_tools
from videobrain.training.player import PlaySettings
from videobrain.training.reward_spec import RewardSpec
from videobrain.training.sample import read_samples, require_scorable
from videobrain.training.verl.config import Device, TrainingConfig, python_module
from videobrain.training.verl.cpu import ray_overrides
from videobrain.training.verl.figures import VALIDATION
from videobrain.training.verl.launch import StepDone
from videobrain.training.verl.objectives import OBJECTIVES, Average, Objective
from videobrain.training.verl.overrides import schema_directory
from videobrain.training.verl.run import TrainingResult, run_training

_MODULES = "videobrain.training.verl"
_LOOP_FILE, _PLAY_FILE, ROLLOUTS = "agent-loop.json", "play.json", "rollouts"
"""Files in the directory of a training that verl's processes read, and the directory of the rollouts' traces."""
_EVERY_STEP_IS_TOO_MANY = 10**9
"""verl saves its last step where it is to save any at all."""
_MAY_CHANGE = frozenset(
    {"workers", "rollout_memory", "rollouts_at_once", "sequences_per_gpu", "keep_rollouts", "judge_base_url"}
)
"""What may be other when a training goes on, beside what may be in every one."""


class GrpoConfig(TrainingConfig):
    """Reinforcement learning: what, on what, and with what. The defaults are the paper's (arXiv 2602.04094).

    config = GrpoConfig(model="sft-8b/model", samples=("classified.jsonl",), out="grpo-8b", gpus=8)
    run_grpo(config)
    """

    schema_name: ClassVar[str] = "ppo_trainer"
    ray: ClassVar[bool] = True

    # On what
    samples: tuple[Path, ...] = Field(min_length=1)
    """Files of samples, as `write_samples` and ``videobrain train classify`` write them."""
    validate_on: tuple[Path, ...] = ()
    """Files of samples that are asked and never trained."""
    validate_steps: int | None = Field(default=None, ge=1)
    """Steps between validations; by default there is one at the end."""
    seed: int = Field(default=0, ge=0)
    """Of the order of the samples and of the sampling."""

    # How it learns
    objective: Objective = "grpo"
    group_size: int = Field(default=8, ge=2)
    """Rollouts of each question in a step."""
    batch_size: int = Field(default=32, ge=1)
    """Questions of a step."""
    mini_batch_size: int | None = Field(default=None, ge=1)
    """Questions of one update of the weights; by default all of a step, so that every update is on-policy."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """Learning rate."""
    kl: float = Field(default=0.001, ge=0)
    """Weight of the divergence from the model that the training began with; 0 keeps no such model."""
    entropy: float = Field(default=0.001, ge=0)
    """Weight of the entropy of the policy."""
    clip_low: float | None = Field(default=None, gt=0)
    """How far below 1 the ratio of probabilities may fall; by default the objective's."""
    clip_high: float | None = Field(default=None, gt=0)
    """How far above 1 it may rise; by default the objective's."""
    loss_average: Average | None = None
    """How the losses of tokens become one; by default the objective's."""
    drop_equal_groups: bool | None = None
    """Ask other questions in place of those whose rollouts are all worth the same; by default the objective's."""
    difficulty: float = Field(default=0.0, ge=0, le=1)
    """How much more the questions count that the policy seldom answers right; see `difficulty_weights`."""

    # What a rollout is
    temperature: float = Field(default=1.0, gt=0)
    """Of the rollouts; validation takes the likeliest token."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    prompt_tokens: int = Field(default=8192, ge=1)
    """Tokens of the first request, its images included. A rollout may have these and `response_tokens` together."""
    response_tokens: int = Field(default=16384, ge=1)
    """Tokens of all that follows: replies, corrections, the frames that tools show. Dr. GRPO's fixed length."""
    reply_tokens: int = Field(default=8192, ge=1)
    """Tokens of one reply."""
    limits: Limits = Limits()
    """Limits of each rollout. One that its `seconds` cut is left out."""
    strategy: str = "videobrain"
    tools: tuple[str, ...] | None = None
    """Names of tools; by default those of the strategy."""
    encoder: str | None = None
    """open_clip model of the frame index."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of `Settings` for the rollouts."""
    keep_rollouts: bool = True
    """Write the trace of each rollout, with its frames and its reward: up to a few megabytes each."""

    # What it is worth
    reward: RewardSpec = RewardSpec()
    judge: str | None = None
    """Model string of the judge of answers in words, such as ``openai:NAME``."""
    judge_base_url: str | None = None

    # How it is sampled
    rollout: Literal["vllm", "hf"] = "vllm"
    """``vllm``: verl's own, with vLLM. ``hf``: transformers, for small machines and tests."""
    rollout_memory: float = Field(default=0.5, gt=0, lt=1)
    """Share of a GPU's memory for vLLM's weights and cache."""
    rollout_gpus: int = Field(default=1, ge=1)
    """GPUs over which one model of vLLM is spread."""
    rollouts_at_once: int = Field(default=64, ge=1)
    """Replies that one rollout engine samples at once."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that play rollouts: each opens videos and searches them for itself. By default 8, on the CPU 1."""
    sequences_per_gpu: int = Field(default=1, ge=1)
    """Rollouts that go through a device at once when weights are updated."""
    offload: bool = True

    @field_validator("samples", "validate_on")
    @classmethod
    def _absolute_files(cls, files: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(file.expanduser().absolute() for file in files)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        devices = self.gpus * self.nodes
        if self.batch_size * self.group_size % devices:
            raise ValueError(
                f"{self.batch_size} questions x {self.group_size} rollouts are no multiple of {devices} devices"
            )
        if self.batch_size % (self.mini_batch_size or self.batch_size):
            raise ValueError(f"batch_size {self.batch_size} is no multiple of mini_batch_size {self.mini_batch_size}")
        if devices % self.rollout_gpus:
            raise ValueError(f"{devices} devices are no multiple of rollout_gpus {self.rollout_gpus}")
        if self.validate_steps is not None and not self.validate_on:
            raise ValueError("validate_steps is how often validate_on is asked, and that names no file")
        if self.rollout == "hf" and self.rollout_gpus > 1:
            raise ValueError("the rollout engine hf takes one device, so rollout_gpus has to be 1")
        if self.reply_tokens > self.response_tokens:
            raise ValueError(f"reply_tokens {self.reply_tokens} are more than response_tokens {self.response_tokens}")
        self.play_settings()  # what is wrong with tools or settings is said here
        return self

    # --- To verl ---------------------------------------------------------------------------------------------------

    def overrides(self, device: Device) -> dict[str, JsonValue]:
        """verl's keys for this training, those of `verl` not among them."""
        return {
            **self._data(),
            **self.model_overrides("actor_rollout_ref.model", device),
            # Rollout engines get whole weights, adapters merged into them.
            **({"actor_rollout_ref.model.lora.merge": True} if self.lora_rank else {}),
            **self._learning(device),
            **self._sampling(device),
            **self.trainer_overrides(device),
            "trainer.v1.trainer_mode": "videobrain",
            "+trainer.v1.videobrain": {"difficulty_weight": self.difficulty},
            "trainer.v1.sampler.sync_refill_failed_groups": True,
            "trainer.save_freq": self.save_steps or _EVERY_STEP_IS_TOO_MANY,
            "trainer.max_actor_ckpt_to_keep": self.keep_checkpoints,
            "trainer.val_before_train": False,
            "trainer.test_freq": (self.validate_steps or _EVERY_STEP_IS_TOO_MANY) if self.validate_on else -1,
            "trainer.critic_warmup": 0,
            "reward.num_workers": 1,
            # Of a cluster's machines, only this one has the environment that verl is started in.
            "+ray_kwargs.ray_init.runtime_env.env_vars": {**self.environment(device)},
            **(self._on_cpu() if device == "cpu" else {}),
        }

    def command(self, device: Device) -> tuple[str, ...]:
        """The command that runs verl, without verl's keys."""
        return python_module(f"{_MODULES}.grpo_main")

    def environment(self, device: Device) -> dict[str, str]:
        """Environment variables of verl's processes, beside those that there are."""
        variables = super().environment(device)
        extra = []
        if self.rollout == "hf":
            extra.append(f"{_MODULES}.hf_rollout")
        elif device == "cpu":
            extra.append(f"{_MODULES}.cpu.vllm")
            variables |= {"VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1"}
        # Modules of the user's own come last, so that they find ours.
        named = [
            variables.get("VERL_USE_EXTERNAL_MODULES", ""),
            *extra,
            os.environ.get("VERL_USE_EXTERNAL_MODULES", ""),
        ]
        if modules := ",".join(name for name in named if name):
            variables["VERL_USE_EXTERNAL_MODULES"] = modules
        return variables

    def _data(self) -> dict[str, JsonValue]:
        return {
            "data.custom_cls.path": f"pkg://{_MODULES}.samples",
            "data.custom_cls.name": "SampleDataset",
            "data.train_files": [str(file) for file in self.samples],
            # verl wants some where it never validates, too
            "data.val_files": [str(file) for file in self.validate_on or self.samples],
            "data.train_batch_size": self.batch_size,
            "data.max_prompt_length": self.prompt_tokens,
            "data.max_response_length": self.response_tokens,
            "data.dataloader_num_workers": 0,  # the rows are small: videos are opened where rollouts are played
            "data.shuffle": True,
            "data.seed": self.seed,
        }

    def _learning(self, device: Device) -> dict[str, JsonValue]:
        facts = OBJECTIVES[self.objective]
        actor = "actor_rollout_ref.actor"
        made: dict[str, JsonValue] = {
            **self.engine_overrides(f"{actor}.fsdp_config", device),
            **self.engine_overrides("actor_rollout_ref.ref.fsdp_config", device),
            f"{actor}.strategy": "fsdp2",
            f"{actor}.optim.lr": self.learning_rate,
            f"{actor}.ppo_mini_batch_size": self.mini_batch_size or self.batch_size,
            f"{actor}.ppo_micro_batch_size_per_gpu": self.sequences_per_gpu,
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": self.sequences_per_gpu,
            "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": self.sequences_per_gpu,
            f"{actor}.policy_loss.loss_mode": facts.loss,
            f"{actor}.loss_agg_mode": self.loss_average or facts.average,
            # The one length of seq-mean-token-sum-norm; by default verl takes that of each micro-batch.
            f"{actor}.loss_scale_factor": self.response_tokens,
            f"{actor}.clip_ratio_low": facts.clip_low if self.clip_low is None else self.clip_low,
            f"{actor}.clip_ratio_high": facts.clip_high if self.clip_high is None else self.clip_high,
            f"{actor}.entropy_coeff": self.entropy,
            f"{actor}.use_kl_loss": self.kl > 0,
            f"{actor}.kl_loss_coef": self.kl,
            f"{actor}.kl_loss_type": "low_var_kl",
            "algorithm.adv_estimator": "videobrain_grpo",
            "algorithm.norm_adv_by_std_in_grpo": facts.by_deviation,
            "algorithm.use_kl_in_reward": False,
        }
        if facts.drop_equal if self.drop_equal_groups is None else self.drop_equal_groups:
            made["algorithm.filter_groups.enable"] = True
            made["algorithm.filter_groups.metric"] = "reward"
        if device == "cpu":
            made[f"{actor}.use_torch_compile"] = False
        return made

    def _sampling(self, device: Device) -> dict[str, JsonValue]:
        rollout = "actor_rollout_ref.rollout"
        return {
            f"{rollout}.name": self.rollout,
            f"{rollout}.n": self.group_size,
            f"{rollout}.temperature": self.temperature,
            f"{rollout}.top_p": self.top_p,
            f"{rollout}.seed": self.seed,
            f"{rollout}.calculate_log_probs": True,
            f"{rollout}.max_model_len": self.context_tokens,
            f"{rollout}.max_num_seqs": self.rollouts_at_once,
            f"+{rollout}.limit_images": self.limits.frames,
            f"{rollout}.tensor_model_parallel_size": self.rollout_gpus,
            f"{rollout}.gpu_memory_utilization": self.rollout_memory,
            f"{rollout}.agent.num_workers": self.workers or (1 if device == "cpu" else 8),
            f"{rollout}.agent.default_agent_loop": "videobrain",
            f"{rollout}.agent.agent_loop_config_path": str(self.out / _LOOP_FILE),
        }

    def _on_cpu(self) -> dict[str, JsonValue]:
        rollout = "actor_rollout_ref.rollout"
        made: dict[str, JsonValue] = {
            **ray_overrides(self.gpus * self.nodes),
            # Actors count as one each, and most of them wait most of the time.
            "ray_kwargs.ray_init.num_cpus": max(16, os.cpu_count() or 1),
            "+ray_kwargs.ray_init.include_dashboard": False,
            "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
            f"{rollout}.dtype": "float32",
            f"{rollout}.load_format": "auto",
            f"{rollout}.free_cache_engine": False,
            f"+{rollout}.enable_sleep_mode": False,
        }
        if self.rollout == "vllm":
            made |= {
                f"{rollout}.enforce_eager": True,
                f"{rollout}.checkpoint_engine.update_weights_bucket_megabytes": 64,
            }
        return made

    def rows(self) -> int:
        """How many samples there are to train on.

        Raises:
            InputError: A file of them cannot be used.
        """
        return sum(len(read_samples(file)) for file in self.samples)

    def owed(self, step: int, measured: Mapping[str, float]) -> dict[str, JsonValue]:
        """The validation at a step, which verl does after its checkpoint: a kill in between would lose it."""
        last = self.steps is not None and step >= self.steps
        due = last or (self.validate_steps is not None and step % self.validate_steps == 0)
        if not self.validate_on or not due or any(name.startswith(VALIDATION) for name in measured):
            return {}
        return {"trainer.val_before_train": True, "trainer.val_only": last}

    # --- Files for verl's processes --------------------------------------------------------------------------------

    @property
    def context_tokens(self) -> int:
        """Tokens of a whole rollout."""
        return self.prompt_tokens + self.response_tokens

    def play_settings(self) -> PlaySettings:
        """What the rollouts are played with.

        Raises:
            ConfigurationError: A tool, the strategy or a setting is not known.
        """
        resolve_tools(self.tools)
        resolve_strategy(self.strategy)
        settings: dict[str, JsonValue] = {"max_output_tokens": self.reply_tokens, **self.settings}
        Settings(**settings)  # type: ignore[arg-type]
        return PlaySettings(
            model=self.model,
            recipe=Recipe(
                model=None,
                base_url=None,
                tools=self.tools,
                encoder=self.encoder,
                strategy=self.strategy,
                limits=self.limits,
                settings=settings,
            ),
            reward=self.reward,
            judge=self.judge,
            judge_base_url=self.judge_base_url,
            context_tokens=self.context_tokens,
            traces=self.out / ROLLOUTS if self.keep_rollouts else None,
        )

    def files(self) -> Mapping[Path, str]:
        """What the rollouts are played with, and verl's list of agent loops, which names that file."""
        play = self.out / _PLAY_FILE
        loops: list[dict[str, Any]] = [
            {"name": "videobrain", "_target_": f"{_MODULES}.agent_loop.VideoBrainLoop", "settings": str(play)}
        ]
        # JSON is YAML, which verl reads.
        return {play: self.play_settings().model_dump_json(), self.out / _LOOP_FILE: json.dumps(loops)}

    def check_samples(self) -> None:
        """See to it that the samples are there, are enough for a batch, and have what the reward wants.

        Raises:
            InputError: A file is missing or damaged, a video is missing, or nobody could say what is right.
            ConfigurationError: There are fewer samples than a batch has, one is not classified and has to be, or the
                reward or the judge cannot be used.
        """
        self.reward.reward()
        if self.judge is not None:
            resolve_model(self.judge, base_url=self.judge_base_url)
        for files, least in ((self.samples, self.batch_size), (self.validate_on, 1)):
            samples = [sample for file in files for sample in read_samples(file)]
            if files and len(samples) < least:
                raise ConfigurationError(
                    f"There are {len(samples)} samples, and a batch has {least}.",
                    hint="Lower batch_size, or give more samples.",
                )
            for sample in samples:
                require_scorable(sample, judged=self.judge is not None, setting="the field judge")
            unclassified = [sample for sample in samples if sample.question_class is None]
            if unclassified and self.reward.needs_class:
                raise ConfigurationError(
                    f"{len(unclassified)} of {len(samples)} samples have no class, which behaviour needs: "
                    f"{unclassified[0].key!r} for one.",
                    hint="Classify them first (videobrain train classify), or leave the term `behaviour` out.",
                )


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {"device": "cuda", "model": "Qwen/Qwen3-VL-8B-Instruct", "gpus": 8},
    "one-gpu": {
        "device": "cuda",
        "model": "Qwen/Qwen3-VL-4B-Instruct",
        "lora_rank": 32,
        "learning_rate": 1e-5,
        "batch_size": 8,
        "response_tokens": 8192,
        "reply_tokens": 2048,
        "limits": {"frames": 48},
        "rollout_memory": 0.4,
        "rollouts_at_once": 32,
    },
    "cpu": {
        "device": "cpu",
        "rollout": "hf",
        "batch_size": 2,
        "group_size": 4,
        "kl": 0.0,
        "learning_rate": 1e-4,
        "prompt_tokens": 8192,
        "response_tokens": 8192,
        "reply_tokens": 256,
        "rollouts_at_once": 8,
        "gradient_checkpointing": False,
        "offload": False,
    },
}
"""Fields to begin with. ``paper``: its hyper-parameters, on 8 GPUs of 80 GB or more. ``one-gpu``: adapters on one of 24
to 80 GB; not measured by us. ``cpu``: for tiny models and tests."""


def run_grpo(config: GrpoConfig, *, on_step: Callable[[StepDone], object] | None = None) -> TrainingResult:
    """Train, or go on where that was stopped, or return at once where all is done. Blocking.

    Args:
        config: What is trained on what.
        on_step: Called with each step that is done.

    Raises:
        InputError: A file of samples cannot be used.
        ConfigurationError: A key is unknown to verl, or the directory holds another training.
        MissingDependencyError: verl is not installed, or vLLM, where it samples.
        TrainingFailedError: The training failed; says after which step, why, and where its log is.
    """
    config.check_samples()
    schema_directory()
    if config.rollout == "vllm" and find_spec("vllm") is None:
        raise MissingDependencyError("Rollouts are sampled with vLLM, which is not installed.", extra="train,vllm")
    return run_training(config, name="grpo", on_step=on_step, may_change=_MAY_CHANGE)
