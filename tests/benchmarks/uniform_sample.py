"""`uniform_sample` against torchcodec's bare `get_frames_at` of the same frames, side by side.

    python -m tests.benchmarks.uniform_sample [VIDEO]

All begin with an open decoder. The target compares frames with frames: `get_frames_at` with the decoding that the tool
does. The tool whole, called as a run calls it, gives JPEGs besides, which `get_frames_at` does not.
Each round takes another range of the video, so that no frame comes from a cache; the order changes from round to round.
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
from tests.benchmarks.tools import tool_context
from videobrain.index import FrameHit
from videobrain.settings import Settings
from videobrain.tools import uniform_sample
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
            raw = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="approximate")
            context = tool_context(video, search=_no_search)
            raw.get_frames_at([0])
            await video.encoded([1], size=FRAME_SIZES[0])
            seconds: dict[str, list[float]] = {"get_frames_at": [], "uniform_sample's frames": [], "the tool whole": []}
            for number, start in enumerate(starts):
                frames = evenly_spaced(start, start + length, FRAMES)
                order = list(seconds)
                for measured in order[number % 3 :] + order[: number % 3]:
                    begun = time.perf_counter()
                    match measured:
                        case "get_frames_at":
                            raw.get_frames_at(frames).data.numpy()
                        case "the tool whole":
                            call = {"start_frame": start, "end_frame": start + length}
                            result = await uniform_sample.run(context, call, timeout_seconds=60)
                        case _:
                            await video.frames(frames, size=FRAME_SIZES[0])
                    seconds[measured].append(time.perf_counter() - begun)
                assert [frame.frame_index for frame in result.frames] == frames
        finally:
            await pool.aclose()
    theirs, ours, whole = (sum(times) for times in seconds.values())
    print(f"{FRAMES} frames, {ROUNDS} ranges of an eighth of the video; mean (median) per call")
    for name, times in seconds.items():
        print(f"{name:>24}: {1e3 * statistics.mean(times):6.1f} ms ({1e3 * statistics.median(times):.1f} ms)")
    print(f"ratio without JPEGs {ours / theirs:.2f}, target at most {TARGET}; the tool whole {whole / theirs:.2f}")
    return ours / theirs <= TARGET


async def _no_search(query: str, *, k: int, start_frame: int, end_frame: int | None) -> list[FrameHit]:
    raise AssertionError("uniform_sample searches nothing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=TEN_MINUTES)
    arguments = parser.parse_args()
    print(describe("torchcodec", "torch", "av"))
    raise SystemExit(0 if anyio.run(compare, arguments.video) else 1)


if __name__ == "__main__":
    main()
