"""One run of several, such as the shards of a benchmark that several machines asked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from videobrain.errors import ConfigurationError, EvaluationStoppedError, InputError
from videobrain.evaluation.lines import JsonLines
from videobrain.evaluation.manifest import Manifest, key_of
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import (
    RESULTS_FILE,
    TRACES,
    iterate_results,
    read_manifest,
    write_manifest,
)
from videobrain.evaluation.shards import Shard
from videobrain.evaluation.verdict_file import VerdictFile, read_judgements
from videobrain.files import ASIDE


def merge_runs(runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Manifest:
    """Make one run of several that were made with the same model, strategy and settings. Blocks.

    Where several hold the same question, an answer goes before an error, and else the first one counts. The merged run
    may be continued as any other.

    Args:
        runs: Directories of runs.
        out: Directory of the merged one; it appears when it is whole.

    Returns:
        What the merged run is; its shard is None where the shards of a whole are all there.

    Raises:
        ConfigurationError: `out` exists, or the runs do not belong together.
        InputError: A directory is no run, or its results are damaged.
        EvaluationStoppedError: The merged run cannot be written.
    """
    sources, target = [Path(run) for run in runs], Path(out)
    if not sources:
        raise ConfigurationError("There are no runs to merge.")
    if target.exists():
        raise ConfigurationError(f"{target} exists.", hint="Name a directory that does not exist.")
    manifests = [read_manifest(source) for source in sources]
    for source, manifest in zip(sources[1:], manifests[1:], strict=True):
        if different := manifests[0].differences(manifest):
            raise ConfigurationError(
                f"{source} does not belong to {sources[0]}: {'; '.join(different)}.",
                hint="Merge runs of one benchmark, model, strategy and settings.",
            )
    counts = {name: _sum_of(manifests, name) for name in ("questions", "missing_videos", "missing_questions")}
    counts["malformed"] = max(manifest.malformed for manifest in manifests)  # of the whole benchmark, not of a shard
    merged = manifests[0].model_copy(update={"shard": _shard_of(manifests), **counts})
    aside = target.with_name(f".{target.name}{ASIDE}")
    try:
        shutil.rmtree(aside, ignore_errors=True)  # of a merge that was killed
        (aside / TRACES).mkdir(parents=True)
        merged = _write(sources, aside, merged)
        aside.replace(target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise EvaluationStoppedError(
            f"The merged run {target} cannot be written: {error.strerror or error}.",
            hint="Make room, and merge again. The runs are as they were.",
        ) from error
    return merged


def _write(sources: Sequence[Path], aside: Path, merged: Manifest) -> Manifest:
    origin: dict[str, tuple[int, bool]] = {}  # which run's record of a key counts, and whether it is an answer
    asked: dict[str, tuple[str, Path]] = {}
    for number, source in enumerate(sources):
        for record in iterate_results(source):
            key, answered = key_of(record), record.error is None
            first, where = asked.setdefault(record.sample.key, (key, source))
            if first != key:
                raise InputError(
                    f"{source} and {where} asked {record.sample.key!r} about another video or in other words.",
                    hint="Continue one of them with the present files of the benchmark, and merge again.",
                )
            if key not in origin or (answered and not origin[key][1]):
                origin[key] = number, answered

    def records() -> Iterator[Record]:
        for number, source in enumerate(sources):
            for record in iterate_results(source):
                key = key_of(record)
                if origin.get(key, (-1, False)) != (number, record.error is None):
                    continue
                del origin[key]
                for trace in filter(None, (record.trace, record.evidence_trace)):
                    _copy_trace(source, aside, trace)
                yield record

    merged = merged.model_copy(update={"questions": max(merged.questions, len(origin))})
    JsonLines(aside / RESULTS_FILE, Record).rewrite(records())
    if judgements := [judgement for source in sources for judgement in read_judgements(source)]:
        with closing(VerdictFile(aside)) as file:
            file.append(judgements)
    write_manifest(aside, merged)
    return merged


def _copy_trace(source: Path, aside: Path, trace: str) -> None:
    path = source / trace
    if not path.resolve().is_relative_to(source.resolve()):
        raise InputError(f"A record of {source} names the trace {trace}, which lies outside of it.")
    try:
        shutil.copyfile(path, aside / trace)
    except FileNotFoundError:
        return  # traces may be deleted to save room; the records are what counts


def _shard_of(manifests: Sequence[Manifest]) -> str | None:
    """Of the merged run: None where one of the runs is of all videos, or the shards are all there."""
    named = {manifest.shard for manifest in manifests if manifest.shard is not None}
    shards = {Shard.parse(part) for name in named for part in name.split("+")}
    counts = {shard.parts for shard in shards}
    whole = any(manifest.shard is None for manifest in manifests)
    if whole or (len(counts) == 1 and len(shards) == counts.pop()):
        return None
    return "+".join(str(shard) for shard in sorted(shards))


def _sum_of(manifests: Sequence[Manifest], count: str) -> int:
    """What a count of the manifests comes to in the merged run, as far as they tell."""
    most: dict[str | None, int] = {}
    for manifest in manifests:
        most[manifest.shard] = max(most.get(manifest.shard, 0), getattr(manifest, count))
    return most[None] if None in most else sum(most.values())
