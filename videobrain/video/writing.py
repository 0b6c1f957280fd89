"""Video files that are the same each time they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

from videobrain.video.frame import FrameSize, Pixels

# x264's macroblock tree gives now and then other bits for the same frames (seen with libx264 of PyAV 18).
_OPTIONS = {"libx264": {"x264-params": "mbtree=0"}}


def write_frames(
    path: Path,
    frames: Iterable[tuple[int, Pixels]],
    *,
    size: FrameSize,
    rate: Fraction,
    time_base: Fraction,
    keyframe_every: int,
    codec: str = "libx264",
    container_format: str | None = None,
    options: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Encode frames into a file; the same arguments give the same bytes.

    Args:
        path: The file.
        frames: Times in units of `time_base`, increasing, and RGB pixels.
        size: Size of the frames, even.
        rate: Frames per second as the header claims them.
        time_base: Unit of the times.
        keyframe_every: Frames from one keyframe to the next, at most.
        codec: An encoder of FFmpeg.
        container_format: FFmpeg's name of it; by default the path's suffix chooses.
        options: Options of the encoder.
        metadata: Tags of the container.
    """
    import av

    # Bit-exact: no times of writing and no random identifiers.
    with av.open(str(path), "w", format=container_format, options={"fflags": "+bitexact"}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options={**(options or {}), **_OPTIONS.get(codec, {})})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = keyframe_every
        stream.codec_context.thread_count = 1  # the output must not depend on the machine
        for pts, pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = pts
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
