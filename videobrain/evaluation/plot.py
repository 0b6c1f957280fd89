"""Accuracy against frames: what the runs of a comparison reach, and how many frames they look at for it."""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path

from videobrain.errors import MissingDependencyError
from videobrain.evaluation.comparison import Comparison
from videobrain.files import whole_file

INK, SOFT, LINE = "#1d1b19", "#645f58", "#e4e1dc"
RUNS = ("#2159c4", "#b84a00", "#0f7569", "#7a3fc0", "#b0236f", "#3f7413", "#7a5a00", "#6b6459")
"""Colours of the runs, which are those of the report's pages; further runs take them again with another mark."""
MARKS = "oDs^vPX"
_STYLE = {
    "svg.fonttype": "none",  # words stay words: small, and in the reader's font
    "svg.hashsalt": "videobrain",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
}
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line"} | {
    colour: f"--c{number}" for number, colour in zip((1, 2, 3, 4, 5, 6, 7, 0), RUNS, strict=True)
}


def accuracy_against_frames(comparison: Comparison) -> str:
    """A point for each run, as SVG: its mean number of frames, and its accuracy with the 95 % interval as a bar.

    The same comparison gives the same text. A run without an accuracy has no point.

    Raises:
        MissingDependencyError: matplotlib is missing, which the extra ``eval`` brings.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib is not installed, which draws the plot.", extra="eval") from error

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the reader's font has it
        runs = [(number, run) for number, run in enumerate(comparison.runs) if run.accuracy.accuracy is not None]
        figure = Figure(figsize=(7.2, 3.4 + 0.22 * len(runs)), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        for number, run in runs:
            value, low, high = (100 * share for share in run.accuracy.accuracy or (0.0, 0.0, 0.0))
            axes.errorbar(
                run.accuracy.efficiency.frames,
                value,
                yerr=[[max(value - low, 0)], [max(high - value, 0)]],
                fmt=MARKS[number // len(RUNS) % len(MARKS)],
                color=RUNS[number % len(RUNS)],
                markersize=7,
                capsize=4,
                elinewidth=1.5,
                label=f"{number + 1}. {run.name}",
            )
        most = max((run.accuracy.efficiency.frames for _, run in runs), default=0)
        axes.set_xlim(-0.04 * (most or 1), 1.06 * (most or 1))
        axes.set_ylim(0, 100)
        axes.set_xlabel("frames per question", color=SOFT)
        axes.set_ylabel("accuracy in %, with 95 % intervals", color=SOFT)
        axes.grid(color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(color=LINE, labelcolor=SOFT)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(SOFT)
        if runs:
            legend = figure.legend(loc="outside lower left", frameon=False, labelcolor=INK)
            for text in legend.get_texts():
                text.set_parse_math(False)  # a run may have a dollar sign in its name
        sink = io.StringIO()
        figure.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()


def save_plot(svg: str, path: str | os.PathLike[str]) -> Path:
    """Write a plot to a file, whole or not at all; missing directories are made. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(svg.encode("utf-8", "replace"))
    return path


def inline(svg: str) -> str:
    """The plot as it stands within a page: without a head of its own, in the colours of the page, light or dark."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style\b.*?</style>|<metadata\b.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg
