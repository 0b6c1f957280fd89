"""QVHighlights: the moments that a query describes, and how salient each clip of two seconds is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.row import Row
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample


def _read(source: Source) -> Iterator[Sample]:
    for row in source.rows():
        with row:
            yield Sample(
                key=row.text("qid"),
                video=source.video(row.text("vid")),
                question=row.text("query"),
                task="highlights",
                spans=row.spans("relevant_windows") if row.get("relevant_windows") else (),
                duration_seconds=row.number("duration"),
                extra=_saliency(row),
            )


def _saliency(row: Row) -> dict[str, Any]:
    clips, scores = row.get("relevant_clip_ids"), row.get("saliency_scores")
    if clips is None and scores is None:
        return {}  # the test split without its truth
    if not isinstance(clips, list) or not isinstance(scores, list) or len(clips) != len(scores):
        raise RowError("relevant_clip_ids and saliency_scores are no lists of one length")
    return {"relevant_clip_ids": clips, "saliency_scores": scores}


def _files(*names: str) -> tuple[str, ...]:
    return tuple(f"{folder}{name}" for name in names for folder in ("", "data/"))


QVHIGHLIGHTS = Benchmark(
    name="qvhighlights",
    title="QVHighlights",
    tasks=("highlights",),
    splits={
        "val": Split(_files("highlight_val_release.jsonl"), 1550),
        "test": Split(_files("highlight_test_with_gt.jsonl", "highlight_test_release.jsonl"), 1542),
        "train": Split(_files("highlight_train_release.jsonl"), 7218),
    },
    licence="CC BY-NC-SA 4.0 for the annotations; videos belong to their owners",
    download=(
        "https://github.com/jayleicn/moment_detr: data/highlight_val_release.jsonl; "
        "https://nlp.cs.unc.edu/data/jielei/qvh/qvhilights_videos.tar.gz unpacked to videos/"
    ),
    read=_read,
    videos=("videos", "qvhilights_videos", "."),
)
