"""Building an index against the slower of decoding alone and embedding alone.

    python -m tests.benchmarks.cold_index [VIDEO]

The encoder is a small vision transformer with random weights, sized so that a frame costs about what decoding it does:
there overlapping is hardest. PyTorch gets one thread, so that decoder and encoder have a core each; with more threads
than cores their costs add up, however well they overlap.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import NamedTuple

import anyio

from tests.benchmarks.machine import describe
from tests.benchmarks.models import TEN_MINUTES, save_model, small_vit
from videobrain.index import FrameIndex, OpenClipEncoder, SharedEncoder
from videobrain.index.grid import dense_frames
from videobrain.settings import Settings
from videobrain.video import FRAME_SIZES, Frame, Video, VideoPool

TARGET = 1.2
ROUNDS = 5
SIZES = ((64, 1), (64, 3), (128, 2), (128, 4), (192, 4), (192, 6), (256, 6), (256, 9), (384, 8), (384, 12))


class Cost(NamedTuple):
    """Time by the clock and by the processors. Where the first is the longer one, others were at work."""

    seconds: float
    processor_seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.processor_seconds:.2f} s of processor)"


async def timed(work: Awaitable[object]) -> Cost:
    begun, processor = time.perf_counter(), time.process_time()
    await work
    return Cost(time.perf_counter() - begun, time.process_time() - processor)


async def decode(video: Video, frames: list[int]) -> list[Frame]:
    """As the index does it: sixteen at a time, one batch after the other."""
    return [
        frame
        for start in range(0, len(frames), 16)
        for frame in await video.frames(frames[start : start + 16], size=FRAME_SIZES[0])
    ]


async def embed(encoder: SharedEncoder, frames: list[Frame]) -> None:
    for start in range(0, len(frames), 16):
        await encoder.embed_images([frame.pixels for frame in frames[start : start + 16]])


async def measure(path: Path, directory: Path) -> bool:
    settings = Settings(cache_dir=directory / "cache", offline=True)
    pool = VideoPool(settings)
    try:
        video = await pool.open(path)
        frames = dense_frames(video.table, settings)
        decoded = await decode(video, frames)
        cost = (await timed(decode(video, frames))).seconds / len(frames)
        encoder = await _encoder_of_cost(cost, decoded[::20], directory, settings)
        print(f"{video}; {len(frames)} frames at {FRAME_SIZES[0]}; encoder {encoder.name}")

        ratios = []
        for _ in range(ROUNDS):
            decoding = await timed(decode(video, frames))
            embedding = await timed(embed(encoder, decoded))
            index = await timed(FrameIndex(video, encoder, None, settings).build())
            ratios.append(index.seconds / max(decoding.seconds, embedding.seconds))
            print(f"decoding {decoding}, embedding {embedding}, index {index}: {ratios[-1]:.2f} times")
    finally:
        await pool.aclose()
    ratio = statistics.median(ratios)
    print(f"{ratio:.2f} times the slower of both (target: at most {TARGET})")
    return ratio <= TARGET


async def _encoder_of_cost(seconds: float, frames: list[Frame], directory: Path, settings: Settings) -> SharedEncoder:
    """The encoder of `SIZES` whose cost per frame comes nearest."""
    candidates: list[tuple[float, SharedEncoder]] = []
    for width, layers in SIZES:
        model = save_model(directory / f"vit-width{width}-layers{layers}", small_vit(width=width, layers=layers))
        encoder = SharedEncoder(OpenClipEncoder(str(model), settings=settings))
        await embed(encoder, frames[:4])
        cost = min([(await timed(embed(encoder, frames))).seconds for _ in range(3)]) / len(frames)
        candidates.append((abs(cost - seconds), encoder))
        if cost > seconds:
            break
    return min(candidates, key=lambda each: each[0])[1]


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=TEN_MINUTES)
    video = parser.parse_args().video
    torch.set_num_threads(1)
    print(describe("torch", "open_clip_torch", "torchcodec", "av"))
    with tempfile.TemporaryDirectory() as directory:
        reached = anyio.run(measure, video, Path(directory))
    raise SystemExit(not reached)


if __name__ == "__main__":
    main()
