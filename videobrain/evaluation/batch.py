"""The questions of one start of a run: done, counted and written down as they are finished, wherever they are asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread

from videobrain.errors import EvaluationStoppedError
from videobrain.evaluation.asking import HOPELESS
from videobrain.evaluation.benchmarks import LoadedBenchmark
from videobrain.evaluation.concurrency import AdaptiveLimit
from videobrain.evaluation.executor import Executor, Line, Posed
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.judging import judge_run, named
from videobrain.evaluation.manifest import key_of
from videobrain.evaluation.metrics import Verdicts
from videobrain.evaluation.progress import Progress, Tally
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import RunDirectory
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.scoring import own_score, scores_by_key
from videobrain.evaluation.verdict_file import read_judgements

_CAUSES = 3
_BROKEN_SHARE = 0.05
"""Share of failures among the questions of a start from which on the run is broken: a few videos are always damaged."""
T = TypeVar("T")


class Batch:
    """The questions of one start.

    Attributes:
        tally: What of them is finished.

    Args:
        benchmark: Where they are from.
        executor: Where they are asked; its model is reached.
        run: Where what comes of them is written, by this object alone.
        samples: The questions.
        limit: How many are asked at once.
        judge: Judges the answers in words.
        max_errors: After so many failures it ends, where they are more than a few of all that were asked.
        on_progress: Called after each finished question.
    """

    def __init__(
        self,
        benchmark: LoadedBenchmark,
        executor: Executor,
        run: RunDirectory,
        samples: Sequence[Sample],
        limit: AdaptiveLimit,
        *,
        judge: Judge | None,
        max_errors: int | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.tally = Tally(
            questions=len(samples),
            missing_videos=run.manifest.missing_videos,
            missing_questions=run.manifest.missing_questions,
        )
        self._benchmark = benchmark
        self._executor = executor
        self._run = run
        self._samples = samples
        self._judge = judge
        self._max_errors = max_errors
        self._on_progress = on_progress
        self._limit = limit
        self._writing = anyio.Lock()
        self._asked = 0
        self._causes: Counter[str] = Counter()

    async def run_all(self, *, retry_errors: bool) -> None:
        """Do what is missing."""
        wanted = {self._run.manifest.key(sample): sample for sample in self._samples}
        begun = await anyio.to_thread.run_sync(lambda: self._take_up(wanted, retry_errors))
        self.tally.start()
        self._report()
        missing = [self._posed(sample) for key, sample in wanted.items() if key not in begun]
        await work_on(self._executor.deal(missing), self._work, self._limit)

    async def judge_all(self) -> None:
        """Judge the answers in words that have no verdict yet, those of earlier starts too."""
        if self._judge is not None:
            await judge_run(self._run.path, self._judge, self.tally, self._report)

    def _take_up(self, wanted: dict[str, Sample], retry_errors: bool) -> set[str]:
        """Count what earlier starts finished; in a thread."""
        done = self._run.begun(wanted, retry_errors=retry_errors, known=self._benchmark.keys)
        self.tally.superseded = self._run.superseded
        records = [record for record in self._run.records() if key_of(record) in done]
        scores = self._scores(records)
        for record in records:
            self.tally.add(record, scores.get(record.sample.key), earlier=True)
        return done

    def _scores(self, records: Sequence[Record]) -> Verdicts:
        """Scores of answers in words that are there already; in a thread."""
        return scores_by_key(records, read_judgements(self._run.path), **named(self._judge))

    def _posed(self, sample: Sample) -> Posed:
        return Posed(sample, self._benchmark.video_path(sample), self._benchmark.subtitles_path(sample))

    async def _work(self, question: Posed) -> None:
        try:
            line = await self._executor.ask(question)
        except HOPELESS as error:
            raise EvaluationStoppedError(
                f"Every question fails with {type(error).__name__}: {error.message}",
                hint=f"{error.hint} Then the same command goes on.".strip(),
            ) from error
        await self._keep(line)

    async def _keep(self, line: Line) -> None:
        async with self._writing:
            record = await anyio.to_thread.run_sync(self._run.write, line.record, line.trace, line.evidence)
        self.tally.add(record, own_score(record))
        self._asked += 1
        self._report()
        if record.error is not None:
            self._causes[record.error] += 1
            self._stop_where_it_is_broken()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.tally.progress(self._limit.now))

    def _stop_where_it_is_broken(self) -> None:
        failed = self._causes.total()
        if self._max_errors is None or failed < max(self._max_errors, _BROKEN_SHARE * self._asked):
            return
        causes = "".join(f"\n  {count} x {cause}" for cause, count in self._causes.most_common(_CAUSES))
        more = f"\n  and {len(self._causes) - _CAUSES} more causes" if len(self._causes) > _CAUSES else ""
        questions = f"{failed} of {self._asked} questions"
        raise EvaluationStoppedError(
            f"{questions} failed, which ends the run (max_errors is {self._max_errors}):{causes}{more}\n ",
            hint="Mend the cause. The same command with --retry-errors (retry_errors=True) then goes on.",
        )


async def work_on(items: Iterable[T], work: Callable[[T], Awaitable[None]], limit: AdaptiveLimit) -> None:
    """Do some work on each item, as many at once as the limit says at that moment.

    The first error ends everything and is raised once all work has cleaned up; so does cancellation.
    """
    waiting = iter(items)
    running: set[asyncio.Task[None]] = set()
    exhausted = False

    async def one(item: T) -> None:
        await work(item)

    try:
        while True:
            while not exhausted and len(running) < limit.now:
                try:
                    running.add(asyncio.create_task(one(next(waiting))))
                except StopIteration:
                    exhausted = True
            if not running:
                return
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            failures = [error for task in ended if (error := task.exception()) is not None]
            if failures:
                raise failures[0]
    finally:
        for task in running:
            task.cancel()
        if running:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(running)
            for task in running:
                if not task.cancelled():
                    task.exception()  # the first one is raised, or it is cancellation
