"""Measures a model on held-out videos of the synthetic world, beside its baselines, through the public API.

    python -m videobrain.training.tiny.evaluate --model tiny --out DIR

The directory keeps the videos, a run of each strategy and the results; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from videobrain.agent import resolve_strategy
from videobrain.brain import VideoBrain
from videobrain.errors import ConfigurationError, VideoBrainError
from videobrain.evaluation.benchmarks import LoadedBenchmark, load_benchmark
from videobrain.evaluation.metrics import percent
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.record import Record as EvaluationRecord
from videobrain.evaluation.results import read_results
from videobrain.evaluation.runner import evaluate as run_benchmark
from videobrain.installed import installed_version
from videobrain.models import ChatModel, resolve_model
from videobrain.models.bundled import BUNDLED, DIRECTORY
from videobrain.settings import Settings
from videobrain.training.tiny.card import read_facts, weights_digest, write_card
from videobrain.training.tiny.figures import Evaluation, Record, agreement, hold_to_bars, parts_of
from videobrain.training.tiny.stages import write_atomically
from videobrain.world import WorldQuestion, read_questions, write_dataset

STRATEGIES = ("videobrain", "uniform-16", "uniform-64", "blind")
SEED = 500_000
"""Of the first video. The encoder is measured on the test videos from 0."""
RUNS, RESULTS_FILE = "runs", "results.json"

_KINDS = ("direct", "search", "dense")
_PER_VIDEO = 6
_REPORT_QUESTIONS = 25
_TOOL_SECONDS = 600.0
"""Time that a tool may take."""

Log = Callable[[str], None]


def evaluate(
    model: str | ChatModel,
    out: Path,
    *,
    questions: int = 500,
    strategies: Sequence[str] = STRATEGIES,
    seed: int = SEED,
    duration_seconds: int = 600,
    concurrency: int | None = None,
    compare: str | ChatModel | None = None,
    log: Log,
) -> Evaluation:
    """Ask every question with every strategy, greedily, as far as that is not done yet.

    Args:
        model: Model string, or a model, which its maker closes.
        out: Directory of the videos, a run of each strategy, and results.
        questions: How many; see `fixed_mix`.
        strategies: Names of strategies.
        seed: Seed of the first video.
        duration_seconds: Length of each video.
        concurrency: Questions worked on at once. By default one for a model in this process, which gives one reply at
            a time, so that the seconds are those of a user who asks alone; 16 for a server.
        compare: Another model, which is asked with the first strategy, to see whether its answers are the same.
        log: Told how it goes.

    Raises:
        ConfigurationError: A model, a strategy or a number cannot be used.
        InputError: A run in the directory is damaged.
        ModelStartError: A model cannot be started.
    """
    for strategy in strategies:
        resolve_strategy(strategy)
    if questions < 1 or not strategies:
        raise ConfigurationError("An evaluation needs at least one question and one strategy.")
    benchmark = _held_out(out, questions, seed, duration_seconds, log)
    records = anyio.run(_ask_model, model, strategies, benchmark, out, concurrency, log)
    others: Mapping[str, list[Record]] = {}
    if compare is not None:
        others = anyio.run(_ask_model, compare, strategies[:1], benchmark, out, concurrency, log)
    same = agreement(records[strategies[0]], others[strategies[0]]) if others else None
    name, weights = _identity(model)
    evaluation = Evaluation(
        model=name,
        weights=weights,
        version=installed_version(),
        questions=len(benchmark.samples),
        videos=len({sample.video for sample in benchmark.samples}),
        duration_seconds=duration_seconds,
        seed=seed,
        strategies={strategy: parts_of(records[strategy]) for strategy in strategies},
        bars=hold_to_bars(records, same),
        agreement=same,
    )
    text = evaluation.model_dump_json(indent=2)
    write_atomically(out / RESULTS_FILE, lambda path: path.write_text(f"{text}\n", "utf-8"))
    return evaluation


def fixed_mix(questions: Iterable[WorldQuestion], count: int) -> list[WorldQuestion]:
    """The first `count` questions, of which any number is a third each class and half each form, but for one.

    A video has one multiple-choice and one open-ended question of each of three classes. They are taken in an order in
    which class and form alternate, video by video.
    """
    numbers = [(_KINDS[number % 3], number % 2 == 0) for number in range(_PER_VIDEO)]
    videos: dict[str, dict[tuple[str, bool], WorldQuestion]] = {}
    for question in questions:
        videos.setdefault(question.video, {})[question.kind, question.options is not None] = question
    return [video[number] for video in videos.values() for number in numbers][:count]


def _held_out(out: Path, count: int, seed: int, duration_seconds: int, log: Log) -> LoadedBenchmark:
    videos = math.ceil(count / _PER_VIDEO)
    folder = out / f"videos-{duration_seconds}"

    def progress(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            log(f"{done} of {total} videos are there")

    path = write_dataset(folder, "test", videos, seed=seed, duration_seconds=duration_seconds, progress=progress)
    keys = [question.key for question in fixed_mix(read_questions(path), count)]
    benchmark = load_benchmark("world", folder, split="test")
    samples = {sample.key: sample for sample in benchmark.samples}
    return replace(benchmark, samples=tuple(samples[key] for key in keys))


def _directory(model: str | ChatModel) -> Path | None:
    """Of the model's files, where they are on this machine."""
    if not isinstance(model, str):
        return None
    kind, _, name = model.partition(":")
    directory = DIRECTORY if model == BUNDLED else Path(name).expanduser()
    return directory if kind in (BUNDLED, "local", "vllm") and directory.is_dir() else None


def _identity(model: str | ChatModel) -> tuple[str, str]:
    """Name of a model, and digest of its files."""
    directory = _directory(model)
    return model if isinstance(model, str) else model.name, weights_digest(directory) if directory else ""


async def _ask_model(
    model: str | ChatModel,
    strategies: Sequence[str],
    benchmark: LoadedBenchmark,
    out: Path,
    concurrency: int | None,
    log: Log,
) -> dict[str, list[Record]]:
    """Records of each strategy, in the order of the questions."""
    name, weights = _identity(model)
    concurrency = concurrency or (1 if name.partition(":")[0] in (BUNDLED, "local") else 16)
    chat = resolve_model(model)
    records: dict[str, list[Record]] = {}
    try:
        for strategy in strategies:
            # Videos of another length have other questions under the same names.
            run = out / RUNS / benchmark.directory.name / _file_name(f"{name}-{weights}") / strategy
            # A search that a busy machine cuts short would say nothing of the model.
            settings = Settings(cache_dir=out / "cache", temperature=0.0, tool_timeout_seconds=_TOOL_SECONDS)
            await run_benchmark(
                benchmark,
                VideoBrain(chat, strategy=strategy, settings=settings),
                run,
                concurrency=concurrency,
                max_errors=None,
                retry_errors=True,
                on_progress=_Progress(f"{name}, {strategy}", log),
            )
            found = {each.sample.key: each for each in await anyio.to_thread.run_sync(read_results, run)}
            records[strategy] = [_record(found[sample.key], weights) for sample in benchmark.samples]
    finally:
        if isinstance(model, str):
            with anyio.CancelScope(shield=True):
                await chat.aclose()
    return records


def _record(record: EvaluationRecord, weights: str) -> Record:
    question = WorldQuestion.model_validate(record.sample.extra["world"])
    who = {"model": record.model, "weights": weights, "strategy": record.strategy, "question": question}
    if record.prediction is None:
        return Record(**who, error=record.error or "")
    usage = record.usage
    return Record(
        **who,
        text=record.prediction.text,
        choice=record.prediction.choice,
        stop_reason=record.stop_reason or "",
        frames=usage.frames,
        turns=usage.turns,
        # The reply that ends a run, for want of another correction, is counted by no correction.
        ill_formed=usage.corrections + (record.stop_reason == "corrections"),
        calls=sum(usage.tool_calls.values()),
        seconds=usage.seconds,
    )


def _file_name(text: str) -> str:
    """Something of the text that any file system takes, and a digest that tells it from others."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', text)[-60:]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class _Progress:
    """Says now and then how far a strategy is."""

    def __init__(self, name: str, log: Log) -> None:
        self._name, self._log = name, log
        self._told = -1

    def __call__(self, progress: Progress) -> None:
        if self._told < 0 and progress.earlier:
            self._log(f"{self._name}: {progress.earlier} of {progress.questions} questions are answered already")
        new = progress.done - progress.earlier
        at_end = progress.done == progress.questions
        if new and new != self._told and (new % _REPORT_QUESTIONS == 0 or at_end):
            left = progress.seconds / new * (progress.questions - progress.done)
            asked = f"{progress.done} of {progress.questions} asked"
            self._log(f"{self._name}: {asked}, {percent(progress.accuracy or 0)} right, {left / 60:.0f} minutes left")
        self._told = new


def _carded(model: str) -> Path:
    directory = _directory(model)
    if directory is None:
        raise ConfigurationError(f"{model} is no directory here whose card could be written.")
    read_facts(directory)
    return directory


def main(arguments: list[str] | None = None) -> int:
    """Evaluate, by arguments of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m videobrain.training.tiny.evaluate",
        description="Measure a model on held-out videos of the synthetic world, beside its baselines.",
    )
    parser.add_argument("--model", default="tiny", help="model string")
    parser.add_argument("--out", type=Path, required=True, help="directory that keeps videos, answers and results")
    parser.add_argument("--questions", type=int, default=500, help="how many")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="names, with commas between")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the first video")
    parser.add_argument("--duration", type=int, default=600, help="length of each video in seconds")
    parser.add_argument("--concurrency", type=int, help="questions at once; by default 1 in process, 16 on a server")
    parser.add_argument("--compare", metavar="MODEL", help="ask this model too: are its answers the same?")
    parser.add_argument("--card", action="store_true", help="write the figures into the card in the model's directory")
    given = parser.parse_args(arguments)

    def log(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    try:
        directory = _carded(given.model) if given.card else None  # before an hour has passed
        found = evaluate(
            given.model,
            given.out,
            questions=given.questions,
            strategies=[name for name in given.strategies.split(",") if name],
            seed=given.seed,
            duration_seconds=given.duration,
            concurrency=given.concurrency,
            compare=given.compare,
            log=log,
        )
        sys.stdout.write(f"{found.table()}\n")
        if directory:
            write_card(directory, found)
    except (VideoBrainError, OSError) as error:
        log(str(error))
        return 2
    except KeyboardInterrupt:
        log("Interrupted. The same command goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
