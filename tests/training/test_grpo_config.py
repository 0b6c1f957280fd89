"""A configuration of GRPO is checked when it is made, and says to verl what it means."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from videobrain.cli import app
from videobrain.errors import ConfigurationError, InputError
from videobrain.testing import make_video
from videobrain.training.player import PlaySettings
from videobrain.training.reward_spec import RewardSpec, TermSpec
from videobrain.training.sample import TrainingSample, write_samples
from videobrain.training.verl.grpo import RECIPES, GrpoConfig
from videobrain.training.verl.launch import Launch
from videobrain.training.verl.objectives import OBJECTIVES
from videobrain.training.verl.run import run_training


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "made.mp4", seconds=1)


def some_samples(path: Path, video: Path, count: int, *, classified: bool = True) -> Path:
    samples = [
        TrainingSample(
            key=f"q{number}", video=str(video), question="Which?", task="choice", options=("a", "b"), correct_option=0
        )
        for number in range(count)
    ]
    return write_samples(path, [sample.of_class("Direct") for sample in samples] if classified else samples)


def a_config(**other: Any) -> GrpoConfig:
    return GrpoConfig(**{"model": "some/model", "samples": ("s.jsonl",), "out": "out", "device": "cuda", **other})


def test_the_defaults_are_the_paper_s() -> None:
    made = a_config(gpus=8).compile()
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    assert made["data.train_batch_size"] == made[f"{actor}.ppo_mini_batch_size"] == 32
    assert made[f"{rollout}.n"] == 8
    assert made[f"{actor}.optim.lr"] == 1e-6
    assert (made[f"{actor}.use_kl_loss"], made[f"{actor}.kl_loss_coef"]) == (True, 0.001)
    assert made[f"{actor}.kl_loss_type"] == "low_var_kl"
    assert made["algorithm.use_kl_in_reward"] is False
    assert made[f"{actor}.entropy_coeff"] == 0.001
    assert made[f"{actor}.clip_ratio_low"] == made[f"{actor}.clip_ratio_high"] == 0.2
    assert made[f"{rollout}.temperature"] == 1.0
    assert (made["data.max_prompt_length"], made["data.max_response_length"]) == (8192, 16384)
    assert made[f"+{rollout}.limit_images"] == 128
    assert (made[f"{rollout}.name"], made[f"{rollout}.tensor_model_parallel_size"]) == ("vllm", 1)
    assert made[f"{actor}.fsdp_config.param_offload"] is made[f"{actor}.fsdp_config.optimizer_offload"] is True
    assert str(made["actor_rollout_ref.model.external_lib"]).endswith("frozen_vision")
    assert made["trainer.total_epochs"] == 1
    assert a_config().play_settings().recipe.settings["max_output_tokens"] == 8192
    assert a_config().play_settings().recipe.limits.turns == 6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives(objective: Any) -> None:
    made, facts = a_config(objective=objective).compile(), OBJECTIVES[objective]
    assert made["actor_rollout_ref.actor.policy_loss.loss_mode"] == facts.loss
    assert made["actor_rollout_ref.actor.loss_agg_mode"] == facts.average
    assert made["actor_rollout_ref.actor.loss_scale_factor"] == made["data.max_response_length"]
    assert made["algorithm.norm_adv_by_std_in_grpo"] is facts.by_deviation
    assert ("algorithm.filter_groups.enable" in made) is facts.drop_equal
    other = a_config(objective=objective, clip_high=0.3, drop_equal_groups=not facts.drop_equal).compile()
    assert other["actor_rollout_ref.actor.clip_ratio_high"] == 0.3
    assert ("algorithm.filter_groups.enable" in other) is not facts.drop_equal


def test_adapters_are_merged_for_the_rollout() -> None:
    made = a_config(lora_rank=16).compile()
    assert made["actor_rollout_ref.model.lora.merge"] is True
    assert made["actor_rollout_ref.model.lora_rank"] == 16
    assert "actor_rollout_ref.model.external_lib" not in made


@pytest.mark.parametrize("rollout", ["hf", "vllm"])
def test_rollout_engines_on_the_cpu(rollout: Any) -> None:
    config = a_config(device="cpu", rollout=rollout)
    variables = config.launch().environment
    modules = variables["VERL_USE_EXTERNAL_MODULES"].split(",")
    assert modules[-1].endswith({"hf": "hf_rollout", "vllm": "cpu.vllm"}[rollout])
    assert ("VLLM_TARGET_DEVICE" in variables) is (rollout == "vllm")
    assert a_config(rollout="hf").launch().environment["VERL_USE_EXTERNAL_MODULES"].endswith("hf_rollout")
    assert "VERL_USE_EXTERNAL_MODULES" not in a_config().launch().environment
    # Ray's workers run with them on whichever machine.
    assert config.compile()["+ray_kwargs.ray_init.runtime_env.env_vars"] == variables


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"gpus": 7}, "no multiple of 7 devices"),
        ({"group_size": 1}, "greater than or equal to 2"),
        ({"batch_size": 8, "mini_batch_size": 3}, "no multiple of mini_batch_size"),
        ({"rollout": "hf", "rollout_gpus": 2, "gpus": 2}, "has to be 1"),
        ({"reply_tokens": 999999}, "more than response_tokens"),
        ({"samples": ()}, "at least 1 item"),
        ({"objective": "ppo"}, "'grpo'"),
        ({"difficulty": 2}, "less than or equal to 1"),
        ({"validate_steps": 2}, "that names no file"),
    ],
)
def test_what_cannot_be(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        a_config(**wrong)


@pytest.mark.parametrize("wrong", [{"tools": ["look_around"]}, {"strategy": "guess"}])
def test_tools_and_strategies_are_known(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong.values()))[0] if "tools" in wrong else "guess"):
        a_config(**wrong)


def test_files_for_verl_s_processes(tmp_path: Path) -> None:
    config = a_config(out=tmp_path, judge="openai:judge", limits={"turns": 3}, keep_rollouts=False)
    config.write_files()
    (loop,) = json.loads(
        Path(str(config.compile()["actor_rollout_ref.rollout.agent.agent_loop_config_path"])).read_text()
    )
    assert loop["name"] == "videobrain"
    play = PlaySettings.model_validate_json(Path(loop["settings"]).read_text("utf-8"))
    assert play == config.play_settings()
    assert (play.judge, play.recipe.limits.turns, play.traces) == ("openai:judge", 3, None)


def test_samples_are_looked_at_first(tmp_path: Path, video: Path) -> None:
    few = some_samples(tmp_path / "few.jsonl", video, 3)
    with pytest.raises(ConfigurationError, match="3 samples, and a batch has 4"):
        a_config(samples=(few,), batch_size=4).check_samples()
    a_config(samples=(few,), batch_size=3).check_samples()
    bare = some_samples(tmp_path / "bare.jsonl", video, 3, classified=False)
    with pytest.raises(ConfigurationError, match="3 of 3 samples have no class"):
        a_config(samples=(bare,), batch_size=3).check_samples()
    accurate = RewardSpec(terms=(TermSpec(measure="accuracy"),))
    a_config(samples=(bare,), batch_size=3, reward=accurate).check_samples()
    with pytest.raises(InputError):
        a_config(samples=(tmp_path / "none.jsonl",), batch_size=3).check_samples()
    in_words = TrainingSample(key="w", video=str(video), question="Why?", task="open", answer="So.").of_class("Direct")
    words = write_samples(tmp_path / "words.jsonl", [in_words])
    with pytest.raises(InputError, match="Only a judge can say whether an answer to 'w' is right"):
        a_config(samples=(words,), batch_size=1).check_samples()
    judged = {"judge": "openai:judge", "judge_base_url": "http://judge:8000/v1"}
    a_config(samples=(words,), batch_size=1, **judged).check_samples()
    with pytest.raises(ConfigurationError, match="judge-me"):
        a_config(samples=(words,), batch_size=1, judge="judge-me").check_samples()
    secret = write_samples(tmp_path / "secret.jsonl", [in_words.model_copy(update={"answer": None})])
    with pytest.raises(InputError, match="truth of the sample 'w' is not known"):
        a_config(samples=(secret,), batch_size=1, **judged).check_samples()


def test_a_validation_that_a_kill_has_lost_is_made_up_for() -> None:
    config = a_config(validate_on=("v.jsonl",), validate_steps=20, steps=50)
    told = {"rollout/accuracy": 0.5}
    assert config.owed(20, told) == {"trainer.val_before_train": True, "trainer.val_only": False}
    assert config.owed(50, {}) == {"trainer.val_before_train": True, "trainer.val_only": True}
    assert config.owed(30, told) == config.owed(50, {**told, "validation/accuracy": 0.5}) == {}
    assert a_config(steps=50).owed(50, {}) == {}


def test_how_the_machine_works_may_change(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = some_samples(tmp_path / "samples.jsonl", video, 2)
    begun: list[Launch] = []

    def begin(launch: Launch, **_options: object) -> None:
        begun.append(launch)
        (tmp_path / "out" / "checkpoints").mkdir(exist_ok=True)
        (tmp_path / "out" / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("1", "utf-8")

    monkeypatch.setattr("videobrain.training.verl.run.run_command", begin)
    monkeypatch.setattr(GrpoConfig, "check", lambda _: "")
    fields = {"samples": (samples,), "out": tmp_path / "out", "batch_size": 2, "steps": 2}
    for settings in ({}, {"tool_timeout_seconds": 600.0, "cache_dir": str(tmp_path)}):
        run_training(a_config(**fields, settings=settings), name="grpo")
    assert len(begun) == 2
    with pytest.raises(ConfigurationError, match="another settings"):
        run_training(a_config(**fields, settings={"initial_frames": 3}), name="grpo")


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes(recipe: str) -> None:
    config = GrpoConfig(**{"model": "m", **RECIPES[recipe]}, samples=("s.jsonl",), out="out")
    # Wherever it is looked at: the machine that gives the command may have no GPU.
    assert config.compile()["trainer.device"] == ("cpu" if recipe == "cpu" else "cuda")


def test_dry_run_prints_the_command(tmp_path: Path) -> None:
    arguments = ["train", "grpo", "s.jsonl", "--out", str(tmp_path / "out"), "--recipe", "cpu", "--model", "tiny-one"]
    arguments += ["--steps", "3", "--set", "group_size=3", "--set", "objective=dapo", "--verl", "trainer.nnodes=2"]
    done = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert done.exit_code == 0, done.output
    words = shlex.split(done.stdout.partition("\n")[0])
    assert "videobrain.training.verl.grpo_main" in words
    assert {"actor_rollout_ref.rollout.n=3", "trainer.nnodes=2", "trainer.total_training_steps=3"} <= set(words)
    assert not (tmp_path / "out").exists()
    assert '"frames_per_call"' in done.stdout  # what verl's processes read beside their command


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--recipe", "nonsense"], "'nonsense' is none of paper, one-gpu, cpu"),
        (["--set", "group_size"], "is not NAME=VALUE"),
        (["--set", "group_size=1"], "group_size"),
        (["--set", "grup_size=3"], "grup_size"),
        (["--config", "missing.json"], "missing.json is no file"),
        (["--recipe", "cpu"], "name a model"),
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str], problem: str) -> None:
    arguments = ["train", "grpo", "s.jsonl", "--out", str(tmp_path), "--set", "device=cuda", "--dry-run"]
    done = CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 2
    assert problem in " ".join(done.output.replace("│", " ").split())
