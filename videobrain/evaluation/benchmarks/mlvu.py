"""MLVU: nine tasks on long videos, of which two are answered in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.published import published
from videobrain.evaluation.benchmarks.row import Row, option_of_text
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample

CHOICE_FILES = (
    "1_plotQA.json",
    "2_needle.json",
    "3_ego.json",
    "4_count.json",
    "5_order.json",
    "6_anomaly_reco.json",
    "7_topic_reasoning.json",
)
OPEN_FILES = ("8_sub_scene.json", "9_summary.json")
_TEST_VIDEOS = ("MLVU_Test/video", "video", "videos", "test_video", "MLVU_Test", ".")


def _read(source: Source) -> Iterator[Sample]:
    test = source.split.startswith("test")
    if not test:
        _report_missing(source)
    for path in source.files():
        folders = _TEST_VIDEOS if test else _task_folders(path)
        for row in source.rows(path):
            with row:
                yield _sample(source, row, path, folders)


def _sample(source: Source, row: Row, path: Path, folders: tuple[str, ...]) -> Sample:
    question, name = row.text("question"), row.text("video", "video_name")
    options = row.texts("candidates") if row.get("candidates") else None
    answer = row.optional_text("answer")
    correct = None if options is None or answer is None else option_of_text(answer, options)
    kind = row.optional_text("question_type") or path.stem.partition("_")[2]
    # The development set has no ids; its file may be renamed, what is asked may not.
    key = row.optional_text("question_id") or f"{kind}-{source.content_key(name, question, *(options or ()))}"
    points = row.get("scoring_points")
    return Sample(
        key=key,
        video=source.video(name, folders=folders),
        question=question,
        task="open" if options is None else "choice",
        options=options,
        correct_option=correct,
        answer=answer if options is None or correct is None else options[correct],
        duration_seconds=row.optional_number("duration"),
        slices={"type": kind},
        extra={} if points is None else {"scoring_points": points},
    )


def _task_folders(path: Path) -> tuple[str, ...]:
    """Where a task's videos are: in a folder of the name of its file, beside that of the annotations."""
    places = ("MLVU/video", "video", "videos")
    return (*(f"{place}/{path.stem}" for place in places), *places, path.stem, ".")


def _report_missing(source: Source) -> None:
    wanted = CHOICE_FILES if source.split == "dev" else OPEN_FILES
    there = {path.name for path in source.files()}
    for name in wanted:
        if name not in there and source.given is None:
            source.report("file", name, "the file of this task is missing", "Its questions are left out.")


MLVU = Benchmark(
    name="mlvu",
    title="MLVU",
    tasks=("choice", "open"),
    splits={
        "dev": Split(("MLVU/json/[1-7]_*.json", "json/[1-7]_*.json", "[1-7]_*.json"), 2174),
        "dev-open": Split(("MLVU/json/[89]_*.json", "json/[89]_*.json", "[89]_*.json")),
        "test": Split(
            (
                "test-ground-truth/test_mcq_gt.json",
                "test_mcq_gt.json",
                "test_multi_choice_tasks.json",
                "MLVU_Test/test_question.json",
                "test_question.json",
            ),
            502,
        ),
        "test-open": Split(
            ("test-ground-truth/test_[sv]s*_gt.json", "test_[sv]s*_gt.json", "test_generation_tasks.json")
        ),
    },
    licence="CC BY-NC-SA 4.0, research only; videos belong to their owners",
    download=(
        "dev: https://huggingface.co/datasets/MLVU/MVLU to MLVU/json/ and MLVU/video/; test: "
        "https://huggingface.co/datasets/MLVU/MLVU_Test, test-ground-truth/test_mcq_gt.json, and "
        "test_video.tar.gz.part-* joined and unpacked to MLVU_Test/video/"
    ),
    read=_read,
    videos=_TEST_VIDEOS,
    published=published("mlvu", "M-Avg", videomind=(58.7, 64.4), avp=84.3),
)
