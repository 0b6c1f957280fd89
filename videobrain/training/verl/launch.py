"""A command that trains: run in a process of its own, watched, logged, and ended with us."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from videobrain.errors import TrainingFailedError
from videobrain.models.server import ServerProcess

_POLL_SECONDS = 0.2
_TAIL_BYTES = 2**17
_STEP = re.compile(r"(?<![\w.])step:(\d+) - (.+)$")
_METRIC = re.compile(r"([\w/()@.-]+):(?:np\.\w+\()?(-?(?:[\d.]+(?:e[+-]?\d+)?|inf|nan))\)?")
_CAUSE = re.compile(r"^(?:\(.*?\)\s*|\[.*?\]:?\s*)*((?:\w+\.)*\w*(?:Error|Exception|Interrupt)(?::.*|))$")
_NO_CAUSE = re.compile(r"ChildFailedError|SignalException")
_OF_A_WORKER = re.compile(r"\([\w.]+ pid=")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to run.

    Attributes:
        command: Program and arguments.
        environment: Variables beside those of this process.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]

    def shell(self) -> str:
        """The same as a line for a shell."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in sorted(self.environment.items())]
        return " ".join([*variables, shlex.join(self.command)])


class StepDone(NamedTuple):
    """An optimiser step that is done, or that was validated."""

    step: int
    metrics: Mapping[str, float]
    """What verl measured, such as ``train/loss`` and ``train/grad_norm``."""


def run_command(
    launch: Launch,
    *,
    name: str,
    logs: Path,
    metrics: Path | None = None,
    on_step: Callable[[StepDone], object] | None = None,
) -> Path:
    """Run a training to its end. Blocking. Nothing of it outlives this process, be it killed.

    Args:
        launch: The command.
        name: What it is called in the names of its logs and in errors, such as ``sft``.
        logs: Directory of its logs.
        metrics: File to which each step's metrics are appended, as JSON lines.
        on_step: Called with each step that is done.

    Returns:
        The log.

    Raises:
        TrainingFailedError: It ended with an error; says after which step, why, and where the log is.
        ConfigurationError: The log cannot be written.
    """
    process = ServerProcess(launch.command, env={**os.environ, **launch.environment}, log_dir=logs, name=name)
    process.start()
    last: int | None = None
    try:
        for line in _lines(process):
            done = step_of(line)
            if done is not None:
                last = done.step
                if metrics is not None:
                    with metrics.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"step": done.step, "metrics": done.metrics}) + "\n")
                if on_step is not None:
                    on_step(done)
    finally:
        process.stop()
    status = process.status()
    if status:
        when = "before its first step was done" if last is None else f"after step {last}"
        raise TrainingFailedError(
            f"The training {name!r} failed {when} (exit status {status}): {_cause(process.log)}",
            hint=f"The log is {process.log}. The same command goes on from the last checkpoint.",
            step=last,
            log=process.log,
        )
    return process.log


def step_of(line: str) -> StepDone | None:
    """The step that a line of verl's console says is done; None for any other line."""
    found = _STEP.search(_ANSI.sub("", line))
    if found is None:
        return None
    return StepDone(int(found[1]), {name: float(value) for name, value in _METRIC.findall(found[2])})


def read_metrics(path: Path) -> list[StepDone]:
    """The steps of a training, each once: a step that was done again after a kill counts as it was the last time."""
    steps: dict[int, dict[str, float]] = {}
    for line in path.read_text("utf-8").splitlines():
        try:
            record = json.loads(line)
            # Training and validation are told one after the other.
            steps.setdefault(record["step"], {}).update(record["metrics"])
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a process that was killed
    return [StepDone(number, steps[number]) for number in sorted(steps)]


def _lines(process: ServerProcess) -> Iterator[str]:
    """The lines of the log as they are written, until the process has ended."""
    rest = ""
    with process.log.open(encoding="utf-8", errors="replace", newline=None) as log:
        while True:
            ended = process.status() is not None
            text = log.read()
            if text:
                *whole, rest = (rest + text).split("\n")
                yield from whole
            elif ended:
                break
            else:
                time.sleep(_POLL_SECONDS)
    if rest:
        yield rest


def _cause(log: Path) -> str:
    """The first line of the last part of the log that names an error: what follows mostly follows from it."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = [_ANSI.sub("", line).strip() for line in file.read().decode(errors="replace").splitlines()]
    told = [(line, match[1]) for line in lines if not _NO_CAUSE.search(line) and (match := _CAUSE.match(line))]
    if not told:
        return next((line for line in reversed(lines) if line), "it wrote nothing")
    # Ray's workers tell of rollouts that failed and were left out, too.
    return next((cause for line, cause in told if not _OF_A_WORKER.match(line)), told[0][1])
