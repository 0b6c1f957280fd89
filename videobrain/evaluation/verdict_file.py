"""Verdicts on disk: ``verdicts.jsonl`` beside the results of a run, so that those stay what the model said."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from videobrain.errors import ConfigurationError, EvaluationStoppedError
from videobrain.evaluation.lines import last_byte
from videobrain.evaluation.verdict import Judgement

_LOGGER = logging.getLogger(__name__)

VERDICTS_FILE = "verdicts.jsonl"


def read_judgements(directory: str | os.PathLike[str]) -> list[Judgement]:
    """The lines of a run's ``verdicts.jsonl``; none where there is no such file.

    A line that is damaged, such as the last one of a process that was killed, is left out with a warning: its verdict
    is missing until somebody judges again.

    Args:
        directory: The run's.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    path = Path(directory) / VERDICTS_FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.") from error
    found: list[Judgement] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(Judgement.model_validate_json(line))
        except ValidationError:
            _LOGGER.warning("%s: line %d is damaged and left out", path, number)
    return found


class VerdictFile:
    """Appends judgements to a run's ``verdicts.jsonl``, each whole and on the disk before the next. It blocks.

    Args:
        directory: The run's; it must exist.

    Raises:
        ConfigurationError: The file cannot be written.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / VERDICTS_FILE
        self._lock = threading.Lock()
        try:
            # Whoever wrote there was killed, or found no room: what comes next begins a line of its own.
            self._torn = self.path.is_file() and self.path.stat().st_size > 0 and last_byte(self.path) != b"\n"
            # Not buffered, and at the end whoever else writes: a line is one write.
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path} cannot be written: {error.strerror or error}.",
                hint="Verdicts are kept beside the results of a run.",
            ) from error

    def append(self, judgements: Iterable[Judgement]) -> None:
        """Write judgements and wait until the disk has them.

        Raises:
            EvaluationStoppedError: The file cannot be written.
        """
        data = b"".join(judgement.model_dump_json().encode() + b"\n" for judgement in judgements)
        with self._lock:
            if self._torn:
                data = b"\n" + data
            self._torn = True
            try:
                while data:
                    data = data[self._file.write(data) :]
                os.fsync(self._file.fileno())
                self._torn = False
            except OSError as error:
                raise EvaluationStoppedError(
                    f"{self.path} cannot be written: {error.strerror or error}.",
                    hint="Make room or mend its permissions, and judge again: verdicts that stand there are not lost.",
                ) from error

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()
