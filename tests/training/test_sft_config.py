"""A configuration is checked when it is made, and becomes verl's keys and its command. verl is not needed for that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pydantic import ValidationError

from videobrain.errors import ConfigurationError, InputError, MissingDependencyError
from videobrain.training.verl import overrides
from videobrain.training.verl.config import configured
from videobrain.training.verl.launch import Launch
from videobrain.training.verl.recipes import SFT_RECIPES
from videobrain.training.verl.run import _clear, run_training
from videobrain.training.verl.sft import SftConfig, run_sft

ROOT = Path(__file__).resolve().parents[2]


def config(tmp_path: Path, **fields: Any) -> SftConfig:
    return SftConfig(
        **{"model": "some/model", "out": tmp_path / "out", "train": ("t.jsonl",), "device": "cpu", **fields}
    )


def test_importing_it_needs_no_heavy_package() -> None:
    heavy = ("torch", "verl", "ray", "hydra", "omegaconf", "transformers")
    code = f"""
import sys
import videobrain.training.verl.sft, videobrain.training.verl.export, videobrain.training.cli
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_vision_tower_is_left_alone_unless_it_is_wanted(tmp_path: Path) -> None:
    frozen, trained = config(tmp_path).compile(), config(tmp_path, train_vision=True).compile()
    assert frozen["model.external_lib"] == "videobrain.training.verl.frozen_vision"
    assert trained == {key: value for key, value in frozen.items() if key != "model.external_lib"}
    adapters = config(tmp_path, lora_rank=8).compile()
    assert (adapters["model.lora_rank"], adapters["model.lora_alpha"]) == (8, 16)
    assert "visual" in str(adapters["model.exclude_modules"])
    assert "model.external_lib" not in adapters
    assert "model.exclude_modules" not in config(tmp_path, lora_rank=8, train_vision=True).compile()


def test_the_device_decides_how_verl_runs(tmp_path: Path) -> None:
    on_cpu, on_gpus = config(tmp_path).launch(), config(tmp_path, device="cuda", gpus=8).launch()
    assert on_cpu.environment["VERL_PLATFORM"] == "cpu"
    assert not any(name.startswith("VERL") for name in on_gpus.environment)
    assert "videobrain.training.verl.cpu.sft" in on_cpu.command
    assert "verl.trainer.sft_trainer" in on_gpus.command
    assert "--nproc-per-node=8" in on_gpus.command
    assert on_cpu.environment["PYTHONPATH"].split(":")[0] == str(ROOT)  # a checkout


def test_several_machines_meet_somewhere(tmp_path: Path) -> None:
    launch = config(tmp_path, device="cuda", gpus=8, nodes=2, rendezvous="first:29500", batch_size=32).launch()
    assert launch.command[3:7] == (
        "--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=first:29500", "--nproc-per-node=8"
    )  # fmt: skip


def test_steps_go_before_epochs(tmp_path: Path) -> None:
    by_epochs, by_steps = config(tmp_path, epochs=3).compile(), config(tmp_path, steps=50).compile()
    assert (by_epochs["trainer.total_epochs"], by_epochs["trainer.total_training_steps"]) == (3, None)
    # verl would end without a checkpoint where epochs end before the steps do.
    assert (by_steps["trainer.total_epochs"], by_steps["trainer.total_training_steps"]) == (50, 50)


def test_verls_own_keys_have_the_last_word(tmp_path: Path) -> None:
    made = config(tmp_path, verl={"optim.lr": 0.5, "engine.mixed_precision": None, "+engine.new": [1, "a b"]}).compile()
    assert made["optim.lr"] == 0.5
    assert [key for key in made if "mixed_precision" in key] == ["engine.mixed_precision"]
    assert "+engine.new=[1,'a b']" in config(tmp_path, verl={"+engine.new": [1, "a b"]}).launch().command


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"batch_size": 3, "gpus": 2}, "batch_size 3 is no multiple of the 2 devices"),
        ({"tokens_per_gpu": 10}, "tokens_per_gpu 10 is less than max_tokens"),
        ({"nodes": 2}, "rendezvous is where several machines meet"),
        ({"rendezvous": "host:1"}, "rendezvous is where several machines meet"),
        ({"lora_alpha": 4}, "lora_rank is 0"),
        ({"validate_steps": 2}, "that names no file"),
        ({"learning_rat": 0.1}, "learning_rat"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"train": ()}, "train"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        config(tmp_path, **fields)
    whole = {"model": "m", "out": tmp_path, "train": ("t",), "device": "cpu", **fields}
    with pytest.raises(ConfigurationError, match=wrong):
        configured(SftConfig, whole)


def test_values_are_written_as_hydra_reads_them() -> None:
    written = overrides.arguments(
        {
            "none": None, "yes": True, "many": ["a.b", 1e-05], "map": {"k": "v"}, "word": "null", "number": "7",
            "quote": "it's", "slash": "end\\", "both": "a\\'b", "path": "/a b/c=d",
        }
    )  # fmt: skip
    assert written == [
        "none=null", "yes=true", "many=[a.b,1e-05]", "map={k:v}", "word='null'", "number='7'",
        r"quote='it\'s'", "slash='end\\\\'", r"both='a\\\'b'", "path='/a b/c=d'",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SFT_RECIPES)
def test_recipes_are_whole_configurations(tmp_path: Path, name: str) -> None:
    made = config(tmp_path, **SFT_RECIPES[name].fields)
    assert made.compile()["data.max_length"] == made.max_tokens
    assert made.device == ("cpu" if name == "cpu" else "cuda")


def test_files_are_looked_at_before_anything_starts(trajectories: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        run_sft(config(tmp_path))
    with pytest.raises(ConfigurationError, match="6 trajectories to train, and a batch has 7"):
        run_sft(config(tmp_path, train=(trajectories,), batch_size=7))
    few = tmp_path / "few.jsonl"
    first = json.loads(trajectories.read_text("utf-8").splitlines()[0])
    few.write_text(json.dumps({**first, "trace": str(trajectories.parent / first["trace"])}) + "\n", "utf-8")
    with pytest.raises(ConfigurationError, match="to validate_on, and a batch has 6"):
        run_sft(config(tmp_path, train=(trajectories,), validate_on=(few,), batch_size=6))
    student = tmp_path / "student"
    student.mkdir()
    (student / "videobrain.json").write_text('{"profile": {"name": "small", "prompts": "compact"}}', "utf-8")
    with pytest.raises(InputError, match=r"student is asked with 'compact'.*VIDEOBRAIN_PROMPTS=compact"):
        run_sft(config(tmp_path, train=(trajectories,), model=str(student), batch_size=2))


class _Checked(SftConfig):
    """As if verl's schema had been asked, and trajectories were there."""

    def check(self) -> str:
        return ""

    def rows(self) -> int:
        return 70


def begun(tmp_path: Path, name: str = "sft", *, step: int | None = None, **fields: Any) -> _Checked:
    made = _Checked(**dict(config(tmp_path, **fields)))
    (made.out / "checkpoints").mkdir(parents=True)
    (made.out / "training.json").write_text(
        json.dumps({"training": name, "config": made.model_dump(mode="json")}), "utf-8"
    )
    if step is not None:
        (made.out / "checkpoints" / "latest_checkpointed_iteration.txt").write_text(str(step), "utf-8")
    return made


def test_a_directory_holds_one_training(tmp_path: Path) -> None:
    made = begun(tmp_path, step=2)
    with pytest.raises(ConfigurationError, match=r"another learning_rate: 1e-05, not 0\.5"):
        run_training(made.model_copy(update={"learning_rate": 0.5}), name="sft")
    with pytest.raises(ConfigurationError, match="holds a training 'sft'"):
        run_training(made, name="grpo")
    (made.out / "training.json").write_text("{", "utf-8")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        run_training(made, name="sft")


def test_a_second_start_is_refused_while_the_first_goes_on(tmp_path: Path) -> None:
    made = begun(tmp_path, step=4, steps=4)
    with FileLock(made.out / ".lock"), pytest.raises(ConfigurationError, match="Another process trains in"):
        run_training(made, name="sft")
    run_training(made, name="sft")


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    made = begun(tmp_path, step=4, steps=4)
    done = run_training(made, name="sft")  # would start verl, which is not here
    assert (done.step, done.checkpoint) == (4, made.out / "checkpoints" / "global_step_4")
    assert not (made.out / "logs").exists()


class _NotHereError(Exception):
    """verl would have been started."""


@pytest.fixture
def no_verl(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(launch: Launch, **_options: object) -> None:
        raise _NotHereError(launch)

    monkeypatch.setattr("videobrain.training.verl.run.run_command", refuse)


@pytest.mark.usefixtures("no_verl")
def test_epochs_are_counted_in_steps(tmp_path: Path) -> None:
    """verl would skip the epoch after a checkpoint at the end of one."""
    made = begun(tmp_path, step=3, steps=3)
    with pytest.raises(_NotHereError) as caught:
        run_training(made.model_copy(update={"steps": None, "epochs": 3}), name="sft")
    command = caught.value.args[0].command
    assert {"trainer.total_training_steps=6", "trainer.total_epochs=6"} <= set(command)  # 2 of 32 in each epoch
    done = begun(tmp_path / "done", step=6)
    assert run_training(done.model_copy(update={"epochs": 3}), name="sft").step == 6


@pytest.mark.usefixtures("no_verl")
def test_other_samples_are_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Checked, "check_files", lambda _: None)
    made = begun(tmp_path, step=3, steps=8)
    with pytest.raises(_NotHereError):
        run_sft(made.model_copy(update={"max_tokens": 99}))  # the remedy for a trajectory that is too long
    monkeypatch.setattr(_Checked, "rows", lambda _: 69)
    with pytest.raises(ConfigurationError, match="a training on 70 samples, and their files hold 69 now"):
        run_sft(made)


@pytest.mark.usefixtures("no_verl")
def test_a_torn_note_of_the_newest_checkpoint_is_mended(tmp_path: Path) -> None:
    made = begun(tmp_path, step=4, steps=8)
    for step in (2, 4):
        (made.out / "checkpoints" / f"global_step_{step}").mkdir()
    (made.out / "metrics.jsonl").write_text('{"step": 4, "metrics": {}}\n', "utf-8")
    note = made.out / "checkpoints" / "latest_checkpointed_iteration.txt"
    note.write_text("", "utf-8")
    with pytest.raises(_NotHereError):
        run_training(made, name="sft")
    assert note.read_text("utf-8") == "4"
    assert (made.out / "metrics.jsonl").exists()


@pytest.mark.usefixtures("no_verl")
def test_what_learns_nothing_else_may_change(tmp_path: Path) -> None:
    made = begun(tmp_path, step=3, steps=8)
    (made.out / "metrics.jsonl").write_text('{"step": 3, "metrics": {}}\n', "utf-8")
    with pytest.raises(_NotHereError):
        run_training(made.model_copy(update={"gradient_checkpointing": False, "offload": True}), name="sft")
    assert (made.out / "metrics.jsonl").exists()


@pytest.mark.usefixtures("no_verl")
def test_a_start_that_learnt_nothing_binds_nobody(tmp_path: Path) -> None:
    made = begun(tmp_path)
    (made.out / "metrics.jsonl").write_text('{"step": 1, "metrics": {}}\n', "utf-8")
    with pytest.raises(_NotHereError):
        run_training(made.model_copy(update={"learning_rate": 0.5}), name="sft")
    assert not (made.out / "metrics.jsonl").exists()


def test_checkpoints_of_killed_starts_are_cleared(tmp_path: Path) -> None:
    made = begun(tmp_path, step=6, steps=8)
    for step in (2, 4, 6, 8):
        (made.out / "checkpoints" / f"global_step_{step}").mkdir()
    _clear(made.out, None)
    assert sorted(path.name for path in (made.out / "checkpoints").glob("*_step_*")) == [
        "global_step_2", "global_step_4", "global_step_6",
    ]  # fmt: skip
    _clear(made.out, 2)
    assert sorted(path.name[-1] for path in (made.out / "checkpoints").glob("*_step_*")) == ["4", "6"]


def test_without_verl_a_training_says_what_to_install(
    trajectories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"videobrain\[train\]"):
        run_sft(config(tmp_path, train=(trajectories,), batch_size=2))
    assert not (tmp_path / "out").exists()


def videobrain(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "videobrain", "train", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def test_the_command_line_shows_what_would_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = videobrain(
        "sft", "t.jsonl", "--out", out, "--recipe", "lora-80gb", "--dry-run",
        "--set", "warmup=0.2", "--verl", "optim.weight_decay=0.3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = done.stdout.splitlines()[0]
    for part in (
        "optim.lr_warmup_steps_ratio=0.2",
        "optim.weight_decay=0.3",
        "lora_rank=64",
    ):
        assert part in command
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["--recipe", "lora-80gb", "--set", "warmdown=1"], "warmdown: Extra inputs are not permitted"),
        (["--recipe", "big"], "none of paper, lora-80gb"),
        ([], "name a model"),
        (["--model", "m", "--set", "epochs"], "is not NAME=VALUE"),
    ],
)
def test_wrong_options_end_with_status_2(tmp_path: Path, arguments: list[str], wrong: str) -> None:
    done = videobrain("sft", "t.jsonl", "--out", tmp_path / "out", *arguments, "--dry-run")
    assert done.returncode == 2
    assert wrong in " ".join(done.stderr.replace("│", " ").split())
