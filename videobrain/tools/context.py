"""What a tool may see and do."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio.to_thread

from videobrain.index import FrameHit
from videobrain.index.words import WordIndex
from videobrain.tools.spec import ToolRetry
from videobrain.video import EncodedFrame, Frame, FrameSize, PlacedLine, Subtitles, Video
from videobrain.video.frame import resize


class SearchFrames(Protocol):
    """Semantic search over the frames of the video."""

    async def __call__(self, query: str, *, k: int, start_frame: int, end_frame: int | None) -> list[FrameHit]:
        """The `k` frames of the half-open interval most similar to `query`, in time order."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of the run's limits."""

    turns: int
    frames: int
    frames_per_call: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class FrameAccess:
    """Frames of the run's video, decoded and encoded once whatever the number of calls."""

    video: Video
    size: FrameSize
    quality: int

    async def at(self, indices: Sequence[int]) -> list[EncodedFrame]:
        """Frames by index as the model will see them. Those that cannot be decoded are left out."""
        return await self.video.encoded(indices, size=self.size)

    async def pixels(self, indices: Sequence[int]) -> list[Frame]:
        """Decoded frames in their full size, for tools that read or crop them."""
        return await self.video.frames(indices)

    def encode(self, frame: Frame) -> EncodedFrame:
        """Make a frame of the tool's own (a crop, a drawing) one that the model can be shown."""
        fitted = Frame(frame.frame_index, frame.timestamp_seconds, resize(frame.pixels, self.size))
        return EncodedFrame.encode(fitted, quality=self.quality)


@dataclass(slots=True)
class SubtitleAccess:
    """The lines of the run's subtitles. Their words are indexed once, when they are first searched."""

    subtitles: Subtitles
    _index: WordIndex | None = field(default=None, init=False, repr=False)

    @property
    def lines(self) -> tuple[PlacedLine, ...]:
        """All lines, in order of time; a line's number is its place here."""
        return self.subtitles.lines

    async def search(self, query: str, *, k: int, start_frame: int = 0, end_frame: int | None = None) -> list[int]:
        """Numbers of the `k` lines that begin in the half-open range and best match some words, the best one first."""
        return await anyio.to_thread.run_sync(self._search, query, k, start_frame, end_frame)

    def _search(self, query: str, k: int, start_frame: int, end_frame: int | None) -> list[int]:
        if self._index is None:
            self._index = WordIndex(line.text for line in self.lines)
        first = bisect_left(self.lines, start_frame, key=lambda line: line.start_frame)
        after = None if end_frame is None else bisect_left(self.lines, end_frame, key=lambda line: line.start_frame)
        return self._index.search(query, k=k, start=first, end=after)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Given to a tool as its context argument; hidden from the model.

    Attributes:
        video: The open video: `info` (facts), `table` (frame times), `missing` (what cannot be decoded).
        frames: Pixels and JPEGs by frame index.
        search: Semantic search; raises `ToolRetry` for an empty query or range, and `ToolError` where no frame encoder
            can be had.
        remaining: What is left of the limits.
        emit: Tells the run's listeners about progress, in words.
        subtitles: The lines of the subtitles and a search in them; None where the question has none.
    """

    video: Video
    frames: FrameAccess
    search: SearchFrames
    remaining: Remaining
    emit: Callable[[str], None]
    subtitles: SubtitleAccess | None = None

    def clamp(self, start_frame: int, end_frame: int) -> tuple[int, int, str]:
        """Cut a half-open interval of frames to the video.

        Returns:
            Start, end, and a sentence for the model where something was cut (else empty).

        Raises:
            ToolRetry: Nothing of the interval lies in the video.
        """
        total = len(self.video.table)
        start, end = max(start_frame, 0), min(end_frame, total)
        if start >= end:
            raise ToolRetry(
                f"The range {start_frame} to {end_frame} lies outside the video, whose frames are 0 to {total - 1}."
            )
        if (start, end) == (start_frame, end_frame):
            return start, end, ""
        return start, end, f"The video has {total} frames; the range was cut to {start} to {end}."
