"""Measures a model on held-out videos of the synthetic world, beside its baselines, through the public API.

    python -m videobrain.training.tiny.evaluate --model tiny --out DIR

The directory keeps the videos, each answer and the results; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import anyio

from videobrain.agent import resolve_strategy
from videobrain.brain import VideoBrain
from videobrain.errors import ConfigurationError, InputError, VideoBrainError
from videobrain.evaluation.metrics import percent
from videobrain.models import ChatModel, resolve_model
from videobrain.models.bundled import BUNDLED, DIRECTORY
from videobrain.result import Outcome, Question
from videobrain.settings import Settings
from videobrain.training.tiny.figures import Evaluation, Record, agreement, hold_to_bars, parts_of
from videobrain.training.tiny.stages import JsonLines, write_atomically
from videobrain.world import WorldQuestion, read_questions, write_dataset

STRATEGIES = ("videobrain", "uniform-16", "uniform-64", "blind")
SEED = 500_000
"""Of the first video. The encoder is measured on the test videos from 0."""
ANSWERS_FILE, RESULTS_FILE = "answers.jsonl", "results.json"

_KINDS = ("direct", "search", "dense")
_PER_VIDEO = 6
_REPORT_QUESTIONS = 25

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
        out: Directory of videos, answers and results.
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
        InputError: The directory holds answers of another format.
        ModelStartError: A model cannot be started.
    """
    for strategy in strategies:
        resolve_strategy(strategy)
    if questions < 1 or not strategies:
        raise ConfigurationError("An evaluation needs at least one question and one strategy.")
    folder, asked = _held_out(out, questions, seed, duration_seconds, log)
    journal = Journal(out / ANSWERS_FILE)
    records = anyio.run(_ask_model, model, strategies, folder, asked, out / "cache", concurrency, journal, log)
    others: Mapping[str, list[Record]] = {}
    if compare is not None:
        first = strategies[:1]
        others = anyio.run(_ask_model, compare, first, folder, asked, out / "cache", concurrency, journal, log)
    same = agreement(records[strategies[0]], others[strategies[0]]) if others else None
    name, weights = _identity(model)
    evaluation = Evaluation(
        model=name,
        weights=weights,
        version=version("videobrain"),
        questions=len(asked),
        videos=len({question.video for question in asked}),
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


def weights_digest(directory: Path) -> str:
    """Hash of all that makes a model: everything in its directory but texts for people and logs of its training."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        logged = path.is_relative_to(directory / "training")
        if path.is_file() and path.suffix != ".md" and not logged:
            digest.update(path.relative_to(directory).as_posix().encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


class Journal:
    """The finished questions of a directory, one JSON object per line, appended as they finish.

    Args:
        path: The file. A last line that was cut short is dropped.

    Raises:
        InputError: A line is no record.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._lines = JsonLines(path, lambda line: True)
            lines = path.read_text("utf-8").splitlines()
            self._records = {_key(record): record for record in map(Record.model_validate_json, lines)}
        except ValueError as error:
            raise InputError(
                f"{path} holds no answers of this version: {error}", hint="Name another directory, or delete the file."
            ) from error

    def find(self, model: str, weights: str, strategy: str, question: WorldQuestion) -> Record | None:
        """The record of a question; None where it was not finished, or ended with an error."""
        wanted = Record(model=model, weights=weights, strategy=strategy, question=question)
        found = self._records.get(_key(wanted))
        return found if found is not None and not found.error else None

    def add(self, record: Record) -> None:
        """Append a finished question."""
        self._lines.add(**record.model_dump(mode="json"))
        self._records[_key(record)] = record


def _key(record: Record) -> tuple[str, ...]:
    return record.model, record.weights, record.strategy, record.question.model_dump_json()


def _held_out(out: Path, count: int, seed: int, duration_seconds: int, log: Log) -> tuple[Path, list[WorldQuestion]]:
    videos = math.ceil(count / _PER_VIDEO)
    folder = out / f"videos-{duration_seconds}"

    def progress(done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            log(f"{done} of {total} videos are there")

    path = write_dataset(folder, "test", videos, seed=seed, duration_seconds=duration_seconds, progress=progress)
    return folder, fixed_mix(read_questions(path), count)


def _identity(model: str | ChatModel) -> tuple[str, str]:
    """Model string, and digest of its files where they are on this machine."""
    if not isinstance(model, str):
        return model.name, ""
    kind, _, name = model.partition(":")
    directory = DIRECTORY if model == BUNDLED else Path(name).expanduser()
    here = kind in (BUNDLED, "local", "vllm") and directory.is_dir()
    return model, weights_digest(directory) if here else ""


async def _ask_model(
    model: str | ChatModel,
    strategies: Sequence[str],
    folder: Path,
    questions: Sequence[WorldQuestion],
    cache: Path,
    concurrency: int | None,
    journal: Journal,
    log: Log,
) -> dict[str, list[Record]]:
    """Records of each strategy, in the order of the questions."""
    name, weights = _identity(model)
    concurrency = concurrency or (1 if name.partition(":")[0] in (BUNDLED, "local") else 16)
    chat = resolve_model(model)
    records: dict[str, list[Record]] = {}
    try:
        for strategy in strategies:
            found = {each.key: journal.find(name, weights, strategy, each) for each in questions}
            missing = [question for question in questions if found[question.key] is None]
            if missing:
                await chat.capacity()  # a model that cannot start is one error, not one for each question
                # Strategies without tools never search, so nothing is embedded ahead for them.
                warm = None if strategy == "videobrain" else False
                settings = Settings(cache_dir=cache, temperature=0.0, warm_index=warm)
                async with VideoBrain(chat, strategy=strategy, settings=settings) as brain:
                    progress = _Progress(f"{name}, {strategy}", len(missing), len(questions), log)
                    asked = [_question(folder, question) for question in missing]
                    by_key = {question.key: question for question in missing}
                    async with brain.ask_many(asked, concurrency=concurrency) as outcomes:
                        async for outcome in outcomes:
                            question = by_key[outcome.question.key or ""]
                            record = _record(name, weights, strategy, question, outcome)
                            found[question.key] = record
                            journal.add(record)
                            progress.add(record)
            records[strategy] = [record for record in found.values() if record is not None]
    finally:
        if isinstance(model, str):
            with anyio.CancelScope(shield=True):
                await chat.aclose()
    return records


def _question(folder: Path, question: WorldQuestion) -> Question:
    return Question(
        video=folder / question.video, question=question.question, options=question.options, key=question.key
    )


def _record(model: str, weights: str, strategy: str, question: WorldQuestion, outcome: Outcome) -> Record:
    answer = outcome.answer
    if answer is None:
        error = f"{type(outcome.error).__name__}: {outcome.error}"
        return Record(model=model, weights=weights, strategy=strategy, question=question, error=error)
    usage = answer.usage
    return Record(
        model=model,
        weights=weights,
        strategy=strategy,
        question=question,
        text=answer.text,
        choice=answer.choice,
        stop_reason=answer.stop_reason,
        frames=usage.frames,
        turns=usage.turns,
        # The reply that ends a run, for want of another correction, is counted by no correction.
        ill_formed=usage.corrections + (answer.stop_reason == "corrections"),
        calls=sum(usage.tool_calls.values()),
        seconds=usage.seconds,
    )


class _Progress:
    """Says now and then how far a strategy is."""

    def __init__(self, name: str, missing: int, total: int, log: Log) -> None:
        self._name, self._missing, self._log = name, missing, log
        self._done = self._right = 0
        self._began = time.monotonic()
        if missing < total:
            log(f"{name}: {total - missing} of {total} questions are answered already")

    def add(self, record: Record) -> None:
        self._done += 1
        self._right += record.right
        if self._done % _REPORT_QUESTIONS == 0 or self._done == self._missing:
            left = (time.monotonic() - self._began) / self._done * (self._missing - self._done)
            self._log(
                f"{self._name}: {self._done} of {self._missing} asked, {percent(self._right / self._done)} right, "
                f"{left / 60:.0f} minutes left"
            )


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
    given = parser.parse_args(arguments)

    def log(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    try:
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
    except VideoBrainError as error:
        log(str(error))
        return 2
    except KeyboardInterrupt:
        log("Interrupted. The same command goes on from here.")
        return 130
    sys.stdout.write(f"{found.table()}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
