"""Conversations to learn from: a teacher answers with tools, and what is right, valid and not wasteful is kept."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from videobrain.agent import Trace
from videobrain.errors import ConfigurationError, InputError
from videobrain.evaluation.lines import JsonLines
from videobrain.models import ChatModel
from videobrain.result import Usage
from videobrain.settings import Settings
from videobrain.training.rollout import Rollout
from videobrain.training.rounds import Asking, Copy, Rounds, check_samples, copy_of
from videobrain.training.sample import QuestionClass, TrainingSample

TRAJECTORIES_FILE, REJECTED_FILE, RUN = "trajectories.jsonl", "rejected.jsonl", "run"
TAUGHT: tuple[QuestionClass, ...] = ("Adaptive", "Active")
"""Classes whose questions a teacher answers (arXiv 2602.04094): those that the initial frames answer need no lesson."""
_TEMPERATURE = 0.7

Rejection = Literal["failed", "not judged", "wrong", "no answer", "ill-formed", "no tool used", "wasteful"]
"""``failed``: the run ended with an error. ``no answer``: it ended at a limit. ``no tool used``: of an Active question,
which more frames are needed for. ``wasteful``: a call showed nothing new. One that is right and was not the best of its
question is no rejection."""


class Trajectory(BaseModel):
    """A conversation that is kept: a line of ``trajectories.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: TrainingSample
    trace: str
    """Path of its trace, whose frames have their bytes, within the directory of the file."""
    usage: Usage


class Rejected(BaseModel):
    """A conversation that is not kept: a line of ``rejected.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Of the sample."""
    question_class: QuestionClass | None
    reason: Rejection
    detail: str = ""
    trace: str | None


class Trajectories(NamedTuple):
    """What a teacher's conversations came to."""

    kept: tuple[Trajectory, ...]
    rejected: tuple[Rejected, ...]
    surplus: int
    """Good ones that were not the best of their question."""

    def reasons(self) -> dict[str, int]:
        """How often each reason was met, the most frequent first."""
        return dict(Counter(each.reason for each in self.rejected).most_common())

    def markdown(self) -> str:
        """Kept and rejected by class, as a table of Markdown."""
        classes = sorted(
            {each.sample.question_class or "-" for each in self.kept}
            | {each.question_class or "-" for each in self.rejected}
        )
        rows = [("kept", Counter(each.sample.question_class or "-" for each in self.kept))]
        for reason in self.reasons():
            rows.append(
                (reason, Counter(each.question_class or "-" for each in self.rejected if each.reason == reason))
            )
        lines = [f"| | {' | '.join(classes)} |", f"|---|{'---|' * len(classes)}"]
        lines += [f"| {name} | {' | '.join(str(found[each]) for each in classes)} |" for name, found in rows]
        return "\n".join(lines) + f"\n\n{self.surplus} good ones were not the best of their question.\n"


async def write_trajectories(
    samples: Iterable[TrainingSample],
    teacher: str | ChatModel,
    out: str | os.PathLike[str],
    *,
    per_sample: int = 4,
    keep: Literal["best", "all"] = "best",
    asking: Asking | None = None,
) -> Trajectories:
    """Have a teacher answer the Adaptive and Active samples with tools, and keep the conversations worth learning from.

    The run stands in ``run/`` of the directory, where a start goes on with what another one left. Each conversation,
    kept or not, is a trace there, which `videobrain report` opens.

    Args:
        samples: Classified questions; those of other classes are passed over.
        teacher: Model string, or a model, which its maker closes.
        out: Directory of the run, of ``trajectories.jsonl`` (`Trajectory`) and of ``rejected.jsonl`` (`Rejected`).
        per_sample: Conversations about each question. Several need a temperature above 0 and no seed.
        keep: Of the good ones about a question the best (the fewest frames, then replies, then tokens), or all.
        asking: How the questions are asked; by default at temperature 0.7.

    Raises:
        ConfigurationError: An argument cannot be used, or the directory holds another run.
        InputError: No sample is Adaptive or Active, two have one key, one's truth is not known, or one wants a judge.
        EvaluationStoppedError: The run was stopped by too many errors; what is finished is kept.
    """
    asking = asking or Asking(settings=Settings(temperature=_TEMPERATURE))
    settings = asking.settings
    if per_sample < 1:
        raise ConfigurationError(f"Each sample needs at least 1 conversation, not {per_sample}.")
    if per_sample > 1 and (settings.temperature == 0 or settings.seed is not None):
        raise ConfigurationError(
            "Several conversations about one question would all be the same: the temperature is 0, or there is a seed.",
            hint="Set a temperature above 0 and no seed, or ask for one conversation each.",
        )
    taught = [sample for sample in samples if sample.question_class in TAUGHT]
    if not taught:
        raise InputError(
            "No sample is Adaptive or Active.", hint="Classify the samples first (videobrain train classify)."
        )
    found = check_samples(taught, asking.judge)
    place = Path(out)
    async with Rounds(place, asking) as rounds:
        copies = await rounds.run(
            RUN,
            found,
            model=teacher,
            strategy="videobrain",
            copies=lambda sample: [copy_of(sample, number) for number in range(per_sample)],
            keep_frames=True,
        )
    return await anyio.to_thread.run_sync(_select, place, found, copies, keep)


def read_trajectories(path: str | os.PathLike[str]) -> list[Trajectory]:
    """The trajectories of a file; their traces are found beside it.

    Raises:
        InputError: The file is missing, empty or damaged.
    """
    file = Path(path)
    found = list(JsonLines(file, Trajectory).read())
    if not found:
        raise InputError(f"{file} holds no trajectories.", hint="videobrain train trajectories writes them.")
    return found


def _select(
    place: Path, samples: list[TrainingSample], copies: dict[str, list[Copy]], keep: Literal["best", "all"]
) -> Trajectories:
    kept: list[Trajectory] = []
    rejected: list[Rejected] = []
    surplus = 0
    for sample in samples:
        judged = list(_judged(place, sample, copies[sample.key]))
        rejected += [each for each in judged if isinstance(each, Rejected)]
        good = [each for each in judged if isinstance(each, Trajectory)]
        good.sort(key=lambda each: (each.usage.frames, each.usage.turns, each.usage.output_tokens))
        chosen = good[:1] if keep == "best" else good
        surplus += len(good) - len(chosen)
        kept += chosen
    JsonLines(place / TRAJECTORIES_FILE, Trajectory).rewrite(kept)
    JsonLines(place / REJECTED_FILE, Rejected).rewrite(rejected)
    return Trajectories(tuple(kept), tuple(rejected), surplus)


def _judged(place: Path, sample: TrainingSample, copies: list[Copy]) -> Iterator[Trajectory | Rejected]:
    for copy in copies:
        trace = f"{RUN}/{copy.record.trace}" if copy.record.trace else None
        found = _rejection(place, sample, copy, trace)
        if found is None and trace is not None:
            yield Trajectory(sample=sample, trace=trace, usage=copy.record.usage)
        else:
            reason, detail = found or ("failed", "there is no trace")
            yield Rejected(
                key=sample.key, question_class=sample.question_class, reason=reason, detail=detail, trace=trace
            )


class _Why(NamedTuple):
    reason: Rejection
    detail: str = ""


def _rejection(place: Path, sample: TrainingSample, copy: Copy, trace: str | None) -> _Why | None:
    """Why a conversation is not kept; the cheap reasons first, since a trace with its frames is large."""
    record = copy.record
    if record.error is not None or trace is None:
        return _Why("failed", record.error or "there is no trace")
    if record.stop_reason != "answered":
        return _Why("no answer", str(record.stop_reason))
    if copy.right is None:
        return _Why("not judged")
    if not copy.right:
        return _Why("wrong", record.prediction.text if record.prediction else "")
    if sample.question_class == "Active" and not sum(record.usage.tool_calls.values()):
        return _Why("no tool used")
    rollout = Rollout.of(Trace.load(place / trace), sample, accuracy=1.0)
    if not rollout.valid:
        return _Why("ill-formed", "; ".join(rollout.violations))
    idle = [look for look in rollout.looks if look.again and not look.new]
    if idle:
        return _Why("wasteful", f"{idle[0].tool} showed nothing new")
    return None
