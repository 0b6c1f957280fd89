"""Video-MME: short, medium and long videos of 30 kinds, with subtitles."""

from __future__ import annotations

import re
from collections.abc import Iterator

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.published import published
from videobrain.evaluation.benchmarks.row import Row, option_number, without_letters
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample

_FILES = (
    "videomme/test-*.parquet",
    "test-*.parquet",
    "videomme.json",
    "Video-MME.json",
    "test_qa.json",
    "output_test_template.json",
)
_ID = re.compile(r"(?:v=|youtu\.be/|shorts/)([\w-]+)")


def _read(source: Source) -> Iterator[Sample]:
    for row in source.rows():
        with row:
            duration = row.text("duration", "duration_category")
            if source.split not in {"test", duration}:
                continue
            if row.get("questions") is None:  # the hub's table: a row is a question
                yield _sample(source, row, row, duration)
                continue
            for question in row.parts("questions"):  # the authors' file: a row is a video
                with question:
                    yield _sample(source, row, question, duration)


def _sample(source: Source, video: Row, row: Row, duration: str) -> Sample:
    options = without_letters(row.texts("options", "choices"))
    correct = option_number(row.text("answer"), options)
    names = _names(video)
    subtitles = [found for name in names if (found := source.subtitles(name))]
    slices = {
        "type": row.text("task_type"),
        "source": video.text("domain", "video_category"),
        "sub-category": video.text("sub_category", "video_sub_category", "video_subcategory"),
    }
    return Sample(
        key=row.text("question_id"),
        video=source.video(*names),
        question=row.text("question"),
        task="choice",
        options=options,
        correct_option=correct,
        answer=options[correct],
        subtitles=subtitles[0] if subtitles else None,
        slices={"duration": duration, **slices},
    )


def _names(video: Row) -> list[str]:
    """What the file of a video may be called: its YouTube id, or its number."""
    address = _ID.search(video.optional_text("url") or "")
    names = [video.optional_text("videoID"), address[1] if address else None, video.optional_text("video_id")]
    return list(dict.fromkeys(name for name in names if name)) or [video.text("videoID")]


VIDEOMME = Benchmark(
    name="videomme",
    title="Video-MME",
    tasks=("choice",),
    splits={
        "test": Split(_FILES, 2700),
        "short": Split(_FILES, 900),
        "medium": Split(_FILES, 900),
        "long": Split(_FILES, 900),
    },
    licence="academic research only, not to be passed on; videos belong to their owners",
    download=(
        "https://huggingface.co/datasets/lmms-lab/Video-MME: videomme/test-00000-of-00001.parquet, "
        "videos_chunked_*.zip and subtitle.zip unpacked beside it, which makes data/ and subtitle/"
    ),
    read=_read,
    videos=("data", "video", "videos", "data/data", "."),
    subtitles=("subtitle", "subtitles", "subtitle/subtitle"),
    published=published("videomme", "accuracy", split="test", videomind=(55.4, 58.2), avp=85.3),
)
