"""The results file of a run."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from videobrain.errors import InputError
from videobrain.evaluation.record import Record

RESULTS = "results.jsonl"
"""Name of the file within the run's directory: a `Record` a line."""


def read_results(directory: str | os.PathLike[str]) -> list[Record]:
    """The finished questions of a run, in the order in which they finished.

    A last line without an end was cut off by a kill; it is passed over.

    Args:
        directory: The run's directory.

    Raises:
        InputError: There is no such file, or one of its lines is no record.
    """
    path = Path(directory) / RESULTS
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}.", hint="Name the directory of an evaluation run."
        ) from error
    records = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{path} is damaged at line {number}: {error.errors()[0]['msg']}.") from error
    return records
