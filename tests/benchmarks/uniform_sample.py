"""`uniform_sample` against torchcodec's bare `get_frames_at` of the same frames, side by side.

    python -m tests.benchmarks.uniform_sample [VIDEO]

Both begin with an open decoder and end with RGB frames: the JPEGs that a tool gives besides are measured apart.
Each round takes another range of the video, so that no frame comes from a cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import anyio

from tests.benchmarks.machine import describe
from tests.benchmarks.models import TEN_MINUTES
from videobrain.settings import Settings
from videobrain.video import FRAME_SIZES, VideoPool, evenly_spaced

ROUNDS = 40
FRAMES = 8
TARGET = 1.15


async def compare(path: Path) -> bool:
    from torchcodec.decoders import VideoDecoder

    with tempfile.TemporaryDirectory() as cache:
        pool = VideoPool(Settings(cache_dir=Path(cache)))
        try:
            video = await pool.open(path)
            count = len(video.table)
            length = count // 8
            starts = [(count - length) * n // ROUNDS for n in range(ROUNDS)]
            ranges = [evenly_spaced(start, start + length, FRAMES) for start in starts]
            raw = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="approximate")
            raw.get_frames_at([0])
            await video.frames([1], size=FRAME_SIZES[0])
            theirs, ours, encoded = [], [], []
            for number, frames in enumerate(ranges):
                for measured in ("theirs", "ours") if number % 2 else ("ours", "theirs"):
                    begun = time.perf_counter()
                    if measured == "ours":
                        await video.frames(frames, size=FRAME_SIZES[0])
                        ours.append(time.perf_counter() - begun)
                    else:
                        raw.get_frames_at(frames).data.numpy()
                        theirs.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                await video.encoded(frames, size=FRAME_SIZES[0])
                encoded.append(time.perf_counter() - begun)
        finally:
            await pool.aclose()
    ratio = sum(ours) / sum(theirs)
    print(f"{FRAMES} frames, {ROUNDS} ranges of an eighth of the video; mean (median) per call")
    for name, seconds in (("get_frames_at", theirs), ("uniform_sample's frames", ours), ("with JPEGs", encoded)):
        print(f"{name:>24}: {1e3 * statistics.mean(seconds):6.1f} ms ({1e3 * statistics.median(seconds):.1f} ms)")
    print(f"ratio {ratio:.2f}, target at most {TARGET}")
    return ratio <= TARGET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=TEN_MINUTES)
    arguments = parser.parse_args()
    print(describe("torchcodec", "torch", "av"))
    raise SystemExit(0 if anyio.run(compare, arguments.video) else 1)


if __name__ == "__main__":
    main()
