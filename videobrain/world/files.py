"""Video files of the synthetic world, with its tag."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from videobrain.result import VideoSource
from videobrain.video.frame import FrameSize, Pixels
from videobrain.video.writing import write_frames
from videobrain.world.vocabulary import FPS, TAG

_KEYFRAME_EVERY = 10 * FPS


def write_file(path: Path, frames: Iterable[Pixels], *, side: int, crf: int) -> Path:
    """Write frames of `side` x `side` pixels as H.264 with the tag: aside first, then renamed. Returns `path`.

    `crf` is x264's constant rate factor: the higher, the coarser.
    """
    aside = path.with_name(f"{path.name}.partial")
    write_frames(
        aside,
        enumerate(frames),
        size=FrameSize(side, side),
        rate=Fraction(FPS),
        time_base=Fraction(1, FPS),
        keyframe_every=_KEYFRAME_EVERY,
        container_format="mp4",
        options={"crf": str(crf), "preset": "superfast"},
        metadata={"comment": TAG},
    )
    return aside.replace(path)


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
