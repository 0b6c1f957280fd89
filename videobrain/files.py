"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

ASIDE = ".part"
"""How the names of files end that are not whole yet. A writer that was killed leaves one."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Gives a file that becomes `path` at the end of the block; where the block fails, `path` stays as it was.

    Raises:
        OSError: The file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ASIDE}")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
