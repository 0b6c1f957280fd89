"""Runs of `videobrain eval` about the synthetic world that are killed again and again, and what is left of them.

The test in continuous integration and ``python -m tests.benchmarks.kills`` share it. Imports nothing of the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from videobrain.errors import TraceError
from videobrain.evaluation.metrics import outcome
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import RESULTS_FILE, TRACES, read_results
from videobrain.evaluation.scoring import own_score
from videobrain.testing import Fault
from videobrain.world import write_dataset

VIDEO_SECONDS = 120
PER_VIDEO = 6
AT_ONCE = 4
MOST_REQUESTS = 12
"""For one question; the limits allow fewer."""
TIMES = frozenset({"seconds", "at_seconds", "started_at"})
"""All that may differ between two runs of a model that always says the same: how long things took, and when. Beside
these only the order of the lines differs, which is that in which questions were finished."""
_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.002


class Answering:
    """What a `FakeServer` says: always the same to the same conversation, and of every kind.

    By a digest of the question it answers at once or after a look, is corrected first, does not answer at all, or
    fails.

    Args:
        seconds: How long a reply takes.
    """

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> str | Fault:
        with self._lock:
            self.asked += 1
        time.sleep(self.seconds)
        question = "".join(_texts(body["messages"][:2]))
        turn = sum(message["role"] == "assistant" for message in body["messages"])
        number = int(hashlib.sha256(question.encode()).hexdigest(), 16)
        kind, number = number % 10, number // 10
        if kind == 0:
            return Fault.status(400, "this question is refused")
        if kind == 1:
            return "Neither a call nor an answer."
        if kind == 2 and turn == 0:
            return "<thinking>Now the answer.</thinking>"
        if kind in (3, 4, 5) and turn < kind - 2:
            start = number % 500 + 100 * turn
            call = {"name": "uniform_sample", "arguments": {"start_frame": start, "end_frame": start + 200}}
            return f"<thinking>Look closer.</thinking><tool_call>{json.dumps(call)}</tool_call>"
        answer = "ABCD"[number % 4] if "the letter of one option" in question else ("red", "blue", "2")[number % 3]
        return f"<thinking>That is enough.</thinking><answer>{answer}</answer>"


def _texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = [part for message in messages for part in _parts(message["content"])]
    return [part.get("text", "") for part in parts]


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"text": content}] if isinstance(content, str) else list(content or ())


def write_world(directory: Path, questions: int, *, seed: int = 0) -> Path:
    """Write so many questions about videos of two minutes; returns their file."""
    path = write_dataset(directory, "test", -(-questions // PER_VIDEO), seed=seed, duration_seconds=VIDEO_SECONDS)
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:questions]), "utf-8")
    return path


class Kill(NamedTuple):
    """What a kill struck.

    Attributes:
        new: Lines that the killed start had written.
        finished: Lines that the run had.
        whole: The bytes of these lines.
    """

    new: int
    finished: int
    whole: bytes


class Ended(NamedTuple):
    """A run that came to its end.

    Attributes:
        scores: What ``--json`` printed.
        first_seconds: From its start to its first line.
        line_seconds: From one line to the next, in the mean.
    """

    scores: dict[str, Any]
    first_seconds: float
    line_seconds: float


@dataclass(frozen=True)
class Trial:
    """A benchmark and the command that runs it.

    Attributes:
        questions: The file of questions.
        arguments: Of ``videobrain eval`` beside the questions and the directory: the model and so on.
        environment: Variables of the command.
        seconds: That a start may take.
    """

    questions: Path
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    seconds: float = 600.0

    @property
    def keys(self) -> list[str]:
        """Keys of all questions."""
        return [json.loads(line)["key"] for line in self.questions.read_text("utf-8").splitlines()]

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """Start the command in a process group of its own. What it prints goes to files beside the run."""
        program = "from videobrain.cli import main; main()"
        command = ["eval", "world", "--data", str(self.questions), "--out", str(out), "--json", "--quiet"]
        with out.with_suffix(".out").open("wb") as printed, out.with_suffix(".err").open("wb") as told:
            return subprocess.Popen(
                [sys.executable, "-c", program, *command, *self.arguments],
                env={**self.environment, "PYTHONPATH": str(_ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=told,
                start_new_session=True,
            )

    def end(self, out: Path) -> Ended:
        """Let a run come to its end."""
        began = time.monotonic()
        lines = Lines(out)
        first: float | None = None
        with self.start(out) as process:
            try:
                while process.poll() is None:
                    if first is None and lines.new():
                        first = time.monotonic()
                    self._hurry(began, process)
            finally:
                _kill_group(process)
        told = out.with_suffix(".err").read_text("utf-8")
        if process.returncode != 0 or "Traceback" in told:
            raise RuntimeError(f"the run ended with status {process.returncode}: {told}")
        first, now = first or time.monotonic(), time.monotonic()
        scores = json.loads(out.with_suffix(".out").read_text("utf-8"))
        return Ended(scores, first - began, (now - first) / max(lines.new(), 1))

    def kill(self, out: Path, *, new: int, delay_seconds: float) -> Kill | None:
        """Start the run and kill it, with all processes of its group.

        Args:
            out: Directory of the run.
            new: After so many new lines.
            delay_seconds: And so much time.

        Returns:
            What was struck; None where the run was faster and came to its end.
        """
        began = time.monotonic()
        lines = Lines(out)
        with self.start(out) as process:
            try:
                while process.poll() is None and lines.new() < new:
                    self._hurry(began, process)
                time.sleep(delay_seconds)
            finally:
                _kill_group(process)
        if process.returncode >= 0:
            if process.returncode:
                raise RuntimeError(f"the run failed: {out.with_suffix('.err').read_text('utf-8')}")
            return None
        whole = whole_lines(out)
        return Kill(lines.new(), whole.count(b"\n"), whole)

    def _hurry(self, began: float, process: subprocess.Popen[bytes]) -> None:
        if time.monotonic() - began > self.seconds:
            raise TimeoutError(f"process {process.pid} has not come to its end after {self.seconds:.0f} s")
        time.sleep(_POLL_SECONDS)


def kill_again_and_again(
    trial: Trial, out: Path, kills: int, *, like: Ended, rng: random.Random, at_once: int = AT_ONCE
) -> list[Kill]:
    """Kill a run at random moments that cover all of it; it is left unfinished.

    A moment is a number of new lines and a time after it, so that nothing the run does is spared. With no new line it
    lies within the time that a start takes to its first one.

    Args:
        trial: The command.
        out: Directory of the run.
        kills: How many.
        like: An undisturbed run, which tells how long things take.
        rng: What the moments come from.
        at_once: Questions that the command asks at once: those that are under way finish in a burst.
    """
    struck: list[Kill] = []
    questions = len(trial.keys)
    for number in range(kills):
        left = questions - (struck[-1].finished if struck else 0)
        # In the mean the kills part the run evenly, and the last part is left for the start that ends it.
        new = rng.randint(0, max(0, min(2 * left // (kills - number + 1), left - 2 * at_once)))
        delay = rng.uniform(0, like.line_seconds if new else like.first_seconds)
        found = trial.kill(out, new=new, delay_seconds=delay)
        if found is None:
            break
        struck.append(found)
    return struck


def between(kills: Sequence[Kill], questions: int) -> int:
    """How many kills struck a start that had finished a question and had another one to finish."""
    return sum(kill.new > 0 and kill.finished < questions for kill in kills)


def losses(trial: Trial, out: Path, kills: Sequence[Kill]) -> list[str]:
    """What is wrong with a run that was killed and has come to its end, in words; empty where nothing is."""
    found: list[str] = []
    whole = (out / RESULTS_FILE).read_bytes()
    for number, kill in enumerate(kills, 1):
        if not whole.startswith(kill.whole):
            found.append(f"what was finished at kill {number} does not stand there as it did")
    records: list[Record] = []
    for number, line in enumerate(whole.splitlines(keepends=True), 1):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            found.append(f"line {number} of the results is damaged: {error}")
    times = Counter(record.sample.key for record in records)
    wanted = set(trial.keys)
    found += [f"{key} is lost" for key in sorted(wanted - times.keys())]
    found += [f"{key} stands there {count} times" for key, count in times.items() if count > 1]
    found += [f"{key} was not asked for" for key in sorted(times.keys() - wanted)]
    for record in records:
        try:
            trace = trace_of(out, record)
        except TraceError as error:
            found.append(f"the trace of {record.sample.key} does not open: {error}")
        else:
            if trace[0].get("question") != record.sample.question:
                found.append(f"the trace of {record.sample.key} is that of another question")
    named = {record.trace for record in records}
    kept = {f"{TRACES}/{path.name}" for path in (out / TRACES).iterdir()}
    return found + [f"{name} belongs to no question" for name in sorted(kept - named)]


def differences(out: Path, other: Path) -> list[str]:
    """In what two runs differ beside `TIMES`: records by key, and their traces event by event; in words."""
    ours, theirs = _by_key(out), _by_key(other)
    found = [f"{key} is in one run only" for key in sorted(ours.keys() ^ theirs.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        if timeless(ours[key].model_dump(mode="json")) != timeless(theirs[key].model_dump(mode="json")):
            found.append(f"the records of {key} differ: {ours[key]} and {theirs[key]}")
        elif timeless(trace_of(out, ours[key])) != timeless(trace_of(other, theirs[key])):
            found.append(f"the traces of {key} differ")
    return found


class Agreement(NamedTuple):
    """How far two runs agree.

    Attributes:
        questions: Those that both have.
        outcomes: How many of them came out the same: right, wrong, unanswered or failed.
        answers: How many were answered in the same words.
        errors: How many failed in at least one of the runs.
    """

    questions: int
    outcomes: int
    answers: int
    errors: int


def agreement(out: Path, other: Path) -> Agreement:
    """Compare the outcomes of two runs, question by question."""
    ours, theirs = _by_key(out), _by_key(other)
    both = [(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()]
    return Agreement(
        len(both),
        sum(_outcome(one) == _outcome(two) for one, two in both),
        sum(one.prediction == two.prediction for one, two in both),
        sum(one.error is not None or two.error is not None for one, two in both),
    )


def timeless(value: Any) -> Any:
    """A value of JSON without `TIMES`."""
    if isinstance(value, dict):
        return {name: timeless(part) for name, part in value.items() if name not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def trace_of(out: Path, record: Record) -> list[Any]:
    """The events of a record's trace as JSON.

    Raises:
        TraceError: It is missing or damaged.
    """
    from videobrain.agent import Trace

    if record.trace is None:
        raise TraceError("it has none")
    return [event.model_dump(mode="json") for event in Trace.load(out / record.trace).events]


def whole_lines(out: Path) -> bytes:
    """The results of a run without a torn last line."""
    path = out / RESULTS_FILE
    found = path.read_bytes() if path.exists() else b""
    return found[: found.rfind(b"\n") + 1]


class Lines:
    """Counts the lines that join a run's results."""

    def __init__(self, out: Path) -> None:
        self._path = out / RESULTS_FILE
        self._read = len(whole_lines(out))
        self._new = 0

    def new(self) -> int:
        """So many by now. Reads only what joined since the last call."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                joined = file.read()
            whole = joined.rfind(b"\n") + 1
            self._read += whole
            self._new += joined.count(b"\n")
        return self._new


def _by_key(out: Path) -> dict[str, Record]:
    return {record.sample.key: record for record in read_results(out)}


def _outcome(record: Record) -> str | None:
    score = own_score(record)
    return outcome(record, verdicts={} if score is None else {record.sample.key: score})


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
