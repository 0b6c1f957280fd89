"""A run on disk: what it is, one record a line, and a trace for each question.

run.json         what was asked of whom, and how (`Manifest`)
results.jsonl    one `Record` a line, in the order in which they were finished
verdicts.jsonl   what judges made of answers in words (`verdict_file`)
superseded.jsonl records of questions that were asked anew since they read otherwise; only where there are some
traces/          the trace of each question, under the key of its answer, and of the run for its evidence
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock
from pydantic import ValidationError

from videobrain.errors import (
    ConfigurationError,
    EvaluationStoppedError,
    InputError,
    ModelConnectionError,
    ModelServerError,
    ModelTimeoutError,
    RateLimitError,
    WorkerDiedError,
)
from videobrain.evaluation.lines import JsonLines
from videobrain.evaluation.manifest import Manifest, key_of
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample
from videobrain.files import ASIDE, clear_asides, whole_file

_LOGGER = logging.getLogger(__name__)

MANIFEST_FILE, RESULTS_FILE, TRACES = "run.json", "results.jsonl", "traces"
SUPERSEDED_FILE = "superseded.jsonl"
_LOCK = ".lock"
_PASSING = tuple(
    f"{error.__name__}: "
    for error in (ModelConnectionError, ModelTimeoutError, RateLimitError, ModelServerError, WorkerDiedError)
)


def read_results(directory: str | os.PathLike[str]) -> list[Record]:
    """The records of a run, in the order in which they were finished. A torn last line is passed over.

    Raises:
        InputError: It is no run, or a line of its results is damaged; the error names the line.
    """
    return list(iterate_results(directory))


def iterate_results(directory: str | os.PathLike[str]) -> Iterator[Record]:
    """As `read_results`, one record in memory at a time."""
    _check_run(Path(directory))
    return _results(Path(directory)).read()


def is_passing(record: Record) -> bool:
    """Whether a question failed since the model's server was gone, overloaded or broken, or a cluster's workers died.

    That says nothing of the question, and any later start asks it again.
    """
    return record.error is not None and record.error.startswith(_PASSING)


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """What a run is.

    Raises:
        InputError: It is no run, or its manifest is damaged or of another version of videobrain.
    """
    path = Path(directory) / MANIFEST_FILE
    _check_run(Path(directory))
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    except ValidationError as error:
        what = error.errors(include_url=False)[0]
        raise InputError(
            f"{path} is damaged, or of another version of videobrain: {what['msg']}.", hint="Name another directory."
        ) from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Say what a run is, whole or not at all."""
    with whole_file(directory / MANIFEST_FILE) as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")


class RunDirectory:
    """A run that is written to, by this process alone. A context; its methods block and are work for a thread.

    Attributes:
        path: The directory.
        manifest: What the run is.
        superseded: How many records were moved to ``superseded.jsonl`` at this start.

    Args:
        path: The directory; it is made where it is missing.
        manifest: What the run is to be. A run that is there must be the same.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.superseded = 0
        # Entered in a thread and left in another: the lock must not belong to either.
        self._lock = filelock.FileLock(path / _LOCK, timeout=0, thread_local=False)
        # A task that is cancelled leaves its thread writing: closing waits for it.
        self._busy = threading.RLock()
        self._results = _results(path)

    def __enter__(self) -> Self:
        with self._busy:
            self._enter()
        return self

    def _enter(self) -> None:
        _check_place(self.path)
        with _stopped_where_it_cannot_be_written(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / TRACES).mkdir(exist_ok=True)
            self._acquire()
        try:
            self.manifest = self._continued()
            with _stopped_where_it_cannot_be_written(self.path):
                clear_asides(self.path / TRACES)
                for name in (MANIFEST_FILE, RESULTS_FILE):
                    clear_asides(self.path, name)
                write_manifest(self.path, self.manifest)
                self._results.open()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and let others write here; idempotent."""
        with self._busy:
            self._results.close()
            self._lock.release()

    def begun(
        self, wanted: Mapping[str, Sample], *, retry_errors: bool, known: Collection[str] | None = None
    ) -> set[str]:
        """Keys of the answers that are there and not asked for again. What does not hold any more is taken out.

        Those are a second record of one key, and errors where they are to be asked again. A record whose question now
        reads otherwise or is not there any more is moved to ``superseded.jsonl``. Where only the truth or a slice of a
        question was corrected, the record gets the new one.

        Args:
            wanted: The samples of this start by the keys of their answers.
            retry_errors: Whether questions that failed are asked again. Those that `is_passing` tells always are.
            known: Keys of all questions of the split, those that this start leaves out too; None where they are not
                known.

        Raises:
            EvaluationStoppedError: The results have to be changed and cannot be written.
            InputError: A line of the results is damaged.
        """
        state = _Settling(wanted, {sample.key for sample in wanted.values()}, known, retry_errors)
        done = {key for record in state.kept(self._results.read()) if (key := key_of(record)) in wanted}
        if state.changed:
            again = _Settling(state.wanted, state.samples, known, retry_errors)
            with self._busy, _stopped_where_it_cannot_be_written(self.path):
                if state.stale:
                    self._put_aside(state)
                self._results.rewrite(again.kept(self._results.read()))
        return done

    def _put_aside(self, state: _Settling) -> None:
        """Keep the records that are about to be taken out since their questions read otherwise."""
        aside = JsonLines(self.path / SUPERSEDED_FILE, Record)
        aside.rewrite(chain(aside.read(), filter(state.is_stale, self._results.read())))
        self.superseded = state.stale

    def records(self) -> Iterator[Record]:
        """Everything that is there, one record in memory at a time."""
        return self._results.read()

    def write(self, record: Record, trace: bytes | None, evidence: bytes | None = None) -> Record:
        """Write a finished question, first its trace; returns the record as it was written.

        Args:
            record: The question.
            trace: What is to stand in the file of its trace (`Trace.dump`).
            evidence: The same of the run for its evidence.

        Raises:
            EvaluationStoppedError: It cannot be written.
        """
        with self._busy, _stopped_where_it_cannot_be_written(self.path):
            for field, suffix, dumped in (("trace", "", trace), ("evidence_trace", ".evidence", evidence)):
                if dumped is not None:
                    name = f"{TRACES}/{key_of(record)}{suffix}.jsonl"
                    with whole_file(self.path / name) as file:
                        file.write(dumped)
                    record = record.model_copy(update={field: name})
            self._results.append(record)
        return record

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise ConfigurationError(
                f"Another process works on the run {self.path}.",
                hint="Wait until it has ended. Several machines share a benchmark by shards, each with its own run.",
            ) from error

    def _continued(self) -> Manifest:
        """The manifest of the run that is there, brought up to this start; or that of a new one."""
        new = self.manifest
        if not (self.path / MANIFEST_FILE).is_file():
            return new.model_copy(update={"started_at": datetime.now(UTC).isoformat(timespec="seconds")})
        old = read_manifest(self.path)
        different = new.differences(old)
        if new.shard is not None and new.shard != old.shard:
            different.append(f"the shard is {old.shard or 'the whole'}, not {new.shard}")
        if different:
            raise ConfigurationError(
                f"{self.path} holds another run: {'; '.join(different)}.", hint="Name another directory for this one."
            )
        before = {name: old.versions.get(name) for name in new.versions}
        if before != new.versions:
            _LOGGER.warning("%s was begun with %s and goes on with %s", self.path, before, new.versions)
        now = ("shard", "questions", "limit", "expected_questions", "malformed", "missing_videos", "missing_questions")
        return old.model_copy(update={name: getattr(new, name) for name in now})


class _Settling:
    """Finds out which records stay, in one pass over them."""

    def __init__(
        self, wanted: Mapping[str, Sample], samples: set[str], known: Collection[str] | None, retry_errors: bool
    ) -> None:
        self.wanted = wanted
        self.samples = samples
        self._known = known
        self.changed = False
        self.stale = 0
        self._retry_errors = retry_errors
        self._seen: set[str] = set()

    def is_stale(self, record: Record) -> bool:
        """Whether a question that is wanted read otherwise when this was its answer, or the question is gone."""
        key = record.sample.key
        gone = self._known is not None and key not in self._known
        return gone or (key in self.samples and key_of(record) not in self.wanted)

    def _is_asked_again(self, record: Record) -> bool:
        return record.error is not None and (self._retry_errors or is_passing(record))

    def kept(self, records: Iterator[Record]) -> Iterator[Record]:
        """The records that stay, with the present truth."""
        for record in records:
            key = key_of(record)
            sample = self.wanted.get(key)
            again = sample is not None and self._is_asked_again(record)
            stale = self.is_stale(record)
            self.stale += stale
            if stale or again or key in self._seen:
                self.changed = True
                continue
            self._seen.add(key)
            if sample is not None and sample != record.sample:
                self.changed = True
                record = record.model_copy(update={"sample": sample})
            yield record


def _results(directory: Path) -> JsonLines[Record]:
    return JsonLines(directory / RESULTS_FILE, Record)


def _check_run(directory: Path) -> None:
    if not (directory / MANIFEST_FILE).is_file():
        raise InputError(
            f"{directory} is no run: it has no {MANIFEST_FILE}.",
            hint="Name one that `videobrain eval` wrote.",
        )


def _check_place(directory: Path) -> None:
    """Fail where a directory holds something else than a run."""
    if not directory.exists() or (directory / MANIFEST_FILE).is_file():
        return
    if not directory.is_dir():
        raise ConfigurationError(f"{directory} is no directory.", hint="Name another one.")
    # A start that was killed early leaves these.
    others = [path.name for path in directory.iterdir() if path.name not in (_LOCK, TRACES) and path.suffix != ASIDE]
    if others:
        raise ConfigurationError(
            f"{directory} holds {others[0]} and no run.", hint="Name an empty directory, or one that does not exist."
        )


@contextmanager
def _stopped_where_it_cannot_be_written(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EvaluationStoppedError(
            f"The run {directory} cannot be written to: {error.strerror or error}.",
            hint="Make room or mend its permissions; the same command then goes on. Nothing that was finished is lost.",
        ) from error
