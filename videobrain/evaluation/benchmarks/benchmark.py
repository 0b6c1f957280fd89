"""What a benchmark is: its name, its licence, what to download and where it goes, and how its rows become samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from videobrain.evaluation.sample import Sample, Task

if TYPE_CHECKING:
    from videobrain.evaluation.benchmarks.source import Source


ProblemKind = Literal["file", "row", "duplicate", "video"]
"""``file``: one is missing or damaged. ``row``: it cannot be used. ``duplicate``: its key was there before.
``video``: the file of a video is missing; its questions are among the samples all the same."""


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a benchmark that is evaluated by itself."""

    annotations: tuple[str, ...]
    """Its files within the benchmark's directory, as glob patterns. Those of the first pattern that matches are read;
    the others are where other releases have them."""
    questions: int | None = None
    """How many it has in full, where that is known."""


class Published(NamedTuple):
    """A result that somebody published for a benchmark. It was not measured by videobrain."""

    benchmark: str
    """Its name."""
    system: str
    """What was measured."""
    metric: str
    """Such as ``accuracy`` or ``mIoU``."""
    percent: float
    source: str
    """Where it stands."""
    split: str = ""
    """What it was measured on, where its source says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark that is read from a local directory, as its authors distribute it."""

    name: str
    """What it is loaded by: small letters, digits and ``-``."""
    title: str
    """What its authors call it."""
    tasks: tuple[Task, ...]
    """What its questions ask for."""
    splits: Mapping[str, Split]
    """By name, the default one first. Without any, the name of a split is that of a file."""
    licence: str
    """A note on what its data may be used for; the licence itself is the authors' to tell."""
    download: str
    """What to download, and where in the directory it goes."""
    read: Callable[[Source], Iterator[Sample]] = field(repr=False)
    """Reads the samples of `Source.split`. What is wrong with a row is raised within ``with row:``."""
    videos: tuple[str, ...] = (".",)
    """Folders within the directory in which videos are sought, in this order."""
    subtitles: tuple[str, ...] = ()
    """Folders in which subtitles are sought."""
    asks_for_evidence: bool = False
    """Whether it scores, beside the answer to a question, in which spans of the video the answer is seen."""
    published: tuple[Published, ...] = ()
    """Results of others, which a comparison of runs prints beside its own."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the files of a benchmark; reading went on after it."""

    kind: ProblemKind
    where: str
    """The file, the file and the row, or the video."""
    cause: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.cause}. {self.hint}".strip()
