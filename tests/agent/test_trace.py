"""Traces on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.agent.episodes import ANSWER, config, found, frames, say, uniform
from videobrain.agent import (
    Episode,
    EpisodeStarted,
    MessageAdded,
    ReplyDelta,
    ReplyReceived,
    ToolFinished,
    Trace,
    WarningRaised,
)
from videobrain.errors import TraceError
from videobrain.models import ChatReply


@pytest.fixture
def trace() -> Trace:
    """A run of two turns in which a frame is found again."""
    episode = Episode(config())
    episode.start(frames(0, 5))
    say(episode, uniform())
    episode.observe(found(0, 7))
    say(episode, ANSWER)
    messages = [MessageAdded(message=message) for message in episode.messages]
    return Trace(
        [
            EpisodeStarted(config=episode.config),
            *messages[:2],
            ReplyReceived(reply=ChatReply(text=uniform())),
            messages[2],
            ToolFinished(tool="uniform_sample", outcome=found(0, 7), seconds=0.1),
            messages[3],
            ReplyReceived(reply=ChatReply(text=ANSWER)),
            messages[4],
        ]
    )


def test_a_saved_trace_is_the_same_when_loaded(trace: Trace, tmp_path: Path) -> None:
    loaded = Trace.load(trace.save(tmp_path / "new" / "run.jsonl"))
    assert loaded.events == trace.events
    assert loaded.frames() == trace.frames()
    assert loaded.replay() == trace.messages == loaded.messages
    assert loaded.answer is None
    assert repr(loaded) == "Trace(9 events, 3 frames)"


def test_each_frame_is_stored_once_and_before_its_event(trace: Trace, tmp_path: Path) -> None:
    path = trace.save(tmp_path / "run.jsonl")
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert records[0] == {"kind": "videobrain_trace", "format": 1}
    kinds = [record["kind"] for record in records]
    assert kinds.count("frame") == 3
    assert [record["digest"] for record in records if record["kind"] == "frame"] == ["d0", "d5", "d7"]
    assert kinds.index("frame") == 3  # head, start, system message, then the frames of the first user message
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.jsonl"]


def test_a_saved_trace_may_be_read_by_whoever_may_read_other_files(trace: Trace, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert trace.save(tmp_path / "run.jsonl").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_trace_without_frames_is_small_and_replays(trace: Trace, tmp_path: Path) -> None:
    small = trace.without_frames()
    assert {frame.jpeg for frame in small.frames().values()} == {b""}
    assert all(frame.jpeg for frame in trace.frames().values())
    loaded = Trace.load(small.save(tmp_path / "small.jsonl"))
    assert loaded.replay() == small.messages


def test_odd_text_survives(tmp_path: Path) -> None:
    odd = "a\u2028b\u0085c\rd\ne\x00f\x1b🎬\ufeff"
    trace = Trace([WarningRaised(text=odd), ReplyDelta(text=odd)])
    assert Trace.load(trace.save(tmp_path / "odd.jsonl")).events == trace.events


def test_a_save_that_fails_leaves_nothing(trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trace.save(tmp_path / "run.jsonl")
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        trace.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.jsonl"]


def spoil(lines: list[str], number: int, line: str | bytes) -> bytes:
    encoded: list[Any] = [text.encode() for text in lines]
    encoded[number] = line if isinstance(line, bytes) else line.encode()
    return b"\n".join(encoded) + b"\n"


@pytest.mark.parametrize(
    ("number", "line", "words"),
    [
        (0, "", "damaged at line 1"),
        (0, "null", "is no trace of videobrain"),
        (0, "[]", "is no trace of videobrain"),
        (0, '{"kind": "something"}', "is no trace of videobrain"),
        (0, '{"kind": "videobrain_trace", "format": 99}', "trace format 99, not 1"),
        (0, "{", "damaged at line 1"),
        (1, "{", "damaged at line 2"),
        (1, "[]", "damaged at line 2"),
        (1, "3", "damaged at line 2"),
        (1, "{}", "damaged at line 2"),
        (1, '{"kind": "unheard_of"}', "damaged at line 2"),
        (1, '{"kind": ["frame"]}', "damaged at line 2"),
        (3, '{"kind": "frame"}', "damaged at line 4"),
        (3, '{"kind": "frame", "digest": ["d0"], "jpeg": ""}', "damaged at line 4"),
        (3, '{"kind": "frame", "digest": "d0", "jpeg": "?"}', "damaged at line 4"),
        (3, '{"kind": "frame", "digest": "d0", "jpeg": 3}', "damaged at line 4"),
        (2, b"\xff\xfe", "damaged at line"),
    ],
)
def test_damage_is_an_error_that_names_the_line(
    trace: Trace, tmp_path: Path, number: int, line: str | bytes, words: str
) -> None:
    path = trace.save(tmp_path / "run.jsonl")
    path.write_bytes(spoil(path.read_text("utf-8").splitlines(), number, line))
    with pytest.raises(TraceError, match=words):
        Trace.load(path)


def test_a_file_cut_anywhere_loads_or_is_an_error(trace: Trace, tmp_path: Path) -> None:
    whole = trace.save(tmp_path / "run.jsonl").read_bytes()
    cut = tmp_path / "cut.jsonl"
    loaded = 0
    for length in range(0, len(whole), 97):
        cut.write_bytes(whole[:length])
        try:
            Trace.load(cut)
        except TraceError:
            continue
        loaded += 1
    assert loaded < 20  # at the ends of lines


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        Trace.load(tmp_path / "nowhere.jsonl")
    with pytest.raises(TraceError, match="RUN/traces"):
        Trace.load(tmp_path)


def test_a_trace_that_does_not_replay_says_where(trace: Trace) -> None:
    other = ToolFinished(tool="uniform_sample", outcome=found(9), seconds=0.1)
    with pytest.raises(TraceError, match=r"Message 3 \(user\) does not replay"):
        Trace([*trace.events[:5], other, *trace.events[6:]]).replay()
    with pytest.raises(TraceError, match="The trace has 4 messages, its replay 5"):
        Trace(trace.events[:-1]).replay()
    with pytest.raises(TraceError, match="no episode"):
        Trace().replay()
