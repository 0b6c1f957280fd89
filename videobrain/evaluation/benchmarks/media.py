"""Where the files of a benchmark's videos are: each folder is listed once, whatever the number of questions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks.reader import RowError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".gif")
"""Of several files of one name the first in this order is taken."""


class Folder:
    """Files of a directory and of the folders within it, found by their names with or without a suffix."""

    def __init__(self, root: Path, suffixes: Sequence[str]) -> None:
        self.root = root
        self._suffixes = tuple(suffixes)
        self._listings: dict[str, dict[str, str]] = {}

    def find(self, name: str, folders: Sequence[str]) -> str | None:
        """Path of a file within the root, with ``/``; None where it is in none of the folders.

        A name may have folders of its own; the file may also lie without them. The suffix may be another than the
        name's, since videos are converted.

        Raises:
            RowError: The name leads out of the root.
            InputError: A folder cannot be listed.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise RowError(f"{name!r} leads out of the benchmark's directory")
        for parent in dict.fromkeys((str(path.parent), ".")):
            for folder in folders:
                listing = self._listing(str(PurePosixPath(folder, parent)))
                found = listing.get(path.name) or listing.get(path.stem if self._is_media(path.name) else "")
                if found:
                    return str(PurePosixPath(folder, parent, found))
        return None

    def _listing(self, folder: str) -> dict[str, str]:
        """Files of a folder by their names, and by their names without a suffix."""
        if folder not in self._listings:
            try:
                with os.scandir(self.root / folder) as entries:
                    names = sorted(entry.name for entry in entries if entry.is_file() and self._is_media(entry.name))
            except (FileNotFoundError, NotADirectoryError):
                names = []
            except OSError as error:
                raise InputError(
                    f"The folder {self.root / folder} cannot be listed: {error}.", hint="Check its permissions."
                ) from error
            names.sort(key=lambda name: self._suffixes.index(Path(name).suffix.lower()))
            listing = {name: name for name in names}
            for name in names:
                listing.setdefault(Path(name).stem, name)
            self._listings[folder] = listing
        return self._listings[folder]

    def _is_media(self, name: str) -> bool:
        return Path(name).suffix.lower() in self._suffixes
