"""A run as it happens, in the terminal: progress, and the conversation turn by turn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.text import Text

from videobrain.agent import (
    EpisodeStarted,
    Event,
    Failed,
    Finished,
    FramesPlanned,
    LimitReached,
    MessageAdded,
    ReplyCorrected,
    ReplyDelta,
    ReplyReceived,
    RequestRetrying,
    RequestStarted,
    RunStarted,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    WarningRaised,
    parse_reply,
)
from videobrain.agent.choices import LETTERS
from videobrain.report.words import argument, clean, clock, counted, frame_range, number, spoken, took, video_name
from videobrain.video import EncodedFrame, Subtitles

_STYLES = {"uniform_sample": "blue", "clip_sample": "dark_orange"}
_LINE = 40
"""Characters of a time line."""
_LONGEST, _LONGEST_BRIEF = 600, 300
"""Characters of a thought or a tool's words that are printed."""


class RunDisplay:
    """Shows the events of a run on standard error.

    Use it as a context manager and pass it as ``on_event``. In a terminal one line with a spinner says what happens
    now; elsewhere nothing moves, and the conversation, where it is asked for, comes as plain lines.

        with RunDisplay(conversation=True) as display:
            answer = await brain.ask("match.mp4", "Who scores first?", on_event=display)

    Args:
        quiet: Show nothing at all.
        conversation: Print the conversation turn by turn; otherwise only progress and retries.
        brief: Make the conversation short, for several runs on one video: nothing of the video, thoughts cut in the
            middle, frames without the tool's words, no figures at the end.
        file: Where to write; standard error by default.
        console: Where to write, as `terminal` makes it; then `quiet` and `file` mean nothing.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        conversation: bool = False,
        brief: bool = False,
        file: TextIO | None = None,
        console: Console | None = None,
    ) -> None:
        self._console = console or terminal(file=file, quiet=quiet)
        self._conversation = conversation
        self._brief = brief
        self._live: Live | None = None
        self._status = _Status()
        self._duration = 0.0
        self._frame_count = 0
        self._reply_characters = 0
        self._shown: set[str] = set()
        self._subtitles: Subtitles | None = None
        self._tool_shown = False

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._console.quiet:
            # Replies stream in at any rate: the screen is redrawn by its own thread, never by an event.
            self._live = Live(
                self._status, console=self._console, refresh_per_second=10, transient=True, redirect_stdout=False
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case RunStarted():
                self._run_started(event)
            case FramesPlanned():
                size, reduced = event.plan.size, event.plan.reduced
                self._now(f"reading {counted(event.plan.initial_frames, 'frame')}")
                if self._conversation and reduced:
                    self._print(f"Frames of at most {size.width}x{size.height}: {reduced}.", "dim")
            case EpisodeStarted():
                self._subtitles = event.config.subtitles.subtitles if event.config.subtitles else None
            case MessageAdded():
                self._message(event)
            case RequestStarted():
                self._reply_characters = 0
                self._now(f"turn {event.turn}: waiting for the model ({counted(event.frames, 'frame')})")
                if self._conversation:
                    space = "" if self._brief else "\n"
                    self._print(f"{space}Turn {event.turn}" + (", the last" if event.last else ""), "bold")
            case RequestRetrying():
                self._print(
                    f"Try {event.attempt} failed: {event.reason.rstrip('.')}; again in {event.delay_seconds:.1f} s.",
                    "yellow",
                )
            case ReplyDelta():
                self._reply_characters += len(event.text)
                self._now(f"the model writes ({counted(self._reply_characters, 'character')})", keep_clock=True)
            case ReplyReceived():
                if self._conversation:
                    self._reply(event)
            case ReplyCorrected():
                if self._conversation:
                    self._print(f"Sent back: {event.problem}", "yellow", indent=2)
                self._now("the model tries again")
            case ToolStarted():
                self._now(f"{event.tool} {self._arguments(event.arguments)}")
            case ToolProgress():
                self._now(f"{event.tool}: {event.text}", keep_clock=True)
            case ToolFinished():
                if self._conversation:
                    self._tool_finished(event)
            case LimitReached():
                if self._conversation:
                    self._print(f"The limit of {spoken(event.limit)} was reached.", "yellow", indent=2)
            case WarningRaised():
                if self._conversation:  # the answer carries it too
                    self._print(f"Warning: {event.text}", "yellow", indent=2)
            case Failed():
                self._now("")  # whoever called tells of it
            case Finished():
                self._finished(event)

    # The conversation --------------------------------------------------------------------------------------------

    def _run_started(self, event: RunStarted) -> None:
        self._duration, self._frame_count = event.video.duration_seconds, event.video.frame_count
        self._now("planning")
        if self._conversation:
            if not self._brief:
                name = video_name(event.video.source)
                frames = counted(event.video.frame_count, "frame")
                self._print(f"{name}, {clock(self._duration)}, {frames}; model {event.model}", "dim")
            self._print(event.question, "bold")
            options = [f"{letter}. {option}" for letter, option in zip(LETTERS, event.options or (), strict=False)]
            if self._brief and options and len(line := "   ".join(options)) <= self._console.width - 2:
                options = [line]
            for option in options:
                self._print(option, indent=2)

    def _message(self, event: MessageAdded) -> None:
        fresh = [frame for frame in event.message.frames if frame.digest not in self._shown]
        # Frames of a tool are shown with the tool that gave them.
        if self._conversation and fresh and not self._tool_shown:
            self._frames(fresh, "first frame", "bright_black")
        self._shown.update(frame.digest for frame in fresh)
        if event.message.role == "user":
            self._tool_shown = False

    def _reply(self, event: ReplyReceived) -> None:
        parsed = parse_reply(event.reply.text)
        for thought in (event.reply.reasoning.strip(), *parsed.thinking):
            if thought:
                self._print(_excerpt(thought) if self._brief else _shortened(thought), "dim", indent=2)
        if parsed.outside and not parsed.calls:
            self._print(_shortened(parsed.outside), indent=2)
        for call in parsed.calls:
            self._called(call.name, self._arguments(call.arguments) if call.arguments is not None else call.problem)
        for native in event.reply.tool_calls:
            self._called(native.name, native.arguments)
        for answer in parsed.answers:
            self._print(f"Answer: {answer}", "bold green", indent=2)
        if not event.reply.text.strip() and not event.reply.tool_calls:
            self._print("(an empty reply)", "dim", indent=2)
        if event.reply.finish_reason == "length":
            self._print("(cut off at the token limit)", "yellow", indent=2)

    def _called(self, name: str, arguments: str) -> None:
        name = clean(name) or "unreadable call"
        text = Text(f"{name} ", style=f"bold {_STYLES.get(name, 'cyan')}")
        self._put(text.append(_shortened(clean(arguments)), "not bold default"), indent=2)

    def _tool_finished(self, event: ToolFinished) -> None:
        outcome = event.outcome
        if outcome.kind == "result":
            self._tool_shown = True
            if not (self._brief and outcome.frames):
                self._print(f"{_shortened(outcome.text)} ({took(event.seconds)})", "dim", indent=2)
            told = self._subtitles.lines if self._subtitles is not None else ()
            for line in (told[number] for number in outcome.lines if number < len(told)):
                self._print(f"{clock(line.start_seconds)}  {_shortened(line.text)}", "dim", indent=4)
            self._frames(outcome.frames, "frame", _STYLES.get(event.tool, "cyan"))
        else:
            self._print(f"{event.tool} failed: {_shortened(outcome.text)}", "yellow", indent=2)

    def _frames(self, frames: Sequence[EncodedFrame], noun: str, style: str) -> None:
        if not frames:
            return
        times = [frame.timestamp_seconds for frame in frames]
        text = Text(time_line(times, self._duration), style)
        text.append(f"  {counted(len(times), noun)}, {clock(min(times))} to {clock(max(times))}", "dim default")
        if again := sum(frame.digest in self._shown for frame in frames):
            text.append(f", {number(again)} shown before", "dim default")
        self._put(text, indent=2)

    def _finished(self, event: Finished) -> None:
        self._now("done")
        if not self._conversation or self._brief:
            return
        usage = event.answer.usage
        calls = counted(sum(usage.tool_calls.values()), "tool call")
        seen = f"{counted(usage.frames, 'frame')} of {number(self._frame_count)}"
        words = f"\n{seen}, {counted(usage.turns, 'turn')}, {calls}, {took(usage.seconds)}"
        tokens = f", {number(usage.input_tokens)} tokens read and {number(usage.output_tokens)} written"
        self._print(words + (tokens if usage.input_tokens else ""), "dim")

    def _arguments(self, arguments: Mapping[str, Any]) -> str:
        words = []
        if looked := frame_range(arguments):
            words.append(f"frames {looked[0]} to {looked[1]}")
        for key, value in arguments.items():
            if not (looked and key in ("start_frame", "end_frame")):
                words.append(f"{key} {argument(value)!r}" if isinstance(value, str) else f"{key} {argument(value)}")
        return ", ".join(words)

    # The terminal ------------------------------------------------------------------------------------------------

    def _now(self, text: str, *, keep_clock: bool = False) -> None:
        self._status.say(_shortened(clean(text), 160).replace("\n", " "), keep_clock=keep_clock)

    def _print(self, text: str, style: str = "", *, indent: int = 0) -> None:
        self._put(Text(clean(text), style), indent=indent)

    def _put(self, text: Text, *, indent: int = 0) -> None:
        if self._console.is_terminal:
            self._console.print(Padding(text, (0, 0, 0, indent), expand=False))
            return
        for line in text.split("\n", allow_blank=True):  # whoever reads a file wraps lines as they like
            self._console.print(Text(" " * indent).append_text(line), soft_wrap=True)


class _Status:
    """What happens now, with a spinner and the seconds since."""

    def __init__(self) -> None:
        self._text = "opening the video"
        self._since = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")

    def say(self, text: str, *, keep_clock: bool = False) -> None:
        self._text = text
        if not keep_clock:
            self._since = time.monotonic()

    def __rich__(self) -> Spinner:
        seconds = time.monotonic() - self._since
        line = Text(self._text, overflow="ellipsis", no_wrap=True)
        if seconds >= 1:
            line.append(f"  {took(seconds)}", "dim")
        self._spinner.update(text=line)
        return self._spinner


def time_line(times: Sequence[float], duration_seconds: float, *, width: int = _LINE) -> str:
    """Where in a video the times lie, as a line of text.

    Args:
        times: Seconds from the video's start.
        duration_seconds: Length of the video.
        width: Characters of the line, its two ends left out.
    """
    marks = ["·"] * width
    if duration_seconds > 0:
        for seconds in times:
            marks[min(max(int(width * seconds / duration_seconds), 0), width - 1)] = "▮"
    return f"▏{''.join(marks)}▕"


def terminal(*, file: TextIO | None = None, quiet: bool = False) -> Console:
    """A console that writes words as they are; to standard error, or to a file."""
    return Console(file=file, stderr=file is None, quiet=quiet, highlight=False, markup=False, emoji=False)


def _shortened(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _excerpt(text: str, longest: int = _LONGEST_BRIEF) -> str:
    """Beginning and end of a text on one line: a thought begins with what is seen and ends with what follows."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half].rpartition(' ')[0] or text[:half]} … {text[-half:].partition(' ')[2] or text[-half:]}"
