"""From a benchmark's questions to a fine-tuned policy, by the commands that a user types, in verl's own environment."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from videobrain.agent import Trace
from videobrain.models import bundled
from videobrain.testing import FakeServer
from videobrain.training.sample import read_samples
from videobrain.training.trajectories import read_trajectories
from videobrain.training.verl.launch import read_metrics
from videobrain.world import WorldQuestion, read_questions, write_dataset

pytestmark = [pytest.mark.server, pytest.mark.timeout(720)]
ROOT = Path(__file__).resolve().parents[2]


class Teacher:
    """Knows the truth about what it is shown, and calls the right tool where the first frames do not show it."""

    def __init__(self, questions: list[WorldQuestion]) -> None:
        self._questions = {each.question: each for each in questions}
        assert len(self._questions) == len(questions), "each question can be told by its words"

    def __call__(self, body: dict[str, Any]) -> str:
        said = json.dumps(body["messages"])
        question = next(each for words, each in self._questions.items() if words in said)
        called = any("<tool_call>" in json.dumps(m) for m in body["messages"] if m["role"] == "assistant")
        if called or (question.kind == "direct" and "image_url" in said):
            return f"<thinking>The frames show it.</thinking>\n<answer>{question.answer}</answer>"
        if "clip_sample" not in said:
            unknown = next((each for each in question.options or () if each != question.answer), "I cannot tell")
            return f"<thinking>They do not show it.</thinking>\n<answer>{unknown}</answer>"
        arguments = {"start_frame": 0, "end_frame": question.frame_count, **question.calls[0].arguments}
        call = json.dumps({"name": question.calls[0].name, "arguments": arguments})
        return f"<thinking>They do not show it.</thinking>\n<tool_call>{call}</tool_call>"


@pytest.fixture
def videobrain(verl_python: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a command of ours in verl's environment."""

    def run(*arguments: object, **variables: str) -> str:
        command = [str(verl_python), "-m", "videobrain", *map(str, arguments)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "OPENAI_API_KEY": "none",
            "VIDEOBRAIN_OFFLINE": "1",
            "VIDEOBRAIN_CACHE_DIR": str(tmp_path / "cache"),
            **variables,
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    return run


def test_a_benchmark_becomes_a_policy(videobrain: Callable[..., str], tmp_path: Path) -> None:
    world, classified, taught = tmp_path / "world", tmp_path / "classified", tmp_path / "taught"
    questions = read_questions(write_dataset(world, "train", 2, seed=5, duration_seconds=180))
    policy = bundled.DIRECTORY
    with FakeServer(Teacher(questions), models=("teacher",)) as server:
        teacher = ("--teacher", "openai:teacher", "--teacher-base-url", server.base_url)
        found = json.loads(
            videobrain(
                "train", "classify", "world", "--data", world, "--out", classified, "--student", f"local:{policy}",
                *teacher, "--encoder", policy / "encoder", "--json",
            )
        )  # fmt: skip
        samples = read_samples(classified / "samples.jsonl")
        assert len(samples) == sum(found[name] for name in ("Direct", "Adaptive", "Active")) >= 8
        assert {each.question_class for each in samples if each.question_type != "direct"} == {"Active"}
        videobrain(
            "train", "trajectories", classified / "samples.jsonl", "--out", taught, *teacher,
            "--encoder", policy / "encoder", "--per-sample", 1, VIDEOBRAIN_PROMPTS="compact",
        )  # fmt: skip
    trajectories = taught / "trajectories.jsonl"
    kept = read_trajectories(trajectories)
    assert {each.sample.question_class for each in kept} <= {"Adaptive", "Active"}
    assert len(kept) >= 6

    fine_tuned, sft = tmp_path / "sft", tmp_path / "sft-model"
    videobrain(
        "train", "sft", trajectories, "--model", policy, "--out", fine_tuned, "--recipe", "cpu",
        "--batch-size", 2, "--steps", 2, "--learning-rate", 1e-6,
    )  # fmt: skip
    steps = read_metrics(fine_tuned / "metrics.jsonl")
    assert [done.step for done in steps] == [1, 2]
    assert all(math.isfinite(done.metrics[f"train/{name}"]) for done in steps for name in ("loss", "grad_norm"))
    assert all(done.metrics[f"train/{name}"] > 0 for done in steps for name in ("loss", "grad_norm"))
    videobrain("train", "export", fine_tuned, "--out", sft)

    reinforced, model = tmp_path / "grpo", tmp_path / "model"
    videobrain(
        "train", "grpo", classified / "samples.jsonl", "--model", sft, "--out", reinforced, "--recipe", "cpu",
        "--steps", 3, "--set", 'loggers=["console"]', "--set", "attention=sdpa", "--set", "learning_rate=1e-6",
    )  # fmt: skip
    steps = read_metrics(reinforced / "metrics.jsonl")
    assert [done.step for done in steps] == [1, 2, 3]
    for done in steps:
        assert all(math.isfinite(value) for name, value in done.metrics.items() if name.startswith("actor/"))
        assert done.metrics["training/rollout_probs_diff_max"] < 1e-3
        assert done.metrics["rollout/left_out"] == 0
    assert any(done.metrics["actor/grad_norm"] > 0 for done in steps)
    assert any(done.metrics["rollout/accuracy"] > 0 for done in steps)
    traces = sorted((reinforced / "rollouts").rglob("*.jsonl"))
    assert len(traces) == 3 * 2 * 4
    assert all(Trace.load(path).answer is not None for path in traces)
    videobrain("train", "export", reinforced, "--out", model)

    direct = next(each for each in questions if each.kind == "direct")
    answer = json.loads(videobrain("ask", world / direct.video, direct.question, "--model", f"local:{model}", "--json"))
    assert answer["stop_reason"] == "answered"
