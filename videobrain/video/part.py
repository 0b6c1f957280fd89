"""A part of a video, as a video of its own."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from videobrain.errors import NoFramesError
from videobrain.result import SubtitleSource
from videobrain.video.frame import EncodedFrame, Frame, FrameSize
from videobrain.video.source import MediaSource
from videobrain.video.subtitle_reading import check_subtitle_source
from videobrain.video.subtitles import Subtitles
from videobrain.video.table import FrameTable, MissingFrames
from videobrain.video.video import Video


class VideoPart(Video):
    """Frames of another video within a range of time, counted and timed from the start of the range.

    They are decoded and kept by the whole video, so that several parts of it and the whole share them.

    Args:
        whole: The whole video.
        start_seconds: Start of the range.
        end_seconds: End of the range (half-open).

    Raises:
        NoFramesError: The whole video has no frame in the range.
    """

    def __init__(self, whole: Video, start_seconds: float, end_seconds: float) -> None:
        taken = whole.table.indices_between(start_seconds, end_seconds)
        if not taken:
            raise NoFramesError(
                f"{whole.info.source} has no frame from {start_seconds:g} to {end_seconds:g} s; it ends at "
                f"{whole.table.duration_seconds:g} s.",
                source=whole.info.source,
            )
        self._whole = whole
        self._first = taken.start
        self._start_seconds = start_seconds
        self._undecodable = set()
        part = slice(taken.start, taken.stop)
        self.table = FrameTable(
            # A time may lie before the start by what a search for it tolerates.
            timestamps_seconds=np.maximum(whole.table.timestamps_seconds[part] - start_seconds, 0.0),
            pts=whole.table.pts[part].copy(),
            keyframes=whole.table.keyframes[part].copy(),
            duration_seconds=min(end_seconds, whole.table.duration_seconds) - start_seconds,
            time_base=whole.table.time_base,
            ordinal=whole.table.ordinal,
        )
        self.key = sha256(f"{whole.key} {start_seconds!r} {end_seconds!r}".encode()).hexdigest()[: len(whole.key)]
        self.info = whole.info.model_copy(
            update={"key": self.key, "frame_count": len(taken), "duration_seconds": self.table.duration_seconds}
        )

    @property
    def decoder(self) -> str | None:
        """As of the whole video."""
        return self._whole.decoder

    @property
    def in_memory(self) -> bool:
        """As of the whole video."""
        return self._whole.in_memory

    @property
    def comment(self) -> str:
        """As of the whole video."""
        return self._whole.comment

    @property
    def missing(self) -> tuple[MissingFrames, ...]:
        """What the whole video misses within the part, in the part's time and numbers."""
        end = self._start_seconds + self.table.duration_seconds
        return tuple(
            gap.model_copy(
                update={
                    "start_seconds": max(gap.start_seconds - self._start_seconds, 0.0),
                    "end_seconds": min(gap.end_seconds, end) - self._start_seconds,
                    "start_frame": None if gap.start_frame is None else max(gap.start_frame - self._first, 0),
                    "end_frame": None if gap.end_frame is None else min(gap.end_frame - self._first, len(self)),
                }
            )
            for gap in self._whole.missing
            if gap.start_seconds < end and gap.end_seconds > self._start_seconds
        )

    async def frames(
        self, indices: Sequence[int], *, size: FrameSize | None = None, timeout: float | None = None
    ) -> list[Frame]:
        """As `Video.frames`."""
        found = await self._whole.frames(self._of_whole(indices), size=size, timeout=timeout)
        return [
            Frame(frame.frame_index - self._first, self._seconds(frame.timestamp_seconds), frame.pixels)
            for frame in found
        ]

    async def encoded(
        self, indices: Sequence[int], *, size: FrameSize, timeout: float | None = None
    ) -> list[EncodedFrame]:
        """As `Video.encoded`."""
        found = await self._whole.encoded(self._of_whole(indices), size=size, timeout=timeout)
        return [
            frame.model_copy(
                update={
                    "frame_index": frame.frame_index - self._first,
                    "timestamp_seconds": self._seconds(frame.timestamp_seconds),
                }
            )
            for frame in found
        ]

    async def subtitles(
        self, source: SubtitleSource, *, start_seconds: float = 0.0, timeout: float | None = None
    ) -> Subtitles:
        """As `Video.subtitles`, in the part's time.

        Args:
            source: As there.
            start_seconds: Time of the subtitles at which the whole video begins.
            timeout: As there.
        """
        check_subtitle_source(source, start_seconds)
        begins = start_seconds + self._start_seconds
        return await self._whole._read_subtitles(self.key, self.table, source, begins, timeout)

    def replace_source(self, source: MediaSource) -> None:
        """As of the whole video."""
        self._whole.replace_source(source)

    def _of_whole(self, indices: Sequence[int]) -> list[int]:
        return [index + self._first for index in self._check(indices)]

    def _seconds(self, whole_seconds: float) -> float:
        return max(0.0, whole_seconds - self._start_seconds)
