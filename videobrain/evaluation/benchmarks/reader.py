"""Rows of JSON, JSON lines, CSV, Parquet and plain lines, each with its place; a bad row does not end the reading."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from videobrain.errors import InputError, MissingDependencyError

_BATCH = 1024
"""Rows of a Parquet file that are held at once."""


class RowError(ValueError):
    """A row cannot be used; the message is the cause. The rows after it still are."""


class RawRow(NamedTuple):
    """One row of a file."""

    place: str
    """``line 3`` of a text file, ``row 3`` of any other, from 1."""
    value: Any
    """What stands there; a `RowError` where it cannot be read."""


def read_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a file, by its suffix: .json, .jsonl, .csv, .tsv, .parquet or .txt.

    Rows are objects by their fields; of a .txt file they have one field, ``line``. A .json file is a list of rows.

    Raises:
        InputError: The file cannot be read, or is not of the format that its suffix says.
        MissingDependencyError: It is a Parquet file and pyarrow is not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is of no known format.", hint=f"Known suffixes: {', '.join(sorted(_READERS))}.")
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}.", hint="Save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", hint="Check the path and its permissions.") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: It cannot be read, or it is no JSON.
    """
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", hint="Check the path and its permissions.") from error
    except ValueError as error:  # also bytes that are not UTF-8
        raise InputError(f"{path} is no JSON: {error}.", hint="Download it again: it may be incomplete.") from error


def _json(path: Path) -> Iterator[RawRow]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path} holds no list of rows but {_kind(rows)}.", hint="Download it again.")
    for number, row in enumerate(rows, 1):
        yield RawRow(f"row {number}", row)


def _json_lines(path: Path) -> Iterator[RawRow]:
    for row in _lines(path):
        try:
            yield RawRow(row.place, json.loads(row.value["line"]))
        except ValueError as error:
            yield RawRow(row.place, RowError(f"no JSON: {error}"))


def _csv(path: Path) -> Iterator[RawRow]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = next(reader, None)
        if not header:
            raise InputError(f"{path} is empty.", hint="Its first line has the names of the columns.")
        if twice := [name for name, count in Counter(header).items() if count > 1]:
            raise InputError(f"{path} has two columns {twice[0]!r}.", hint="Give one another name.")
        while True:
            place = f"line {reader.line_num + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield RawRow(place, RowError(f"no {path.suffix[1:].upper()}: {error}"))
                continue
            if cells is None:
                return
            if len(cells) == len(header):
                yield RawRow(place, dict(zip(header, cells, strict=True)))
            elif cells:
                yield RawRow(place, RowError(f"{len(cells)} cells where the header has {len(header)}"))


def _lines(path: Path) -> Iterator[RawRow]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield RawRow(f"line {number}", {"line": line.rstrip("\r\n")})


def _parquet(path: Path) -> Iterator[RawRow]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MissingDependencyError(f"Reading {path} needs pyarrow.", extra="eval") from error
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield RawRow(f"row {number}", row)
    except pyarrow.ArrowException as error:
        raise InputError(
            f"{path} is no Parquet file, or is damaged after row {number}: {error}.",
            hint="Download it again: a small text file in its place is a pointer that git-lfs has not resolved.",
        ) from error


def _kind(value: Any) -> str:
    return "an object" if isinstance(value, dict) else repr(value)[:40]


_READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".tsv": _csv,
    ".txt": _lines,
}
