"""Files that are whole or not there."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

ASIDE = ".part"
"""How the names of files end that are not whole yet. A writer that was killed leaves one; see `clear_asides`."""

_OF_A_MODEL = frozenset({".safetensors", ".bin", ".pt", ".json", ".jinja", ".model", ".txt"})
_BLOCKS, _BLOCK_BYTES = 64, 2**20


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


def digest_of_model(directories: Iterable[str | Path]) -> str:
    """Digest of the weights and the configuration in some directories, the same wherever they lie.

    Of a large file its size and blocks all over it are read. Names that are no directories on this machine are passed
    over; empty where all are.
    """
    digest, found = hashlib.sha256(), False
    for place in map(Path, directories):
        files = sorted(path for path in place.iterdir() if path.suffix in _OF_A_MODEL) if place.is_dir() else []
        for path in files:
            size, found = path.stat().st_size, True
            digest.update(f"{path.name} {size} ".encode())
            with path.open("rb") as file:
                for start in range(0, size, max(_BLOCK_BYTES, size // _BLOCKS)):
                    file.seek(start)
                    digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:16] if found else ""
