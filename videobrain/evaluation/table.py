"""Records as a flat table: for pandas, for spreadsheets, for Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videobrain.errors import ConfigurationError, MissingDependencyError
from videobrain.evaluation.metrics import Verdicts, outcome, overlap_of, scored
from videobrain.evaluation.record import Record
from videobrain.files import whole_file
from videobrain.result import Span

Scalar = str | int | float | bool | None

COLUMNS: Mapping[str, type] = {
    "benchmark": str,
    "key": str,
    "model": str,
    "strategy": str,
    "settings": str,
    "video": str,
    "duration_seconds": float,
    "task": str,
    "question": str,
    "truth": str,
    "outcome": str,
    "correct": bool,
    "text": str,
    "choice": str,
    "spans": str,
    "iou": float,
    "iop": float,
    "error": str,
    "stop_reason": str,
    "subtitles": bool,
    "frames": int,
    "turns": int,
    "corrections": int,
    "tool_calls": int,
    "failed_calls": int,
    "input_tokens": int,
    "cached_tokens": int,
    "output_tokens": int,
    "seconds": float,
    "warnings": str,
    "trace": str,
}
"""The columns of every table, with their kind; any cell may be None. ``calls.TOOL`` (int) and ``slice.NAME`` (str)
follow, one for each tool and slice of the records, in order of their names."""


def records_table(records: Sequence[Record], *, verdicts: Verdicts | None = None) -> list[dict[str, Scalar]]:
    """A row for each record, all with the same columns: ``pandas.DataFrame(records_table(records))``.

    ``truth`` is the true letter of a choice, else the true answer, else the true spans. Spans are JSON:
    ``[[12.5, 14.0]]``. ``outcome`` and ``correct`` are None where nobody can say; ``correct`` of an error and of an
    unanswered question is False, as it counts in accuracy. ``iou`` and ``iop``, of the first span, are None where no
    true span is known.

    Args:
        records: Finished questions, of one run or of several.
        verdicts: Scores of a judge by the sample's key, for answers in words.
    """
    tools = sorted({tool for record in records for tool in record.usage.tool_calls})
    names = sorted({name for record in records for name in record.sample.slices})
    return [
        _row(record, verdicts)
        | {f"calls.{tool}": record.usage.tool_calls.get(tool, 0) for tool in tools}
        | {f"slice.{name}": record.sample.slices.get(name) for name in names}
        for record in records
    ]


def save_table(records: Sequence[Record], path: str | os.PathLike[str], *, verdicts: Verdicts | None = None) -> Path:
    """Write `records_table` as CSV or Parquet, whole or not at all; returns the path.

    Args:
        records: Finished questions.
        path: Its suffix decides: ``.csv`` or ``.parquet``; missing directories are made.
        verdicts: Scores of a judge by the sample's key, for answers in words.

    Raises:
        ConfigurationError: The path has another suffix.
        MissingDependencyError: Parquet without pyarrow, which the extra ``eval`` brings.
    """
    path = Path(path)
    writers = {".csv": _csv, ".parquet": _parquet}
    if path.suffix not in writers:
        raise ConfigurationError(
            f"{path} has no suffix of a table that can be written.", hint="Name a file that ends with .csv or .parquet."
        )
    content = writers[path.suffix](records_table(records, verdicts=verdicts))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(content)
    return path


def _row(record: Record, verdicts: Verdicts | None) -> dict[str, Scalar]:
    sample, said, usage = record.sample, record.prediction, record.usage
    counted = scored([record], verdicts=verdicts)
    overlap = overlap_of(record) if sample.spans else None
    return {
        "benchmark": record.benchmark,
        "key": sample.key,
        "model": record.model,
        "strategy": record.strategy,
        "settings": record.settings,
        "video": sample.video,
        "duration_seconds": sample.duration_seconds,
        "task": sample.task,
        "question": sample.question,
        "truth": sample.letter or sample.answer or _spans(sample.spans),
        "outcome": outcome(record, verdicts=verdicts),
        "correct": counted[0][1] if counted else None,
        "text": None if said is None else said.text,
        "choice": None if said is None else said.choice,
        "spans": None if said is None else _spans(said.spans),
        "iou": None if overlap is None else overlap.iou,
        "iop": None if overlap is None else overlap.iop,
        "error": record.error,
        "stop_reason": record.stop_reason,
        "subtitles": record.subtitles,
        "frames": usage.frames,
        "turns": usage.turns,
        "corrections": usage.corrections,
        "tool_calls": sum(usage.tool_calls.values()),
        "failed_calls": usage.failed_calls,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "seconds": usage.seconds,
        "warnings": "\n".join(record.warnings) or None,
        "trace": record.trace,
    }


def _spans(spans: Sequence[Span]) -> str | None:
    return json.dumps(spans) if spans else None


def _kind(column: str) -> type:
    if column.startswith("calls."):
        return int
    return COLUMNS.get(column, str)


def _columns(rows: Sequence[Mapping[str, Scalar]]) -> list[str]:
    return list(rows[0]) if rows else list(COLUMNS)


def _csv(rows: Sequence[Mapping[str, Scalar]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _parquet(rows: Sequence[Mapping[str, Scalar]]) -> bytes:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError("pyarrow is not installed, which writes Parquet.", extra="eval") from error

    types: Mapping[type, Any] = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
    schema = arrow.schema([(column, types[_kind(column)]) for column in _columns(rows)])  # also of columns of None
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema=schema), sink)
    return sink.getvalue()
