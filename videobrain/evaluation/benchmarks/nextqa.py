"""NExT-QA, and NExT-GQA, which says for a part of its questions where the answer is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.published import published
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.row import Row, option_of_text, span_of
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.result import Span

_MAP = ("map_vid_vidorID.json", "nextqa/map_vid_vidorID.json", "dataset/nextqa/map_vid_vidorID.json")
_GROUPS = {"C": "causal", "T": "temporal", "D": "descriptive"}
_OPTIONS = 5
_VIDEOS = ("NExTVideo", "videos", "video", "data/NExTVideo", ".")


def _read(source: Source) -> Iterator[Sample]:
    vidor = source.mapping(*_MAP)
    for row in source.rows():
        with row:
            yield _sample(source, row, vidor)


def _read_grounded(source: Source) -> Iterator[Sample]:
    vidor = source.mapping(*_MAP, "datasets/nextgqa/map_vid_vidorID.json")
    file = f"gsub_{source.split}.json"
    grounded = source.mapping(file)
    if not grounded:
        raise InputError(f"{source.root} has no {file}, the spans.", hint=f"To download: {NEXTGQA.download}")
    for row in source.rows():
        with row:
            about = grounded.get(row.text("video_id", "video"))
            if not isinstance(about, dict):
                raise RowError(f"{file} does not have its video")
            sample = _sample(source, row, vidor)
            update = {"spans": _spans(about, row.text("qid"), file), "duration_seconds": about.get("duration")}
            yield Sample.model_validate({**sample.model_dump(), **update})


def _sample(source: Source, row: Row, vidor: dict[str, Any]) -> Sample:
    video, kind = row.text("video", "video_id"), row.text("type")
    options = tuple(row.text(f"a{number}") for number in range(_OPTIONS))
    answer = row.text("answer")
    # NExT-QA writes the number of the option, NExT-GQA its text, which may be a number too.
    correct = option_of_text(answer, options) if row.get("video_id") else _number(answer)
    return Sample(
        key=f"{video}_{row.text('qid')}",
        video=source.video(*dict.fromkeys([str(vidor.get(video, video)), video])),
        question=row.text("question"),
        task="choice",
        options=options,
        correct_option=correct,
        answer=options[correct],
        # The authors count TP, what came before, as TN.
        slices={"type": "TN" if kind == "TP" else kind, "group": _GROUPS.get(kind[:1], kind)},
    )


def _number(answer: str) -> int:
    if answer not in {str(number) for number in range(_OPTIONS)}:
        raise RowError(f"the answer {answer!r} is no number from 0 to {_OPTIONS - 1}")
    return int(answer)


def _spans(about: dict[str, Any], question: str, file: str) -> tuple[Span, ...]:
    located = about.get("location")
    spans = located.get(question) if isinstance(located, dict) else None
    if not isinstance(spans, list) or not spans:
        raise RowError(f"{file} has no span for question {question}")
    return tuple(span_of(span, "location") for span in spans)


def _files(name: str, *folders: str) -> tuple[str, ...]:
    return (*(f"{folder}/{name}" for folder in folders), name)


NEXTQA = Benchmark(
    name="nextqa",
    title="NExT-QA",
    tasks=("choice",),
    splits={
        "val": Split(_files("val.csv", "nextqa", "dataset/nextqa"), 4996),
        "test": Split((*_files("test.csv", "nextqa", "dataset/nextqa"), "MC/test-*.parquet"), 8564),
        "train": Split(_files("train.csv", "nextqa", "dataset/nextqa"), 34132),
    },
    licence="MIT for the annotations; videos of VidOR, from YFCC100M, research only",
    download=(
        "https://github.com/doc-doc/NExT-QA: nextqa/*.csv and map_vid_vidorID.json; the videos of VidOR, which its "
        "readme links, to NExTVideo/FOLDER/ID.mp4 or videos/ID.mp4"
    ),
    read=_read,
    videos=_VIDEOS,
)
NEXTGQA = Benchmark(
    name="nextgqa",
    title="NExT-GQA",
    tasks=("choice",),
    splits={
        "val": Split(_files("val.csv", "datasets/nextgqa", "nextgqa"), 3358),
        "test": Split(_files("test.csv", "datasets/nextgqa", "nextgqa"), 5553),
    },
    licence="MIT for the annotations; videos of VidOR, from YFCC100M, research only",
    download=(
        "https://github.com/doc-doc/NExT-GQA: datasets/nextgqa/ with val.csv, test.csv, gsub_val.json, gsub_test.json "
        "and map_vid_vidorID.json; the videos as for NExT-QA, to NExTVideo/FOLDER/ID.mp4 or videos/ID.mp4"
    ),
    read=_read_grounded,
    videos=_VIDEOS,
    asks_for_evidence=True,
    published=published("nextgqa", "Acc@GQA", split="test", videomind=(25.2, 28.2)),
)
