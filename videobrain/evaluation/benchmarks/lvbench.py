"""LVBench: videos of an hour and more; the options stand within the question."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.media import VIDEO_SUFFIXES
from videobrain.evaluation.benchmarks.published import published
from videobrain.evaluation.benchmarks.reader import RowError, read_json
from videobrain.evaluation.benchmarks.row import Row, option_number
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.result import Span

_AT_LINE_START = re.compile(r"(?:^|\n)[ \t]*\(([A-Z])\)")
_ANYWHERE = re.compile(r"(?<=\s)\(([A-Z])\)")
_TIME = r"(?:\d+:)?\d+:\d+(?:\.\d+)?"
_VIDEOS = ("videos", "all_videos", "video", "scripts/videos", ".")
_RANGE = re.compile(rf"({_TIME})\s*[-~\u2013]\s*({_TIME})")


def _read(source: Source) -> Iterator[Sample]:
    numbered = _numbered(source.videos)
    for video in source.rows():
        with video:
            key = video.text("key")
            names = [key, *([numbered[key]] if key in numbered else [])]
            kind = video.optional_text("type")
            duration = _duration(video)
            for row in video.parts("qa"):
                with row:
                    question, options = _split_options(row.text("question"))
                    correct = option_number(row.text("answer"), options) if row.get("answer") else None
                    types = row.texts("question_type") if row.get("question_type") else ()
                    reference = row.optional_text("time_reference")
                    yield Sample(
                        key=row.text("uid"),
                        video=source.video(*names),
                        question=question,
                        task="choice",
                        options=options,
                        correct_option=correct,
                        answer=None if correct is None else options[correct],
                        spans=_ranges(reference or ""),
                        duration_seconds=duration,
                        # A question may have several types, and its authors count it in each of them.
                        slices={**({"source": kind} if kind else {}), **{f"type: {each}": "yes" for each in types}},
                        extra={"time_reference": reference, "question_types": list(types)},
                    )


def _duration(video: Row) -> float | None:
    info = video.get("video_info")
    minutes = info.get("duration_minutes") if isinstance(info, dict) else None
    return 60.0 * minutes if isinstance(minutes, int | float) else None


def _split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """The question without its options, and those without their letters."""
    for pattern in (_AT_LINE_START, _ANYWHERE):
        marks: list[re.Match[str]] = []
        for mark in pattern.finditer(text):
            if len(marks) < len(ascii_uppercase) and mark[1] == ascii_uppercase[len(marks)]:
                marks.append(mark)
        if len(marks) > 1:
            ends = [*(mark.start() for mark in marks[1:]), len(text)]
            options = tuple(text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True))
            return text[: marks[0].start()].strip(), options
    raise RowError("the question holds no options: lines with (A), (B) …")


def _ranges(reference: str) -> tuple[Span, ...]:
    """Spans of a time reference such as ``00:15-00:19``; none where it is of another form."""
    pairs = [(_seconds(match[1]), _seconds(match[2])) for match in _RANGE.finditer(reference)]
    return tuple(Span(start, end) for start, end in pairs if start <= end)


def _seconds(clock: str) -> float:
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _numbered(videos: Path) -> dict[str, str]:
    """Videos by their YouTube id that video2dataset, which the authors' script runs, has named by numbers.

    It writes ``videos/00000/000000003.mp4`` with the address in a JSON file beside it.
    """
    found: dict[str, str] = {}
    for path in (path for folder in _VIDEOS for path in sorted((videos / folder).glob("[0-9]*/*.json"))):
        try:
            address = str(read_json(path)["url"])
        except (InputError, KeyError, TypeError):
            continue  # no file of that tool
        if match := re.search(r"(?:v=|youtu\.be/)([\w-]+)", address):
            found[match[1]] = f"{path.parent.name}/{path.stem}{VIDEO_SUFFIXES[0]}"
    return found


LVBENCH = Benchmark(
    name="lvbench",
    title="LVBench",
    tasks=("choice",),
    splits={"test": Split(("video_info.meta.jsonl", "data/video_info.meta.jsonl", "*.meta.jsonl"), 1549)},
    licence="CC BY-NC-SA 4.0, academic research only; videos belong to their owners",
    download=(
        "https://huggingface.co/datasets/THUDM/LVBench: video_info.meta.jsonl; its videos from YouTube by their ids, "
        "with scripts/download.sh of https://github.com/THUDM/LVBench or otherwise, to videos/ID.mp4"
    ),
    read=_read,
    videos=_VIDEOS,
    published=published("lvbench", "accuracy", split="test", videomind=(35.4, 40.8), avp=74.8),
)
