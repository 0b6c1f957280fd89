"""The commands ``videobrain train classify`` and ``videobrain train trajectories``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from videobrain.training.cli import Errors

if TYPE_CHECKING:
    from videobrain.evaluation.show import EvaluationDisplay
    from videobrain.models import ChatModel
    from videobrain.settings import Settings
    from videobrain.training.rounds import Asking

Encoder = Annotated[str | None, typer.Option(help="open_clip model of the frame index. [default: $VIDEOBRAIN_ENCODER]")]
JudgeModel = Annotated[str | None, typer.Option(help="Model that judges answers in words.")]
JudgeUrl = Annotated[str | None, typer.Option(help="Address of the judge's server. [default: $OPENAI_BASE_URL]")]
Teacher = Annotated[str, typer.Option(help="The stronger model, named as --model of ask is.")]
TeacherUrl = Annotated[str | None, typer.Option(help="Address of its server. [default: $OPENAI_BASE_URL]")]
Concurrency = Annotated[int | None, typer.Option(min=1, help="Questions at once. [default: what the server can do]")]
MaxErrors = Annotated[int, typer.Option(min=0, help="Stop once so many askings failed; 0 never does.")]
RetryErrors = Annotated[bool, typer.Option("--retry-errors", help="Ask again what failed.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(train: typer.Typer) -> None:
    """Add the commands to those of training."""
    train.command()(classify)
    train.command()(trajectories)


def classify(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="Its name; see eval --list.")],
    data: Annotated[Path, typer.Option(help="Directory that the benchmark was downloaded to, or its file.")],
    out: Annotated[Path, typer.Option(help="Directory of what is found; the same one goes on where it stopped.")],
    student: Annotated[str, typer.Option(help="The model that is to be trained, named as --model of ask is.")],
    teacher: Teacher,
    student_base_url: Annotated[
        str | None, typer.Option(help="Address of the student's server. [default: $OPENAI_BASE_URL]")
    ] = None,
    teacher_base_url: TeacherUrl = None,
    split: Annotated[str | None, typer.Option(help="Which part. [default: the benchmark's first]")] = None,
    videos: Annotated[Path | None, typer.Option(help="Directory of the videos, where they lie elsewhere.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions.")] = None,
    votes: Annotated[int, typer.Option(min=1, help="Askings of a question in each round.")] = 3,
    more: Annotated[str, typer.Option(help="Strategy of the rounds that see more: videobrain or uniform-N.")] = (
        "videobrain"
    ),
    temperature: Annotated[float, typer.Option(min=0, help="Sampling temperature.")] = 0.0,
    encoder: Encoder = None,
    judge: JudgeModel = None,
    judge_base_url: JudgeUrl = None,
    concurrency: Concurrency = None,
    max_errors: MaxErrors = 50,
    retry_errors: RetryErrors = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find out which questions the initial frames suffice for: Direct, Adaptive or Active."""

    async def work(asking: Asking, display: EvaluationDisplay) -> None:
        from videobrain.evaluation.benchmarks import load_benchmark
        from videobrain.training.classify import classify as classify_samples
        from videobrain.training.sample import training_samples

        loaded = load_benchmark(benchmark, data, split=split, videos=videos)
        display.problems(loaded)
        samples = training_samples(loaded)[:limit]
        async with _named(asking.settings, (student, student_base_url), (teacher, teacher_base_url)) as (one, other):
            found = await classify_samples(samples, one, other, out, votes=votes, more=more, asking=asking)
        _show(found.markdown(), found.counts(), as_json)

    _run(
        work,
        temperature=temperature,
        quiet=quiet,
        judge=(judge, judge_base_url),
        encoder=encoder,
        concurrency=concurrency or "auto",
        max_errors=max_errors or None,
        retry_errors=retry_errors,
    )


def trajectories(
    samples: Annotated[Path, typer.Argument(help="Classified questions: the samples.jsonl of classify.")],
    out: Annotated[Path, typer.Option(help="Directory of what is kept; the same one goes on where it stopped.")],
    teacher: Teacher,
    teacher_base_url: TeacherUrl = None,
    per_sample: Annotated[int, typer.Option(min=1, help="Conversations about each question.")] = 4,
    keep: Annotated[str, typer.Option(metavar="best|all", help="Which of the good ones about a question.")] = "best",
    temperature: Annotated[float, typer.Option(min=0, help="Sampling temperature.")] = 0.7,
    encoder: Encoder = None,
    judge: JudgeModel = None,
    judge_base_url: JudgeUrl = None,
    concurrency: Concurrency = None,
    max_errors: MaxErrors = 50,
    retry_errors: RetryErrors = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Have a teacher answer the Adaptive and Active questions, and keep what is worth learning from."""
    if keep not in ("best", "all"):
        raise typer.BadParameter(f"{keep!r} is neither best nor all", param_hint="--keep")
    kept: Literal["best", "all"] = "best" if keep == "best" else "all"

    async def work(asking: Asking, display: EvaluationDisplay) -> None:
        from videobrain.training.sample import read_samples
        from videobrain.training.trajectories import write_trajectories

        async with _named(asking.settings, (teacher, teacher_base_url)) as (model,):
            made = await write_trajectories(
                read_samples(samples), model, out, per_sample=per_sample, keep=kept, asking=asking
            )
        _show(made.markdown(), {"kept": len(made.kept), **made.reasons(), "surplus": made.surplus}, as_json)

    _run(
        work,
        temperature=temperature,
        quiet=quiet,
        judge=(judge, judge_base_url),
        encoder=encoder,
        concurrency=concurrency or "auto",
        max_errors=max_errors or None,
        retry_errors=retry_errors,
    )


@asynccontextmanager
async def _named(settings: Settings, *models: tuple[str, str | None]) -> AsyncIterator[list[str | ChatModel]]:
    """Models as `Rounds` takes them. Those on a server of their own have to be made here, to know its address."""
    from videobrain.models import resolve_model

    made: list[str | ChatModel] = [
        resolve_model(name, base_url=url, settings=settings) if url else name for name, url in models
    ]
    try:
        yield made
    finally:
        for model in made:
            if not isinstance(model, str):
                await model.aclose()


def _run(
    work: Callable[[Asking, EvaluationDisplay], Awaitable[None]],
    *,
    temperature: float,
    quiet: bool,
    judge: tuple[str | None, str | None],
    **how: Any,
) -> None:
    """Do the work with a display; an error of ours becomes words and an exit status."""
    from videobrain.evaluation.judge import Judge, judge_settings
    from videobrain.evaluation.show import EvaluationDisplay
    from videobrain.models import resolve_model
    from videobrain.settings import Settings
    from videobrain.training.rounds import Asking

    async def run() -> None:
        name, url = judge
        judging = resolve_model(name, base_url=url, settings=judge_settings()) if name else None
        try:
            with EvaluationDisplay(quiet=quiet) as display:
                await work(
                    Asking(
                        settings=Settings(temperature=temperature),
                        judge=Judge(judging) if judging else None,
                        on_progress=display.of_run,
                        **how,
                    ),
                    display,
                )
        finally:
            if judging is not None:
                await judging.aclose()

    with Errors():
        asyncio.run(run())


def _show(page: str, counts: dict[Any, int], as_json: bool) -> None:
    import json

    sys.stdout.write(f"{json.dumps(counts)}\n" if as_json else page)
