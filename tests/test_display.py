from __future__ import annotations

import io
import re
from collections.abc import Iterable

import pytest
from report.traces import Record, frame, short_run

from videobrain.agent import Event, LimitReached, ReplyCorrected, ReplyDelta, RequestRetrying, ToolProgress
from videobrain.display import RunDisplay, time_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(events: Iterable[Event], file: io.StringIO | None = None, **options: bool) -> str:
    file = file or io.StringIO()
    with RunDisplay(file=file, **options) as display:
        for event in events:
            display(event)
    return file.getvalue()


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def whole_run() -> Record:
    record = short_run()
    record.reply(3, '<tool_call>{"name": "uniform_sample"</tool_call>')
    record.add(ReplyCorrected(problem="the tool call is not valid JSON"))
    record.add(ReplyDelta(text="<thinking>"))
    record.add(LimitReached(limit="turns"))
    record.reply(3, "<thinking>Nine.</thinking><answer>Number nine</answer>", last=True)
    record.finish("Number nine")
    return record


def test_the_conversation_as_plain_lines() -> None:
    text = shown(whole_run().events, conversation=True)
    lines = text.splitlines()
    for line in (
        "Who scores first?",
        "Turn 1",
        "  Not enough yet.",
        "  uniform_sample frames 1000 to 3000",
        "  clip_sample frames 3000 to 6000, prompt 'a goal'",
        "  Sent back: the tool call is not valid JSON",
        "  The limit of turns was reached.",
        "Turn 3, the last",
        "  Answer: Number nine",
    ):
        assert line in lines
    assert "\x1b" not in text
    assert not any(line != line.rstrip() for line in lines)
    bars = [line for line in lines if "▮" in line]
    assert [line.count("▮") for line in bars] == [4, 2, 1]
    assert bars[0].endswith("4 first frames, 0:00.0 to 7:30.0")
    assert max(map(len, bars)) < 80


def test_a_brief_conversation() -> None:
    lines = shown(whole_run().events, conversation=True, brief=True).splitlines()
    assert lines[0] == "Who scores first?"  # nothing of the video
    assert "" not in lines
    assert not any("Frames follow." in line or "turns, " in line for line in lines)
    assert [line.count("▮") for line in lines if "▮" in line] == [4, 2, 1]
    assert "  Answer: Number nine" in lines


def test_brief_options_share_a_line_where_they_fit() -> None:
    long = "one of many long options in words"
    for options, lines in ((["red", "blue"], ["  A. red   B. blue"]), ([long] * 3, [f"  {x}. {long}" for x in "ABC"])):
        record = Record(options=options)
        assert shown(record.events, conversation=True, brief=True).splitlines()[1:] == lines


def test_brief_thoughts_keep_their_beginning_and_their_end() -> None:
    record = Record()
    for turn, thought in enumerate(("Short\n and two lines.", "First. " + "word " * 200 + "Last.", "x" * 900), 1):
        record.reply(turn, f"<thinking>{thought}</thinking><answer>a</answer>")
    lines = shown(record.events, conversation=True, brief=True).splitlines()
    short, long, unbroken = (lines[at + 1].strip() for at, line in enumerate(lines) if line.startswith("Turn "))
    assert short == "Short and two lines."
    assert long.startswith("First. word ")
    assert re.search(r"word … word (word )+Last\.$", long)
    assert all(280 <= len(text) <= 300 for text in (long, unbroken))


def test_frames_that_were_shown_before_are_counted() -> None:
    record = short_run()
    arguments = {"start_frame": 0, "end_frame": 6000, "prompt": "a goal"}
    record.call(3, "clip_sample", arguments, [frame(0), frame(4321), frame(5000)])
    lines = [line for line in shown(record.events, conversation=True).splitlines() if "▮" in line]
    assert lines[-1].endswith("  3 frames, 0:00.0 to 8:20.0, 2 shown before")
    assert not any("before" in line for line in lines[:-1])


def test_progress_alone_moves_in_a_terminal_and_is_silent_elsewhere() -> None:
    events = whole_run().events
    assert shown(events) == ""
    moving = shown(events, Terminal())
    assert "\x1b" in moving
    assert "done" in moving
    assert "Not enough yet." not in moving


def test_quiet_shows_nothing() -> None:
    assert shown(whole_run().events, Terminal(), quiet=True, conversation=True) == ""


def test_retries_are_always_told() -> None:
    retry = RequestRetrying(attempt=1, delay_seconds=2.0, reason="HTTP 503.")
    assert shown([retry]) == "Try 1 failed: HTTP 503; again in 2.0 s.\n"


def test_no_words_of_a_model_command_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b2J[red]x[/red]"
    record = Record(evil, options=[evil], source=f"{evil}.mp4")
    record.start([])
    record.reply(1, f"{evil}<thinking>{evil}</thinking><answer>{evil}</answer>", reasoning=evil)
    record.call(1, evil, {evil: evil}, text=evil)
    record.add(ToolProgress(tool=evil, text=evil))
    record.add(ReplyCorrected(problem=evil))
    text = shown(record.events, conversation=True)
    assert not set(text) & {"\x1b", "\x07", "\x9b"}
    assert "[red]x[/red]" in text
    assert not {"\x07", "\x9b"} & set(shown(record.events, Terminal(), conversation=True))


@pytest.mark.parametrize(
    ("times", "duration", "line"),
    [
        ([], 10.0, "▏··········▕"),
        ([0.0, 5.0, 9.99, 10.0, 99.0, -1.0], 10.0, "▏▮····▮···▮▕"),
        ([1.0], 0.0, "▏··········▕"),
    ],
)
def test_time_line(times: list[float], duration: float, line: str) -> None:
    assert time_line(times, duration, width=10) == line


def test_a_display_ends_with_its_context_even_after_an_error() -> None:
    file = Terminal()
    with pytest.raises(RuntimeError), RunDisplay(file=file):
        raise RuntimeError
    assert file.getvalue().count("\x1b[?25h") == 1  # the cursor is shown again
