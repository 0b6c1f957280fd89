"""The benchmarks that can be loaded by name: the built-in ones, and those that other packages bring."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from videobrain.errors import ConfigurationError
from videobrain.evaluation.benchmarks.activitynet_captions import ACTIVITYNET_CAPTIONS
from videobrain.evaluation.benchmarks.benchmark import Benchmark, Published
from videobrain.evaluation.benchmarks.cgbench import CGBENCH
from videobrain.evaluation.benchmarks.charades_sta import CHARADES_STA
from videobrain.evaluation.benchmarks.egoschema import EGOSCHEMA
from videobrain.evaluation.benchmarks.longvideobench import LONGVIDEOBENCH
from videobrain.evaluation.benchmarks.lvbench import LVBENCH
from videobrain.evaluation.benchmarks.mlvu import MLVU
from videobrain.evaluation.benchmarks.mvbench import MVBENCH
from videobrain.evaluation.benchmarks.nextqa import NEXTGQA, NEXTQA
from videobrain.evaluation.benchmarks.plain import PLAIN
from videobrain.evaluation.benchmarks.qvhighlights import QVHIGHLIGHTS
from videobrain.evaluation.benchmarks.synthetic import WORLD
from videobrain.evaluation.benchmarks.videomme import VIDEOMME

ENTRY_POINT_GROUP = "videobrain.benchmarks"


def default_benchmarks() -> list[Benchmark]:
    """The built-in benchmarks."""
    return [
        LONGVIDEOBENCH,
        LVBENCH,
        VIDEOMME,
        MLVU,
        MVBENCH,
        EGOSCHEMA,
        NEXTQA,
        NEXTGQA,
        CGBENCH,
        CHARADES_STA,
        QVHIGHLIGHTS,
        ACTIVITYNET_CAPTIONS,
        WORLD,
        PLAIN,
    ]


def known_benchmarks() -> list[str]:
    """Names of all benchmarks: the built-in ones, then those of the entry-point group ``videobrain.benchmarks``."""
    built_in = [benchmark.name for benchmark in default_benchmarks()]
    return [*built_in, *sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - {*built_in})]


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by name: a built-in one, or one of the entry-point group ``videobrain.benchmarks``.

    Capitals, ``-``, ``_`` and blanks make no difference, so ``Video-MME`` is ``videomme``.

    Raises:
        ConfigurationError: There is none of this name, or the entry point gives something else.
    """
    for built_in in default_benchmarks():
        if _folded(name) in {_folded(built_in.name), _folded(built_in.title)}:
            return built_in
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if _folded(point.name) == _folded(name):
            return _loaded(point)
    raise ConfigurationError(
        f"There is no benchmark {name!r}.", hint=f"Known benchmarks: {', '.join(known_benchmarks())}."
    )


def published_for(names: Iterable[str]) -> tuple[Published, ...]:
    """What others published for these benchmarks; nothing for one that is not known here."""
    found: list[Published] = []
    for name in names:
        with suppress(ConfigurationError):
            found += find_benchmark(name).published
    return tuple(found)


class BenchmarkRow(NamedTuple):
    """A line of the list of benchmarks."""

    name: str
    task: str
    questions: str
    """Of each split, where it is known."""
    licence: str
    download: str


def benchmark_rows() -> list[BenchmarkRow]:
    """What a list of all benchmarks shows; one that cannot be loaded says why."""
    rows = [_row(benchmark.name, benchmark) for benchmark in default_benchmarks()]
    for name in known_benchmarks()[len(rows) :]:
        try:
            rows.append(_row(name, find_benchmark(name)))
        except ConfigurationError as error:
            rows.append(BenchmarkRow(name, "", "", "", str(error)))
    return rows


def _row(name: str, benchmark: Benchmark) -> BenchmarkRow:
    counts = [
        split if part.questions is None else f"{split} {part.questions:,}" for split, part in benchmark.splits.items()
    ]
    return BenchmarkRow(name, ", ".join(benchmark.tasks), ", ".join(counts), benchmark.licence, benchmark.download)


def _loaded(point: EntryPoint) -> Benchmark:
    try:
        loaded = point.load()
    except Exception as error:  # whatever somebody's module does when it is imported
        raise ConfigurationError(
            f"The benchmark {point.name!r} cannot be loaded from {point.value!r}: {type(error).__name__}: {error}.",
            hint="Reinstall the package that brings it.",
        ) from error
    if not isinstance(loaded, Benchmark):
        raise ConfigurationError(
            f"The entry point {point.value!r} of benchmark {point.name!r} gives {type(loaded).__name__}, no Benchmark.",
            hint="Let it name a videobrain.evaluation.benchmarks.Benchmark.",
        )
    return loaded


def _folded(name: str) -> str:
    return re.sub(r"[-_\s]", "", name).casefold()
