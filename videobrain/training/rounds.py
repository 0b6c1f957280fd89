"""Asking questions several times, as runs of the evaluation room that go on where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import anyio.to_thread

from videobrain.agent import Strategy
from videobrain.brain import VideoBrain
from videobrain.errors import InputError
from videobrain.evaluation.benchmarks import LoadedBenchmark
from videobrain.evaluation.benchmarks.plain import PLAIN
from videobrain.evaluation.executor import Concurrency
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.judging import named
from videobrain.evaluation.metrics import outcome
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import read_results
from videobrain.evaluation.runner import evaluate
from videobrain.evaluation.scoring import scores_by_key
from videobrain.evaluation.verdict_file import read_judgements
from videobrain.limits import Limits
from videobrain.models import ChatModel, resolve_model
from videobrain.settings import Settings
from videobrain.training.sample import TrainingSample, require_scorable

_COPY = "#"
"""Between the key of a question and the number of its copy; a key may hold it too."""


class Copy(NamedTuple):
    """One asking of a question, and what came of it."""

    number: int
    record: Record
    right: bool | None
    """None where nobody can say: the run or its judge failed."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How questions are asked, beside who is asked: what every round of a training's preparation has in common."""

    settings: Settings
    limits: Limits | None = None
    tools: Sequence[Any] | None = None
    """As for `VideoBrain`."""
    encoder: Any = None
    """As for `VideoBrain`."""
    judge: Judge | None = None
    concurrency: Concurrency = "auto"
    max_errors: int | None = 50
    retry_errors: bool = False
    on_progress: Callable[[str, Progress], None] | None = None
    """Called with the name of a round and its progress."""


class Rounds:
    """Runs one round after the other; a context manager, which closes the model that it opened.

    Args:
        out: Directory of the runs, one for each round.
        asking: How questions are asked.
    """

    def __init__(self, out: Path, asking: Asking) -> None:
        self._out = out
        self._asking = asking
        self._open: ChatModel | None = None
        self._named: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def _model(self, model: str | ChatModel) -> ChatModel:
        """The model that a string names; it stays open until another one is wanted, since both may need the device."""
        if not isinstance(model, str):
            return model
        if self._named != model:
            await self._close()
            self._open = resolve_model(model, settings=self._asking.settings)
            self._named = model
        assert self._open is not None
        return self._open

    async def _close(self) -> None:
        model, self._open, self._named = self._open, None, None
        if model is not None:
            with anyio.CancelScope(shield=True):
                await model.aclose()

    async def run(
        self,
        name: str,
        samples: Sequence[TrainingSample],
        *,
        model: str | ChatModel,
        strategy: str | Strategy,
        copies: Callable[[TrainingSample], Sequence[TrainingSample]],
        keep_frames: bool = False,
    ) -> dict[str, list[Copy]]:
        """Ask each question as often as it has copies, as far as that is not done yet.

        Args:
            name: Name of the round, and of its run's directory.
            samples: The questions.
            model: Who is asked.
            strategy: How.
            copies: The askings of a question; `copy_of` names them.
            keep_frames: Keep the frames' bytes in the traces.

        Returns:
            What came of each question's copies, by its key.
        """
        asking, directory = self._asking, self._out / name
        copied = [copy for sample in samples for copy in copies(sample)]
        chat = await self._model(model)
        brain = VideoBrain(
            chat,
            tools=asking.tools,
            encoder=asking.encoder,
            strategy=strategy,
            limits=asking.limits,
            settings=asking.settings,
        )
        on_progress = asking.on_progress

        def tell(progress: Progress) -> None:
            if on_progress is not None:
                on_progress(name, progress)

        async with brain:
            await evaluate(
                _benchmark(copied, directory),
                brain,
                directory,
                concurrency=asking.concurrency,
                max_errors=asking.max_errors,
                retry_errors=asking.retry_errors,
                keep_frames=keep_frames,
                judge=asking.judge,
                on_progress=tell,
            )
        keys = [sample.key for sample in samples]
        wanted = {copy.key for copy in copied}
        return await anyio.to_thread.run_sync(lambda: _by_question(directory, keys, wanted, asking.judge))


def copy_of(sample: TrainingSample, number: int, *, options: int = 0) -> TrainingSample:
    """One asking of a question, its options turned by so many places, so that a letter is no answer by luck."""
    key = f"{sample.key}{_COPY}{number}"
    if sample.options is None or not options:
        return sample.model_copy(update={"key": key})
    count = len(sample.options)
    turned = tuple(sample.options[(place + options) % count] for place in range(count))
    correct = None if sample.correct_option is None else (sample.correct_option - options) % count
    return sample.model_copy(update={"key": key, "options": turned, "correct_option": correct})


def check_samples(samples: Iterable[TrainingSample], judge: Judge | None) -> list[TrainingSample]:
    """The samples, once it is sure that they can be told apart and judged.

    Raises:
        InputError: There are none, two have one key, one's truth is not known, or one wants a judge and there is none.
    """
    found: dict[str, TrainingSample] = {}
    for sample in samples:
        if sample.key in found:
            raise InputError(f"Two samples have the key {sample.key!r}.", hint="Give each one of its own.")
        require_scorable(sample, judged=judge is not None, setting="--judge (Asking.judge)")
        found[sample.key] = sample
    if not found:
        raise InputError("There are no samples.", hint="Check the file, and that the videos are there.")
    return list(found.values())


def _benchmark(samples: Sequence[TrainingSample], directory: Path) -> LoadedBenchmark:
    # Paths of videos and subtitles are absolute, so that they lie within any directory.
    return LoadedBenchmark(PLAIN, "training", directory, directory, tuple(samples), (), frozenset())


def _by_question(directory: Path, keys: Sequence[str], wanted: set[str], judge: Judge | None) -> dict[str, list[Copy]]:
    # The run may hold more: questions of another start, or more copies of these.
    records = [record for record in read_results(directory) if record.sample.key in wanted]
    verdicts = scores_by_key(records, read_judgements(directory), **named(judge))
    found: dict[str, list[Copy]] = {key: [] for key in keys}
    for record in records:
        key, _, number = record.sample.key.rpartition(_COPY)
        what = outcome(record, verdicts=verdicts)
        right = None if what in (None, "error") else what == "correct"
        found[key].append(Copy(int(number), record, right))
    for copies in found.values():
        copies.sort(key=lambda copy: copy.number)
    return found
