"""Loss and accuracy of a training, from the logs of its stages, and their picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple


class Curve(NamedTuple):
    """What the log of one stage says."""

    name: str
    steps: list[int]
    loss: list[float]
    accuracy: dict[str, list[float]]
    """Shares by kind, as long as `steps` each; where a line of the log lacks a kind, not a number."""
    seconds: float
    """Time of training, over all sessions that it took."""


def read_curve(name: str, log: Path) -> Curve:
    """The curve in a log, whether `train_encoder` or `train_stage` wrote it."""
    lines = [line for line in map(json.loads, log.read_text("utf-8").splitlines()) if "loss" in line]
    shares = [line["accuracy"] if "accuracy" in line else _recall(line) for line in lines]
    seconds = [float(line["seconds"]) for line in lines]
    return Curve(
        name,
        [int(line["step"]) for line in lines],
        [float(line["loss"]) for line in lines],
        {kind: [share.get(kind, float("nan")) for share in shares] for kind in {kind: 0 for s in shares for kind in s}},
        # A resumed stage may count from zero again.
        sum(before for before, after in pairwise([*seconds, 0.0]) if after < before),
    )


def draw_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write a PNG with a column for each stage: its loss above its accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(curves), 6), layout="constrained")
    for curve, (above, below) in zip(curves, figure.subplots(2, len(curves), squeeze=False).T, strict=True):
        above.plot(curve.steps, curve.loss)
        above.set_title(curve.name)
        above.set_ylabel("loss")
        above.set_ylim(bottom=0)
        for kind, shares in curve.accuracy.items():
            below.plot(curve.steps, shares, label=kind)
        below.set_ylabel("accuracy")
        below.set_xlabel("steps")
        below.set_ylim(0, 1)
        below.legend(loc="lower right", fontsize="small")
        for axes in (above, below):
            axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def _recall(line: dict[str, float]) -> dict[str, float]:
    return {"recall": line["recall"], "recall of held-out pairs": line["held_out"]}
