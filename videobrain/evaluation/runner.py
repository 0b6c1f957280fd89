"""Asks the questions of a benchmark in a batch that survives whatever ends it."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, TypedDict, TypeVar

import anyio
import anyio.to_thread

from videobrain.agent import Event, ReplyReceived, RequestRetrying, RequestStarted
from videobrain.brain import VideoBrain
from videobrain.errors import ConfigurationError, EvaluationStoppedError, InputError, ModelError
from videobrain.evaluation.asking import HOPELESS, Finished, ask_sample
from videobrain.evaluation.benchmarks import LoadedBenchmark
from videobrain.evaluation.concurrency import AdaptiveLimit
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.manifest import key_of, manifest_of
from videobrain.evaluation.metrics import Verdicts
from videobrain.evaluation.progress import Progress, Tally
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import RunDirectory
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.scores import Scores, score_run
from videobrain.evaluation.scoring import own_score, scores_by_key, wants_judge
from videobrain.evaluation.shards import Shard
from videobrain.evaluation.verdict import Judgement
from videobrain.evaluation.verdict_file import read_judgements

MAX_ERRORS = 50
_LOCAL, _LOCAL_AT_ONCE = ("tiny", "local:"), 2
"""A model in this process gives one reply at a time: meanwhile the frames of one more question are decoded."""
_OVERLOADED = {"RateLimitError", "ModelTimeoutError"}
_CAUSES = 3
T = TypeVar("T")


async def evaluate(
    benchmark: LoadedBenchmark,
    brain: VideoBrain,
    out: str | os.PathLike[str],
    *,
    limit: int | None = None,
    shard: Shard | str | None = None,
    concurrency: int | Literal["auto"] = "auto",
    max_errors: int | None = MAX_ERRORS,
    retry_errors: bool = False,
    keep_frames: bool = False,
    subtitles: bool = True,
    judge: Judge | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Scores:
    """Ask every question of a benchmark whose video is there, and keep what comes of it in a directory.

    Each finished question is on the disk before the next one takes its place. However a run ends, the same call does
    what is missing and nothing twice. Questions on one video follow each other and share its decoder, frames and index.

        async with VideoBrain("openai:Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1") as brain:
            scores = await evaluate(load_benchmark("plain", "questions.jsonl"), brain, "run")

    Args:
        benchmark: The questions.
        brain: Who is asked, and how; it is entered for the time of the run where it is not yet.
        out: Directory of the run. One that is there must have been made with the same model, strategy and settings.
        limit: Only so many questions, the first ones whose video is there.
        shard: A part of the videos, such as ``2/4``; see `merge_runs`.
        concurrency: Questions at once; ``auto`` follows what the server can do.
        max_errors: End the run once so many questions have failed in it; None never does.
        retry_errors: Ask questions again that failed in an earlier start.
        keep_frames: Keep the frames' bytes in the traces, so that reports of them have pictures.
        subtitles: Ask with the subtitles that a question has. Where they cannot be used it is asked without them, and
            its record has a warning.
        judge: Judges the answers in words, once all questions are finished and the model is given back, since both may
            need the same device. Verdicts are kept as the answers are; a later start judges what has none.
        on_progress: Called on the event loop at the beginning and after each finished question; must be quick.

    Returns:
        The figures of the whole run, earlier starts included.

    Raises:
        EvaluationStoppedError: Too many questions failed, an error holds for all of them, the judge cannot be reached,
            or the results cannot be written. What is finished is kept.
        ConfigurationError: An argument cannot be used, the directory holds another run, another process works there, or
            verdicts of several judges are there and no judge is given.
        InputError: No question's video is there, or the results are damaged.
        ModelError: The model cannot be reached.
    """
    if concurrency != "auto" and concurrency < 1:
        raise ConfigurationError(f"concurrency must be at least 1, not {concurrency}.")
    if (limit is not None and limit < 1) or (max_errors is not None and max_errors < 1):
        raise ConfigurationError("limit and max_errors must be at least 1.")
    part = Shard.parse(shard) if isinstance(shard, str) else shard
    samples = _chosen(benchmark, limit, part)
    async with AsyncExitStack() as written:
        async with AsyncExitStack() as entered:
            if not brain.entered:
                await entered.enter_async_context(brain)
            reached = await brain.reach()
            manifest = manifest_of(
                brain, reached, benchmark=benchmark.benchmark.name, split=benchmark.split, subtitles=subtitles
            ).model_copy(update={"shard": str(part) if part else None, "questions": len(samples)})
            run = RunDirectory(Path(out), manifest, keep_frames=keep_frames)
            written.push_async_callback(anyio.to_thread.run_sync, run.close)
            await anyio.to_thread.run_sync(run.__enter__)
            if concurrency == "auto":
                local = reached.model.startswith(_LOCAL)
                at_once = AdaptiveLimit.fixed(_LOCAL_AT_ONCE) if local else AdaptiveLimit.of_servers(reached.servers)
            else:
                at_once = AdaptiveLimit.fixed(concurrency)
            batch = _Batch(
                benchmark,
                brain,
                run,
                samples,
                at_once,
                judge=judge,
                max_errors=max_errors,
                on_progress=on_progress,
            )
            await batch.run_all(retry_errors=retry_errors)
        await batch.judge_all()
    return await anyio.to_thread.run_sync(
        lambda: score_run(
            out,
            **_names(judge),
            missing_videos=batch.tally.missing_videos,
            missing_questions=batch.tally.missing_questions,
        )
    )


def _chosen(benchmark: LoadedBenchmark, limit: int | None, shard: Shard | None) -> list[Sample]:
    """The samples of a start, those on one video next to each other."""
    playable = benchmark.playable[:limit]
    if not playable:
        raise InputError(
            f"None of the {len(benchmark.missing_videos)} videos of {benchmark.benchmark.title} is there.",
            hint=f"They are sought in {benchmark.videos}. To download: {benchmark.benchmark.download}",
        )
    by_video: dict[str, list[Sample]] = {}
    for sample in playable:
        if shard is None or shard.holds(sample.video):
            by_video.setdefault(sample.video, []).append(sample)
    return [sample for samples in by_video.values() for sample in samples]


class _Batch:
    """The questions of one start."""

    def __init__(
        self,
        benchmark: LoadedBenchmark,
        brain: VideoBrain,
        run: RunDirectory,
        samples: Sequence[Sample],
        limit: AdaptiveLimit,
        *,
        judge: Judge | None,
        max_errors: int | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        missing = [sample for sample in benchmark.samples if sample.video in benchmark.missing_videos]
        self.tally = Tally(
            questions=len(samples),
            missing_videos=len(benchmark.missing_videos),
            missing_questions=len(missing),
        )
        self._benchmark = benchmark
        self._brain = brain
        self._run = run
        self._samples = samples
        self._judge = judge
        self._max_errors = max_errors
        self._on_progress = on_progress
        self._limit = limit
        self._writing = anyio.Lock()
        self._causes: Counter[str] = Counter()

    async def run_all(self, *, retry_errors: bool) -> None:
        """Do what is missing."""
        wanted = {self._run.manifest.key(sample): sample for sample in self._samples}
        begun = await anyio.to_thread.run_sync(lambda: self._take_up(wanted, retry_errors))
        self.tally.start()
        self._report()
        await work_on((sample for key, sample in wanted.items() if key not in begun), self._work, self._limit)

    async def judge_all(self) -> None:
        """Judge the answers in words that have no verdict yet, those of earlier starts too."""
        judge = self._judge
        if judge is None:
            return
        records = await anyio.to_thread.run_sync(lambda: [one for one in self._run.records() if wants_judge(one)])
        judged = await anyio.to_thread.run_sync(self._scores, records)
        self.tally.to_judge = len(records) - len(judged)

        def note(judgement: Judgement) -> None:
            self.tally.judge(judgement)
            self._report()

        try:
            await judge.judge_many(records, directory=self._run.path, on_judgement=note)
        except ModelError as error:
            raise EvaluationStoppedError(
                f"The answers are there, and {judge.name} cannot judge them: {type(error).__name__}: {error.message}",
                hint=f"{error.hint} Then the same command judges them.".strip(),
            ) from error

    def _take_up(self, wanted: dict[str, Sample], retry_errors: bool) -> set[str]:
        """Count what earlier starts finished; in a thread."""
        done = self._run.begun(wanted, retry_errors=retry_errors)
        records = [record for record in self._run.records() if key_of(record) in done]
        scores = self._scores(records)
        for record in records:
            self.tally.add(record, scores.get(record.sample.key), earlier=True)
        return done

    def _scores(self, records: Sequence[Record]) -> Verdicts:
        """Scores of answers in words that are there already; in a thread."""
        return scores_by_key(records, read_judgements(self._run.path), **_names(self._judge))

    async def _work(self, sample: Sample) -> None:
        watch = _Watch(self._limit)
        video, manifest = self._benchmark.video_path(sample), self._run.manifest
        subtitles = self._benchmark.subtitles_path(sample) if manifest.settings["subtitles"] else None
        try:
            finished = await ask_sample(self._brain, sample, video, manifest, subtitles=subtitles, on_event=watch)
        except HOPELESS as error:
            raise EvaluationStoppedError(
                f"Every question fails with {type(error).__name__}: {error.message}",
                hint=f"{error.hint} Then the same command goes on.".strip(),
            ) from error
        if finished.error is not None:
            watch.failed(finished.error)
        await self._keep(finished)

    async def _keep(self, finished: Finished) -> None:
        async with self._writing:
            record = await anyio.to_thread.run_sync(self._run.write, finished.record, finished.trace)
        self.tally.add(record, own_score(record))
        self._report()
        if record.error is not None:
            self._causes[record.error] += 1
            self._stop_where_it_is_broken()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.tally.progress(self._limit.now))

    def _stop_where_it_is_broken(self) -> None:
        failed = self._causes.total()
        if self._max_errors is None or failed < self._max_errors:
            return
        causes = "".join(f"\n  {count} x {cause}" for cause, count in self._causes.most_common(_CAUSES))
        more = f"\n  and {len(self._causes) - _CAUSES} more causes" if len(self._causes) > _CAUSES else ""
        questions = "1 question" if failed == 1 else f"{failed} questions"
        raise EvaluationStoppedError(
            f"{questions} failed, which ends the run (max_errors is {self._max_errors}):{causes}{more}\n ",
            hint="Mend the cause. The same command with --retry-errors (retry_errors=True) then goes on.",
        )


class _Chosen(TypedDict):
    judge: str | None
    rubric: str | None


def _names(judge: Judge | None) -> _Chosen:
    """Whose verdicts count."""
    return {"judge": judge.name if judge else None, "rubric": judge.rubric if judge else None}


class _Watch:
    """Tells the limit what the events of one question say about the server."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self._sent_at = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case RequestStarted():
                self._sent_at = time.monotonic()
            case RequestRetrying():
                if event.error in _OVERLOADED:
                    self._limit.overloaded(self._sent_at)
                self._sent_at = time.monotonic() + event.delay_seconds
            case ReplyReceived():
                self._limit.replied()
            case _:
                pass

    def failed(self, error: Exception) -> None:
        """The question ended with an error, after all tries."""
        if type(error).__name__ in _OVERLOADED:
            self._limit.overloaded(self._sent_at)


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
