"""Records as a table: the same columns for all, plain cells, and files that are read back."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from compared_runs import records
from records import record

from videobrain.errors import ConfigurationError
from videobrain.evaluation.table import COLUMNS, records_table, save_table
from videobrain.result import Usage

MIXED = [
    *records("BC-!"),
    record("s", task="grounding", truth=((0, 10),), spans=((0, 5),), slices={"source": "film"}, duration_seconds=60.5),
    record(
        "o", task="open", answer="red", text='It is "red",\nI think.', usage=Usage(tool_calls={"uniform_sample": 3})
    ),
]


def test_every_row_has_the_same_plain_columns() -> None:
    rows = records_table(MIXED)
    assert {tuple(row) for row in rows} == {
        (*COLUMNS, "calls.clip_sample", "calls.uniform_sample", "slice.source", "slice.type")
    }
    assert all(value is None or type(value) in (str, int, float, bool) for row in rows for value in row.values())
    for column, kind in COLUMNS.items():
        assert {type(row[column]) for row in rows} <= {kind, type(None)}, column


def test_a_row_says_what_became_of_a_question() -> None:
    rows = {row["key"]: row for row in records_table(MIXED, verdicts={"o": 0.9})}
    assert [rows[key]["outcome"] for key in ("q0", "q1", "q2", "q3")] == ["correct", "incorrect", "unanswered", "error"]
    assert [rows[key]["correct"] for key in ("q0", "q1", "q2", "q3", "o")] == [True, False, False, False, True]
    assert (rows["q0"]["truth"], rows["q0"]["choice"], rows["q3"]["error"]) == ("B", "B", "The server was away.")
    assert (rows["s"]["truth"], rows["s"]["spans"], rows["s"]["iou"]) == ("[[0.0, 10.0]]", "[[0.0, 5.0]]", 0.5)
    assert (rows["o"]["tool_calls"], rows["o"]["calls.uniform_sample"], rows["o"]["calls.clip_sample"]) == (3, 3, 0)
    assert records_table(MIXED)[-1]["correct"] is None
    assert records_table([]) == []


def test_csv_and_parquet_hold_the_table(tmp_path: Path) -> None:
    rows = records_table(MIXED)
    with save_table(MIXED, tmp_path / "deep" / "table.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["text"] for row in read] == [row["text"] or "" for row in rows]
    assert list(read[0]) == list(rows[0])
    table = parquet.read_table(save_table(MIXED, tmp_path / "table.parquet"))
    assert table.to_pylist() == rows
    blank = parquet.read_table(save_table(MIXED[:1], tmp_path / "table.parquet"))
    assert str(blank.schema.field("error").type) == "string"  # a column of None keeps its kind
    assert parquet.read_table(save_table([], tmp_path / "table.parquet")).column_names == list(COLUMNS)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"table.xlsx .*\.csv or \.parquet"):
        save_table(MIXED, tmp_path / "table.xlsx")
