"""Video files of the synthetic world, with its tag."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from videobrain.result import VideoSource
from videobrain.video.frame import Pixels
from videobrain.world.vocabulary import FPS, TAG

# x264's macroblock tree gives now and then other bits for the same frames (seen with libx264 of PyAV 18).
_H264_OPTIONS = {"crf": "20", "preset": "superfast", "x264-params": "mbtree=0"}
_KEYFRAME_EVERY = 10 * FPS


def write_file(path: Path, frames: Iterable[Pixels], *, side: int) -> Path:
    """Write frames of `side` x `side` pixels as H.264 with the tag: aside first, then renamed. Returns `path`."""
    import av

    aside = path.with_name(f"{path.name}.partial")
    with av.open(str(aside), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = TAG
        stream = container.add_stream("libx264", rate=FPS, options=_H264_OPTIONS)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, FPS)
        stream.codec_context.gop_size = _KEYFRAME_EVERY
        stream.codec_context.thread_count = 1  # the output must not depend on the machine
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    aside.replace(path)
    return path


def is_world_video(source: VideoSource) -> bool:
    """Whether a video is one of ours, by the tag in its metadata; False for a URL and for what cannot be opened."""
    import av

    if isinstance(source, str) and "://" in source:
        return False
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
            comment: str = container.metadata.get("comment", "")
    except (av.FFmpegError, OSError, ValueError):
        return False
    return comment.startswith(TAG.partition("/")[0] + "/")
