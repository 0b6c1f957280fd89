"""Subtitles of a video as values: lines with their times and the frames they are shown with. Reads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from videobrain.text import Text
from videobrain.video.table import FrameTable

_ROLLING_SECONDS = 0.1
"""A line that repeats the one before it rolls on, where it begins no later than this after its end."""
_TOLERANCE_SECONDS = 1e-6


class SubtitleLine(NamedTuple):
    """Something that is said, in seconds of the video."""

    start_seconds: float
    end_seconds: float
    text: str


class PlacedLine(NamedTuple):
    """A line of a video's subtitles, with the frames that are shown while it stands (half-open)."""

    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float
    text: Text


class Subtitles(BaseModel):
    """All lines of a video, in order of time. Pure data: it stands in the trace.

    Lines are known by their number, which counts from 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Text
    """The file's path as given, or which stream of the video."""
    lines: tuple[PlacedLine, ...]
    warnings: tuple[Text, ...] = ()
    """What was wrong with them, for the reader of the answer."""

    def __len__(self) -> int:
        return len(self.lines)

    def __repr__(self) -> str:
        return f"Subtitles({self.source!r}, {len(self)} lines)"

    def at(self, frame_index: int) -> list[int]:
        """Numbers of the lines that stand while a frame is shown, in order of time."""
        starts, ends = self._bounds
        return [int(n) for n in np.flatnonzero((starts <= frame_index) & (ends > frame_index))]

    @cached_property
    def _bounds(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        frames = np.array([(line.start_frame, line.end_frame) for line in self.lines], np.int64).reshape(-1, 2)
        return frames[:, 0].copy(), frames[:, 1].copy()

    @cached_property
    def text_bytes(self) -> int:
        """Length of all texts in UTF-8."""
        return sum(len(line.text.encode()) for line in self.lines)


def within(
    lines: Iterable[SubtitleLine], *, start_seconds: float = 0.0, duration_seconds: float | None = None
) -> list[SubtitleLine]:
    """The lines that lie in a video, in its time, in the order given.

    Args:
        lines: Lines in the time of what they were written for.
        start_seconds: Time of the lines at which the video begins.
        duration_seconds: Length of the video; lines outside it are left out.
    """
    found = []
    for start, end, text in lines:
        begins, ends = start - start_seconds, end - start_seconds
        if ends > 0 and (duration_seconds is None or begins < duration_seconds):
            found.append(SubtitleLine(max(begins, 0.0), max(ends, begins, 0.0), text))
    return found


def place(lines: Sequence[SubtitleLine], table: FrameTable) -> tuple[PlacedLine, ...]:
    """Order the lines of a video by time, let those that roll stand once, and find their frames.

    Args:
        lines: In the video's time; the rows of a line's text are apart by line breaks, which become blanks.
        table: The video's frames.
    """
    ordered = _unrolled(sorted(lines, key=lambda line: line[:2]))
    times = table.timestamps_seconds
    starts = np.array([line.start_seconds for line in ordered], np.float64)
    ends = np.array([line.end_seconds for line in ordered], np.float64)
    # The frame that is shown when a line begins is the last one before, so the first line may begin before any frame.
    first = np.maximum(np.searchsorted(times, starts + _TOLERANCE_SECONDS, side="right") - 1, 0)
    after = np.maximum(np.searchsorted(times, ends - _TOLERANCE_SECONDS, side="left"), first + 1)
    return tuple(
        PlacedLine(int(begin), int(end), line.start_seconds, line.end_seconds, line.text)
        for begin, end, line in zip(first, after, ordered, strict=True)
    )


def _unrolled(lines: Iterable[SubtitleLine]) -> list[SubtitleLine]:
    """Each row of rolling captions once, as long as it stands: they repeat the row before above each new one."""
    found: list[SubtitleLine] = []
    above: list[str] = []
    until = float("-inf")
    for start, end, text in lines:
        rows = text.split("\n")
        repeated = 0
        if start <= until + _ROLLING_SECONDS:
            longest = min(len(rows), len(above))
            repeated = next((k for k in range(longest, 0, -1) if above[-k:] == rows[:k]), 0)
        fresh = rows[repeated:]
        if fresh:
            found.append(SubtitleLine(start, end, " ".join(fresh)))
        elif end > found[-1].end_seconds:
            found[-1] = found[-1]._replace(end_seconds=end)
        above, until = rows, end
    return found
