"""Videos made on the spot, whose frames say which they are."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import ImageColor

from videobrain.video.frame import FrameSize, Pixels
from videobrain.video.writing import write_frames

_BITS = 16
_TIME_BASE = Fraction(
    1, 60_000
)  # holds the times of 24, 25, 30, 60 fps and of their 1001 variants; MPEG-4 allows 65,535
_H264_OPTIONS = {"crf": "18", "preset": "veryfast"}


def make_video(
    path: str | Path,
    *,
    seconds: float = 4.0,
    fps: float = 25.0,
    size: tuple[int, int] = (320, 180),
    scenes: Sequence[str | tuple[str, float]] = ("red", "green", "blue", "yellow"),
    timestamps: Sequence[float] | None = None,
    codec: str = "h264",
    keyframe_every: int = 25,
) -> Path:
    """Write a video of plain coloured scenes in which each frame carries its index.

    The index stands as a row of black and white cells along the lower edge, so that `read_frame_index` reads it off the
    pixels, also after encoding and resizing. The same arguments give the same file.

    Args:
        path: The file; its suffix chooses the container (``.mp4``, ``.mkv``, ``.webm``, ``.ts``, …).
        seconds: Length. Ignored where `timestamps` are given.
        fps: Frames per second. Ignored where `timestamps` are given.
        size: Width and height in pixels, even and at least 64 x 32.
        scenes: Colours (names or ``#rrggbb``), each for an equal share of the frames, or pairs of a colour and the
            second at which it begins.
        timestamps: Presentation time of each frame in seconds, increasing; for variable frame rates and first times
            other than 0.
        codec: ``h264`` or ``mpeg4``, or any other encoder of FFmpeg.
        keyframe_every: Frames from one keyframe to the next.

    Returns:
        The path.
    """
    path = Path(path)
    times = list(timestamps) if timestamps is not None else [k / fps for k in range(max(1, round(seconds * fps)))]
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError("timestamps must increase")
    if len(times) > 2**_BITS:
        raise ValueError(f"at most {2**_BITS} frames can carry their index")
    colours = _colours(scenes, times)
    frame_size = FrameSize(*size)
    write_frames(
        path,
        (
            (round(seconds_shown / _TIME_BASE), draw_frame(index, frame_size, colour))
            for index, (seconds_shown, colour) in enumerate(zip(times, colours, strict=True))
        ),
        size=frame_size,
        rate=Fraction(fps).limit_denominator(1001),
        time_base=_TIME_BASE,
        keyframe_every=keyframe_every,
        codec="libx264" if codec == "h264" else codec,
        options=_H264_OPTIONS if codec == "h264" else {"qscale": "3"},
    )
    return path


def draw_frame(index: int, size: FrameSize, colour: tuple[int, int, int]) -> Pixels:
    """The pixels of one frame: a plain colour above the cells of its index."""
    pixels = np.empty((size.height, size.width, 3), np.uint8)
    pixels[:] = colour
    top = size.height - size.height // 6
    edges = np.linspace(0, size.width, _BITS + 1).round().astype(int)
    for bit in range(_BITS):
        pixels[top:, edges[bit] : edges[bit + 1]] = 255 if index >> (_BITS - 1 - bit) & 1 else 0
    return pixels


def read_frame_index(pixels: Pixels) -> int:
    """The index that a frame of `make_video` carries.

    Args:
        pixels: RGB, shape (height, width, 3), of any size.
    """
    height, width = pixels.shape[:2]
    row = pixels[height - height // 12 - 1].mean(axis=-1)
    centres = ((np.arange(_BITS) + 0.5) * width / _BITS).astype(int)
    return int("".join("1" if row[centre] > 127 else "0" for centre in centres), 2)


def _colours(scenes: Sequence[str | tuple[str, float]], times: Sequence[float]) -> list[tuple[int, int, int]]:
    if not scenes:
        raise ValueError("a video needs at least one scene")
    parsed: list[tuple[tuple[int, int, int], float | None]] = []
    for scene in scenes:
        name, start = (scene, None) if isinstance(scene, str) else scene
        red, green, blue = ImageColor.getrgb(name)[:3]
        parsed.append(((red, green, blue), start))
    if all(start is None for _, start in parsed):
        return [parsed[index * len(parsed) // len(times)][0] for index in range(len(times))]
    starts = [0.0 if start is None else start for _, start in parsed]
    picked = np.searchsorted(starts, np.asarray(times) + 1e-9, side="right") - 1
    return [parsed[max(0, int(index))][0] for index in picked]
