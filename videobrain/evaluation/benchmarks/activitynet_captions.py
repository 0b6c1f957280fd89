"""ActivityNet-Captions: sentences about a video, each with its span, as queries."""

from __future__ import annotations

from collections.abc import Iterator

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.reader import RowError, read_json
from videobrain.evaluation.benchmarks.row import Row, span_of
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample


def _read(source: Source) -> Iterator[Sample]:
    for path in source.files():
        videos = read_json(path)
        if not isinstance(videos, dict):
            source.report("file", source.shown(path), "no object of videos", "Download it again.")
            continue
        for video, about in videos.items():
            outer = source.row(about, f"{source.shown(path)}, {video}")
            with outer:
                for number, (span, sentence) in enumerate(_pairs(outer)):
                    with source.row(
                        {"span": span, "sentence": sentence}, f"{outer.place}, sentence {number + 1}"
                    ) as row:
                        yield Sample(
                            key=f"{video}_{number}",
                            video=source.video(video, video.removeprefix("v_")),
                            question=row.text("sentence"),
                            task="grounding",
                            spans=(span_of(row["span"], "timestamps"),),
                            duration_seconds=outer.number("duration"),
                        )


def _pairs(row: Row) -> list[tuple[object, object]]:
    spans, sentences = row["timestamps"], row["sentences"]
    if not isinstance(spans, list) or not isinstance(sentences, list) or len(spans) != len(sentences):
        raise RowError("timestamps and sentences are no lists of one length")
    return list(zip(spans, sentences, strict=True))


def _files(name: str) -> tuple[str, ...]:
    return (name, f"captions/{name}", f"annotations/{name}", f"activitynet_captions/{name}")


ACTIVITYNET_CAPTIONS = Benchmark(
    name="activitynet-captions",
    title="ActivityNet-Captions",
    tasks=("grounding",),
    splits={
        "val_2": Split(_files("val_2.json"), 17031),
        "val_1": Split(_files("val_1.json"), 17505),
        "train": Split(_files("train.json"), 37421),
    },
    licence="no licence stated for the annotations; videos belong to their owners, on request from ActivityNet",
    download=(
        "https://cs.stanford.edu/people/ranjaykrishna/densevid/: captions.zip with train.json, val_1.json, val_2.json; "
        "the videos by http://activity-net.org/download.html to videos/v_ID.mp4. Papers on "
        "grounding call val_2 the test split"
    ),
    read=_read,
    videos=("videos", "v1-3/train_val", "v1-2/val", "val", "train_val", "."),
)
