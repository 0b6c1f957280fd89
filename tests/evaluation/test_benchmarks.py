"""Loading: what is reported, where it goes on, what ends it; and the registry."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from evaluation.benchmark_files import shown, touch, write, write_json, write_lines, write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from videobrain.errors import ConfigurationError, InputError, MissingDependencyError
from videobrain.evaluation.benchmarks import (
    Benchmark,
    RowError,
    Source,
    Split,
    benchmark_rows,
    default_benchmarks,
    find_benchmark,
    known_benchmarks,
    load_benchmark,
    option_number,
    option_of_text,
    registry,
    without_letters,
)
from videobrain.evaluation.benchmarks.reader import read_rows
from videobrain.evaluation.sample import Sample

NAMES = [benchmark.name for benchmark in default_benchmarks()]


def query(number: int, video: str = "a_0.0_150.0") -> dict[str, Any]:
    return {"qid": number, "query": f"Query {number}", "duration": 150, "vid": video, "relevant_windows": [[0, 4]]}


def highlights(root: Path, *rows: Any) -> Path:
    return write_lines(root / "highlight_val_release.jsonl", rows)


# --- Problems --------------------------------------------------------------------------------------------------------


def test_reading_goes_on_after_every_bad_row(tmp_path: Path) -> None:
    highlights(tmp_path, query(1), "{", [], {**query(2), "query": " "}, "", {**query(3), "duration": "long"}, query(4))
    touch(tmp_path, "videos/a_0.0_150.0.mp4")
    loaded = load_benchmark("qvhighlights", tmp_path)
    assert [sample.key for sample in loaded.samples] == ["1", "4"]
    assert [problem.kind for problem in loaded.problems] == ["row"] * 4
    torn, empty, blank, word = shown(loaded)
    assert torn.startswith("highlight_val_release.jsonl, line 2: no JSON: ")
    assert empty == "highlight_val_release.jsonl, line 3: no object with fields but []"
    assert blank == "highlight_val_release.jsonl, line 4: query is empty"
    assert word == "highlight_val_release.jsonl, line 6: duration is no number but 'long'"


@settings(max_examples=30, deadline=None)
@given(good=st.lists(st.booleans(), min_size=1, max_size=12))
def test_every_line_is_a_sample_or_a_problem(tmp_path_factory: pytest.TempPathFactory, good: list[bool]) -> None:
    root = tmp_path_factory.mktemp("lines")
    highlights(root, *(query(number) if fine else {"qid": number} for number, fine in enumerate(good)), query(99))
    touch(root, "videos/a_0.0_150.0.mp4")
    loaded = load_benchmark("qvhighlights", root)
    assert [int(sample.key) for sample in loaded.samples] == [n for n, fine in enumerate(good) if fine] + [99]
    assert [problem.where for problem in loaded.problems] == [
        f"highlight_val_release.jsonl, line {number + 1}" for number, fine in enumerate(good) if not fine
    ]


def test_the_first_of_two_rows_with_one_key_counts(tmp_path: Path) -> None:
    highlights(tmp_path, query(1), {**query(1), "query": "Other"}, query(2))
    loaded = load_benchmark("qvhighlights", tmp_path)
    assert [sample.question for sample in loaded.samples] == ["Query 1", "Query 2"]
    problem = loaded.problems[0]
    assert problem.kind == "duplicate"
    assert str(problem) == (
        "highlight_val_release.jsonl, line 2: the key '1' was used in highlight_val_release.jsonl, line 1. "
        "The first of them counts."
    )


def test_a_missing_video_is_named_once_and_its_questions_are_there(tmp_path: Path) -> None:
    highlights(tmp_path, query(1), query(2, "b.c_1.0_2.0"), query(3, "b.c_1.0_2.0"), {"qid": 4, "vid": "never"})
    touch(tmp_path, "videos/a_0.0_150.0.webm")
    loaded = load_benchmark("qvhighlights", tmp_path)
    assert [sample.key for sample in loaded.samples] == ["1", "2", "3"]
    assert [sample.key for sample in loaded.playable] == ["1"]
    assert loaded.missing_videos == {"videos/b.c_1.0_2.0.mp4"}
    assert [problem.where for problem in loaded.problems if problem.kind == "video"] == ["videos/b.c_1.0_2.0.mp4"]
    assert shown(loaded)[-1] == "videos/b.c_1.0_2.0.mp4: the video is missing, and 2 questions are about it"
    assert loaded.video_path(loaded.samples[0]) == tmp_path / "videos/a_0.0_150.0.webm"


def test_videos_may_lie_elsewhere(tmp_path: Path) -> None:
    highlights(tmp_path / "annotations", query(1))
    touch(tmp_path / "disk", "a_0.0_150.0.mp4")
    away = load_benchmark("qvhighlights", tmp_path / "annotations", videos=tmp_path / "disk")
    assert away.problems == ()
    assert away.video_path(away.samples[0]) == tmp_path / "disk/a_0.0_150.0.mp4"
    with pytest.raises(InputError, match=r"There is no directory .*gone of videos"):
        load_benchmark("qvhighlights", tmp_path / "annotations", videos=tmp_path / "gone")


def test_the_same_key_wherever_the_files_are(tmp_path: Path) -> None:
    """A run that is resumed after its data moved finds its questions again."""
    line = "AB12C 0.0 7.2##a person opens a window."
    for root, lines in ((tmp_path / "one", [line]), (tmp_path / "two/deep", ["ZZ99Z 1 2##person sits.", line])):
        write_lines(root / "charades_sta_test.txt", lines)
    one, two = (
        {sample.key for sample in load_benchmark("charades-sta", tmp_path / name).samples} for name in ("one", "two")
    )
    assert one == {"AB12C_0.0_7.2_68977a5d71c5"}
    assert one < two


def test_names_do_not_lead_out_of_the_directory(tmp_path: Path) -> None:
    highlights(tmp_path, query(1), query(2, "../secret"), query(3, "/etc/passwd"))
    causes = [problem.cause for problem in load_benchmark("qvhighlights", tmp_path).problems]
    assert causes[:2] == [
        "'../secret' leads out of the benchmark's directory",
        "'/etc/passwd' leads out of the benchmark's directory",
    ]


# --- What ends the loading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name != "plain"])
def test_an_empty_directory_says_what_to_download(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    with pytest.raises(InputError) as failure:
        load_benchmark(name, tmp_path)
    assert benchmark.title in failure.value.message
    assert all(pattern in failure.value.message for pattern in next(iter(benchmark.splits.values())).annotations)
    assert benchmark.download in failure.value.hint


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no benchmark 'imagenet'\. Known benchmarks: longvideobench, "):
        load_benchmark("imagenet", tmp_path)
    with pytest.raises(ConfigurationError, match=r"CG-Bench has no split 'test'\. Its splits: mini, full\."):
        load_benchmark("cgbench", tmp_path, split="test")
    with pytest.raises(InputError, match=r"There is no .*nowhere"):
        load_benchmark("cgbench", tmp_path / "nowhere")


def test_a_file_without_a_question_that_can_be_used(tmp_path: Path) -> None:
    highlights(tmp_path, {"qid": 1})
    with pytest.raises(InputError, match=r"no question of QVHighlights that can be used.*line 1: vid is missing"):
        load_benchmark("qvhighlights", tmp_path)
    write(tmp_path / "lvb_val.json", '[{"id": "x",')
    with pytest.raises(InputError, match=r"lvb_val\.json: is no JSON: "):
        load_benchmark("longvideobench", tmp_path)
    write(tmp_path / "lvb_val.json", '{"id": "x"}')
    with pytest.raises(InputError, match=r"lvb_val\.json: holds no list of rows but an object"):
        load_benchmark("longvideobench", tmp_path)


def test_a_single_file_may_be_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "charades_sta_train.txt", ["AB12C 0.0 7.2##a person opens a window."])
    loaded = load_benchmark("charades-sta", path)
    assert (loaded.split, loaded.directory) == ("train", tmp_path)


# --- Files -----------------------------------------------------------------------------------------------------------


def test_damaged_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffx,y\n1,"two\nlines"\n3\n4,"un"closed"\n5,6\n\n7,"open\n')
    rows = list(read_rows(path))
    assert rows[0] == ("line 2", {"x": "1", "y": "two\nlines"})
    assert [(row.place, type(row.value)) for row in rows[1:]] == [
        ("line 4", RowError),
        ("line 5", RowError),
        ("line 6", dict),
        ("line 8", RowError),
    ]
    for text, cause in (("", "is empty"), ("x,x\n", "two columns 'x'")):
        with pytest.raises(InputError, match=cause):
            list(read_rows(write(tmp_path / "b.csv", text)))
    (tmp_path / "c.jsonl").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="is not UTF-8"):
        list(read_rows(tmp_path / "c.jsonl"))
    with pytest.raises(InputError, match=r"no known format\. Known suffixes: \.csv"):
        list(read_rows(write(tmp_path / "d.xlsx", "")))
    pointer = write(tmp_path / "e.parquet", "version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"is no Parquet file.*git-lfs"):
        list(read_rows(pointer))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "videomme/test-00000-of-00001.parquet", [{"a": 1}])
    imported = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return imported(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"Reading .*parquet needs pyarrow\.") as failure:
        load_benchmark("videomme", path.parent.parent)
    assert failure.value.extra == "eval"
    assert "pip install 'videobrain[eval]'" in str(failure.value)


# --- Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        (("A. red", "B. blue"), ("red", "blue")),
        (("(A) red", "(B) blue"), ("red", "blue")),
        (("A) red", "B) blue"), ("red", "blue")),
        (("A.red", "B.blue"), ("red", "blue")),
        (("A. red", "A. blue"), ("A. red", "A. blue")),
        (("A cat", "B sharp"), ("A cat", "B sharp")),
        (("A. red", "blue"), ("A. red", "blue")),
    ],
)
def test_letters_before_options(given_options: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert without_letters(given_options) == expected


def test_answers_of_options() -> None:
    options = ("Red", "blue", "A", "red")
    assert [option_number(answer, options) for answer in ("B", "(C)", "d.", " A")] == [1, 2, 3, 0]
    assert [option_of_text(answer, options) for answer in ("red", "RED ", "A")] == [3, 0, 2]
    for answer in ("E", "", "AB", "red"):
        with pytest.raises(RowError, match="is no letter of the 4 options"):
            option_number(answer, options)
    with pytest.raises(RowError, match="is none of the options"):
        option_of_text("green", options)


# --- The registry ----------------------------------------------------------------------------------------------------


def test_names_of_benchmarks() -> None:
    assert len(NAMES) == len(set(NAMES)) == 14
    assert all(set(name) <= set(f"{ascii_lowercase}-") for name in NAMES)
    for benchmark in default_benchmarks():
        assert find_benchmark(benchmark.title.upper().replace("-", " ")) is benchmark
        assert benchmark.licence
        assert benchmark.download
        assert benchmark.tasks
        assert {row.benchmark for row in benchmark.published} <= {benchmark.name}
        assert {row.split for row in benchmark.published} <= {"", *benchmark.splits}


def test_the_page_about_benchmarks_names_each_with_its_splits() -> None:
    page = (Path(__file__).parents[2] / "docs/benchmarks.md").read_text("utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    for benchmark in default_benchmarks():
        assert benchmark.title in rows[benchmark.name]
        for split, part in benchmark.splits.items():
            assert f"`{split}`" in rows[benchmark.name]
            assert part.questions is None or f"{part.questions:,}" in rows[benchmark.name], split
    for field in Sample.model_fields:
        assert field in rows, field


def test_rows_of_the_list() -> None:
    rows = {row.name: row for row in benchmark_rows()}
    assert list(rows) == NAMES
    assert rows["videomme"].questions == "test 2,700, short 900, medium 900, long 900"
    assert rows["mlvu"].task == "choice, open"
    assert "huggingface.co/datasets/lmms-lab/Video-MME" in rows["videomme"].download
    assert rows["qvhighlights"].licence.startswith("CC BY-NC-SA 4.0")


def read_stories(source: Source) -> Iterator[Sample]:
    for row in source.rows():
        with row:
            yield Sample(
                key=row.text("id"),
                video=source.video(row.text("clip")),
                question=row["ask"],
                task="open",
                answer=row["said"],
            )


STORIES = Benchmark(
    name="stories",
    title="Stories",
    tasks=("open",),
    splits={"test": Split(("stories.json",))},
    licence="public domain",
    download="https://example.org/stories",
    read=read_stories,
)
NOT_ONE = "stories"


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    group = registry.ENTRY_POINT_GROUP
    found = [
        EntryPoint("stories", f"{__name__}:STORIES", group),
        EntryPoint("broken", "no.such.package:X", group),
        EntryPoint("wrong", f"{__name__}:NOT_ONE", group),
        EntryPoint("lvbench", f"{__name__}:STORIES", group),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)


@pytest.mark.usefixtures("plugins")
def test_benchmarks_of_other_packages(tmp_path: Path) -> None:
    assert known_benchmarks() == [*NAMES, "broken", "stories", "wrong"]
    row = {"id": 7, "clip": "a.mp4", "ask": "Who?", "said": "Ann"}
    write_json(tmp_path / "stories.json", [row, {"id": 8, "clip": "a.mp4", "said": "Bob"}])
    touch(tmp_path, "a.mp4")
    loaded = load_benchmark("Stories", tmp_path)
    assert loaded.benchmark is STORIES
    assert [sample.key for sample in loaded.samples] == ["7"]
    assert shown(loaded) == ["stories.json, row 2: ask is missing"]
    assert load_benchmark(STORIES, tmp_path) == loaded
    assert find_benchmark("lvbench").title == "LVBench"  # a built-in one stays what it is
    with pytest.raises(ConfigurationError, match=r"cannot be loaded from 'no\.such\.package:X'"):
        find_benchmark("broken")
    with pytest.raises(ConfigurationError, match="gives str, no Benchmark"):
        find_benchmark("wrong")
    rows = {row.name: row for row in benchmark_rows()}
    assert rows["stories"].download == "https://example.org/stories"
    assert "cannot be loaded" in rows["broken"].download


def test_samples_are_saved_and_read_again(tmp_path: Path) -> None:
    highlights(tmp_path, query(1))
    sample = load_benchmark("qvhighlights", tmp_path).samples[0]
    assert Sample.model_validate(json.loads(sample.model_dump_json())) == sample
