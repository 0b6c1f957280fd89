"""The demonstration: a made video, six questions about it, and what a model looks at to answer them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from videobrain.agent import RunStarted
from videobrain.brain import VideoBrain
from videobrain.display import RunDisplay
from videobrain.models import ChatModel
from videobrain.models.bundled import BUNDLED
from videobrain.report import ReportEntry, save_reports
from videobrain.report.words import clean, clock, counted, number, took
from videobrain.result import Answer
from videobrain.settings import Settings
from videobrain.video import evenly_spaced
from videobrain.world import World, WorldQuestion, write_dataset

SEED = 38
"""Of the video; docs/synthetic-world.md shows its frames."""
SECONDS = 600
"""Length of the video."""

_FEWEST = 16
"""Frames from which uniform sampling is tried: those that a model sees first."""
_LONGEST = 80
"""Characters of an answer in the table."""
_KINDS = {
    "direct": "16 frames spread over the video show it",
    "search": "a brief event that none of those 16 frames shows",
    "dense": "an order or a number within an interval",
}
_UNIFORM = (
    "uniform: how many frames, spread evenly over the whole video, show the answer to a viewer without fault. "
    "Doubled from 16 until they do, then lowered as long as they still do."
)
_TINY = (
    "tiny is the small model that comes with videobrain. It knows made-up videos like this one and nothing else: "
    "about any other video it guesses, and says so."
)
_NEXT = """
Ask this video something else:

  videobrain ask {video} "What is the background like at the end?" --model tiny --verbose

Ask a real model about a video of yours; --report FILE writes a page like these:

  # a server that speaks OpenAI's API; --model openai:NAME where it has several models
  videobrain ask VIDEO QUESTION --base-url http://localhost:8000/v1

  # vLLM, which is started for you and needs a GPU
  videobrain ask VIDEO QUESTION --model vllm:Qwen/Qwen3-VL-8B-Instruct

  # transformers, in this process
  videobrain ask VIDEO QUESTION --model local:Qwen/Qwen3-VL-2B-Instruct

With the same --model or --base-url, videobrain demo asks another model these six questions."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A question of the demonstration, as it was answered.

    Attributes:
        question: The question, with the truth.
        answer: What the model answered.
        uniform: Frames that uniform sampling would have needed, as `uniform_need` counts them.
    """

    question: WorldQuestion
    answer: Answer
    uniform: int | None

    @property
    def right(self) -> bool:
        """Whether the answer is the truth."""
        return self.question.accepts(self.answer.choice or self.answer.text)

    @property
    def said(self) -> str:
        """The answer in words."""
        answer = self.answer
        if answer.choice and self.question.options:
            return f"{answer.choice}. {self.question.options['ABCD'.index(answer.choice)]}"
        return _cut(answer.text) or f"none ({answer.stop_reason})"

    @property
    def truth(self) -> str:
        """The right answer in words."""
        letter = self.question.letter
        return f"{letter}. {self.question.answer}" if letter else self.question.answer


def uniform_need(world: World, question: WorldQuestion) -> int | None:
    """How many evenly spaced frames of the whole video show the answer to a viewer without fault.

    The number is doubled from 16 until the viewer gives the right answer, and then lowered by one as long as it still
    does. So a smaller number may also do, where its frames happen to fall well; none between the result and the doubled
    number fails.

    Args:
        world: The video.
        question: One of its questions.

    Returns:
        The number, 16 or more; None where not even all frames show the answer.
    """

    def shows(count: int) -> bool:
        return world.answer_from(question, evenly_spaced(0, world.frame_count, count)) == question.answer

    count = _FEWEST
    while not shows(count):
        if count >= world.frame_count:
            return None
        count = min(2 * count, world.frame_count)
    while count > _FEWEST and shows(count - 1):
        count -= 1
    return count


async def demonstrate(
    model: str | ChatModel | None = None,
    *,
    base_url: str | None = None,
    report: Path,
    console: Console,
    settings: Settings | None = None,
) -> list[Shown]:
    """Show how a model answers the six questions of a made video.

    Args:
        model: Model string, or a model; by default the configured one, else the bundled one.
        base_url: Address of an OpenAI-compatible server.
        report: Where the page goes; beside it, a page of each question.
        console: Where everything is shown.
        settings: By default those of the environment.
    """
    settings = settings or Settings()
    if not (model or base_url or settings.model or os.environ.get("OPENAI_BASE_URL")):
        model = BUNDLED  # where there is an API key alone too: it names no model
    brain = VideoBrain(model, base_url=base_url, settings=settings)
    world = World(SEED, split="test", duration_seconds=SECONDS)
    video = settings.cache_dir / "demo" / world.file_name
    with console.status("making the video"):
        await anyio.to_thread.run_sync(_make_video, video.parent)
    frames = counted(world.frame_count, "frame")
    _say(console, f"A made-up video, whose truth is known: {clock(SECONDS)}, {frames}.", "dim")
    shown = []
    async with brain:
        for index, question in enumerate(world.questions, 1):
            title = f"{index} of {len(world.questions)}, {question.kind}: {_KINDS[question.kind]}"
            console.print()
            console.print(Rule(Text(title, "bold cyan"), align="left", style="dim"))
            with RunDisplay(conversation=True, brief=True, console=console) as display:
                answer = await brain.ask(video, question.question, options=question.options, on_event=display)
            shown.append(Shown(question, answer, await anyio.to_thread.run_sync(uniform_need, world, question)))
            _judge(console, shown[-1])
    page = await anyio.to_thread.run_sync(_save, shown, report)
    _conclude(console, shown)
    _copyable(console, f"\nThe conversations with their frames: {page.resolve()}")
    _copyable(console, _NEXT.format(video=shlex.quote(str(video))))
    return shown


async def demonstrate_on(
    video: Path, question: str, *, model: str | None, base_url: str | None, report: Path, console: Console
) -> Answer:
    """Show how a model answers a question about any video.

    Args:
        video: The video.
        question: The question.
        model: Model string; by default the configured one, else the bundled one.
        base_url: Address of an OpenAI-compatible server.
        report: Where the page goes.
        console: Where everything is shown.
    """
    async with VideoBrain(model, base_url=base_url) as brain:
        with RunDisplay(conversation=True, console=console) as display:
            answer = await brain.ask(video, question, on_event=display)
    page = await anyio.to_thread.run_sync(answer.save_report, report)
    _copyable(console, f"\nThe conversation with its frames: {page.resolve()}")
    return answer


def _make_video(home: Path) -> None:
    write_dataset(home, "test", 1, seed=SEED, duration_seconds=SECONDS)


def _save(shown: Sequence[Shown], report: Path) -> Path:
    entries = [
        ReportEntry(
            each.answer.trace,
            kind=f"{each.question.kind}: {_KINDS[each.question.kind]}",
            truth=each.truth,
            right=each.right,
            facts={"Uniform": _frames(each.uniform)},
        )
        for each in shown
    ]
    right = sum(each.right for each in shown)
    text = f"{_model(shown)} answered {right} of {len(shown)} questions right. {_UNIFORM}"
    return save_reports(entries, report, title="Six questions about a made-up video", text=text)


def _judge(console: Console, shown: Shown) -> None:
    verdict = Text("  right", "bold green") if shown.right else Text("  wrong", "bold red")
    verdict.append(f": {shown.truth}" if shown.right else f": the truth is {shown.truth}", "not bold")
    console.print(verdict)
    usage = shown.answer.usage
    cost = f"{counted(usage.frames, 'frame')} in {counted(usage.turns, 'turn')}, {took(usage.seconds)}"
    _say(console, f"  {cost}; uniform sampling would need {_frames(shown.uniform)}", "dim")


def _conclude(console: Console, shown: Sequence[Shown]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for name in ("class", "question", "answer", "truth"):
        table.add_column(name)
    table.add_column("frames", justify="right")
    table.add_column("uniform", justify="right")
    for each in shown:
        table.add_row(
            each.question.kind,
            each.question.question,
            Text(clean(each.said), "green" if each.right else "red"),
            each.truth,
            number(each.answer.usage.frames),
            "-" if each.uniform is None else number(each.uniform),
        )
    console.print()
    console.print(table)
    right = sum(each.right for each in shown)
    _say(console, f"{_model(shown)}: {right} of {len(shown)} right.", "bold")
    _say(console, _UNIFORM, "dim")
    if _model(shown) == BUNDLED:
        _say(console, _TINY, "dim")


def _model(shown: Sequence[Shown]) -> str:
    started = shown[0].answer.trace.events[0]
    return started.model if isinstance(started, RunStarted) else "the model"


def _frames(count: int | None) -> str:
    return "more than all frames" if count is None else counted(count, "frame")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(clean(text), style))


def _copyable(console: Console, text: str) -> None:
    """Lines that are never broken, so that commands and paths can be copied."""
    console.print(Text(clean(text)), soft_wrap=True)
