"""A run's directory: what is kept, what is passed over, and what is refused."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from evaluation.records import record

from videobrain.errors import ConfigurationError, EvaluationStoppedError, InputError
from videobrain.evaluation.lines import JsonLines
from videobrain.evaluation.manifest import Manifest, content_key, key_of
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import RunDirectory, read_manifest, read_results
from videobrain.evaluation.sample import Sample

MANIFEST = Manifest(
    benchmark="made", split="test", model="m", strategy="s", settings={"temperature": 0.0}, settings_digest="0"
)
RECORDS = [record(f"q{number}", choice="B", text="B. grün", seen_seconds=(0.5, 1.25)) for number in range(3)]


def keys(records: list[Record]) -> list[str]:
    return [each.sample.key for each in records]


def wanted(records: list[Record]) -> dict[str, Sample]:
    return {key_of(each): each.sample for each in records}


def write(directory: Path, records: list[Record]) -> Path:
    with RunDirectory(directory, MANIFEST) as run:
        for each in records:
            run.write(each, None)
    return directory


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_results(write(tmp_path / "run", RECORDS)) == RECORDS
    assert read_manifest(tmp_path / "run").model == "m"
    write(tmp_path / "run", [record("q3", error="ModelError: gone")])
    assert keys(read_results(str(tmp_path / "run"))) == ["q0", "q1", "q2", "q3"]


def test_a_last_line_that_is_cut_anywhere_is_passed_over_and_done_again(tmp_path: Path) -> None:
    results = write(tmp_path, RECORDS) / "results.jsonl"
    whole = results.read_bytes()
    before = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(before, len(whole) + 1):
        results.write_bytes(whole[:end])
        lost = end < len(whole) - 1  # without its end of line alone, the line is whole
        assert read_results(tmp_path) == (RECORDS[:2] if lost else RECORDS), end
        file = JsonLines(results, Record)
        file.open()
        if lost:
            file.append(RECORDS[2])
        file.close()
        assert results.read_bytes() == whole, end


@pytest.mark.parametrize("cut", [1, 2, 200])
def test_a_run_with_a_torn_line_asks_for_its_question_alone(tmp_path: Path, cut: int) -> None:
    results = write(tmp_path, RECORDS) / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-cut])
    with RunDirectory(tmp_path, MANIFEST) as run:
        done = run.begun(wanted(RECORDS), retry_errors=False)
        assert done == {key_of(each) for each in (RECORDS if cut == 1 else RECORDS[:2])}


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\0" * 100 + b"\n", b'{"sample": {"key": "\xc3', b"{]\n"])
def test_rubbish_at_the_end_is_passed_over_and_cut_off(tmp_path: Path, tail: bytes) -> None:
    results = write(tmp_path, RECORDS) / "results.jsonl"
    whole = results.read_bytes()
    results.write_bytes(whole + tail)
    assert read_results(tmp_path) == RECORDS
    write(tmp_path, [])
    assert results.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"sample": {"key"\n', "Line 2 of .*results.jsonl is damaged: Invalid JSON"),
        (b"\n", "Line 2 "),
        (b"{}\n", "sample"),
    ],
)
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path, line: bytes, said: str) -> None:
    results = write(tmp_path, RECORDS) / "results.jsonl"
    first, second, third = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(first + line + third)
    with pytest.raises(InputError, match=said):
        read_results(tmp_path)
    with pytest.raises(InputError, match=said):
        write(tmp_path, [])
    assert results.read_bytes() == first + line + third
    assert second not in results.read_bytes()


def test_a_last_line_of_another_version_is_an_error_and_not_cut_off(tmp_path: Path) -> None:
    results = write(tmp_path, RECORDS) / "results.jsonl"
    newer = json.dumps({**json.loads(RECORDS[0].model_dump_json()), "colour": "red"}) + "\n"
    results.write_bytes(results.read_bytes() + newer.encode())
    with pytest.raises(InputError, match=r"Line 4 .* colour: Extra inputs"):
        write(tmp_path, [])
    assert results.read_bytes().endswith(newer.encode())


def test_no_run_and_other_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no run: it has no run\.json"):
        read_results(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigurationError, match=r"holds thesis\.tex and no run"), RunDirectory(tmp_path, MANIFEST):
        pass
    write(tmp_path / "run", RECORDS)
    other = MANIFEST.model_copy(update={"model": "n", "settings": {"temperature": 0.7, "seed": 1}, "shard": "1/2"})
    with pytest.raises(ConfigurationError) as refused, RunDirectory(tmp_path / "run", other):
        pass
    for said in ("the model is 'm', not 'n'", "temperature is 0.0, not 0.7", "seed is unknown, not 1", "not 1/2"):
        assert said in str(refused.value)


def test_a_start_that_was_killed_before_it_wrote_anything_is_begun_again(tmp_path: Path) -> None:
    for name in (".lock", ".run.json.00000000.part"):
        (tmp_path / name).touch()
    (tmp_path / "traces").mkdir()
    assert read_results(write(tmp_path, RECORDS)) == RECORDS


def test_another_process_is_refused(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from videobrain.errors import ConfigurationError
from videobrain.evaluation.manifest import Manifest
from videobrain.evaluation.results import RunDirectory
manifest = Manifest.model_validate_json({MANIFEST.model_dump_json()!r})
try:
    with RunDirectory(Path({str(tmp_path)!r}), manifest):
        print("in")
except ConfigurationError as error:
    print(error)
"""

    def other() -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
        return done.stdout

    with RunDirectory(tmp_path, MANIFEST) as run:
        run.write(RECORDS[0], None)
        assert "Another process works on the run" in other()
        run.write(RECORDS[1], None)
    assert other() == "in\n"
    assert read_results(tmp_path) == RECORDS[:2]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond this size: what is written is taken in part, then refused, as by a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    with RunDirectory(tmp_path, MANIFEST) as run:
        run.write(RECORDS[0], None)
        size = (tmp_path / "results.jsonl").stat().st_size
        with full_disk(size + 100), pytest.raises(EvaluationStoppedError, match=r"cannot be written to.*Make room"):
            run.write(RECORDS[1], None)
        assert read_results(tmp_path) == RECORDS[:1]
        run.write(RECORDS[2], None)  # there is room again
    assert read_results(tmp_path) == [RECORDS[0], RECORDS[2]]


def begun(directory: Path, samples: list[Record], *, retry_errors: bool = False) -> set[str]:
    with RunDirectory(directory, MANIFEST) as run:
        return run.begun(wanted(samples), retry_errors=retry_errors)


def test_errors_are_taken_out_only_where_they_are_asked_for(tmp_path: Path) -> None:
    failed = record("q3", error="ModelError: gone")
    write(tmp_path, [*RECORDS, failed])
    assert begun(tmp_path, [*RECORDS, failed]) == {key_of(each) for each in (*RECORDS, failed)}
    assert begun(tmp_path, RECORDS, retry_errors=True) == {key_of(each) for each in RECORDS}
    assert failed in read_results(tmp_path)  # nobody asked for this question now
    assert begun(tmp_path, [*RECORDS, failed], retry_errors=True) == {key_of(each) for each in RECORDS}
    assert read_results(tmp_path) == RECORDS


def changed(old: Record, **fields: Any) -> Record:
    return old.model_copy(update={"sample": old.sample.model_copy(update=fields)})


def test_a_question_that_reads_otherwise_is_asked_again_and_a_corrected_truth_is_not(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    reworded, corrected = changed(RECORDS[0], question="Which one?"), changed(RECORDS[1], correct_option=2)
    assert begun(tmp_path, [reworded, corrected, RECORDS[2]]) == {key_of(RECORDS[1]), key_of(RECORDS[2])}
    assert read_results(tmp_path) == [corrected, RECORDS[2]]
    assert list(JsonLines(tmp_path / "superseded.jsonl", Record).read()) == [RECORDS[0]]  # nothing is deleted
    assert begun(tmp_path, [changed(corrected, options=("red", "black"))]) == set()
    assert list(JsonLines(tmp_path / "superseded.jsonl", Record).read()) == [RECORDS[0], corrected]


def test_answers_to_questions_that_are_gone_are_put_aside(tmp_path: Path) -> None:
    """As where a question without an id is corrected: its key is made of what it says."""
    write(tmp_path, RECORDS)
    left, elsewhere = RECORDS[0], RECORDS[1]
    with RunDirectory(tmp_path, MANIFEST) as run:
        keys = {each.sample.key for each in (left, elsewhere)}
        assert run.begun(wanted([left]), retry_errors=False, known=keys) == {key_of(left)}
        assert run.superseded == 1
    assert read_results(tmp_path) == [left, elsewhere]  # which this start does not ask, and another one does
    assert list(JsonLines(tmp_path / "superseded.jsonl", Record).read()) == [RECORDS[2]]


def test_a_run_goes_on_after_its_data_moved(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    moved = [changed(each, video=f"/elsewhere/videos/{each.sample.key}.mkv") for each in RECORDS]
    assert begun(tmp_path, moved) == {key_of(each) for each in RECORDS}
    assert read_results(tmp_path) == moved
    assert not (tmp_path / "superseded.jsonl").exists()


def test_a_record_that_stands_there_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, [*RECORDS, RECORDS[1]])
    assert len(begun(tmp_path, RECORDS)) == 3
    assert read_results(tmp_path) == RECORDS


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"question": "Which one?"}, False),
        ({"options": ("red", "green", "blue", "black")}, False),
        ({"video": "other.mp4"}, False),
        ({"video": "/data/videos/q0.webm"}, True),
        ({"clip": (0.0, 1.0)}, False),
        ({"subtitles": "q.srt"}, False),
        ({"correct_option": 2, "answer": "blue"}, True),
        ({"slices": {"type": "counting"}}, True),
        ({"extra": {"note": 1}}, True),
    ],
)
def test_the_key_is_of_what_the_model_sees(fields: dict[str, Any], same: bool) -> None:
    sample = RECORDS[0].sample
    other = Sample.model_validate({**sample.model_dump(), **fields})
    about = {"benchmark": "made", "model": "m", "strategy": "s", "settings": "0"}
    assert (content_key(sample, **about) == content_key(other, **about)) is same
    for name in about:
        assert content_key(sample, **about) != content_key(sample, **{**about, name: "another"})
