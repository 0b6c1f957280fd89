"""The samples of a benchmark from a directory, and everything that is wrong with its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from videobrain.errors import ConfigurationError, InputError
from videobrain.evaluation.benchmarks.benchmark import Benchmark, Problem
from videobrain.evaluation.benchmarks.registry import find_benchmark
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample

DEFAULT_FILE = "questions"
"""Name of the file, without its suffix, that is read of a benchmark without splits."""


@dataclass(frozen=True, slots=True)
class LoadedBenchmark:
    """A split of a benchmark as it is on this machine."""

    benchmark: Benchmark
    split: str
    directory: Path
    videos: Path
    """Directory within which `Sample.video` lies."""
    samples: tuple[Sample, ...]
    """Every question that can be read, in the files' order, also those whose video is missing."""
    problems: tuple[Problem, ...]
    missing_videos: frozenset[str]
    keys: frozenset[str] | None = None
    """Keys of all questions of the split, also where `samples` was narrowed; None where that is not known, as where
    rows could not be read."""

    @property
    def playable(self) -> tuple[Sample, ...]:
        """The samples whose video is there."""
        return tuple(sample for sample in self.samples if sample.video not in self.missing_videos)

    @property
    def missing(self) -> tuple[Sample, ...]:
        """The samples whose video is not there."""
        return tuple(sample for sample in self.samples if sample.video in self.missing_videos)

    @property
    def expected_questions(self) -> int | None:
        """How many questions the split has in full, where that is known."""
        split = self.benchmark.splits.get(self.split)
        return split.questions if split else None

    def video_path(self, sample: Sample) -> Path:
        """Where a sample's video is."""
        return self.videos / sample.video

    def subtitles_path(self, sample: Sample) -> Path | None:
        """Where a sample's subtitles are; None where it has none."""
        return None if sample.subtitles is None else self.directory / sample.subtitles

    def __repr__(self) -> str:
        counts = f"{len(self.samples)} samples, {len(self.problems)} problems"
        return f"LoadedBenchmark({self.benchmark.name!r}, {self.split!r}, {counts})"


def load_benchmark(
    name: str | Benchmark, directory: str | Path, *, split: str | None = None, videos: str | Path | None = None
) -> LoadedBenchmark:
    """Read a benchmark from a local directory.

    A row that cannot be used, a key that is there twice, and a video that is missing are problems of the result; the
    reading goes on after each.

    Args:
        name: Name of a benchmark, see `known_benchmarks`; or one of your own.
        directory: Where it was downloaded to. It may also be the file of questions itself.
        split: Which part; by default the benchmark's first.
        videos: Directory of the videos, where they lie elsewhere.

    Returns:
        The samples, and what is wrong with the files.

    Raises:
        ConfigurationError: There is no such benchmark or split.
        InputError: There is no such directory, a file is missing or damaged, or no question can be used.
        MissingDependencyError: A file is Parquet, and pyarrow is not installed.
    """
    benchmark = find_benchmark(name) if isinstance(name, str) else name
    given = Path(directory).expanduser()
    if not given.exists():
        raise InputError(f"There is no {given}.", hint=f"To download: {benchmark.download}")
    if videos is not None and not Path(videos).expanduser().is_dir():
        raise InputError(f"There is no directory {videos} of videos.", hint="Check `videos`.")
    file = given if given.is_file() else None
    root = given.parent if file else given
    chosen = _split(benchmark, split, file)
    away = Path(videos).expanduser() if videos is not None else None
    source = Source(benchmark, chosen, root, file=file, videos=away)
    samples = tuple(_unique(source))
    missing = Counter(sample.video for sample in samples if sample.video in source.absent)
    source.problems.extend(_missing_videos(missing))
    if not samples:
        first = f" The first problem: {source.problems[0]}" if source.problems else ""
        raise InputError(
            f"{given} has no question of {benchmark.title} that can be used.{first}",
            hint=f"To download: {benchmark.download}",
        )
    unread = any(problem.kind == "row" for problem in source.problems)
    return LoadedBenchmark(
        benchmark,
        chosen,
        root,
        source.videos,
        samples,
        tuple(source.problems),
        frozenset(missing),
        None if unread else frozenset(sample.key for sample in samples),
    )


def _split(benchmark: Benchmark, split: str | None, file: Path | None) -> str:
    if not benchmark.splits:
        return split or (file.stem if file else DEFAULT_FILE)
    if split is None:
        patterns = ((name, pattern) for name, each in benchmark.splits.items() for pattern in each.annotations)
        named = (name for name, pattern in patterns if file and fnmatch(file.name, PurePosixPath(pattern).name))
        return next(named, next(iter(benchmark.splits)))
    if split not in benchmark.splits:
        known = ", ".join(benchmark.splits)
        raise ConfigurationError(f"{benchmark.title} has no split {split!r}.", hint=f"Its splits: {known}.")
    return split


def _unique(source: Source) -> Iterator[Sample]:
    places: dict[str, str] = {}
    for sample in source.benchmark.read(source):
        if sample.key in places:
            cause = f"the key {sample.key!r} was used in {places[sample.key]}"
            source.report("duplicate", source.here, cause, "The first of them counts.")
            continue
        places[sample.key] = source.here
        yield sample


def _missing_videos(missing: Counter[str]) -> Iterator[Problem]:
    for video, count in missing.items():
        questions = "1 question is" if count == 1 else f"{count} questions are"
        hint = "Put it there, or name the directory that the videos are in."
        yield Problem("video", video, f"the video is missing, and {questions} about it", hint)
