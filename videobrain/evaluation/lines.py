"""Files of one JSON object a line that survive a kill: each line is on the disk before the next one begins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from videobrain.errors import InputError
from videobrain.files import whole_file

T = TypeVar("T", bound=BaseModel)


class JsonLines(Generic[T]):
    """Values of one kind in a file. Everything here blocks: it is work for a thread.

    A writer that is killed leaves at most a torn last line. It is passed over in reading, and cut off before anything
    is appended.

    Attributes:
        path: The file; it need not exist.

    Args:
        path: The file.
        kind: Of what kind the values are.
    """

    def __init__(self, path: Path, kind: type[T]) -> None:
        self.path = path
        self._kind = kind
        self._file: BinaryIO | None = None
        self._end = 0

    def read(self) -> Iterator[T]:
        """Every value, in the file's order; none where there is no file.

        Raises:
            InputError: The file cannot be read, or a line of it is damaged that is not the last.
        """
        return (value for value, _ in self._lines())

    def open(self) -> None:
        """Make the file ready for `append`.

        Raises:
            InputError: As `read`.
            OSError: The file cannot be written.
        """
        self._end = 0
        for _, end in self._lines():
            self._end = end
        file = self.path.open("ab", buffering=0)
        try:
            file.truncate(self._end)
            if self._end and last_byte(self.path) != b"\n":  # only the line's end was lost
                self._end += file.write(b"\n")
            os.fsync(file.fileno())
        except OSError:
            file.close()
            raise
        self._file = file

    def append(self, value: T) -> None:
        """Write one value; when this returns, the disk has it.

        Raises:
            OSError: It cannot be written. The file is as it was, or ends with a torn line.
        """
        if self._file is None:
            raise RuntimeError("the file is not open")
        line = memoryview(value.model_dump_json().encode() + b"\n")
        length = len(line)
        try:
            while line:  # a disk that is nearly full takes a part
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise
        self._end += length

    def rewrite(self, values: Iterable[T]) -> None:
        """Replace the whole file, which is the old one or the new one at any moment. `values` may come from `read`.

        Raises:
            OSError: It cannot be written.
        """
        was_open = self._file is not None
        self.close()
        with whole_file(self.path) as file:
            file.writelines(value.model_dump_json().encode() + b"\n" for value in values)
        if was_open:
            self.open()

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lines(self) -> Iterator[tuple[T, int]]:
        """Values with the offsets of the ends of their lines."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
        with file:
            line, number, end = file.readline(), 1, 0
            while line:
                following = file.readline()
                end += len(line)
                try:
                    value = self._kind.model_validate_json(line)
                except ValidationError as error:
                    what = error.errors(include_url=False, include_context=False, include_input=False)[0]
                    if what["type"] == "json_invalid" and not following:
                        return  # torn: whoever wrote it was killed, or the disk was full
                    where = ".".join(map(str, what["loc"]))
                    raise InputError(
                        f"Line {number} of {self.path} is damaged: {where + ': ' if where else ''}{what['msg']}.",
                        hint="Restore the file, or delete this line: its question is then asked again.",
                    ) from error
                yield value, end
                line, number = following, number + 1


def last_byte(path: Path) -> bytes:
    """The last byte of a file that has one."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
