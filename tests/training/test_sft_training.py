"""Supervised fine-tuning through the real verl, on the CPU, of a tiny random Qwen3-VL."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from videobrain import Settings, VideoBrain
from videobrain.agent import Trace
from videobrain.models.profiles import profile_for
from videobrain.training.verl.launch import read_metrics

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(verl_python: Path) -> Start:
    """Starts Python in verl's environment, where videobrain is found as here."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(verl_python), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )

    return start


def finished(program: subprocess.Popen[str], status: int = 0) -> subprocess.CompletedProcess[str]:
    out, err = program.communicate(timeout=300)
    assert program.returncode == status, err[-4000:]
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


def looked_at(start: Start, *arguments: object) -> Any:
    return json.loads(finished(start(ROOT / "tests" / "training" / "in_verl.py", *arguments)).stdout.splitlines()[-1])


def sft(trajectories: Path, model: Path, out: Path, *more: object) -> list[object]:
    return [
        "-m", "videobrain", "train", "sft", trajectories, "--model", model, "--out", out, "--recipe", "cpu",
        "--batch-size", 2, "--learning-rate", 1e-3, *more,
    ]  # fmt: skip


def steps(text: str) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("step ")]


@pytest.fixture(scope="module")
def batch(start: Start, trajectories: Path, tiny_random_model: Path) -> dict[str, Any]:
    """What `in_verl.batch` found of the tiny random model."""
    found: dict[str, Any] = looked_at(start, "batch", tiny_random_model, trajectories)
    return found


def test_the_batch_is_what_a_rollout_sees_and_samples(batch: dict[str, Any], trajectories: Path) -> None:
    found = batch
    assert found["equal"] == {name: [True] * 6 for name in ("ids", "mask", "pixels", "positions")}
    replies = [
        "".join(
            message.text + "<|im_end|>"
            for message in Trace.load(trajectories.parent / "run" / f"{number}.jsonl").messages
            if message.role == "assistant"
        )
        for number in range(6)
    ]
    assert found["sampled"] == replies


def test_verls_schema_refuses_unknown_keys(
    start: Start, trajectories: Path, tiny_random_model: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "it's, a=[run] of {50%}"
    plan = finished(start(*sft(trajectories, tiny_random_model, odd, "--dry-run")))
    composed = yaml.safe_load(plan.stdout.partition("\n\n")[2])
    assert composed["trainer"]["default_local_dir"] == str(odd / "checkpoints")
    assert composed["data"]["train_files"] == [str(trajectories)]
    for recipe in ("paper", "lora-24gb"):  # the keys of GPUs and of adapters are verl's too
        command = sft(trajectories, tiny_random_model, odd, "--recipe", recipe, "--batch-size", 8, "--dry-run")
        assert "device: cuda" in finished(start(*command)).stdout
    refused = finished(start(*sft(trajectories, tiny_random_model, odd, "--verl", "optim.wight_decay=1")), status=2)
    assert "no key 'optim.wight_decay'" in refused.stderr
    assert "optim.weight_decay" in refused.stderr
    assert not odd.exists()


def test_it_learns_survives_a_kill_and_is_exported(
    start: Start, compact_trajectories: Path, untrained_tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    measured = ("--validate-on", compact_trajectories, "--set", "validate_steps=2")
    command = sft(compact_trajectories, untrained_tiny_model, out, "--steps", 8, "--save-steps", 2, *measured)
    killed = start(*command)
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("step 5 "):
            break
    killed.kill()
    killed.communicate()
    again = finished(start(*command))
    first, *_, last = steps(again.stderr)
    assert first in (3, 5)  # after the last whole checkpoint
    assert last == 8
    assert again.stdout.strip() == str(out / "checkpoints" / "global_step_8")
    told = read_metrics(out / "metrics.jsonl")
    assert [done.step for done in told] == list(range(1, 9))
    assert all(math.isfinite(done.metrics["train/loss"]) for done in told)
    losses = [done.metrics["val/loss"] for done in told[1::2]]  # of the same trajectories each time
    assert len(losses) == 4
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 0.1
    assert all(done.metrics["train/grad_norm"] > 0 for done in told)

    began = time.monotonic()
    assert steps(finished(start(*command)).stderr) == []  # all is done
    assert time.monotonic() - began < 30
    refused = finished(start(*command, "--lora-rank", 2), status=2)
    assert "another lora_rank: 0, not 2" in refused.stderr

    model = tmp_path / "model"
    finished(start("-m", "videobrain", "train", "export", out, "--out", model))
    moved = looked_at(start, "weights", untrained_tiny_model, model)
    assert {name for name, distance in moved.items() if distance == 0} == {name for name in moved if ".visual." in name}
    assert profile_for(str(model)).encoder == str(model / "encoder")
    _replies(model, compact_trajectories.parent / "video.mp4", tmp_path)


def _replies(model: Path, video: Path, cache: Path) -> None:
    settings = Settings(offline=True, constrain_replies=True, text_characters=40, cache_dir=cache)

    async def ask() -> str:
        async with VideoBrain(f"local:{model}", settings=settings) as brain:
            answer = await brain.ask(video, "Which?", options=["red", "green"])
            assert answer.trace.messages[-1].role == "assistant"
            return answer.stop_reason

    assert asyncio.run(ask())


def test_adapters_are_trained_and_merged(
    start: Start, batch: dict[str, Any], trajectories: Path, tiny_random_model: Path, tmp_path: Path
) -> None:
    out, model = tmp_path / "run", tmp_path / "model"
    more = ("--batch-size", 6, "--steps", 2, "--lora-rank", 4, "--gpus", 2, "--validate-on", trajectories)
    done = finished(start(*sft(trajectories, tiny_random_model, out, *more)))
    assert steps(done.stderr)[-1] == 2
    assert "val_loss" in done.stderr
    # Of all trajectories, before the first step: the mean over the sampled tokens and nothing else.
    assert read_metrics(out / "metrics.jsonl")[0].metrics["train/loss"] == pytest.approx(batch["loss"], rel=1e-3)
    finished(start("-m", "videobrain", "train", "export", out / "checkpoints" / "global_step_2", "--out", model))
    moved = looked_at(start, "weights", tiny_random_model, model)
    changed = {name for name, distance in moved.items() if distance}
    assert changed == {name for name in moved if ".language_model.layers." in name and "_proj." in name}


def test_a_failure_names_the_trajectory(
    start: Start, trajectories: Path, tiny_random_model: Path, tmp_path: Path
) -> None:
    failed = finished(start(*sft(trajectories, tiny_random_model, tmp_path / "run", "--max-tokens", 64)), status=1)
    assert "before its first step was done" in failed.stderr
    assert "The trajectory 'colour-" in failed.stderr
    assert str(tmp_path / "run" / "logs") in failed.stderr
