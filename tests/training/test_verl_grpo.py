"""GRPO through verl, whole: small runs in verl's own environment on the CPU."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from videobrain.agent import Trace
from videobrain.testing import make_video
from videobrain.training.sample import CLASSES, TrainingSample, write_samples
from videobrain.training.verl.launch import read_metrics

pytestmark = pytest.mark.server
HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def environment(**more: str) -> dict[str, str]:
    paths = os.pathsep.join(map(str, [ROOT, HERE]))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "VIDEOBRAIN_OFFLINE": "1", **more}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("check", ["advantages", "groups", "configurations"])
def test_against_verl(verl_python: Path, check: str) -> None:
    command = [verl_python, HERE / "verl_checks.py", check]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


def questions(directory: Path, *, broken: bool) -> Path:
    """Five questions on a made video, one of them on a file that is none where `broken`."""
    video = make_video(directory / "video.mp4", seconds=8, fps=10, size=(96, 64))
    other = directory / "broken.mp4"
    other.write_bytes(b"no video" * 100)
    samples = [
        TrainingSample(
            key=f"q{number}",
            video=str(other if broken and number == 1 else video),
            question=f"Which colour has scene {number}?",
            task="choice",
            options=("red", "green", "blue", "yellow"),
            correct_option=number % 4,
        ).of_class(CLASSES[number % 3])
        for number in range(5)
    ]
    return write_samples(directory / "samples.jsonl", samples)


class Training:
    """A command that trains, started as often as is wanted."""

    def __init__(self, python: Path, directory: Path, model: Path, *, broken: bool = False, **fields: Any) -> None:
        self.out = directory / "run"
        samples = questions(directory, broken=broken)
        config = directory / "config.json"
        made = {
            "reply_tokens": 24,
            "prompt_tokens": 3072,
            "response_tokens": 4096,
            "save_steps": 1,
            "attention": "sdpa",
            "loggers": ["console"],
            "limits": {"turns": 2, "corrections": 1},
            "settings": {"initial_frames": 2, "warm_index": False, "offline": True, "cache_dir": str(directory)},
            "tools": ["uniform_sample"],
            "reward": {"terms": [{"measure": "verl_doubles:varied"}], "gate": "none"},
            **fields,
        }
        config.write_text(json.dumps(made), "utf-8")
        self._command = [python, "-m", "videobrain", "train", "grpo", samples, "--out", self.out, "--recipe", "cpu"]
        self._command += ["--model", model, "--config", config]

    def start(self, steps: int, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, "--steps", str(steps)],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, steps: int, **variables: str) -> None:
        process = self.start(steps, **variables)
        said, _ = process.communicate(timeout=560)
        assert process.returncode == 0, f"{said}\n{self.log()[-6000:]}"

    def log(self) -> str:
        logs = sorted((self.out / "logs").glob("*.log"))
        return logs[-1].read_text("utf-8", "replace") if logs else ""

    def metrics(self) -> dict[int, dict[str, float]]:
        file = self.out / "metrics.jsonl"
        return {done.step: dict(done.metrics) for done in read_metrics(file)} if file.exists() else {}


def children_of(marker: str) -> list[int]:
    """Processes that name a directory in their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in place.read_bytes().decode(errors="replace"):
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def training(verl_python: Path, tiny_random_model: Path, tmp_path: Path) -> Iterator[Training]:
    yield Training(verl_python, tmp_path, tiny_random_model, broken=True)
    assert children_of(str(tmp_path)) == []


@pytest.mark.timeout(1500)
def test_a_training_is_killed_and_goes_on(training: Training) -> None:
    doubles = {"VERL_USE_EXTERNAL_MODULES": "verl_doubles"}
    process = training.start(3, **doubles)
    began = time.monotonic()
    saved = training.out / "checkpoints" / "latest_checkpointed_iteration.txt"
    while 1 not in training.metrics() or not saved.exists():
        assert process.poll() is None, f"{process.communicate()[0]}\n{training.log()[-6000:]}"
        assert time.monotonic() - began < 600, training.log()[-6000:]
        time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    time.sleep(12)  # the supervisor's patience
    assert children_of(str(training.out)) == []
    training.run(3, **doubles)

    lines = (training.out / "metrics.jsonl").read_text("utf-8").splitlines()
    done = [json.loads(line)["step"] for line in lines]
    assert done in ([1, 2, 3], [1, 2, 2, 3]), "a step that has a checkpoint is not done again"
    metrics = training.metrics()
    assert saved.read_text() == "3"
    for step in metrics.values():
        assert all(math.isfinite(value) for name, value in step.items() if name.startswith("actor/"))
        assert step["training/rollout_probs_diff_max"] < 1e-3
        assert step["rollout/tool_used"] == 1
        assert step["rollout/frames"] > 2
        assert step["rollout/left_out"] == 0
    assert any(step["actor/grad_norm"] > 0 for step in metrics.values())
    # The question on the broken video was asked in one of the steps, and another one in its place.
    assert sum(step.get("training/rollout_failure/evicted_samples", 0) for step in metrics.values()) >= 1

    traces = sorted((training.out / "rollouts").rglob("*.jsonl"))
    assert len(traces) >= 2 * 4 * 3
    rewards = {
        step: [json.loads(path.read_text("utf-8"))["reward"] for path in place.glob("*.reward.json")]
        for step in metrics
        if (place := training.out / "rollouts" / f"step-{step:06d}")
    }
    asked_once = {step: paid for step, paid in rewards.items() if len(paid) == 2 * 4}
    assert asked_once
    for step, paid in asked_once.items():
        assert metrics[step]["critic/score/mean"] == pytest.approx(math.fsum(paid) / len(paid), rel=1e-4)
    trace = Trace.load(traces[0])
    assert trace.answer is not None
    assert any(frame.jpeg for frame in trace.frames().values())
    told = json.loads(traces[0].with_name(f"{traces[0].stem}.reward.json").read_text("utf-8"))
    assert told["reward"] == pytest.approx(told["reward_varied"])


@pytest.mark.timeout(900)
def test_validation_difficulty_and_other_objectives(verl_python: Path, tiny_random_model: Path, tmp_path: Path) -> None:
    training = Training(
        verl_python,
        tmp_path,
        tiny_random_model,
        objective="dr_grpo",
        difficulty=0.5,
        kl=0.01,
        lora_rank=4,
        validate_on=[str(tmp_path / "samples.jsonl")],
        # Replies that end at their limit: all rollouts of a step are of one length.
        tools=[],
        limits={"turns": 1, "corrections": 0},
    )
    training.run(2)
    metrics = training.metrics()
    assert sorted(metrics) == [1, 2]
    assert any(step["actor/grad_norm"] > 0 for step in metrics.values())
    assert all(step["training/rollout_probs_diff_max"] < 1e-2 for step in metrics.values())
    assert all(step["rollout/log_prob_difference"] < 0.1 for step in metrics.values())
    assert {"validation/accuracy", "validation/reward", "validation/Active/tool_used"} <= set(metrics[2])
    assert metrics[2]["validation/Active/tool_used"] == 0  # it has none
    assert metrics[2]["validation/left_out"] == 0

    # A kill between the last checkpoint and the end of its validation.
    told = training.out / "metrics.jsonl"
    told.write_text("".join(line for line in told.read_text("utf-8").splitlines(True) if '"step": 1' in line), "utf-8")
    training.run(2)
    again = training.metrics()[2]
    assert again["validation/accuracy"] == metrics[2]["validation/accuracy"]
    assert "actor/grad_norm" not in again  # nothing was trained


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rollouts_with_vllm(verl_python: Path, tiny_random_model: Path, tmp_path: Path) -> None:
    training = Training(verl_python, tmp_path, tiny_random_model, rollout="vllm")
    training.run(2)
    metrics = training.metrics()
    assert sorted(metrics) == [1, 2]
    assert any(step["actor/grad_norm"] > 0 for step in metrics.values())
    assert all(step["training/rollout_probs_diff_max"] < 1e-2 for step in metrics.values())
