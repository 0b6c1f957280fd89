"""Records for tests of what is computed from them."""

from __future__ import annotations

from typing import Any

from videobrain.evaluation.record import Prediction, Record
from videobrain.evaluation.sample import Sample
from videobrain.result import Usage

COLOURS = ("red", "green", "blue", "white")


def answered(
    sample: Sample,
    *,
    error: str | None = None,
    seen_seconds: Any = (),
    usage: Usage | None = None,
    **said: Any,
) -> Record:
    """A finished question; what was said is a `Prediction`'s fields."""
    return Record(
        sample=sample,
        benchmark="made",
        model="m",
        strategy="s",
        settings="0",
        prediction=None if error else Prediction(**said),
        error=error,
        seen_seconds=seen_seconds,
        usage=usage or Usage(),
    )


def record(key: str = "q", *, truth: Any = (), **fields: Any) -> Record:
    """A finished question: by default a choice among four colours, of which B is true, that nothing was answered to.

    ``truth`` are the true spans, ``spans`` the predicted ones; the other fields are those of `Sample` and `answered`.
    """
    about = {name: fields.pop(name) for name in tuple(fields) if name in Sample.model_fields and name != "spans"}
    about = {"video": f"{key}.mp4", "question": "Which?", "task": "choice", "spans": truth, **about}
    if about["task"] == "choice":
        about = {"options": COLOURS, "correct_option": 1, **about}
    return answered(Sample(key=key, **about), **fields)
