"""Decoding with PyAV: whole streams in order, and single frames by seeking that is checked."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from videobrain.video.container import choose_stream, open_input
from videobrain.video.frame import Pixels
from videobrain.video.source import MediaSource
from videobrain.video.table import Scan
from videobrain.video.work import Job

_LOGGER = logging.getLogger(__name__)

_READ_ERRORS = 16
"""Failing reads in a row after which a stream counts as ended."""
_START = -(2**63)
"""Anchor of decoding from the stream's start."""
_SEEK_LIES = 3
"""Seeks that led astray after which a file is read from its start."""


def packets(container: Any, stream: Any, check: Callable[[], None]) -> Iterator[Any]:
    """Packets of a stream, the empty one that flushes the decoder last; goes on after unreadable places."""
    import av

    failures = 0
    while True:
        try:
            for packet in container.demux(stream):
                check()
                failures = 0
                yield packet
        except av.error.FFmpegError as error:
            _LOGGER.debug("unreadable packet: %s", error)
            failures += 1
            check()
            if failures < _READ_ERRORS:
                continue
        return


def decode(packet: Any) -> list[Any]:
    """Frames that come out when `packet` goes in; none where it is damaged."""
    import av

    try:
        frames: list[Any] = packet.decode()
    except av.error.FFmpegError as error:
        _LOGGER.debug("undecodable packet at %s: %s", packet.pts, error)
        return []
    return frames


def frame_pts(frame: Any) -> int | None:
    """Presentation timestamp of a decoded frame; from its packet's decoding time where it has none."""
    pts: int | None = frame.pts if frame.pts is not None else frame.dts
    return pts


class Orientation(NamedTuple):
    """What makes a stored picture upright: mirror it left to right first if `mirrored`, then turn it clockwise."""

    rotation: int
    mirrored: bool

    def apply(self, pixels: Pixels) -> Pixels:
        """The upright picture."""
        if self.mirrored:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(np.rot90(pixels, k=-self.rotation // 90))


def orientation_of(frame: Any) -> Orientation:
    """What the frame's display matrix asks for, to the nearest quarter turn."""
    import av

    matrix = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation(0, False)
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, "=i4")[:5])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return Orientation(round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360, mirrored)


def display_size(width: int, height: int, rotation: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Size as displayed of a stored picture."""
    width = max(1, round(width * pixel_aspect))
    return (height, width) if rotation in (90, 270) else (width, height)


class PyAVDecoder:
    """An open stream that gives frames by index, in sorted batches.

    A seek is never trusted: what follows it counts from the first keyframe that really arrives, and only if that is one
    of the table's and lies at or before the wanted frame; else the file is read from its start.
    """

    name = "pyav"

    def __init__(self, source: MediaSource, scan: Scan) -> None:
        self._source = source
        self._stream_index = scan.info.stream_index
        self._table = scan.table
        self._orientation = Orientation(scan.info.rotation, scan.info.mirrored)
        self._damaged = scan.damaged
        self._container: Any = None
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._ahead: tuple[int, Any] | None = None  # pulled, but past the frame that was wanted
        self._last: tuple[int, Any] | None = None
        self._job: Job | None = None  # of the present request; an open stream outlives many
        self._anchor: int | None = None  # pts of the keyframe at which decoding began
        self._lies = 0
        self._hopeless: set[int] = set()  # keyframes after which a second try further back found no more

    def close(self) -> None:
        """Close the file."""
        self._frames, self._ahead, self._last = iter(()), None, None
        if self._container is not None:
            self._container.close()
            self._container = None

    def cost(self, index: int) -> int:
        """Frames that have to be decoded to reach this one from where the decoder stands."""
        return self._table.cost(index, self._position())

    def read(self, indices: Sequence[int], job: Job) -> Iterator[tuple[int, Pixels]]:
        """RGB images, upright and with the stream's own pixel aspect, of sorted unique indices.

        Frames that cannot be decoded are left out.
        """
        for index, frame in self.video_frames(indices, job):
            yield index, self._orientation.apply(frame.to_ndarray(format="rgb24"))

    def video_frames(self, indices: Sequence[int], job: Job) -> Iterator[tuple[int, Any]]:
        """The same as ``av.VideoFrame``, as stored in the stream."""
        self._job = job
        for index in indices:
            frame = self._frame(index)
            if frame is not None:
                yield index, frame

    def _position(self) -> int | None:
        """Index of the frame before the one that comes next."""
        if self._last is not None:
            return int(np.searchsorted(self._table.pts, self._last[0]))
        if self._ahead is not None:
            return int(np.searchsorted(self._table.pts, self._ahead[0])) - 1
        return None

    def _check(self) -> None:
        if self._job is not None:
            self._job.check()

    def _frame(self, index: int) -> Any | None:
        pts = int(self._table.pts[index])
        if self._last is not None and self._last[0] == pts:
            return self._last[1]
        key = self._table.keyframe_before(index)
        if self._table.seek_pays(index, self._position()):
            self._go_to(key)
        frame = self._advance(pts)
        if frame is not None:
            return frame
        if self._anchor is not None and self._anchor <= pts:
            # It began at a keyframe before the frame and did not find it. A keyframe may be none (recovery points), so
            # try once from the one before; but once for each keyframe, or a long damaged stretch takes for ever.
            if self._anchor == _START or not key or key in self._hopeless:
                return None
            self._go_to(self._table.keyframe_before(key - 1))
            frame = self._advance(pts)
            if frame is not None:
                return frame
            if self._anchor is not None and self._anchor <= pts:
                self._hopeless.add(key)
                return None
        self._lies += 1
        _LOGGER.debug("%s: seeking to frame %s led astray", self._source.name, index)
        self._go_to(None)
        return self._advance(pts)

    def _advance(self, pts: int) -> Any | None:
        """Decode up to the frame with this timestamp; None where the stream passes it or ends."""
        while True:
            self._check()
            current = self._ahead or next(self._frames, None)
            self._ahead = None
            if current is None:
                return None
            if current[0] > pts:
                self._ahead = current
                return None
            self._last = current
            if current[0] == pts:
                return current[1]

    def _go_to(self, key: int | None) -> None:
        """Begin decoding at a keyframe; at the stream's start for None."""
        import av

        self._check()
        self._frames, self._ahead, self._last, self._anchor = iter(()), None, None, None
        if key == 0 or self._table.ordinal or self._lies >= _SEEK_LIES:
            key = None
        # Opening anew is the one way to the start that holds for every container; and libav conceals damage with what
        # its decoder still remembers, so a damaged video is read with a new one.
        if key is None or self._container is None or self._damaged:
            self._reopen()
        stream = self._container.streams[self._stream_index]
        if key is not None:
            try:
                self._container.seek(int(self._table.pts[key]), stream=stream, backward=True)
            except av.error.FFmpegError as error:
                _LOGGER.debug("%s: seek failed: %s", self._source.name, error)
                stream, key = self._reopen(), None
        self._frames = self._decode_from(stream, from_start=key is None)

    def _reopen(self) -> Any:
        self.close()
        self._source.check_unchanged()
        self._container = open_input(self._source)
        return choose_stream(self._container, self._source, self._stream_index)

    def _decode_from(self, stream: Any, *, from_start: bool) -> Iterator[tuple[int, Any]]:
        if from_start:
            self._anchor = _START
        count = 0
        for packet in packets(self._container, stream, self._check):
            if self._anchor is None:
                if not packet.is_keyframe or packet.pts is None:
                    continue
                if not self._table.has_keyframe_at(packet.pts):
                    # After a seek, program streams give other times than when they are read through.
                    return
                self._anchor = packet.pts
            for frame in decode(packet):
                pts = count if self._table.ordinal else frame_pts(frame)
                count += 1
                if pts is not None and (from_start or pts >= self._anchor):
                    yield pts, frame
