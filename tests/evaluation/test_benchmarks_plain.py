"""The format of our own: the same questions as JSON lines, JSON, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from evaluation.benchmark_files import shown, touch, write, write_json, write_lines, write_parquet

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks import Benchmark, Split, load_benchmark, read_plain
from videobrain.result import Span

CHOICE = {
    "key": "q1",
    "video": "clips/match.mp4",
    "question": "Who scores?",
    "options": ["A. Ann", "B. Bea"],
    "answer": "B",
    "spans": [[1.5, 3.0]],
    "clip": [0, 10],
    "duration_seconds": 12.5,
    "slices": {"type": "who"},
}
OPEN = {"video": "clips/match.mp4", "question": "Which colour?", "answer": "red"}
GROUNDING = {"video": "clips/match.mp4", "question": "A goal", "spans": [[1, 2], [5, 6.5]]}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow(
            {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in row.items()}
        )
    return write(path, text.getvalue())


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    touch(tmp_path, "clips/match.mp4")
    return [CHOICE, OPEN, GROUNDING]


def test_json_lines(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_lines(tmp_path / "questions.jsonl", rows)
    loaded = load_benchmark("plain", tmp_path)
    assert loaded.problems == ()
    choice, words, moment = loaded.samples
    assert (choice.key, choice.video, choice.task) == ("q1", "clips/match.mp4", "choice")
    assert (choice.options, choice.letter, choice.answer) == (("Ann", "Bea"), "B", "Bea")
    assert (choice.spans, choice.clip, choice.duration_seconds) == ((Span(1.5, 3.0),), Span(0.0, 10.0), 12.5)
    assert choice.slices == {"type": "who"}
    assert (words.task, words.answer, words.options) == ("open", "red", None)
    assert (moment.task, moment.spans) == ("grounding", (Span(1.0, 2.0), Span(5.0, 6.5)))
    assert loaded.expected_questions is None
    assert loaded.video_path(choice) == tmp_path / "clips/match.mp4"


def test_every_format_gives_the_same(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    samples = load_benchmark("plain", write_lines(tmp_path / "questions.jsonl", rows)).samples
    flat = {name: value for name, value in CHOICE.items() if name != "slices"} | {"slices.type": "who"}
    for path in (
        write_json(tmp_path / "a.json", rows),
        write_csv(tmp_path / "b.csv", rows),
        write_csv(tmp_path / "c.csv", [flat, OPEN, GROUNDING]),
        write_parquet(
            tmp_path / "d.parquet",
            [{**CHOICE, "clip": [0.0, 10.0]}, OPEN, {**GROUNDING, "spans": [[1.0, 2.0], [5.0, 6.5]]}],
        ),
    ):
        loaded = load_benchmark("plain", path)
        assert shown(loaded) == []
        assert loaded.samples == samples, path.name
    assert load_benchmark("plain", tmp_path, split="b").samples == samples


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"answer": "C"}, "the answer 'C' is neither a letter nor the text of one of the 2 options"),
        ({"answer": "ann"}, None),
        ({"answer": None}, None),
        ({"options": ["B", "A"], "answer": "A"}, "the answer 'A' is the letter of one option and the text of another"),
        ({"options": ["B", "A"], "correct_option": 1}, None),
        ({"correct_option": 2}, "correct_option 2 is none of the 2 options, which count from 0"),
        ({"correct_option": 0.5}, "correct_option is no whole number but 0.5"),
        ({"options": ["alone"], "answer": "alone"}, "a choice has 2 to 26 options, this one has 1"),
        ({"options": "Ann, Bea"}, "options is no JSON but 'Ann, Bea'"),
        ({"options": {"A": "Ann"}}, "options is no list of texts but {'A': 'Ann'}"),
        ({"spans": [[3, 1]]}, "spans has a span from 3 to 1 s"),
        ({"spans": [[1, 2, 3]]}, "spans has [1, 2, 3] where a start and an end belong"),
        ({"spans": [1, 2]}, None),
        ({"clip": "soon"}, "clip is no JSON but 'soon'"),
        ({"task": "guess"}, "task: Input should be 'choice', 'open', 'grounding' or 'highlights'"),
        ({"task": "open"}, "a choice has options, and nothing else has"),
        ({"duration_seconds": "nan"}, "duration_seconds is no number but 'nan'"),
        ({"subtitles": "gone.srt"}, "there is no file gone.srt of subtitles"),
        ({"slices": ["who"]}, "slices is no object but ['who']"),
        ({"question": ""}, "question is missing"),
    ],
)
def test_bad_rows(change: dict[str, Any], cause: str | None, tmp_path: Path) -> None:
    touch(tmp_path, "clips/match.mp4")
    write_lines(tmp_path / "questions.jsonl", [OPEN, {**CHOICE, **change}])
    loaded = load_benchmark("plain", tmp_path)
    if cause is None:
        assert loaded.problems == ()
        assert len(loaded.samples) == 2
    else:
        (problem,) = loaded.problems
        assert problem.where == "questions.jsonl, line 2"
        assert problem.cause.startswith(cause)


def test_a_field_that_is_misspelt_is_reported_once(tmp_path: Path) -> None:
    touch(tmp_path, "clips/match.mp4")
    write_lines(tmp_path / "questions.jsonl", [{**OPEN, "anwser": "x"}, {**CHOICE, "anwser": "y"}])
    (problem,) = load_benchmark("plain", tmp_path).problems
    assert str(problem).startswith("questions.jsonl, line 1: there is no field 'anwser', it is left out. Fields: key, ")


def test_videos_anywhere(tmp_path: Path) -> None:
    touch(tmp_path, "else/a.mp4", "data/sub.srt")
    absolute = str(tmp_path / "else/a.mp4")
    rows = [
        {**OPEN, "video": absolute, "subtitles": "sub.srt"},
        {**OPEN, "video": "../else/a.mp4"},
        {**OPEN, "video": "gone"},
        {**OPEN, "video": "/gone.mp4"},
    ]
    write_lines(tmp_path / "data/questions.jsonl", rows)
    loaded = load_benchmark("plain", tmp_path / "data")
    assert [loaded.video_path(sample).is_file() for sample in loaded.samples] == [True, True, False, False]
    assert loaded.missing_videos == {"gone.mp4", "/gone.mp4"}
    assert loaded.subtitles_path(loaded.samples[0]) == tmp_path / "data/sub.srt"
    assert load_benchmark("plain", tmp_path / "data", videos=tmp_path / "else").video_path(loaded.samples[0]).is_file()


def test_no_file_of_questions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file of questions: mine\.jsonl or mine\.json or mine\.csv"):
        load_benchmark("plain", tmp_path, split="mine")


def test_a_benchmark_of_ones_own_in_this_format(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    mine = Benchmark(
        name="mine",
        title="Mine",
        tasks=("choice",),
        splits={"all": Split(("part-*.jsonl",), 3)},
        licence="mine",
        download="nothing",
        read=read_plain,
    )
    write_lines(tmp_path / "part-1.jsonl", rows[:1])
    write_lines(tmp_path / "part-2.jsonl", rows[1:])
    assert len(load_benchmark(mine, tmp_path).samples) == 3
