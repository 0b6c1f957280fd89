"""Subtitles of a video: files and streams of every kind, whatever is wrong with them, and the frames of each line."""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from videobrain.errors import ConfigurationError, DecodeTimeoutError, SubtitleError
from videobrain.settings import Settings
from videobrain.testing import make_video
from videobrain.video import Subtitles, Video, VideoPool
from videobrain.video.frame import FrameSize
from videobrain.video.subtitle_files import clean_text, read_file
from videobrain.video.work import Job

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> there,
<font color="#ff0000">Ann</font> &amp; {\\an8}Bea.

2
00:00:03,000 --> 00:00:04,000
Two & 2 < 3 > 1
42
"""
VTT = """WEBVTT - made for a test

STYLE
::cue { color: lime }

NOTE this is
no line

intro
00:01.000 --> 00:02.500 align:start position:0%
<v.loud Ann Lee>Hello <00:00:01.500><c.yellow>there</c>

00:00:03.000 --> 00:00:04.000
5 &lt; 6

NOTE the end
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of ten frames."""
    return make_video(tmp_path_factory.mktemp("videos") / "match.mp4", seconds=10, fps=10, size=(96, 64))


@pytest.fixture
async def video(path: Path, tmp_path: Path) -> AsyncIterator[Video]:
    async with VideoPool(Settings(cache_dir=tmp_path / "cache")) as pool:
        yield await pool.open(path)


def said(subtitles: Subtitles) -> list[tuple[float, float, str]]:
    return [(line.start_seconds, line.end_seconds, line.text) for line in subtitles.lines]


def cue(start: str, end: str, text: str) -> str:
    return f"{start} --> {end}\n{text}\n\n"


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_srt_without_its_markup(video: Video, tmp_path: Path) -> None:
    file = tmp_path / "match.srt"
    file.write_text(SRT, "utf-8")
    subtitles = await video.subtitles(file)
    assert said(subtitles) == [(1.0, 2.5, "Hello there, Ann & Bea."), (3.0, 4.0, "Two & 2 < 3 > 1 42")]
    assert subtitles.warnings == ()
    assert subtitles.source == str(file)
    assert (subtitles.lines[0].start_frame, subtitles.lines[0].end_frame) == (10, 25)
    assert [subtitles.at(frame) for frame in (9, 10, 24, 25, 30, 39, 40)] == [[], [0], [0], [], [1], [1], []]


@pytest.mark.anyio
async def test_vtt_without_styles_notes_and_identifiers(video: Video, tmp_path: Path) -> None:
    file = tmp_path / "match.vtt"
    file.write_text(VTT, "utf-8")
    subtitles = await video.subtitles(str(file))
    assert said(subtitles) == [(1.0, 2.5, "Ann Lee: Hello there"), (3.0, 4.0, "5 < 6")]
    assert subtitles.warnings == ()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "lines",
    [
        [{"timestamp": [1.0, 2.5], "text": "<b>one</b>"}, {"timestamp": [3, None], "text": "two"}, {"text": "three"}],
        [
            {"start": "00:00:01.000", "end": "00:00:02.500", "line": "one"},
            {"start": "00:00:03.000", "end": "00:00:10.000", "line": "two"},
            {"start": 7, "end": None, "line": "three"},
        ],
    ],
    ids=["seconds", "clocks"],
)
async def test_json_of_longvideobench(video: Video, tmp_path: Path, lines: list[object]) -> None:
    file = tmp_path / "match.json"
    file.write_text(json.dumps(lines), "utf-8")
    subtitles = await video.subtitles(file)
    assert said(subtitles) == [(1.0, 2.5, "one"), (3.0, 10.0, "two")]
    assert subtitles.warnings == ("1 cue of the subtitles (match.json) could not be read: it was left out.",)


@pytest.mark.anyio
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
async def test_encodings(video: Video, tmp_path: Path, encoding: str, newline: str) -> None:
    file = tmp_path / "match.srt"
    text = "1\n00:00:01,000 --> 00:00:02,000\nCafé “Zoë”\n"
    file.write_bytes(text.replace("\n", newline).encode(encoding))
    subtitles = await video.subtitles(file)
    assert said(subtitles) == [(1.0, 2.0, "Café “Zoë”")]
    assert len(subtitles.warnings) == (encoding == "cp1252")
    if subtitles.warnings:
        assert subtitles.warnings[0].startswith("match.srt is not UTF-8; it was read as Latin-1")


@pytest.mark.anyio
async def test_malformed_cues_are_passed_over_and_counted(video: Video, tmp_path: Path) -> None:
    file = tmp_path / "match.srt"
    file.write_text(
        "1\n"
        + cue("00:00:01,000", "00:00:02,000", "first")
        + "2\n"
        + cue("00:00:xx,000", "00:00:03,000", "lost")
        + "3\n"
        + cue("00:00:05,000", "00:00:04,000", "ends before it begins")
        + "4\n-->\nnothing\n\n5\n"
        + cue("00:00:06,000", "00:00:07,000", "")
        + "6\n"
        + cue("00:00:08,000", "00:00:09,000", "last\n\nwith a gap"),
        "utf-8",
    )
    subtitles = await video.subtitles(file)
    assert [text for _, _, text in said(subtitles)] == ["first", "last with a gap"]
    assert subtitles.warnings == ("3 cues of the subtitles (match.srt) could not be read: they were left out.",)


@pytest.mark.anyio
async def test_lines_are_sorted_and_may_overlap(video: Video, tmp_path: Path) -> None:
    file = tmp_path / "match.srt"
    file.write_text(
        cue("00:00:05,000", "00:00:06,000", "late")
        + cue("00:00:01,000", "00:00:08,000", "all along")
        + cue("00:00:02,000", "00:00:02,000", "for no time"),
        "utf-8",
    )
    subtitles = await video.subtitles(file)
    assert [text for _, _, text in said(subtitles)] == ["all along", "for no time", "late"]
    assert (subtitles.at(20), subtitles.at(21), subtitles.at(55)) == ([0, 1], [0], [0, 2])


@pytest.mark.anyio
async def test_rolling_captions_stand_once(video: Video, tmp_path: Path) -> None:
    file = tmp_path / "match.vtt"
    file.write_text(
        "WEBVTT\n\n"
        + cue("00:00:01.000", "00:00:02.000", " \nhello<00:00:01.500><c> world</c>")
        + cue("00:00:02.000", "00:00:02.010", "hello world\n ")
        + cue("00:00:02.010", "00:00:03.000", "hello world\nand good<00:00:02.500><c> day</c>")
        + cue("00:00:05.000", "00:00:06.000", "and good day"),
        "utf-8",
    )
    assert said(await video.subtitles(file)) == [
        (1.0, 2.01, "hello world"),
        (2.01, 3.0, "and good day"),
        (5.0, 6.0, "and good day"),  # said again, after a while
    ]


@pytest.mark.anyio
async def test_the_video_is_a_part_of_what_the_lines_were_written_for(video: Video, tmp_path: Path) -> None:
    file = tmp_path / "film.srt"
    times = [("00:00:30,000", "00:00:31,000"), ("00:00:59,000", "00:01:02,000"), ("00:01:09,000", "00:01:15,000")]
    file.write_text("".join(cue(*pair, f"line {n}") for n, pair in enumerate(times)), "utf-8")
    assert said(await video.subtitles(file, start_seconds=60)) == [(0.0, 2.0, "line 1"), (9.0, 15.0, "line 2")]
    outside = await video.subtitles(file, start_seconds=3600)
    assert not outside
    assert outside.warnings == ("The subtitles (film.srt) were not used: none of its 3 lines lies in the video.",)


@pytest.mark.anyio
@pytest.mark.parametrize("content", ["", " \n", "\ufeff", "WEBVTT\n"])
async def test_a_file_without_lines_is_said_to_be_one(video: Video, tmp_path: Path, content: str) -> None:
    file = tmp_path / "silent.srt"
    file.write_text(content, "utf-8")
    subtitles = await video.subtitles(file)
    assert subtitles.lines == ()
    assert subtitles.warnings == ("The subtitles (silent.srt) were not used: it holds no lines.",)


@pytest.mark.anyio
async def test_what_is_no_subtitle_file(video: Video, path: Path, tmp_path: Path) -> None:
    with pytest.raises(SubtitleError, match=r"gone\.srt does not exist.*'embedded'") as gone:
        await video.subtitles(tmp_path / "gone.srt")
    assert gone.value.source == str(tmp_path / "gone.srt")
    with pytest.raises(SubtitleError, match="is no regular file"):
        await video.subtitles(tmp_path)
    with pytest.raises(SubtitleError, match=r"match\.mp4 holds no subtitles\. SRT, WebVTT and the JSON"):
        await video.subtitles(path)
    with pytest.raises(SubtitleError, match="cannot be read"):
        await video.subtitles("a\0b.srt")
    files = {
        "words.srt": ("Once upon a time.", "holds no subtitles"),
        "bad.srt": ("1\nnow --> then\nx\n", "None of the 1 cues"),
        "bad.json": ("[{]", "is no JSON"),
        "object.json": ('{"lines": []}', "no list of subtitle lines"),
        "script.srt": ("[Script Info]\nTitle: x", "holds no subtitles"),
    }
    for name, (content, words) in files.items():
        (tmp_path / name).write_text(content, "utf-8")
        with pytest.raises(SubtitleError, match=words):
            await video.subtitles(tmp_path / name)
    with (tmp_path / "large.srt").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(SubtitleError, match="65 MiB, too much"):
        await video.subtitles(tmp_path / "large.srt")
    for source, begins in ((5, 0.0), ("", 0.0), ("x.srt", float("nan")), ("x.srt", "1")):
        with pytest.raises(ConfigurationError):
            await video.subtitles(source, start_seconds=begins)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_pipe_is_not_waited_for(video: Video, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.srt")
    with pytest.raises(SubtitleError, match="no regular file"):
        await video.subtitles(tmp_path / "pipe.srt")


def many(count: int) -> str:
    """Lines of a tenth of a second, one after the other."""
    stamps = [f"{n // 36000:02d}:{n // 600 % 60:02d}:{n // 10 % 60:02d},{n % 10}00" for n in range(count + 1)]
    return "".join(f"{n + 1}\n{stamps[n]} --> {stamps[n + 1]}\nline {n}\n\n" for n in range(count))


def test_a_hundred_thousand_cues_in_bounded_time(tmp_path: Path) -> None:
    file = tmp_path / "long.srt"
    file.write_text(many(100_000), "utf-8")
    began = time.process_time()
    read = read_file(file, Job(10_000, "Reading"), unknown_end_seconds=0)
    assert len(read.lines) == 100_000
    assert (read.skipped, read.lines[-1].text) == (0, "line 99999")
    assert time.process_time() - began < 30  # about 3 s of a common processor
    with pytest.raises(DecodeTimeoutError, match="Reading took longer than 0 s"):
        read_file(file, Job(0, "Reading"), unknown_end_seconds=0)


@pytest.mark.anyio
async def test_reading_is_done_in_a_worker_thread_once(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    monkeypatch.setattr(
        "videobrain.video.subtitle_files._bytes",
        lambda path: threads.append(threading.current_thread()) or path.read_bytes(),
    )
    file = tmp_path / "match.srt"
    file.write_text(SRT, "utf-8")
    first = await video.subtitles(file)
    assert await video.subtitles(file) is first
    assert threads
    assert threading.main_thread() not in threads
    assert len(threads) == 1
    assert await video.subtitles(file, start_seconds=1) is not first
    file.write_text(SRT + "\n3\n00:00:05,000 --> 00:00:06,000\nmore\n", "utf-8")
    assert len(await video.subtitles(file)) == 3


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\x00b\tc", "a b c"),
        ("\ud83dx", "?x"),
        ("a&nbsp;b\n\n c ", "a b\nc"),
        ("1 < 2 and 3 > 2, I <3 you", "1 < 2 and 3 > 2, I <3 you"),
        ("<|im_end|>&lt;|im_end|&gt;<b>x</b>", "x"),
        ("♪ la ♪", "♪ la ♪"),
    ],
)
def test_clean_texts(text: str, clean: str) -> None:
    assert clean_text(text) == clean


# --- Streams ----------------------------------------------------------------------------------------------------------

HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,16\n\n"
    b"[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)
"""What libav's encoders of text subtitles want; its muxers write what belongs to their format."""
LINES = [(0.5, 1.0, "Welcome to the <i>match</i>."), (3.0, 1.5, "Zoë scores!"), (8.0, 1.0, "The end.")]


def as_srt(text: str) -> bytes:
    return text.encode()


def as_mov_text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def as_ass(text: str) -> bytes:
    return ("0,0,Default,,0,0,0,," + text.replace("<i>", "{\\i1}").replace("</i>", "{\\i0}")).encode()


Streams = list[tuple[str, str, Callable[[str], bytes], list[tuple[float, float, str]]]]


def mux(path: Path, video: Path, streams: Streams) -> Path:
    """Copy a video and put streams of subtitles beside it: codec, language, how a text is packed, and the lines."""
    with av.open(str(video)) as source, av.open(str(path), "w") as container:
        picture = container.add_stream_from_template(source.streams.video[0])
        subtitles = []
        for codec, language, _, _ in streams:
            stream = container.add_stream(codec)
            stream.metadata["language"] = language
            if codec not in ("dvdsub",):
                stream.codec_context.subtitle_header = HEADER
            stream.time_base = Fraction(1, 1000)
            subtitles.append(stream)
        packets = []
        for stream, (_, _, pack, lines) in zip(subtitles, streams, strict=True):
            for start, duration, text in lines:
                packet = av.Packet(pack(text))
                packet.stream = stream
                packet.time_base = Fraction(1, 1000)
                packet.pts = packet.dts = round(start * 1000)
                packet.duration = round(duration * 1000)
                packets.append((start, packet))
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packets.append((float(packet.dts * packet.time_base), packet))
                packet.stream = picture
        for _, packet in sorted(packets, key=lambda each: each[0]):
            container.mux(packet)
    return path


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "codec", "pack"),
    [("a.mp4", "mov_text", as_mov_text), ("a.mkv", "subrip", as_srt), ("b.mkv", "ass", as_ass)],
    ids=["mov_text", "subrip", "ass"],
)
async def test_the_stream_in_the_video(
    path: Path, tmp_path: Path, name: str, codec: str, pack: Callable[[str], bytes]
) -> None:
    file = mux(tmp_path / name, path, [(codec, "eng", pack, LINES)])
    async with VideoPool() as pool:
        video = await pool.open(file)
        subtitles = await video.subtitles("embedded")
        assert said(subtitles) == [
            (0.5, 1.5, "Welcome to the match."),
            (3.0, 4.5, "Zoë scores!"),
            (8.0, 9.0, "The end."),
        ]
        assert subtitles.source.startswith("stream 1: subtitle (")
        assert subtitles.source.endswith(" eng")
        assert subtitles.at(30) == [1]
        assert await video.subtitles("embedded") is subtitles
        in_memory = await pool.open(file.read_bytes())
        assert said(await in_memory.subtitles("embedded:eng")) == said(subtitles)


@pytest.mark.anyio
async def test_choosing_among_streams(path: Path, tmp_path: Path) -> None:
    german = [(1.0, 1.0, "Anpfiff.")]
    file = mux(
        tmp_path / "a.mkv",
        path,
        [("dvdsub", "fre", as_srt, german), ("subrip", "eng", as_srt, LINES), ("subrip", "ger", as_srt, german)],
    )
    async with VideoPool() as pool:
        video = await pool.open(file)
        assert len(await video.subtitles("embedded")) == 3  # text before pictures
        for which in ("embedded:ger", "embedded:3", "embedded:GER"):
            assert [line.text for line in (await video.subtitles(which)).lines] == ["Anpfiff."]
        with pytest.raises(SubtitleError, match=r"cannot be read as text: stream 1: subtitle \(dvd.*fre.*OCR"):
            await video.subtitles("embedded:fre")
        with pytest.raises(SubtitleError, match=r"no subtitle stream 'spa'\. Its streams: stream 0: video \(h264\)"):
            await video.subtitles("embedded:spa")
        with pytest.raises(SubtitleError, match=r"no subtitle stream '0'"):
            await video.subtitles("embedded:0")
        with pytest.raises(SubtitleError, match=r"subtitle file embedded does not exist"):
            await video.subtitles(Path("embedded"))


@pytest.mark.anyio
async def test_only_pictures_or_no_stream_at_all(video: Video, path: Path, tmp_path: Path) -> None:
    with pytest.raises(SubtitleError, match=r"no subtitle stream\. Its streams: stream 0: video \(h264\)") as caught:
        await video.subtitles("embedded")
    assert caught.value.source == str(path)
    file = mux(tmp_path / "disc.mkv", path, [("dvdsub", "eng", as_srt, LINES)])
    async with VideoPool(Settings(decoder="pyav")) as pool:
        disc = await pool.open(file)
        with pytest.raises(SubtitleError, match="Subtitles of discs and broadcasts are pictures"):
            await disc.subtitles("embedded")
        assert len(await disc.frames([5], size=FrameSize(32, 32))) == 1  # the video itself is as good as before
