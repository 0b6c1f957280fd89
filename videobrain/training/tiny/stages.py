"""Stages of a long computation: each is done once, in a directory that is kept, and resumed where it was killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videobrain.files import whole_path

_MARKER = "done.json"


@dataclass(frozen=True)
class Stage:
    """One step of a longer computation.

    Its directory is named by a hash of its configuration, so a change of the configuration begins anew and what was
    made for another is still there. Let `config` hold all that the result depends on, the digests of earlier stages
    included.

    Attributes:
        name: For people, and part of the directory's name.
        config: What the result depends on; anything that JSON can hold.
        cache: Directory of the stages' directories.
    """

    name: str
    config: Mapping[str, Any]
    cache: Path

    @property
    def digest(self) -> str:
        """Hash of the configuration."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def directory(self) -> Path:
        """Where the stage works and leaves its results."""
        return self.cache / f"{self.name}-{self.digest}"

    @property
    def done(self) -> bool:
        """Whether it has been completed."""
        return (self.directory / _MARKER).is_file()

    def run(self, work: Callable[[Path], None]) -> Path:
        """Do the work unless it has been done.

        Args:
            work: Called with the directory, which holds what an earlier, killed run left there.

        Returns:
            The directory.
        """
        if not self.done:
            self.directory.mkdir(parents=True, exist_ok=True)
            work(self.directory)
            facts = json.dumps({"stage": self.name, "config": self.config}, indent=2)
            write_atomically(self.directory / _MARKER, lambda path: path.write_text(facts, "utf-8"))
        return self.directory


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` write a file aside, then rename it, so that a file that exists is whole. Returns `path`."""
    with whole_path(path) as aside:
        write(aside)
    return path


class JsonLines:
    """A log of one JSON object per line that goes on where a resumed computation does.

    Args:
        path: The file.
        keep: Whether a line that is there already stays: what was logged after the last checkpoint is done again.
    """

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
        self.path = path
        lines: list[str] = []
        if path.is_file():
            # The last line may be cut short by the kill.
            whole = [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
            lines = [line for line in whole if keep(json.loads(line))]
        write_atomically(path, lambda aside: aside.write_text("".join(lines), "utf-8"))

    def add(self, **facts: Any) -> None:
        """Append one object."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(facts)}\n")
