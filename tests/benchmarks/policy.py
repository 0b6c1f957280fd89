"""What reinforcement learning does to a small policy: GRPO with the paper's reward, and without its behaviour term.

    python -m tests.benchmarks.policy --out DIR [--model DIR] [--steps N] [--questions N] [--seed N]

The bundled model calls tools where it should, so it is first fine-tuned to call them on most questions that its first
frames answer, too. Both trainings begin with what comes of that and ask the same questions of the synthetic world,
whose classes are true by construction. Then the model and both policies answer held-out questions through vLLM.
Everything is kept in the directory: stopped at any moment, the same command goes on. Run it with the project's own
Python; it needs the environment with verl and vLLM that `tests/environments/build.sh` makes, too. ``table.md`` and
``curves.svg`` are what came of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe
from tests.benchmarks.overcalling import write_lessons
from tests.environments.fixtures import CPU_SETTINGS, default_environment
from videobrain.evaluation.benchmarks import load_benchmark
from videobrain.models.bundled import DIRECTORY
from videobrain.training.sample import training_samples, write_samples
from videobrain.training.tiny.figures import Evaluation, Figures
from videobrain.training.verl.launch import StepDone, read_metrics
from videobrain.training.verl.run import last_step
from videobrain.world import write_dataset

ARMS: Mapping[str, Mapping[str, Any]] = {
    "with behaviour": {},
    "without behaviour": {
        "reward": {"terms": [{"measure": "format", "weight": 0.05}, {"measure": "accuracy", "weight": 1.0}]}
    },
}
"""What is trained, and what of the configuration differs."""
START = "before"
LESSONS, LESSON_STEPS = 20, 32
"""Videos of the lessons that teach to call tools where they are not needed, and steps of that fine-tuning."""
TRAINING: Mapping[str, Any] = {
    "batch_size": 8,
    "group_size": 8,
    "learning_rate": 1e-4,
    "objective": "dr_grpo",
    "entropy": 0.0,
    "prompt_tokens": 2048,
    "response_tokens": 4096,
    "reply_tokens": 768,
    "rollout": "vllm",
    "rollouts_at_once": 64,
    "attention": "sdpa",
    "keep_rollouts": False,
    "loggers": ["console"],
}
CURVES = {
    "rollout/Direct/tool_used": "Direct questions with a tool call",
    "rollout/Active/tool_used": "Active questions with a tool call",
    "rollout/accuracy": "right answers",
    "rollout/frames": "frames shown",
}
SMOOTHED = 8
"""Steps that a point of a curve is the mean of: a step asks few questions."""


def videobrain(python: Path, *arguments: object) -> None:
    """Run a command of ours in verl's environment."""
    # Sampling and training take turns, so that each may have all cores.
    threads = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    environment = {**os.environ, **CPU_SETTINGS, "PYTHONPATH": str(Path(__file__).parents[2]), **threads}
    subprocess.run([python, "-m", "videobrain", "train", *map(str, arguments)], env=environment, check=True)


def overcalling(given: argparse.Namespace, python: Path) -> Path:
    """The bundled model, fine-tuned to call tools where it need not, as far as that is not done."""
    model: Path = given.out / "overcalling"
    if not model.exists():
        place = given.out / "lessons"
        lessons = write_lessons(place, videos=LESSONS, seed=690_000 + given.seed, encoder=DIRECTORY / "encoder")
        videobrain(
            python, "sft", lessons, "--out", place / "training", "--recipe", "cpu", "--model", DIRECTORY,
            "--steps", LESSON_STEPS, "--batch-size", 8, "--learning-rate", 1e-4,
        )  # fmt: skip
        videobrain(python, "export", place / "training", "--out", model)
    return model


def train(name: str, more: Mapping[str, Any], given: argparse.Namespace, samples: Path, python: Path) -> Path:
    """Train one arm as far as that is not done, and export it."""
    place = given.out / name.replace(" ", "-")
    fields = {**TRAINING, **more, "seed": given.seed, "save_steps": 5}
    # A search that a busy machine cuts short would leave its rollout out.
    fields["settings"] = {"offline": True, "cache_dir": str(given.out / "cache"), "tool_timeout_seconds": 600}
    config = given.out / f"{place.name}.json"
    config.write_text(json.dumps(fields, indent=1), "utf-8")
    began = time.monotonic()
    videobrain(
        python, "grpo", samples, "--out", place, "--recipe", "cpu", "--model", given.model, "--config", config,
        "--steps", given.steps,
    )  # fmt: skip
    print(f"{name}: trained for {(time.monotonic() - began) / 60:.0f} minutes", flush=True)
    model: Path = given.out / f"{place.name}-model-{last_step(place)}"
    if not model.exists():
        videobrain(python, "export", place, "--out", model)
    return model


def evaluate(model: Path, given: argparse.Namespace, python: Path) -> Evaluation:
    """Ask a model the held-out questions, as far as that is not done."""
    environment = {
        **os.environ,
        **CPU_SETTINGS,
        "VIDEOBRAIN_VLLM_COMMAND": str(python.parent / "vllm"),
        "VIDEOBRAIN_VLLM_ARGUMENTS": "--dtype bfloat16 --enforce-eager --max-num-seqs 8",
        "VIDEOBRAIN_VLLM_START_SECONDS": "600",
        "VIDEOBRAIN_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "videobrain.training.tiny.evaluate", "--model", f"vllm:{model}"]
    command += [
        "--out",
        str(given.out / "evaluation"),
        "--questions",
        str(given.questions),
        "--strategies",
        "videobrain",
    ]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return Evaluation.model_validate_json((given.out / "evaluation" / "results.json").read_text("utf-8"))


def table(found: Mapping[str, Evaluation]) -> str:
    """Figures of each policy, as Markdown."""
    lines = [
        "| | right | Direct | search | dense | tools on Direct | tools on Active | frames | ill-formed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, evaluation in found.items():
        parts = {figures.part: figures for figures in evaluation.strategies["videobrain"]}
        every, direct, search, dense = (parts[part] for part in ("all", "direct", "search", "dense"))
        active = _mean([search, dense])
        lines.append(
            f"| {name} | {every.right} | {direct.right.value:.1%} | {search.right.value:.1%} | {dense.right.value:.1%} "
            f"| {direct.tools:.1%} | {active:.1%} | {every.frames:.1f} | {every.ill_formed:.2%} |"
        )
    return "\n".join(lines) + "\n"


def _mean(parts: Sequence[Figures]) -> float:
    return sum(part.tools * part.questions for part in parts) / sum(part.questions for part in parts)


def draw(trainings: Mapping[str, Sequence[StepDone]], path: Path) -> None:
    """Write a picture with a panel for each curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
        for name, steps in trainings.items():
            told = [(done.step, done.metrics[metric]) for done in steps if metric in done.metrics]
            means = [
                sum(value for _, value in told[max(0, end - SMOOTHED) : end]) / min(SMOOTHED, end)
                for end in range(1, len(told) + 1)
            ]
            axes.plot([step for step, _ in told], means, label=name)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory that keeps everything")
    parser.add_argument("--model", type=Path, help="what both trainings begin with, in the place of that model")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--videos", type=int, default=40, help="of ten minutes with six questions each")
    parser.add_argument("--questions", type=int, default=500, help="held-out ones, for the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    given = parser.parse_args()
    given.out = given.out.absolute()
    print(describe("videobrain", "torch"))
    python = default_environment() / "bin" / "python"
    world = given.out / "world"
    write_dataset(world, "train", given.videos, seed=700_000 + given.seed, duration_seconds=600)
    samples = write_samples(given.out / "samples.jsonl", training_samples(load_benchmark("world", world)))

    trainings: dict[str, Sequence[StepDone]] = {}
    given.model = given.model.absolute() if given.model else overcalling(given, python)
    models = {START: given.model}
    for name in given.arms:
        models[name] = train(name, ARMS[name], given, samples, python)
        trainings[name] = read_metrics(given.out / name.replace(" ", "-") / "metrics.jsonl")
        draw(trainings, given.out / "curves.svg")
    found = {name: evaluate(model, given, python) for name, model in models.items()}
    text = table(found)
    (given.out / "table.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
