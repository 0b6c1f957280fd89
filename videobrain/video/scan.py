"""Building the frame table of a video stream, and finding out what its header does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from videobrain.errors import NoFramesError
from videobrain.video.container import choose_stream, open_container
from videobrain.video.pyav import decode, display_size, frame_pts, orientation_of, packets
from videobrain.video.source import MediaSource
from videobrain.video.table import FrameTable, MissingFrames, Scan, VideoInfo
from videobrain.video.work import Job

_VERIFY_PIXELS = 64_000_000
"""A stream of at most this many pixels is decoded once as a whole when it is opened (0.1 to 0.3 s)."""
_FIRST_FRAMES = 4
"""Frames of any stream that are decoded when it is opened."""
_CUT_SECONDS = 1.0
"""How much earlier than its header says a stream may end without being called cut off."""


@dataclass(slots=True)
class _Packets:
    """The shown packets of a stream."""

    pts: list[int]
    keys: list[bool]
    end: int = 0
    count: int = 0
    untimed: bool = False
    corrupt: bool = False
    open_gops: bool = False


@dataclass(slots=True)
class _Frames:
    """Decoded frames of a stream, from its first."""

    pts: list[int | None]
    keys: list[bool]
    first: Any = None
    corrupt: bool = False


def scan(source: MediaSource, stream_index: int | None, job: Job) -> Scan:
    """Read every packet of the stream, decode its first frames, and number the frames.

    A frame is a packet that is to be shown: hidden reference frames of VP8 and VP9 and packets that an edit list cuts
    off are none. So numbers cost no decoding. They are checked against the decoder on the first frames, and on all of
    them where the stream is small; where the decoder disagrees, or packets carry no times, the whole stream is decoded
    and its frames are those that came out. Hence in a small or suspicious file an undecodable packet has no number and
    is listed in `missing` by its time; in a large one it keeps its number and is listed when somebody asks for it.

    Raises:
        VideoError: One of its kinds, see `open_container` and `choose_stream`.
        NoFramesError: No frame can be decoded.
        DecodeTimeoutError: The deadline passed.
    """
    with open_container(source) as container:
        stream = choose_stream(container, source, stream_index)
        stream_index = stream.index
        shown = _read_packets(container, stream, job)
        if not shown.count:
            raise NoFramesError(f"The video stream of {source.name} is empty.", source=source.name)
        coded_pixels = stream.width * stream.height
    small = len(shown.pts) * coded_pixels <= _VERIFY_PIXELS
    frames = _decode_frames(source, stream_index, job, None if small or shown.untimed else _FIRST_FRAMES)
    lead = 0
    if not shown.untimed and frames.pts and not small:
        lead = int(np.searchsorted(shown.pts, frames.pts[0] or 0))  # packets before the first keyframe
        if frames.pts != shown.pts[lead : lead + len(frames.pts)]:
            frames = _decode_frames(source, stream_index, job, None)
            small = True
    if frames.first is None:
        raise NoFramesError(f"No frame of {source.name} can be decoded.", source=source.name)
    with open_container(source) as container:
        stream = choose_stream(container, source, stream_index)
        table, missing = _number(container, stream, shown, frames, whole=small or shown.untimed, lead=lead)
        missing += _cut_off(container, stream, shown, table, job)
        info = _describe(source, container, stream, frames.first, table)
        comment = container.metadata.get("comment", "")
    damaged = bool(missing) or shown.corrupt or frames.corrupt
    missing = sorted(missing, key=lambda part: part.start_seconds)
    return Scan(info, table, tuple(missing), damaged, shown.open_gops, comment)


def _read_packets(container: Any, stream: Any, job: Job) -> _Packets:
    hidden = _HIDDEN.get(stream.codec_context.name, _never)
    shown = _Packets([], [])
    rows = []
    key_pts = None
    for packet in packets(container, stream, job.check):
        if not packet.size:
            continue
        shown.count += 1
        shown.corrupt = shown.corrupt or packet.is_corrupt
        if packet.is_discard or hidden(packet):
            continue
        if packet.pts is None:
            shown.untimed = True
            continue
        rows.append((packet.pts, packet.is_keyframe))
        if packet.is_keyframe:
            key_pts = packet.pts
        elif key_pts is not None and packet.pts < key_pts:
            shown.open_gops = True
        shown.end = max(shown.end, packet.pts + (packet.duration or 0))
    rows.sort()
    previous = None
    for pts, key in rows:
        if pts != previous:  # two pictures at one time: only one of them is ever seen
            shown.pts.append(pts)
            shown.keys.append(key)
        previous = pts
    return shown


def _decode_frames(source: MediaSource, stream_index: int, job: Job, limit: int | None) -> _Frames:
    result = _Frames([], [])
    with open_container(source) as container:
        stream = choose_stream(container, source, stream_index)
        decoded = (frame for packet in packets(container, stream, job.check) for frame in decode(packet))
        for frame in islice(decoded, limit):
            result.first = result.first or frame
            result.corrupt = result.corrupt or frame.is_corrupt
            result.pts.append(frame_pts(frame))
            result.keys.append(bool(frame.key_frame))
    return result


def _number(
    container: Any, stream: Any, shown: _Packets, frames: _Frames, *, whole: bool, lead: int
) -> tuple[FrameTable, list[MissingFrames]]:
    """The table, and what the packets promised and the decoder did not give."""
    base = stream.time_base
    ordinal = False
    if not whole:
        pts = np.array(shown.pts[lead:], np.int64)
        keys = np.array(shown.keys[lead:], bool)
    else:
        times = [t for t in frames.pts if t is not None]
        ordinal = len(times) < len(frames.pts) or any(b <= a for a, b in pairwise(times))
        pts = np.arange(len(frames.pts)) if ordinal else np.array(times, np.int64)
        starts = {t for t, key in zip(shown.pts, shown.keys, strict=True) if key}
        keys = np.array(frames.keys, bool) if ordinal or shown.untimed else np.isin(pts, list(starts))
    if ordinal:
        rate = stream.guessed_rate or stream.average_rate or Fraction(25)
        return FrameTable(np.arange(len(pts)) / float(rate), pts, keys, len(pts) / float(rate), base, ordinal=True), []
    start = _start(container, stream, int(pts[0]))
    seconds = pts.astype(np.float64) * float(base) - start
    step = float(np.median(np.diff(seconds))) if len(pts) > 1 else 1 / float(stream.guessed_rate or 25)
    end = max(shown.end * float(base) - start, float(seconds[-1]))
    table = FrameTable(seconds, pts, keys, end if end > seconds[-1] else float(seconds[-1]) + step, base)
    lost = np.setdiff1d(np.array(shown.pts, np.int64), pts) * float(base) - start
    reason = "packets before the first keyframe" if not whole else "damaged packets that cannot be decoded"
    return table, [
        MissingFrames(start_seconds=float(run[0]), end_seconds=float(run[-1]) + step, reason=reason)
        for run in np.split(lost, np.flatnonzero(np.diff(lost) > 1.5 * step) + 1)
        if len(run)
    ]


def _start(container: Any, stream: Any, first_pts: int) -> float:
    """The container's start in seconds on its own clock."""
    if container.start_time is not None:
        return float(container.start_time / 1_000_000)
    return float(first_pts * stream.time_base)


def _cut_off(container: Any, stream: Any, shown: _Packets, table: FrameTable, job: Job) -> list[MissingFrames]:
    """What the header promises after the last frame that is there."""
    end = table.duration_seconds
    promised = _header_duration(container, stream) or end
    if stream.frames:
        if stream.frames <= shown.count:
            return []
        reason = f"the file is cut off: its header lists {stream.frames} frames and it holds {shown.count}"
    else:
        if promised - end < max(_CUT_SECONDS, 0.02 * promised):
            return []
        others = [s for s in container.streams if s.type == "audio"]
        for packet in packets(container, others, job.check) if others else ():
            # Sound that goes on after the last picture is no damage.
            if packet.pts is not None and float(packet.pts * packet.time_base) - end > 0.5 * (promised - end):
                return []
        reason = f"the file is cut off: its header says {promised:.2f} s"
    return [MissingFrames(start_seconds=end, end_seconds=max(promised, end), reason=reason)]


def _header_duration(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def _describe(source: MediaSource, container: Any, stream: Any, first: Any, table: FrameTable) -> VideoInfo:
    aspect = stream.sample_aspect_ratio or first_aspect(stream)
    orientation = orientation_of(first)
    width, height = display_size(first.width, first.height, orientation.rotation, aspect)
    seconds = table.timestamps_seconds
    gaps = np.diff(seconds)
    header_fps = float(stream.average_rate) if stream.average_rate else None
    fps = float(len(gaps) / (seconds[-1] - seconds[0])) if len(gaps) else header_fps or 1 / table.duration_seconds
    return VideoInfo(
        source=source.name,
        key=f"{source.content_key}-{stream.index}",
        size_bytes=source.size,
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        pixel_format=first.format.name,
        bit_depth=max(component.bits for component in first.format.components),
        stream_index=stream.index,
        width=width,
        height=height,
        coded_width=first.width,
        coded_height=first.height,
        rotation=orientation.rotation,
        mirrored=orientation.mirrored,
        pixel_aspect=float(aspect),
        frame_count=len(table),
        header_frame_count=stream.frames or None,
        duration_seconds=table.duration_seconds,
        header_duration_seconds=_header_duration(container, stream),
        start_seconds=0.0 if table.ordinal else _start(container, stream, int(table.pts[0])),
        fps=fps,
        header_fps=header_fps,
        variable_frame_rate=_varies(gaps),
    )


def _varies(gaps: npt.NDArray[np.float64]) -> bool:
    """Whether frames are shown for clearly different times; containers that count milliseconds jitter by one."""
    return len(gaps) > 0 and float(gaps.max()) > 1.5 * float(gaps.min()) + 0.002


def first_aspect(stream: Any) -> Fraction:
    """Pixel aspect that the codec's own header gives; square where it gives none."""
    aspect = stream.codec_context.sample_aspect_ratio
    return aspect if aspect else Fraction(1)


def _never(packet: Any) -> bool:
    return False


def _hidden_vp8(packet: Any) -> bool:
    """A VP8 frame that is only a reference (RFC 6386, 9.1: ``show_frame`` is bit 4 of the first byte)."""
    return not memoryview(packet)[0] & 0x10


def _hidden_vp9(packet: Any) -> bool:
    """A VP9 packet of one frame that is not shown (VP9 bitstream specification, 6.2). Superframes hold a shown one."""
    data = memoryview(packet)
    if data[-1] & 0xE0 == 0xC0:  # a superframe index ends the packet
        return False
    bits = int.from_bytes(bytes(data[:2]).ljust(2, b"\0"), "big")
    position = 16 - 2 - 2  # after frame_marker and the two profile bits
    if (bits >> position) & 0b11 == 0b11:
        position -= 1  # a reserved bit follows profile 3
    show_existing = (bits >> (position - 1)) & 1
    show = (bits >> (position - 3)) & 1
    return not show_existing and not show


_HIDDEN = {"vp8": _hidden_vp8, "libvpx": _hidden_vp8, "vp9": _hidden_vp9, "libvpx-vp9": _hidden_vp9}
