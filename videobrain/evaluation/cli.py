"""The commands ``videobrain eval``, ``videobrain score`` and ``videobrain merge``."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NoReturn

import typer

if TYPE_CHECKING:
    from videobrain.brain import VideoBrain
    from videobrain.evaluation.judge import Judge
    from videobrain.evaluation.progress import Tally
    from videobrain.evaluation.ray_session import RayCluster
    from videobrain.evaluation.scores import Scores
    from videobrain.evaluation.show import EvaluationDisplay
    from videobrain.models import ChatModel

JudgeModel = Annotated[
    str | None, typer.Option("--judge", help="Model that judges answers in words, named as --model is.")
]
JudgeBaseUrl = Annotated[str | None, typer.Option(help="Address of the judge's server. [default: $OPENAI_BASE_URL]")]
RubricFile = Annotated[Path | None, typer.Option(help="What it judges by, in JSON. [default: right or not]")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.command("eval")(evaluate)
    app.command()(score)
    app.command()(merge)


def evaluate(
    benchmark: Annotated[str | None, typer.Argument(metavar="BENCHMARK", help="Its name; see --list.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Directory that the benchmark was downloaded to, or its file of questions.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the run; the same one goes on where it stopped.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part. [default: the benchmark's first]")] = None,
    videos: Annotated[Path | None, typer.Option(help="Directory of the videos, where they lie elsewhere.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="openai:NAME, vllm:ID_OR_DIR, local:ID_OR_DIR or tiny. [default: $VIDEOBRAIN_MODEL]"
        ),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible server, or several. [default: $OPENAI_BASE_URL]")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="open_clip model of the frame index. [default: $VIDEOBRAIN_ENCODER]")
    ] = None,
    strategy: Annotated[str, typer.Option(help="videobrain, uniform-N (one shot) or blind.")] = "videobrain",
    tool: Annotated[
        list[str] | None,
        typer.Option(help="Name of a tool; give it once for each. [default: uniform_sample and clip_sample]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions.")] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="A part of the videos, such as 2/4.")] = None,
    concurrency: Annotated[
        str, typer.Option(metavar="N|auto", help="Questions at once; auto follows what the server can do.")
    ] = "auto",
    max_errors: Annotated[
        int, typer.Option(min=0, help="Stop once so many questions failed, and one of 20; 0 never does.")
    ] = 50,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Ask questions again that failed.")] = False,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Replies of the model to a question.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Frames shown of a video in all.")] = None,
    max_corrections: Annotated[int | None, typer.Option(min=0, help="Ill-formed replies that are corrected.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.001, help="Time of a question.")] = None,
    constrain: Annotated[
        bool | None,
        typer.Option("--constrain/--no-constrain", help="Hold replies to the grammar (vLLM and local: models)."),
    ] = None,
    judge: JudgeModel = None,
    judge_base_url: JudgeBaseUrl = None,
    rubric: RubricFile = None,
    executor: Annotated[
        str, typer.Option(metavar="local|ray", help="Ask in this process, or on a Ray cluster ($RAY_ADDRESS).")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on the cluster. [default: one a machine, or one a GPU]")
    ] = None,
    worker_gpus: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each of them. [default: 1 where the cluster has any]")
    ] = None,
    no_subtitles: Annotated[
        bool, typer.Option("--no-subtitles", help="Ask without the subtitles that questions have.")
    ] = False,
    evidence: Annotated[
        bool | None,
        typer.Option(
            "--evidence/--no-evidence",
            help="Also ask where each answer is seen. [default: where the benchmark scores that]",
        ),
    ] = None,
    reply_cache: Annotated[
        bool | None,
        typer.Option(
            "--reply-cache/--no-reply-cache",
            help="Keep the model's replies on disk. [default: $VIDEOBRAIN_REPLY_CACHE]",
        ),
    ] = None,
    keep_frames: Annotated[bool, typer.Option("--keep-frames", help="Keep the frames in the traces.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the benchmarks.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Ask the questions of a benchmark, or go on where that was stopped."""
    if list_:
        _list(as_json)
        return
    if benchmark is None or data is None or out is None:
        raise typer.BadParameter("give a BENCHMARK with --data and --out, or --list")
    judging = _judging(judge, judge_base_url, rubric)
    if executor not in ("local", "ray"):
        raise typer.BadParameter(f"{executor!r} is neither local nor ray", param_hint="--executor")
    if executor == "local" and (workers is not None or worker_gpus is not None):
        raise typer.BadParameter("workers are those of --executor ray", param_hint="--workers, --worker-gpus")
    given: dict[str, Any] = {
        "turns": max_turns,
        "frames": max_frames,
        "corrections": max_corrections,
        "seconds": max_seconds,
    }
    settings = {"constrain_replies": constrain, "reply_cache": reply_cache}
    brain = _brain(
        model,
        base_url=base_url,
        encoder=encoder,
        tools=tool or None,
        strategy=strategy,
        limits={name: value for name, value in given.items() if value is not None},
        settings={name: value for name, value in settings.items() if value is not None},
    )
    scores = _run(
        benchmark,
        data,
        brain,
        out,
        split=split,
        videos=videos,
        judging=judging,
        quiet=quiet,
        subtitles=not no_subtitles,
        evidence=evidence,
        limit=limit,
        shard=shard,
        concurrency=_concurrency(concurrency),
        max_errors=max_errors or None,
        retry_errors=retry_errors,
        keep_frames=keep_frames,
        executor=_executor(executor, workers, worker_gpus),
    )
    _show(scores, as_json)
    failed = scores.total.questions and scores.total.errors == scores.total.questions
    if failed or _judged_in_vain(scores, judging):
        raise typer.Exit(1)


def score(
    run: Annotated[Path, typer.Argument(help="Directory of the run.", metavar="RUN")],
    judge: JudgeModel = None,
    judge_base_url: JudgeBaseUrl = None,
    rubric: RubricFile = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print the figures of a run again, once its answers in words are judged. Nobody else is asked anything."""
    from videobrain.errors import VideoBrainError
    from videobrain.evaluation.judging import named, tally_of
    from videobrain.evaluation.scores import score_run
    from videobrain.evaluation.show import EvaluationDisplay

    judging = _judging(judge, judge_base_url, rubric)
    try:
        if judging is not None:
            asyncio.run(_judge(run, judging, tally_of(run, judging.judge), EvaluationDisplay(quiet=quiet)))
        scores = score_run(run, **named(judging.judge if judging else None))
    except VideoBrainError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.stderr.write(
            "error: interrupted; verdicts that are there are kept, and the same command goes on from here\n"
        )
        raise SystemExit(130) from None
    _show(scores, as_json)
    if _judged_in_vain(scores, judging):
        raise typer.Exit(1)


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Directories of runs.", metavar="RUN…")],
    out: Annotated[Path, typer.Option(help="Directory of the merged run; it must not exist.")],
    as_json: Json = False,
) -> None:
    """Make one run of its shards."""
    from videobrain.errors import VideoBrainError
    from videobrain.evaluation.merging import merge_runs
    from videobrain.evaluation.scores import score_run

    try:
        merge_runs(runs, out)
    except VideoBrainError as error:
        _fail(error)
    try:
        _show(score_run(out), as_json)
    except VideoBrainError as error:
        sys.stderr.write(f"The merged run is {out}. Its figures: videobrain score {out} --judge MODEL\n")
        _fail(error)


def _brain(model: str | None, *, limits: dict[str, Any], settings: dict[str, Any], **given: Any) -> VideoBrain:
    from videobrain.brain import VideoBrain
    from videobrain.limits import Limits
    from videobrain.settings import Settings

    return VideoBrain(model, limits=Limits(**limits), settings=Settings(**settings), **given)


def _run(
    benchmark: str,
    data: Path,
    brain: VideoBrain,
    out: Path,
    *,
    split: str | None,
    videos: Path | None,
    judging: _Judging | None,
    quiet: bool,
    **how: Any,
) -> Scores:
    """Load and evaluate; an error of ours becomes words and an exit status."""
    from videobrain.errors import VideoBrainError
    from videobrain.evaluation.benchmarks import load_benchmark
    from videobrain.evaluation.runner import evaluate
    from videobrain.evaluation.show import EvaluationDisplay

    display = EvaluationDisplay(quiet=quiet)

    async def run() -> Scores:
        async with AsyncExitStack() as stack:
            stack.enter_context(display)
            if judging is not None:
                stack.push_async_callback(judging.model.aclose)
            judge = judging.judge if judging else None
            return await evaluate(loaded, brain, out, on_progress=display, judge=judge, **how)

    try:
        loaded = load_benchmark(benchmark, data, split=split, videos=videos)
        display.problems(loaded)
        return asyncio.run(run())
    except VideoBrainError as error:
        _fail(error)
    except KeyboardInterrupt:
        done = display.progress
        kept = f"{done.done:,} of {done.questions:,} questions are finished and kept in {out}; " if done else ""
        sys.stderr.write(f"error: interrupted; {kept}the same command goes on from here\n")
        raise SystemExit(130) from None


class _Judging(NamedTuple):
    judge: Judge
    model: ChatModel
    """Who judges; closed by who uses it."""


def _judging(model: str | None, base_url: str | None, rubric: Path | None) -> _Judging | None:
    """The judge of ``--judge``."""
    from videobrain.errors import VideoBrainError
    from videobrain.evaluation.judge import Judge, judge_settings
    from videobrain.evaluation.rubric import CORRECTNESS, read_rubric
    from videobrain.models import resolve_model

    if model is None:
        for given, option in ((base_url, "--judge-base-url"), (rubric, "--rubric")):
            if given is not None:
                raise typer.BadParameter("it is for a --judge, and none is given", param_hint=option)
        return None
    try:
        judged_by = CORRECTNESS if rubric is None else read_rubric(rubric)
        judge = resolve_model(model, base_url=base_url, settings=judge_settings())
    except VideoBrainError as error:
        _fail(error)
    return _Judging(Judge(judge, rubric=judged_by), judge)


async def _judge(run: Path, judging: _Judging, tally: Tally, display: EvaluationDisplay) -> None:
    """Judge what of a run has no verdict yet."""
    from videobrain.evaluation.judging import judge_run

    async with AsyncExitStack() as stack:
        stack.enter_context(display)
        stack.push_async_callback(judging.model.aclose)
        await judge_run(run, judging.judge, tally, lambda: display(tally.progress(1)))


def _judged_in_vain(scores: Scores, judging: _Judging | None) -> bool:
    """Whether a judge was asked, and not one verdict is there."""
    found = scores.judged
    return judging is not None and found is not None and found.answers > 0 and found.judged == 0


def _list(as_json: bool) -> None:
    from videobrain.evaluation.benchmarks import benchmark_rows
    from videobrain.evaluation.show import print_benchmarks

    rows = benchmark_rows()
    if as_json:
        sys.stdout.write(json.dumps([row._asdict() for row in rows]) + "\n")
    else:
        print_benchmarks(rows, sys.stdout)


def _show(scores: Scores, as_json: bool) -> None:
    from videobrain.evaluation.show import print_scores

    if as_json:
        sys.stdout.write(scores.model_dump_json() + "\n")
    else:
        print_scores(scores, sys.stdout)


def _concurrency(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither a number of questions nor auto", param_hint="--concurrency")
    return int(text)


def _executor(name: str, workers: int | None, gpus: float | None) -> Literal["local"] | RayCluster:
    from videobrain.evaluation.ray_session import RayCluster

    return RayCluster(workers=workers, gpus=gpus) if name == "ray" else "local"


def _fail(error: Exception) -> NoReturn:
    from videobrain.errors import InputError

    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(2 if isinstance(error, InputError) else 1)
