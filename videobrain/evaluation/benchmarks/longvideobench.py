"""LongVideoBench: long videos with subtitles, questions that refer to a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.published import published
from videobrain.evaluation.benchmarks.reader import RowError, read_json
from videobrain.evaluation.benchmarks.row import Row
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.video.subtitle_files import json_line
from videobrain.video.subtitles import SubtitleLine, within

_COLUMNS = tuple(f"option{number}" for number in range(5))


def _read(source: Source) -> Iterator[Sample]:
    for row in source.rows():
        with row:
            options = row.texts("candidates") if row.get("candidates") else _columns(row)
            correct = row.optional_number("correct_choice")
            hidden = correct is None or correct < 0  # the test split; the hub's table writes -1
            start = row.optional_number("starting_timestamp_for_subtitles") or 0.0
            named = {
                "duration": "duration_group",
                "type": "question_category",
                "level": "level",
                "source": "topic_category",
            }
            yield Sample(
                key=row.text("id"),
                video=source.video(row.text("video_path", "video_id")),
                question=row.text("question"),
                task="choice",
                options=options,
                correct_option=None if hidden else row.integer("correct_choice"),
                answer=None if hidden else _option(options, row.integer("correct_choice")),
                duration_seconds=row.optional_number("duration"),
                subtitles=source.subtitles(path, named=True) if (path := row.optional_text("subtitle_path")) else None,
                subtitles_start_seconds=start,
                slices={slice_: text for slice_, name in named.items() if (text := row.optional_text(name))},
            )


def _columns(row: Row) -> tuple[str, ...]:
    return tuple(text for name in _COLUMNS if (text := row.optional_text(name)) and text != "N/A")


def _option(options: tuple[str, ...], number: int) -> str:
    if number >= len(options):
        raise RowError(f"correct_choice {number} is none of the {len(options)} candidates")
    return options[number]


def read_subtitles(
    path: str | Path, *, start_seconds: float = 0.0, duration_seconds: float | None = None
) -> list[SubtitleLine]:
    """The lines of a subtitle file in LongVideoBench's JSON, in the video's time.

    Args:
        path: The file: a list of ``{"timestamp": [start, end], "text"}`` in seconds, or of ``{"start", "end", "line"}``
            as ``hours:minutes:seconds``.
        start_seconds: Time of the file at which the video begins, see `Sample.subtitles_start_seconds`.
        duration_seconds: Length of the video; lines outside it are left out, and one whose end is not known ends here.

    Raises:
        InputError: The file cannot be read, or is of another format.
    """
    lines = read_json(Path(path))
    until = float("-inf") if duration_seconds is None else start_seconds + duration_seconds
    found: list[SubtitleLine] = []
    for number, line in enumerate(lines if isinstance(lines, list) else [None], 1):
        try:
            found.append(json_line(line, unknown_end_seconds=until))
        except ValueError as error:
            raise InputError(
                f"{path} holds no subtitles of LongVideoBench: line {number} is {line!r:.80}.",
                hint="SRT and WebVTT files are read by `Video.subtitles`; others must be converted.",
            ) from error
    return within(found, start_seconds=start_seconds, duration_seconds=duration_seconds)


LONGVIDEOBENCH = Benchmark(
    name="longvideobench",
    title="LongVideoBench",
    tasks=("choice",),
    splits={
        "val": Split(("lvb_val.json", "validation-*.parquet"), 1337),
        "test": Split(("lvb_test_wo_gt.json", "test-*.parquet"), 5341),
    },
    licence="CC BY-NC-SA 4.0, access on request; videos belong to their owners",
    download=(
        "https://huggingface.co/datasets/longvideobench/LongVideoBench: lvb_val.json (answers of the test split are "
        "kept back), videos.tar.part.* joined and unpacked to videos/, subtitles.tar to subtitles/"
    ),
    read=_read,
    videos=("videos", "."),
    subtitles=("subtitles", "."),
    published=published("longvideobench", "accuracy", videomind=(48.8, 56.3), avp=73.4),
)
