"""Which frames of a range a semantic search looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from videobrain.settings import Settings
from videobrain.video.sampling import evenly_spaced

if TYPE_CHECKING:
    from videobrain.video.table import FrameTable

FEWEST = 16
"""A range with fewer grid frames than this is sampled evenly instead, so that short ranges are searched closely."""
_TOLERANCE_SECONDS = 1e-6


def candidate_frames(table: FrameTable, start_frame: int, end_frame: int, settings: Settings) -> list[int]:
    """Frames of ``[start_frame, end_frame)`` that a search compares with its query; sorted, without duplicates.

    The grid holds the frame shown at each k / `settings.index_fps` seconds from the container's start. Where a range
    has more than `settings.index_max_frames` of them, only every second (fourth, eighth, …) k of the same grid is used,
    so that ranges share their frames. The result depends on nothing but the arguments, above all not on what is
    embedded already.

    With ``settings.candidates == "paper"``: 128 evenly spaced frames, 256 where the range exceeds 20,000 frames
    (arXiv 2602.04094, public code).
    """
    start_frame, end_frame = max(0, start_frame), min(end_frame, len(table))
    if start_frame >= end_frame:
        return []
    if settings.candidates == "paper":
        return evenly_spaced(start_frame, end_frame, 256 if end_frame - start_frame > 20_000 else 128)
    steps, frames = _grid(table, start_frame, end_frame, settings.index_fps)
    frames_here = np.unique(frames)
    if len(frames_here) < FEWEST:
        return evenly_spaced(start_frame, end_frame, FEWEST)
    stride = 1
    while len(frames_here) > settings.index_max_frames:
        stride *= 2
        frames_here = np.unique(frames[steps % stride == 0])
    return [int(frame) for frame in frames_here]


def dense_frames(table: FrameTable, settings: Settings) -> list[int]:
    """Every frame that searches of long ranges may look at: the whole grid, whatever its size."""
    if settings.candidates == "paper":
        return candidate_frames(table, 0, len(table), settings)
    _, frames = _grid(table, 0, len(table), settings.index_fps)
    if len(np.unique(frames)) < FEWEST:
        return evenly_spaced(0, len(table), FEWEST)
    return [int(frame) for frame in np.unique(frames)]


def _grid(
    table: FrameTable, start_frame: int, end_frame: int, fps: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers k of the grid points at which a frame of the range is shown, and those frames."""
    times = table.timestamps_seconds
    first = max(0, int(np.floor(times[start_frame] * fps)))
    end_time = times[end_frame] if end_frame < len(times) else table.duration_seconds
    steps = np.arange(first, int(np.ceil(end_time * fps)) + 1, dtype=np.int64)
    # Before the first frame and after the end of the last one nothing is shown.
    shown = (steps / fps >= times[0] - _TOLERANCE_SECONDS) & (steps / fps < table.duration_seconds - _TOLERANCE_SECONDS)
    steps = steps[shown]
    frames = np.searchsorted(times, steps / fps + _TOLERANCE_SECONDS, side="right").astype(np.int64) - 1
    inside = (frames >= start_frame) & (frames < end_frame)
    return steps[inside], frames[inside]
