"""A question to learn from: a sample of a benchmark with an absolute path and, once it is known, its class."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from pydantic import model_validator

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks import LoadedBenchmark, load_benchmark
from videobrain.evaluation.lines import JsonLines
from videobrain.evaluation.metrics.outcomes import has_truth
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.scoring import scores_itself

QuestionClass = Literal["Direct", "Adaptive", "Active"]
"""``Direct``: the initial frames suffice. ``Adaptive``: they suffice for a better model. ``Active``: more frames are
needed (arXiv 2602.04094)."""
CLASSES: tuple[QuestionClass, ...] = get_args(QuestionClass)
CLASS_SLICE = "class"
"""The slice that holds the class, so that every table of results can be broken down by it."""
_CLASS_OF_WORLD: dict[str, QuestionClass] = {"direct": "Direct", "search": "Active", "dense": "Active"}
"""What the synthetic world's kinds of questions are by construction."""


class TrainingSample(Sample):
    """A question, its truth and its class. Its video is an absolute path, so that any process of a training finds it.

    A file of them is one in the plain format of benchmarks: `videobrain eval plain` takes it too.
    """

    @model_validator(mode="after")
    def _class_is_known(self) -> TrainingSample:
        named = self.slices.get(CLASS_SLICE)
        if named is not None and named not in CLASSES:
            raise ValueError(f"the class is {' or '.join(CLASSES)}, not {named!r}")
        return self

    @property
    def question_class(self) -> QuestionClass | None:
        """Its class; None where it is not classified."""
        return self.slices.get(CLASS_SLICE)  # type: ignore[return-value]  # the validator has seen to it

    @property
    def question_type(self) -> str | None:
        """What kind of question its benchmark says it is."""
        return self.slices.get("type")

    def of_class(self, question_class: QuestionClass | None) -> TrainingSample:
        """The same sample with this class, or with none."""
        slices = {name: value for name, value in self.slices.items() if name != CLASS_SLICE}
        if question_class is not None:
            slices[CLASS_SLICE] = question_class
        return self.model_copy(update={"slices": slices})


def training_samples(benchmark: LoadedBenchmark) -> list[TrainingSample]:
    """The samples of a benchmark whose video is there.

    Those of the synthetic world have their class by construction; others have the one that stands in their slices.

    Raises:
        InputError: A sample has a class that there is not.
    """
    samples = []
    for sample in benchmark.playable:
        subtitles = benchmark.subtitles_path(sample)
        if (named := sample.slices.get(CLASS_SLICE)) not in (None, *CLASSES):
            raise InputError(
                f"The sample {sample.key!r} has the class {named!r}; a class is {', '.join(CLASSES)}.",
                hint=f"Give the slice {CLASS_SLICE!r} another name where it is something else.",
            )
        made = TrainingSample(
            **{
                **dict(sample),
                "video": str(benchmark.video_path(sample).resolve()),
                "subtitles": None if subtitles is None else str(subtitles.resolve()),
            }
        )
        by_construction = _CLASS_OF_WORLD.get(made.question_type or "") if "world" in made.extra else None
        if made.question_class is None and by_construction is not None:
            made = made.of_class(by_construction)
        samples.append(made)
    return samples


def require_scorable(sample: Sample, *, judged: bool, setting: str) -> None:
    """See to it that somebody can say whether an answer is right.

    Args:
        sample: The question.
        judged: Whether there is a judge.
        setting: What names one, for the error.

    Raises:
        InputError: Its truth is not known, or only a judge could say.
    """
    if not has_truth(sample):
        raise InputError(
            f"The truth of the sample {sample.key!r} is not known.", hint="Leave out questions without an answer."
        )
    if sample.task == "open" and not judged and not scores_itself(sample):
        raise InputError(
            f"Only a judge can say whether an answer to {sample.key!r} is right.",
            hint=f"Name one with {setting}, or leave out questions that are answered in words.",
        )


def read_samples(path: str | os.PathLike[str]) -> list[TrainingSample]:
    """The samples of a file in the plain format, such as `write_samples` and `classify` write.

    Raises:
        InputError: The file is missing, a row of it cannot be used, or a video is missing.
    """
    benchmark = load_benchmark("plain", Path(path))
    if benchmark.problems:
        more = f" (and {len(benchmark.problems) - 1} more problems)" if len(benchmark.problems) > 1 else ""
        raise InputError(f"{benchmark.problems[0]}{more}", hint="Mend the file, or leave the row out.")
    return training_samples(benchmark)


def write_samples(path: str | os.PathLike[str], samples: Iterable[TrainingSample]) -> Path:
    """Write samples to a file in the plain format, whole or not at all; returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    JsonLines(path, TrainingSample).rewrite(samples)
    return path
