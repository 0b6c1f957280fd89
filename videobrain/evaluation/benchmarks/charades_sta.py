"""Charades-STA: what somebody does indoors, and from when to when."""

from __future__ import annotations

from collections.abc import Iterator

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.published import published
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.row import Row, span_of
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.result import Span


def _read(source: Source) -> Iterator[Sample]:
    for row in source.rows():
        with row:
            video, span, query = _table(row) if row.get("caption") else _line(row.text("line"))
            start, end = (f"{seconds:.1f}" for seconds in span)
            yield Sample(
                key=f"{video}_{start}_{end}_{source.content_key(video, start, end, query)}",  # there are no ids
                video=source.video(video),
                question=query,
                task="grounding",
                spans=(span,),
            )


def _line(line: str) -> tuple[str, Span, str]:
    """``VIDEO START END##QUERY``."""
    about, marks, query = line.partition("##")
    parts = about.split()
    if not marks or len(parts) != 3 or not query.strip():
        raise RowError(f"no line of the form VIDEO START END##QUERY but {line!r:.80}")
    return parts[0], span_of(parts[1:], "the line"), query.strip()


def _table(row: Row) -> tuple[str, Span, str]:
    """A row of the hub's table."""
    return row.text("video").rpartition(".")[0], row.spans("timestamp")[0], row.text("caption")


CHARADES_STA = Benchmark(
    name="charades-sta",
    title="Charades-STA",
    tasks=("grounding",),
    splits={
        "test": Split(("charades_sta_test.txt", "*/charades_sta_test.txt", "data/test-*.parquet"), 3720),
        "train": Split(("charades_sta_train.txt", "*/charades_sta_train.txt"), 12408),
    },
    licence="Charades: non-commercial use only, by the Allen Institute for AI",
    download=(
        "https://github.com/jiyanggao/TALL: charades_sta_test.txt; https://prior.allenai.org/projects/charades: "
        "Charades_v1_480.zip unpacked to Charades_v1_480/"
    ),
    read=_read,
    videos=("Charades_v1_480", "Charades_v1", "videos", "."),
    published=published("charades-sta", "mIoU", split="test", videomind=(45.2, 50.2)),
)
