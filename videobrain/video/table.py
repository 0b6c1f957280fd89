"""Which frames a video has and when each is shown; what is known about the video."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from videobrain.text import Text

_TOLERANCE_SECONDS = 1e-6
"""A time that a caller computed from a frame's own timestamp must find that frame."""


_SEEK_FRAMES = 4
"""Frames that could be decoded while a seek empties and fills the decoder's pipeline."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameTable:
    """Every frame of a video stream in presentation order; immutable.

    Attributes:
        timestamps_seconds: When each frame is shown, in seconds from the container's start; float64, shape (n,).
        pts: The same in units of `time_base`, as libav gives it; int64, shape (n,). Frame numbers where `ordinal`.
        keyframes: Frames at which decoding can begin; bool, shape (n,).
        duration_seconds: End of the last frame, from the container's start.
        time_base: Unit of `pts`.
        ordinal: The stream carries no usable timestamps; frames are counted from the stream's first.
    """

    timestamps_seconds: npt.NDArray[np.float64]
    pts: npt.NDArray[np.int64]
    keyframes: npt.NDArray[np.bool_]
    duration_seconds: float
    time_base: Fraction
    ordinal: bool = False
    _keyframe_indices: npt.NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keyframe_indices", np.flatnonzero(self.keyframes).astype(np.int64))
        for array in (self.timestamps_seconds, self.pts, self.keyframes, self._keyframe_indices):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.pts)

    def __repr__(self) -> str:
        return f"FrameTable({len(self)} frames, {len(self._keyframe_indices)} keyframes, {self.duration_seconds:.3f} s)"

    def index_at(self, seconds: float) -> int:
        """Index of the frame that is shown at a time; the first or last frame for a time before or after the video."""
        position = int(np.searchsorted(self.timestamps_seconds, seconds + _TOLERANCE_SECONDS, side="right")) - 1
        return max(0, position)

    def indices_between(self, start_seconds: float, end_seconds: float) -> range:
        """Frames whose timestamps lie in ``[start_seconds, end_seconds)``."""
        bounds = np.array([start_seconds, end_seconds]) - _TOLERANCE_SECONDS
        start, end = np.searchsorted(self.timestamps_seconds, bounds, side="left")
        return range(int(start), max(int(start), int(end)))

    def keyframe_before(self, index: int) -> int | None:
        """The last keyframe at or before a frame; None where the stream begins within a group of pictures."""
        position = int(np.searchsorted(self._keyframe_indices, index, side="right")) - 1
        return int(self._keyframe_indices[position]) if position >= 0 else None

    def has_keyframe_at(self, pts: int) -> bool:
        """Whether a keyframe has exactly this timestamp."""
        position = int(np.searchsorted(self.pts, pts))
        return position < len(self) and int(self.pts[position]) == pts and bool(self.keyframes[position])

    def seek_pays(self, index: int, position: int | None) -> bool:
        """Whether a decoder that has just given frame `position` should seek to a keyframe on its way to `index`."""
        if position is None or index < position:
            return True
        key = self.keyframe_before(index)
        return key is not None and key - position > _SEEK_FRAMES

    def cost(self, index: int, position: int | None) -> int:
        """Frames that such a decoder has to decode to reach `index`."""
        sought = self.seek_pays(index, position)
        return index - self.decoding_start(index, position) + (_SEEK_FRAMES if sought else 0)

    def decoding_start(self, index: int, position: int | None) -> int:
        """The frame at which such a decoder begins on its way to `index`."""
        if position is None or self.seek_pays(index, position):
            return self.keyframe_before(index) or 0
        return position


class MissingFrames(BaseModel):
    """A stretch of a video that should have been there and cannot be decoded.

    Frame numbers are given where the frames have numbers, that is where the container lists them and the loss showed
    only when they were decoded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_seconds: float
    end_seconds: float
    reason: str
    start_frame: int | None = None
    end_frame: int | None = None
    """Half-open, like the times."""

    def __str__(self) -> str:
        frames = ""
        if self.start_frame is not None and self.end_frame is not None:
            one = self.end_frame - self.start_frame == 1
            frames = f"frame {self.start_frame}, " if one else f"frames {self.start_frame} to {self.end_frame - 1}, "
        return f"missing: {frames}{self.start_seconds:.2f} to {self.end_seconds:.2f} s: {self.reason}"


class VideoInfo(BaseModel):
    """What is known about a video.

    Fields whose names begin with ``header_`` repeat what the container claims and are None where it claims nothing;
    `container`, `codec`, `pixel_format`, `pixel_aspect`, `rotation` and `mirrored` are descriptions that only headers
    carry. All other fields come from the content: its packets and first frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Text
    """The path as given, or ``<bytes>``."""
    key: str
    """Key of the content and stream, the same for every copy of a file."""
    size_bytes: int | None
    """None for a URL."""
    container: str
    codec: str
    pixel_format: str
    bit_depth: int
    stream_index: int
    """Index of the video stream in its container."""
    width: int
    height: int
    """As displayed: upright and with square pixels."""
    coded_width: int
    coded_height: int
    """As stored, before rotation and pixel aspect."""
    rotation: int
    """Clockwise turn in degrees that makes the stored picture upright: 0, 90, 180 or 270. It has been applied."""
    mirrored: bool
    """Whether the stored picture was mirrored before it was turned. It has been undone."""
    pixel_aspect: float
    """Width of a stored pixel over its height. It has been applied."""
    frame_count: int
    header_frame_count: int | None
    duration_seconds: float
    """End of the last frame, in seconds from the container's start."""
    header_duration_seconds: float | None
    start_seconds: float
    """The container's start on the container's own clock; every other time counts from here."""
    fps: float
    """Average number of frames per second."""
    header_fps: float | None
    variable_frame_rate: bool
    """The longest frame is shown at least 1.5 times as long as the shortest."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What reading a video through once has shown."""

    info: VideoInfo
    table: FrameTable
    missing: tuple[MissingFrames, ...]
    damaged: bool
    """Something is missing, or the demuxer or decoder has flagged a packet or frame as corrupt."""
    open_gops: bool
    """Some frames are shown before the keyframe that they follow in the file (leading pictures)."""
    comment: str = ""
    """The comment in the container's metadata."""
