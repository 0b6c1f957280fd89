"""Reading subtitle files: SRT, WebVTT, and the JSON that LongVideoBench distributes."""

from __future__ import annotations

import codecs
import html
import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from videobrain.errors import SubtitleError
from videobrain.text import well_formed
from videobrain.video.subtitles import SubtitleLine
from videobrain.video.work import Job

_MOST_BYTES = 64 * 2**20
"""A larger file is no text of a film but something else, such as the video."""
_CHUNK = 1000
"""Cues that are read between two looks at the clock."""
_ENCODINGS = (  # the marks of UTF-32 begin like those of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SPEAKER = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*?)\s*>")
_TAG = re.compile(r"<[^<>\s][^<>]*>")
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufeff]")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")
_JSON = re.compile(r"\s*[\[{]\s*[\[\]{}\"]")
_FORMS = "SRT, WebVTT and the JSON of LongVideoBench are read; ffmpeg converts others: ffmpeg -i IN OUT.srt"


class ReadLines(NamedTuple):
    """What a file or a stream holds."""

    lines: list[SubtitleLine]
    """In its own time and order; rows of a text are apart by line breaks."""
    skipped: int = 0
    """Cues that could not be read."""
    warnings: tuple[str, ...] = ()


def read_file(path: Path, job: Job, *, unknown_end_seconds: float) -> ReadLines:
    """Read a subtitle file. What is wrong with one cue leaves out that cue. For worker threads.

    Args:
        path: The file.
        job: Looked at between cues.
        unknown_end_seconds: End of a line of which the file says no end.

    Raises:
        SubtitleError: The file cannot be read, or holds something else than subtitles.
    """
    data = _bytes(path)
    warnings: tuple[str, ...] = ()
    try:
        text = _decoded(data)
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")  # what is called Latin-1 and written on Windows
        warnings = (f"{path.name} is not UTF-8; it was read as Latin-1, so that letters may be wrong.",)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        return ReadLines([], 0, warnings)
    if path.suffix.lower() == ".json" or _JSON.match(text):
        read = _read_json(path, text, job, unknown_end_seconds)
    else:
        read = _read_cues(text, job)
        if not read.lines and not read.skipped and not _is_vtt(text) and "-->" not in text:
            raise SubtitleError(f"{path} holds no subtitles.", hint=_FORMS, source=str(path))
    if read.skipped and not read.lines:
        raise SubtitleError(f"None of the {read.skipped} cues of {path} can be read.", hint=_FORMS, source=str(path))
    return read._replace(warnings=warnings)


def _bytes(path: Path) -> bytes:
    name = str(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe could block for ever
            raise SubtitleError(f"{name} is no regular file.", hint="Name a subtitle file.", source=name)
        if status.st_size > _MOST_BYTES:
            size = f"{status.st_size / 2**20:.0f} MiB"
            raise SubtitleError(f"{name} has {size}, too much for a subtitle file.", hint=_FORMS, source=name)
        return path.read_bytes()
    except FileNotFoundError as error:
        hint = "Give a path, or 'embedded' for the video's own subtitle stream."
        raise SubtitleError(f"The subtitle file {name} does not exist.", hint=hint, source=name) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        cause = error.strerror if isinstance(error, OSError) else error
        raise SubtitleError(f"The subtitle file {name!r} cannot be read: {cause}.", source=name) from error


def _decoded(data: bytes) -> str:
    return data.decode(next((encoding for mark, encoding in _ENCODINGS if data.startswith(mark)), "utf-8"))


def _is_vtt(text: str) -> bool:
    return text.lstrip().startswith("WEBVTT")


class _Cue(NamedTuple):
    timing: str
    rows: list[str]


def _read_cues(text: str, job: Job) -> ReadLines:
    """The cues of SRT or WebVTT; pysubs2 reads their times and markup.

    It takes everything between two rows of times for text. So the rows are sorted out first, and it gets cues alone.
    """
    from pysubs2 import SSAFile
    from pysubs2.formats.subrip import SubripFormat
    from pysubs2.formats.webvtt import WebVTTFormat

    form: Literal["vtt", "srt"] = "vtt" if _is_vtt(text) else "srt"
    times = (WebVTTFormat if form == "vtt" else SubripFormat).TIMESTAMP
    found: list[SubtitleLine] = []
    skipped = 0
    chunk: list[_Cue] = []

    def read_chunk() -> int:
        """Read the cues of the chunk; gives how many of them end before they begin."""
        job.check()
        if not chunk:
            return 0
        # A number after each cue: pysubs2 takes the last row of a text for the next cue's number if it is one.
        cues = "".join("\n".join([cue.timing, *cue.rows, "", "0", ""]) for cue in chunk)
        reversed_ = 0
        for event in SSAFile.from_string(cues, format_=form):
            if event.end < event.start:
                reversed_ += 1
            elif clean := clean_text(event.plaintext):
                found.append(SubtitleLine(event.start / 1000, event.end / 1000, clean))
        chunk.clear()
        return reversed_

    for cue in _sifted(text.split("\n"), vtt=form == "vtt"):
        if len(times.findall(cue.timing)) != 2:
            skipped += 1
            continue
        chunk.append(cue._replace(rows=[_SPEAKER.sub(r"\1: ", row) for row in cue.rows]))
        if len(chunk) == _CHUNK:
            skipped += read_chunk()
    return ReadLines(found, skipped + read_chunk())


def _sifted(rows: list[str], *, vtt: bool) -> Iterator[_Cue]:
    """Each cue with the rows of its text: no numbers, identifiers, notes or styles."""
    cue: _Cue | None = None
    for row in rows:
        if "-->" in row:
            if cue is not None:
                yield _without_number(cue)
            cue = _Cue(row, [])
        elif cue is not None:
            if vtt and not row:  # here a text ends with an empty row, and notes and styles may follow
                yield cue
                cue = None
            else:
                cue.rows.append(row)
    if cue is not None:
        yield cue


def _without_number(cue: _Cue) -> _Cue:
    rows = cue.rows[:-1] if cue.rows and cue.rows[-1].strip().isdecimal() else cue.rows
    return cue._replace(rows=rows)


def clean_text(text: str) -> str:
    """A cue's text without tags, entities and control characters; its rows, if any, apart by line breaks."""
    text = _TAG.sub("", html.unescape(text)).replace("\xa0", " ")
    rows = (" ".join(_CONTROL.sub(" ", row).split()) for row in well_formed(text).split("\n"))
    return "\n".join(row for row in rows if row)


def _read_json(path: Path, text: str, job: Job, unknown_end_seconds: float) -> ReadLines:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SubtitleError(f"{path} is no JSON: {error}.", hint=_FORMS, source=str(path)) from error
    if not isinstance(values, list):
        raise SubtitleError(f"{path} holds no list of subtitle lines.", hint=_FORMS, source=str(path))
    found: list[SubtitleLine] = []
    skipped = 0
    for number, value in enumerate(values):
        if number % _CHUNK == 0:
            job.check()
        try:
            line = json_line(value, unknown_end_seconds=unknown_end_seconds)
        except ValueError:
            skipped += 1
            continue
        if line.end_seconds < line.start_seconds:
            skipped += 1
        elif clean := clean_text(line.text):
            found.append(line._replace(text=clean))
    return ReadLines(found, skipped)


def json_line(value: Any, *, unknown_end_seconds: float) -> SubtitleLine:
    """A line of LongVideoBench's JSON.

    Args:
        value: ``{"timestamp": [start, end], "text"}`` in seconds, where the end may be None; or ``{"start", "end",
            "line"}`` as ``hours:minutes:seconds``.
        unknown_end_seconds: The end where there is none.

    Raises:
        ValueError: It is something else.
    """
    try:
        if not isinstance(value, Mapping):
            raise ValueError("no object")
        if "timestamp" in value:
            start, end = value["timestamp"]
            begins = float(start)
            ends = max(begins, unknown_end_seconds) if end is None else float(end)
            text = str(value["text"])
        else:
            begins, ends, text = _clock(str(value["start"])), _clock(str(value["end"])), str(value["line"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no subtitle line: {error!r}") from error
    if not 0 <= abs(begins) + abs(ends) < float("inf"):
        raise ValueError("its times are no numbers")
    return SubtitleLine(begins, ends, text)


def _clock(text: str) -> float:
    if not (match := _CLOCK.fullmatch(text.strip())):
        raise ValueError(text)
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", "."))
