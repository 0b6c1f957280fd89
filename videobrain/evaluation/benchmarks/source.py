"""The files of one benchmark in one directory, as its loader sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from videobrain.errors import InputError, MissingDependencyError
from videobrain.evaluation.benchmarks.benchmark import Benchmark, Problem, ProblemKind
from videobrain.evaluation.benchmarks.media import VIDEO_SUFFIXES, Folder
from videobrain.evaluation.benchmarks.reader import read_json, read_rows
from videobrain.evaluation.benchmarks.row import Row

SUBTITLE_SUFFIXES = (".srt", ".vtt", ".json")


class Source:
    """Gives a loader the rows and the paths of a benchmark, and keeps what is wrong with them.

    Attributes:
        benchmark: The benchmark.
        split: Which part of it is read.
        given: The file that the caller named instead of a directory.
        root: The directory.
        videos: The directory of the videos.
        problems: What was wrong so far.
        absent: Videos that were asked for and are not there.
        here: File and row that are being read.
    """

    def __init__(self, benchmark: Benchmark, split: str, root: Path, *, file: Path | None, videos: Path | None) -> None:
        self.benchmark = benchmark
        self.split = split
        self.root = root
        self.problems: list[Problem] = []
        self.absent: set[str] = set()
        self.here = ""
        self.given = file
        self.videos = videos or root
        self._videos = Folder(self.videos, VIDEO_SUFFIXES)
        self._subtitles = Folder(root, SUBTITLE_SUFFIXES)
        self._elsewhere = videos is not None
        self._contents: Counter[str] = Counter()

    def files(self) -> list[Path]:
        """The split's files.

        Raises:
            InputError: There is none of them.
        """
        if self.given:
            return [self.given]
        patterns = self.benchmark.splits[self.split].annotations
        for pattern in patterns:
            if found := sorted(self.root.glob(pattern)):
                return found
        raise InputError(
            f"{self.root} has no file of {self.benchmark.title}'s split {self.split!r}: {' or '.join(patterns)}.",
            hint=f"To download: {self.benchmark.download}",
        )

    def rows(self, *paths: Path) -> Iterator[Row]:
        """The rows of these files; by default of all files of the split. A damaged file is a problem."""
        for path in paths or self.files():
            try:
                for place, value in read_rows(path):
                    yield self.row(value, f"{self.shown(path)}, {place}")
            except MissingDependencyError:
                raise
            except InputError as error:
                self.report("file", self.shown(path), error.message.removeprefix(f"{path} "), error.hint)

    def row(self, value: Any, place: str) -> Row:
        """A row from what stands at a place, for files that are no lists of rows."""
        return Row(value, place, lambda where, cause: self.report("row", where, cause), self._enter)

    def mapping(self, *names: str) -> dict[str, Any]:
        """The object of a JSON file that lies beside the split's files or below the directory; empty where none does.

        Raises:
            InputError: The file is no JSON object.
        """
        path = next((place for name in names for place in self._places(name) if place.is_file()), None)
        if path is None:
            return {}
        value = read_json(path)
        if not isinstance(value, dict):
            raise InputError(f"{path} holds no object.", hint="Download it again.")
        return value

    def video(self, *names: str, folders: tuple[str, ...] | None = None) -> str:
        """Path of a video within the directory of videos; where none has one of the names, it is noted as missing.

        Args:
            names: Names of the video, with or without a suffix, the best one first.
            folders: Where it is sought; by default the benchmark's folders of videos, and the directory itself.
        """
        if found := self.find_video(*names, folders=folders):
            return found
        folders = folders or self.benchmark.videos
        expected = "/".join(part for part in (folders[0], names[0]) if part != ".")
        expected += "" if Path(expected).suffix.lower() in VIDEO_SUFFIXES else VIDEO_SUFFIXES[0]
        self.absent.add(expected)
        return expected

    def find_video(self, *names: str, folders: tuple[str, ...] | None = None) -> str | None:
        """As `video`, but None where there is none."""
        wanted = (*(folders or self.benchmark.videos), *(["."] if self._elsewhere else []))
        return next((found for name in names if (found := self._videos.find(name, wanted))), None)

    def subtitles(self, name: str, *, named: bool = False) -> str | None:
        """Path of the subtitles within the directory; None where there are none.

        Args:
            name: Name of the file, with or without a suffix.
            named: Whether a row names it. Where it is missing its path is given all the same, and the record of the
                question says that it was asked without.
        """
        if found := self._subtitles.find(name, self.benchmark.subtitles):
            return found
        return f"{self.benchmark.subtitles[0]}/{name}" if named else None

    def content_key(self, *contents: object) -> str:
        """A key from what a question is about, for benchmarks without ids of their own.

        Rows of equal content are told apart by their number; it does not matter which is which.
        """
        key = sha256("\x1f".join(map(str, contents)).encode("utf-8", "replace")).hexdigest()[:12]
        self._contents[key] += 1
        return key if self._contents[key] == 1 else f"{key}-{self._contents[key]}"

    def report(self, kind: ProblemKind, where: str, cause: str, hint: str = "") -> None:
        """Notes a problem; reading goes on."""
        self.problems.append(Problem(kind, where, cause.rstrip("."), hint))

    def shown(self, path: Path) -> str:
        """A path as problems name it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def _places(self, name: str) -> Iterator[Path]:
        yield from (path.parent / name for path in self.files()[:1])
        yield self.root / name

    def _enter(self, place: str) -> None:
        self.here = place
