"""CG-Bench: long videos, many options, and the intervals that hold the clue."""

from __future__ import annotations

from collections.abc import Iterator

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.row import Row, option_number, without_letters
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.result import Span


def _read(source: Source) -> Iterator[Sample]:
    for row in source.rows():
        with row:
            options = without_letters(row.texts("choices"))
            correct = option_number(row.text("right_answer"), options)
            video = row.text("video_uid")
            named = {"type": "sub_category", "source": "domain"}
            yield Sample(
                key=row.text("qid"),
                video=source.video(video),
                question=row.text("question"),
                task="choice",
                options=options,
                correct_option=correct,
                answer=options[correct],
                spans=_clues(source, row),
                duration_seconds=row.optional_number("duration"),
                subtitles=source.subtitles(video),
                slices={slice_: text for slice_, name in named.items() if (text := row.optional_text(name))},
            )


def _clues(source: Source, row: Row) -> tuple[Span, ...]:
    """The intervals that hold the clue; a question is asked also where they are damaged."""
    try:
        return row.spans("clue_intervals") if row.get("clue_intervals") else ()
    except RowError as error:
        source.report("row", row.place, str(error), "The question is asked, and its spans are not scored.")
        return ()


CGBENCH = Benchmark(
    name="cgbench",
    title="CG-Bench",
    tasks=("choice",),
    splits={"mini": Split(("cgbench_mini.json",), 3000), "full": Split(("cgbench.json",), 12129)},
    licence="MIT for the annotations, access on request; videos belong to their owners, academic research only",
    download=(
        "https://huggingface.co/datasets/CG-Bench/CG-Bench: cgbench_mini.json, cgbench.json; the parts of video.zip "
        "joined and unpacked to cg_videos_720p/, subtitles.zip to cg_subtitles/ (its unzip_hf_zip.py does that)"
    ),
    read=_read,
    videos=("cg_videos_720p", "videos", "."),
    subtitles=("cg_subtitles", "subtitles"),
    asks_for_evidence=True,
)
