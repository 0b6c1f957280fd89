"""A warm `clip_sample` against the method of the paper's public code, with the same encoder.

    python -m tests.benchmarks.clip_sample [VIDEO] [--encoder NAME]

The reference opens the video anew at each call, decodes 128 candidates and embeds them one by one (256 above 20,000
frames). Ours is the tool, called as a run calls it: it searches an index that is warm, then decodes the frames that it
found, which it has not shown before. Both give four JPEGs. Without an encoder named, a ViT-B/16 with random weights
stands in: it costs what a trained one does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import anyio
import numpy as np

from tests.benchmarks.machine import describe
from tests.benchmarks.models import TEN_MINUTES, VIT_B_16, save_model
from tests.benchmarks.tools import tool_context
from videobrain.index import FrameHit, FrameIndex, OpenClipEncoder, SharedEncoder
from videobrain.settings import Settings
from videobrain.tools import clip_sample
from videobrain.video import FRAME_SIZES, EncodedFrame, Frame, VideoPool, evenly_spaced
from videobrain.video.frame import resize

PROMPTS = ("a white rabbit", "an apple on the grass", "three small rodents", "a purple butterfly", "a burrow in a hill")
REFERENCE_CALLS = 2
TARGET = 100.0


def reference(path: Path, encoder: OpenClipEncoder, prompt: str) -> list[EncodedFrame]:
    """One call: nothing is kept from the one before."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", seek_mode="approximate")
    count = decoder.metadata.num_frames
    candidates = evenly_spaced(0, count, 256 if count > 20_000 else 128)
    batch = decoder.get_frames_at(candidates)
    images = [resize(image, FRAME_SIZES[0]) for image in batch.data.numpy()]
    embeddings = np.concatenate([encoder.embed_images([image]) for image in images])
    best = np.argsort(-(embeddings @ encoder.embed_texts([prompt])[0]))[:4]
    times = batch.pts_seconds.tolist()
    return [EncodedFrame.encode(Frame(candidates[i], times[i], images[i])) for i in sorted(best.tolist())]


async def compare(path: Path, encoder: OpenClipEncoder, settings: Settings) -> bool:
    pool = VideoPool(settings)
    try:
        video = await pool.open(path)
        print(f"{video}; encoder {encoder}")
        index = FrameIndex(video, SharedEncoder(encoder), None, settings)
        begun = time.perf_counter()
        await index.build()
        print(f"building the index, once: {time.perf_counter() - begun:.1f} s, {len(index)} frames")

        searches: list[float] = []
        calls, references = [], []

        async def search(query: str, *, k: int, start_frame: int, end_frame: int | None) -> list[FrameHit]:
            begun = time.perf_counter()
            hits = await index.search(query, k=k, start_frame=start_frame, end_frame=end_frame)
            searches.append(time.perf_counter() - begun)
            return hits

        context = tool_context(video, search=search)
        for number, prompt in enumerate(PROMPTS):
            call = {"start_frame": 0, "end_frame": len(video.table), "prompt": prompt}
            begun = time.perf_counter()
            result = await clip_sample.run(context, call, timeout_seconds=60)
            calls.append(time.perf_counter() - begun)
            assert len(result.frames) == 4
            if number < REFERENCE_CALLS:
                begun = time.perf_counter()
                await anyio.to_thread.run_sync(reference, path, encoder, prompt)
                references.append(time.perf_counter() - begun)
    finally:
        await pool.aclose()
    theirs, ours = statistics.median(references), statistics.median(calls)
    print(f"reference method: {theirs:.2f} s a call (of {[round(s, 2) for s in references]})")
    print(f"warm clip_sample: {1e3 * ours:.1f} ms a call (of {[round(1e3 * s, 1) for s in calls]} ms)")
    print(f"  of which search: {1e3 * statistics.median(searches):.1f} ms")
    print(f"{theirs / ours:.0f} times faster (target: {TARGET:.0f})")
    return theirs / ours >= TARGET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=TEN_MINUTES)
    parser.add_argument("--encoder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(cache_dir=Path(directory) / "cache", offline=arguments.encoder is None)
        name = arguments.encoder or str(save_model(Path(directory) / "model", VIT_B_16))
        encoder = OpenClipEncoder(name, settings=settings)
        encoder.load()
        print(describe("torch", "open_clip_torch", "torchcodec", "av"))
        reached = anyio.run(compare, arguments.video, encoder, settings)
    raise SystemExit(not reached)


if __name__ == "__main__":
    main()
