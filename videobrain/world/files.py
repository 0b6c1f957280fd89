"""Video files of the synthetic world, with its tag."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from videobrain.files import whole_path
from videobrain.result import WholeVideo
from videobrain.video.frame import FrameSize, Pixels
from videobrain.video.video import Video
from videobrain.video.writing import write_frames
from videobrain.world.vocabulary import FPS, TAG

_KEYFRAME_EVERY = 10 * FPS


def write_file(path: Path, frames: Iterable[Pixels], *, comment: str, side: int, crf: int) -> Path:
    """Write frames of `side` x `side` pixels as H.264 with a comment, whole or not at all. Returns `path`.

    `crf` is x264's constant rate factor: the higher, the coarser.
    """
    with whole_path(path) as aside:
        write_frames(
            aside,
            enumerate(frames),
            size=FrameSize(side, side),
            rate=Fraction(FPS),
            time_base=Fraction(1, FPS),
            keyframe_every=_KEYFRAME_EVERY,
            container_format="mp4",
            options={"crf": str(crf), "preset": "superfast"},
            metadata={"comment": comment},
        )
    return path


def is_world_video(source: WholeVideo | Video) -> bool:
    """Whether a video is one of ours, by the tag in its metadata; False for a URL and for what cannot be opened.

    A `Video` is open already, and tells at once.
    """
    comment = source.comment if isinstance(source, Video) else _header(source)[0]
    return comment.startswith(TAG.partition("/")[0] + "/")


def holds(path: Path, comment: str, frame_count: int) -> bool:
    """Whether a file is a whole video with this comment and so many frames."""
    return _header(path) == (comment, frame_count)


def _header(source: WholeVideo) -> tuple[str, int]:
    """Comment and number of frames, as the container states them; nothing and 0 where it cannot be opened."""
    import av

    if isinstance(source, str) and "://" in source:
        return "", 0
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
            frames = container.streams.video[0].frames if container.streams.video else 0
            return container.metadata.get("comment", ""), frames
    except (av.FFmpegError, OSError, ValueError):
        return "", 0
