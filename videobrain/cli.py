"""The terminal: results on stdout, everything else on stderr.

Exit status: 0 done, 1 the run failed, 2 bad usage or input.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from videobrain.evaluation.cli import register as register_evaluation
from videobrain.training.cli import register as register_training
from videobrain.training.preparation_cli import register as register_preparation
from videobrain.training.verl.grpo_cli import register as register_grpo

if TYPE_CHECKING:
    from videobrain.agent import Trace
    from videobrain.result import Answer

T = TypeVar("T")

app = typer.Typer(
    help="Ask questions about long videos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

train = typer.Typer(help="Teach models to look where it helps, or make one from nothing.", no_args_is_help=True)
app.add_typer(train, name="train")

Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="openai:NAME, vllm:ID_OR_DIR, local:ID_OR_DIR or tiny. [default: $VIDEOBRAIN_MODEL]"
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option(help="Address of an OpenAI-compatible server, or several. [default: $OPENAI_BASE_URL]")
]
Encoder = Annotated[str | None, typer.Option(help="open_clip model of the frame index. [default: $VIDEOBRAIN_ENCODER]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Video = Annotated[str, typer.Argument(help="A video file, or a URL where VIDEOBRAIN_ALLOW_REMOTE is set.")]


@app.command()
def ask(
    video: Video,
    question: Annotated[str, typer.Argument(help="The question.")],
    option: Annotated[
        list[str] | None, typer.Option(help="An option of a multiple-choice question; give it once for each.")
    ] = None,
    spans: Annotated[
        int | None, typer.Option(min=1, help="Answer where in the video this is seen: so many spans at the most.")
    ] = None,
    model: Model = None,
    base_url: BaseUrl = None,
    encoder: Encoder = None,
    strategy: Annotated[str, typer.Option(help="videobrain, uniform-N (one shot) or blind.")] = "videobrain",
    tool: Annotated[
        list[str] | None,
        typer.Option(help="Name of a tool; give it once for each. [default: uniform_sample and clip_sample]"),
    ] = None,
    min_calls: Annotated[int, typer.Option(min=0, help="Tool calls before an answer is accepted.")] = 0,
    max_turns: Annotated[int | None, typer.Option(min=1, help="Replies of the model.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Frames shown in all.")] = None,
    max_corrections: Annotated[int | None, typer.Option(min=0, help="Ill-formed replies that are corrected.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0.001, help="Time of the run.")] = None,
    constrain: Annotated[
        bool | None,
        typer.Option("--constrain/--no-constrain", help="Hold replies to the grammar (vLLM and local: models)."),
    ] = None,
    subtitles: Annotated[
        str | None, typer.Option(help="A file of subtitles (SRT, VTT, JSON), or embedded, embedded:LANGUAGE or :INDEX.")
    ] = None,
    subtitles_start_seconds: Annotated[
        float, typer.Option(help="Time of the subtitles at which the video begins.")
    ] = 0.0,
    report: Annotated[Path | None, typer.Option(help="Write the run as an HTML page.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Write the run's trace (JSON lines).")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the conversation on stderr.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer a question about a video."""
    from videobrain.agent import VideoBrainStrategy
    from videobrain.brain import VideoBrain
    from videobrain.display import RunDisplay
    from videobrain.limits import Limits

    if quiet:
        _no_progress_bars()
    given: dict[str, Any] = {
        "turns": max_turns,
        "frames": max_frames,
        "corrections": max_corrections,
        "seconds": max_seconds,
    }
    if min_calls and strategy != "videobrain":
        raise typer.BadParameter(f"{strategy} calls no tools", param_hint="--min-calls")
    if option and spans is not None:
        raise typer.BadParameter("an answer is an option or spans, not both", param_hint="--spans")
    brain = VideoBrain(
        model,
        base_url=base_url,
        encoder=encoder,
        tools=tool or None,
        strategy=VideoBrainStrategy(min_calls=min_calls) if min_calls else strategy,
        limits=Limits(**{name: value for name, value in given.items() if value is not None}),
        settings=_settings(constrain_replies=constrain),
    )

    async def run() -> Answer:
        with RunDisplay(quiet=quiet, conversation=verbose) as display:
            async with brain:
                return await brain.ask(
                    video,
                    question,
                    options=option or None,
                    max_spans=spans,
                    subtitles=subtitles,
                    subtitles_start_seconds=subtitles_start_seconds,
                    on_event=display,
                )

    for path in (trace, report):
        if path is not None:
            _check_writable(path)  # before the run is paid for
    answer = _run(run(), on_failure=lambda record: _keep_record(record, trace, report))
    kept = _keep_record(answer.trace, trace, report)
    if as_json:
        _print(answer.model_dump_json())
    else:
        for warning in answer.warnings if not verbose else ():  # the conversation shows them in place
            _tell(f"warning: {warning}")
        text = answer.text
        if answer.choice and option:
            text = f"{answer.choice}. {option[ord(answer.choice) - ord('A')]}"
        if spans is not None:
            text = "\n".join(f"{start:10.2f} s to {end:10.2f} s" for start, end in answer.spans)
            text = text or ("Not to be seen." if answer.stop_reason == "answered" else "")
        _print(text)
    if answer.stop_reason != "answered" or not kept:
        raise typer.Exit(1)


def _check_writable(path: Path) -> None:
    """Fail where a file cannot be written, as far as can be told without writing it."""
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not place.is_dir() or not os.access(place, os.W_OK):
        _fail(f"{path} cannot be written. Name a file in a directory that you may write to.", 2)


def _keep_record(record: Trace, trace: Path | None, report: Path | None) -> bool:
    """Write the run's trace and report where they are wanted; whether all that was wanted is written."""
    from videobrain.report import save_report

    kept = True
    for path, write in ((trace, record.save), (report, lambda path: save_report(record, path))):
        if path is not None:
            try:
                write(path)
            except OSError as error:
                _tell(f"error: {path} cannot be written: {error.strerror or error}")
                kept = False
    return kept


@app.command()
def index(
    video: Annotated[str | None, typer.Argument(help="The video.")] = None,
    encoder: Encoder = None,
    list_: Annotated[bool, typer.Option("--list", help="List the indexes on disk.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Delete all indexes on disk.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Embed a video densely, so that searches in it are quick; or look after the indexes on disk."""
    if sum((video is not None, list_, clear)) != 1:
        raise typer.BadParameter("give one of VIDEO, --list and --clear")
    if video is not None:
        _index_video(video, encoder, quiet, as_json)
    else:
        _index_store(clear, as_json)


def _index_video(video: str, encoder: str | None, quiet: bool, as_json: bool) -> None:
    from videobrain.brain import VideoBrain
    from videobrain.index import IndexStore

    brain = VideoBrain(encoder=encoder)

    async def run() -> tuple[int, Path]:
        with _embedding_progress(quiet) as progress:
            async with brain:
                built = await brain.index(video, progress=progress)
                store = IndexStore(brain.settings)
                return len(built), store.path(built.video.key, built.encoder.fingerprint)

    frames, path = _run(run())
    if not path.is_file():
        _fail(f"The index cannot be kept in {path.parent}. Name another place in VIDEOBRAIN_CACHE_DIR.", 1)
    _print(json.dumps({"video": video, "frames": frames}) if as_json else f"{frames} frames of {video} are embedded.")


@contextmanager
def _embedding_progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr that comes with the first frame that has to be embedded."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(), transient=True) as bars:
        task = bars.add_task("embedding frames", total=None, visible=False)
        yield lambda done, total: bars.update(task, completed=done, total=total, visible=done < total)


def _index_store(clear: bool, as_json: bool) -> None:
    from videobrain.index import IndexStore
    from videobrain.settings import Settings

    store = IndexStore(Settings())
    entries = store.list()
    if clear:
        store.clear()
    if as_json:
        _print(json.dumps({"deleted" if clear else "indexes": [entry.model_dump(mode="json") for entry in entries]}))
    elif clear:
        _print(f"{len(entries)} indexes deleted.")
    else:
        for entry in entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_seconds))
            size = f"{entry.size_bytes / 2**20:.1f} MiB"
            _print(f"{used}  {entry.frames:>7} frames  {size:>10}  {entry.video or '(damaged)'}  {entry.encoder}")
        _tell(f"{len(entries)} indexes in {Settings().cache_dir}")


@app.command()
def search(
    videos: Annotated[list[str], typer.Argument(help="One video or several, then the query.", metavar="VIDEO… QUERY")],
    k: Annotated[int, typer.Option("-k", min=1, help="Frames to find.")] = 4,
    start: Annotated[float, typer.Option(min=0, help="Begin of the range in seconds.")] = 0,
    end: Annotated[float | None, typer.Option(min=0, help="End of the range in seconds.")] = None,
    encoder: Encoder = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the frames that best match a few words."""
    from videobrain.brain import VideoBrain

    if len(videos) < 2:
        raise typer.BadParameter("give at least one VIDEO and a QUERY")
    *sources, query = videos
    brain = VideoBrain(encoder=encoder)

    async def run() -> list[Any]:
        with _embedding_progress(quiet) as progress:
            async with brain:
                video = sources[0] if len(sources) == 1 else sources
                return await brain.search(video, query, k=k, start_seconds=start, end_seconds=end, progress=progress)

    hits = _run(run())
    if as_json:
        _print(json.dumps({"query": query, "hits": [hit.model_dump(mode="json") for hit in hits]}))
        return
    for hit in hits:
        _print(f"{hit.timestamp_seconds:10.2f} s  frame {hit.frame_index:<8} {hit.similarity:.3f}  {hit.video}")


@app.command()
def report(
    trace: Annotated[Path, typer.Argument(help="A trace that `ask --trace` wrote.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page. [default: beside the trace]")] = None,
) -> None:
    """Write a trace as one HTML page."""
    from videobrain.agent import Trace
    from videobrain.report import save_report

    async def run() -> Path:
        return save_report(Trace.load(trace), out or trace.with_suffix(".html"))

    _print(str(_run(run())))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Runs, or NAME=RUN; the first is the baseline.", metavar="RUN…")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write pages and a plot to this directory.")] = None,
    traces: Annotated[str, typer.Option(help="Traces that become pages: all, differing or none.")] = "all",
    judge: Annotated[str | None, typer.Option(help="Judge whose verdicts count, where there are several.")] = None,
    rubric: Annotated[str | None, typer.Option(help="Rubric whose verdicts count, where there are several.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare evaluation runs, question by question."""
    from videobrain.display import terminal
    from videobrain.evaluation.compare_cli import run_compare

    console = terminal(file=sys.stdout)
    run_compare(
        runs,
        out=out,
        traces=traces,
        judge=judge,
        rubric=rubric,
        as_json=as_json,
        quiet=quiet,
        console=console,
        tell=_tell,
    )


@app.command()
def doctor(model: Model = None, base_url: BaseUrl = None, as_json: Json = False) -> None:
    """Say what is installed, which decoder and device are used, and whether the model's server can be reached."""
    from videobrain.doctor import examine, show

    findings = _run(examine(model=model, base_url=base_url))
    if as_json:
        _print(json.dumps([finding.model_dump() for finding in findings]))
    else:
        show(findings)
    if any(finding.state == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(
    video: Annotated[Path | None, typer.Argument(help="A video of yours. [default: one is made]")] = None,
    question: Annotated[str | None, typer.Argument(help="A question about your video.")] = None,
    model: Model = None,
    base_url: BaseUrl = None,
    report: Annotated[Path, typer.Option(help="Where the HTML page goes.")] = Path("videobrain-demo.html"),
) -> None:
    """Show what the model looks at, and why: six questions about a made video, or one about yours."""
    from videobrain.demo import demonstrate, demonstrate_on
    from videobrain.display import terminal

    if (video is None) != (question is None):
        raise typer.BadParameter("give a VIDEO with a QUESTION, or neither")
    _check_writable(report)
    _no_progress_bars()
    console = terminal(file=sys.stdout)
    if video is None or question is None:
        _run(demonstrate(model, base_url=base_url, report=report, console=console))
    else:
        _run(demonstrate_on(video, question, model=model, base_url=base_url, report=report, console=console))


@train.command()
def tiny(
    out: Annotated[Path, typer.Option(help="Directory of the model; it appears when everything is done.")],
    cache: Annotated[
        Path | None, typer.Option(help="Where finished stages are kept. [default: tiny in $VIDEOBRAIN_CACHE_DIR]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps of a smaller model, which learns nothing.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train the small model of the synthetic world and its frame encoder, or go on where it was stopped."""
    import logging

    from rich.console import Console

    from videobrain.training.tiny.recipe import FULL, QUICK, train_tiny

    _no_progress_bars()
    logging.getLogger("accelerate").setLevel(logging.ERROR)  # it warns of tied weights at every checkpoint
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False)
    try:
        made = train_tiny(
            out,
            cache=cache,
            seed=seed,
            recipe=QUICK if quick else FULL,
            progress=lambda progress: console.print(str(progress), soft_wrap=True),
        )
        _print(str(made))
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from here", 130)


register_evaluation(app)
register_training(train)
register_preparation(train)
register_grpo(train)


@app.callback(invoke_without_command=True)
def _global(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        import videobrain

        _print(videobrain.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        _tell(context.get_help())
        raise typer.Exit(2)


def _no_progress_bars() -> None:
    """Those of the model libraries, which would run through our own output; read when they are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _settings(**given: Any) -> Any:
    from videobrain.settings import Settings

    return Settings(**{name: value for name, value in given.items() if value is not None})


def _run(work: Coroutine[Any, Any, T], *, on_failure: Callable[[Trace], object] | None = None) -> T:
    """Run to the end; an error of ours becomes one line and an exit status.

    Args:
        work: What is done.
        on_failure: Given the trace of a run that failed.
    """
    import asyncio

    from videobrain.errors import InputError, VideoBrainError

    try:
        return asyncio.run(work)
    except VideoBrainError as error:
        if on_failure is not None and error.trace is not None:
            on_failure(error.trace)
        _fail(str(error), 2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)


def _fail(message: str, status: int) -> NoReturn:
    _tell(f"error: {message}")
    raise SystemExit(status)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Entry point of the ``videobrain`` command."""
    from pydantic import ValidationError

    from videobrain.errors import InputError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an answer may not fit the terminal's encoding
    try:
        app()
    except InputError as error:  # raised before anything ran, such as by a wrong model string
        _fail(str(error), 2)
    except ValidationError as error:
        if error.title != "Settings":  # else one from the environment
            raise
        wrong = "; ".join(f"VIDEOBRAIN_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        _fail(f"A setting cannot be used: {wrong}", 2)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, as with `| head`
        raise SystemExit(1) from None
    except OSError as error:  # a page, trace or cache that cannot be written
        _fail(str(error), 1)
