"""What the tests of the video room share: expected frames, and small videos made on the spot."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from videobrain.settings import Settings
from videobrain.video import VideoPool


class Expected(NamedTuple):
    """ffmpeg's own list of the frames of a video's first video stream."""

    time_base: Fraction
    pts: list[int]
    md5: list[str]


@pytest.fixture(scope="session")
def expected(shared_data: Path) -> Callable[[str], Expected]:
    def read(name: str) -> Expected:
        path = shared_data / "framemd5" / f"{name}.framemd5"
        text = path.read_text() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes()).decode()
        lines = text.splitlines()
        (base,) = [line.split(":")[1] for line in lines if line.startswith("#tb 0:")]
        rows = [line.split(",") for line in lines if not line.startswith("#")]
        return Expected(Fraction(base.strip()), [int(row[2]) for row in rows], [row[5].strip() for row in rows])

    return read


@pytest.fixture
async def pool() -> AsyncIterator[VideoPool]:
    async with VideoPool(Settings()) as pool:
        yield pool


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video whose frame number n is a grey level of 8 * n (up to 30 frames)."""

    def write(
        name: str = "made.mp4",
        *,
        frames: int = 30,
        size: tuple[int, int] = (64, 48),
        codec: str = "libx264",
        pts: list[int] | None = None,
        options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = stream.time_base = Fraction(1, 25)
            for number in range(frames):
                image = np.full((size[1], size[0], 3), min(255, 8 * number), np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
                frame.pts = pts[number] if pts else number
                frame.time_base = Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
