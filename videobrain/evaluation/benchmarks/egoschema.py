"""EgoSchema: three minutes seen by a wearer of a camera; most answers are kept back."""

from __future__ import annotations

from collections.abc import Iterator

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.row import Row, without_letters
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample

_OPTIONS = 5
_SECONDS = 180.0


def _read(source: Source) -> Iterator[Sample]:
    answers = source.mapping("subset_answers.json")
    if source.split == "subset" and source.files()[0].suffix == ".json" and not answers:
        raise InputError(
            f"{source.root} has no subset_answers.json, which says what questions belong to the subset.",
            hint="Take it from https://github.com/egoschema/EgoSchema, or load the split 'test'.",
        )
    for row in source.rows():
        with row:
            key = row.text("q_uid", "video_idx")
            answer = answers.get(key, row.get("answer"))
            if source.split == "subset" and answer is None:
                continue
            options = _options(row)
            correct = None if answer is None else _number(answer)
            yield Sample(
                key=key,
                video=source.video(key),
                question=row.text("question"),
                task="choice",
                options=options,
                correct_option=correct,
                answer=None if correct is None else options[correct],
                duration_seconds=_SECONDS,
            )


def _options(row: Row) -> tuple[str, ...]:
    if row.get("option") is not None:  # the hub's table
        return without_letters(row.texts("option"))
    return tuple(row.text(f"option {number}", f"option_{number}") for number in range(_OPTIONS))


def _number(answer: object) -> int:
    if str(answer) not in {str(number) for number in range(_OPTIONS)}:
        raise RowError(f"the answer {answer!r} is no number from 0 to {_OPTIONS - 1}")
    return int(str(answer))


EGOSCHEMA = Benchmark(
    name="egoschema",
    title="EgoSchema",
    tasks=("choice",),
    splits={
        "subset": Split(("questions.json", "Subset/test-*.parquet"), 500),
        "test": Split(("questions.json", "MC/test-*.parquet"), 5031),
    },
    licence="videos of Ego4D, under its licence; the answers of all but the subset are kept back",
    download=(
        "https://github.com/egoschema/EgoSchema: questions.json, subset_answers.json, and videos/ by its download.py; "
        "or https://huggingface.co/datasets/lmms-lab/egoschema: Subset/, MC/, and videos_chunked_*.zip to videos/"
    ),
    read=_read,
    videos=("videos", "good_clips_git", "."),
)
