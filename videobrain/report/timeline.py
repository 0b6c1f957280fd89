"""Where in the video a run looked: a time axis, and a row for the first frames, each call and the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from videobrain.report.words import frame_range, second_range
from videobrain.video import EncodedFrame

_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Tick:
    """A frame on the time line.

    Attributes:
        x: Place in percent of the width.
        frame: Number of the frame on the page.
        title: Its time and index, in words.
        shown: The model was shown this frame by this step.
    """

    x: float
    frame: int
    title: str
    shown: bool = True


@dataclass(frozen=True, slots=True)
class Bar:
    """A range on the time line, in percent of the width."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Row:
    """One step of a run on the time line.

    Attributes:
        label: Name of the step.
        detail: A few words more.
        color: Number of the colour.
        anchor: Id of the step on the page.
        summary: The row in words, for readers who do not see it.
        bars: The ranges that were looked at.
        ticks: The frames that were seen.
        failed: The step gave nothing.
        turn: The turn that took the step; None before the first.
    """

    label: str
    detail: str
    color: int
    anchor: str
    summary: str
    bars: tuple[Bar, ...] = ()
    ticks: tuple[Tick, ...] = ()
    failed: bool = False
    turn: int | None = None


class TimeAxis:
    """Places times and frame numbers of a video on a line from 0 to 100.

    Frame numbers are placed between the frames whose times are known, since frame rates vary.
    """

    def __init__(self, duration_seconds: float, frame_count: int, known: Iterable[EncodedFrame] = ()) -> None:
        self.duration = duration_seconds
        self.frame_count = frame_count
        points = {frame.frame_index: frame.timestamp_seconds for frame in known}
        if frame_count and duration_seconds:
            points.setdefault(0, 0.0)
            points[frame_count] = duration_seconds
        self._points = sorted(points.items())

    @property
    def usable(self) -> bool:
        """There is a length to draw."""
        return self.duration > 0

    def x(self, seconds: float) -> float:
        """Place of a time."""
        return round(100 * min(max(seconds / self.duration, 0.0), 1.0), 3) if self.usable else 0.0

    def seconds_at(self, frame_index: int) -> float:
        """Time of a frame: exact where the frame was seen."""
        if not self._points:
            return 0.0
        indices, times = zip(*self._points, strict=True)
        # Numbers from a model can be of any size; the line ends at the video's end anyway.
        return float(np.interp(min(max(frame_index, -1), self.frame_count + 1), indices, times))

    def range_of(self, arguments: Mapping[str, Any]) -> tuple[float, float] | None:
        """The range of time that a call looks at, in seconds, if it names one."""
        if frames := frame_range(arguments):
            start, end = self.seconds_at(frames[0]), self.seconds_at(frames[1])
        elif seconds := second_range(arguments):
            start, end = (min(max(value, 0.0), self.duration) for value in seconds)
        else:
            return None
        return (start, end) if end >= start else (end, start)

    def bar(self, start_seconds: float, end_seconds: float) -> Bar:
        """A range as a bar that can be seen."""
        x = self.x(start_seconds)
        return Bar(x, round(max(self.x(end_seconds) - x, 0.15), 3))

    def marks(self, most: int = 9) -> list[float]:
        """Round times to write on the axis, at most `most` of them."""
        if not self.usable:
            return []
        step = next((step for step in _STEPS if self.duration / step <= most - 1), self.duration)
        # The last mark would run into the label of the end.
        marks = [round(step * i, 1) for i in range(int(self.duration / step) + 1)]
        return [mark for mark in marks if mark <= self.duration * 0.94]


def film(ticks: Sequence[Tick], most: int = 16) -> tuple[Tick, ...]:
    """At most `most` of the ticks, evenly chosen, for the strip of pictures above the time line."""
    if len(ticks) <= most:
        return tuple(ticks)
    return tuple(ticks[i * (len(ticks) - 1) // (most - 1)] for i in range(most))
