"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

ASIDE = ".part"
"""How the names of files end that are not whole yet. A writer that was killed leaves one; see `clear_asides`."""


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Gives the path of a file that becomes `path` at the end of the block; where that fails, `path` stays as it was.

    Each writer has its own, so that of several the last one wins.

    Raises:
        OSError: The file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ASIDE}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """The same with the file open, which is on the disk before it takes the place of `path`."""
    with whole_path(path) as aside, aside.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def clear_asides(directory: Path, name: str = "*") -> None:
    """Delete what killed writers left of the files of a directory, or of the one file that is called so.

    Only for who knows that nobody is writing there.

    Raises:
        OSError: One cannot be deleted.
    """
    for aside in directory.glob(f".{name}.*{ASIDE}"):
        aside.unlink(missing_ok=True)
