"""Asks the questions of a benchmark in a batch that survives whatever ends it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import anyio
import anyio.to_thread

from videobrain.brain import VideoBrain
from videobrain.errors import ConfigurationError, InputError
from videobrain.evaluation.batch import Batch
from videobrain.evaluation.benchmarks import LoadedBenchmark
from videobrain.evaluation.executor import About, Concurrency, Executor, LocalExecutor
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.judging import named
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.ray_executor import RayExecutor
from videobrain.evaluation.ray_session import RayCluster
from videobrain.evaluation.results import RunDirectory
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.scores import Scores, score_run
from videobrain.evaluation.shards import Shard
from videobrain.recipe import recipe_of

MAX_ERRORS = 50


async def evaluate(
    benchmark: LoadedBenchmark,
    brain: VideoBrain,
    out: str | os.PathLike[str],
    *,
    limit: int | None = None,
    shard: Shard | str | None = None,
    concurrency: Concurrency = "auto",
    max_errors: int | None = MAX_ERRORS,
    retry_errors: bool = False,
    keep_frames: bool = False,
    subtitles: bool = True,
    evidence: bool | None = None,
    judge: Judge | None = None,
    executor: Literal["local", "ray"] | RayCluster = "local",
    on_progress: Callable[[Progress], None] | None = None,
) -> Scores:
    """Ask every question of a benchmark whose video is there, and keep what comes of it in a directory.

    Each finished question is on the disk before the next one takes its place. However a run ends, the same call does
    what is missing and nothing twice. Questions on one video follow each other and share its decoder, frames and index.

        async with VideoBrain("openai:Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1") as brain:
            scores = await evaluate(load_benchmark("plain", "questions.jsonl"), brain, "run")

    Args:
        benchmark: The questions.
        brain: Who is asked, and how; it is entered for the time of the run where it is not yet. A cluster needs one
            that is made of names and numbers alone (`recipe_of`), and does not enter it.
        out: Directory of the run. One that is there must have been made with the same model, strategy and settings.
        limit: Only so many questions, the first ones whose video is there.
        shard: A part of the videos, such as ``2/4``; see `merge_runs`.
        concurrency: Questions at once; ``auto`` follows what the server can do.
        max_errors: End the run once so many questions have failed in this start, if they are 5 % or more of those it
            asked; None never does.
        retry_errors: Ask questions again that failed in an earlier start. Those whose server was gone, overloaded or
            broken are asked again in any case.
        keep_frames: Keep the frames' bytes in the traces, so that reports of them have pictures.
        subtitles: Ask with the subtitles that a question has. Where they cannot be used it is asked without them, and
            its record has a warning.
        evidence: Ask a second time about each question, where its answer is seen; None does so where the benchmark
            scores that. Each question then costs about twice as much.
        judge: Judges the answers in words, once all questions are finished and the model is given back, since both may
            need the same device. Verdicts are kept as the answers are; a later start judges what has none.
        executor: Where the questions are asked. ``local`` is this process. ``ray`` is a Ray cluster, whose workers each
            make a `VideoBrain` like this one and take whole videos; a `RayCluster` says how many and of what size.
            What is kept is the same, and a run may go on with the other one.
        on_progress: Called on the event loop at the beginning and after each finished question; must be quick.

    Returns:
        The figures of the whole run, earlier starts included.

    Raises:
        EvaluationStoppedError: Too many questions failed, an error holds for all of them, the judge cannot be reached,
            or the results cannot be written. What is finished is kept.
        ConfigurationError: An argument cannot be used, the directory holds another run, another process works there,
            verdicts of several judges are there and no judge is given, or the cluster cannot be reached or used.
        MissingDependencyError: A cluster is wanted, and Ray is not installed.
        InputError: No question's video is there, or the results are damaged.
        ModelError: The model cannot be reached.
    """
    if concurrency != "auto" and concurrency < 1:
        raise ConfigurationError(f"concurrency must be at least 1, not {concurrency}.")
    if (limit is not None and limit < 1) or (max_errors is not None and max_errors < 1):
        raise ConfigurationError("limit and max_errors must be at least 1.")
    part = Shard.parse(shard) if isinstance(shard, str) else shard
    samples = _chosen(benchmark, limit, part)
    if not subtitles:  # the answers then do not depend on whether there are any
        samples = [sample.model_copy(update={"subtitles": None}) for sample in samples]
    missing = [sample for sample in benchmark.missing if part is None or part.holds(sample.video_name)]
    asked = benchmark.benchmark.asks_for_evidence if evidence is None else evidence
    about = About(benchmark.benchmark.name, benchmark.split, subtitles, asked, keep_frames)
    async with AsyncExitStack() as written:
        async with _place(executor, brain, about, concurrency, samples) as place:
            ready = await place.reach()
            manifest = ready.manifest.model_copy(
                update={
                    "shard": str(part) if part else None,
                    "questions": len(samples),
                    "limit": limit if limit is not None and limit < len(benchmark.playable) else None,
                    "expected_questions": benchmark.expected_questions,
                    "malformed": sum(problem.kind == "row" for problem in benchmark.problems),
                    "missing_videos": len({sample.video for sample in missing}),
                    "missing_questions": len(missing),
                }
            )
            run = RunDirectory(Path(out), manifest)
            written.push_async_callback(_close, run)
            await anyio.to_thread.run_sync(run.__enter__)
            batch = Batch(
                benchmark,
                place,
                run,
                samples,
                ready.limit,
                judge=judge,
                max_errors=max_errors,
                on_progress=on_progress,
            )
            await batch.run_all(retry_errors=retry_errors)
        await batch.judge_all()
    return await anyio.to_thread.run_sync(lambda: score_run(out, **named(judge)))


async def _close(run: RunDirectory) -> None:
    with anyio.CancelScope(shield=True):  # also when the call is cancelled: others may write here then
        await anyio.to_thread.run_sync(run.close)


def _place(
    executor: Literal["local", "ray"] | RayCluster,
    brain: VideoBrain,
    about: About,
    concurrency: Concurrency,
    samples: list[Sample],
) -> Executor:
    """Where the questions are asked."""
    if executor == "local":
        return LocalExecutor(brain, about, concurrency=concurrency)
    if isinstance(executor, str) and executor != "ray":
        raise ConfigurationError(f"There is no executor {executor!r}.", hint="Known are local and ray.")
    cluster = RayCluster() if isinstance(executor, str) else executor
    videos = len({sample.video for sample in samples})
    return RayExecutor(recipe_of(brain), about, concurrency=concurrency, cluster=cluster, videos=videos)


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
        if shard is None or shard.holds(sample.video_name):
            by_video.setdefault(sample.video, []).append(sample)
    return [sample for samples in by_video.values() for sample in samples]
