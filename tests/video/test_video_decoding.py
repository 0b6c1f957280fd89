"""Real files, frame by frame: PyAV against ffmpeg's checksums, torchcodec against PyAV."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from videobrain.errors import MissingDependencyError
from videobrain.settings import Settings
from videobrain.video import VideoPool
from videobrain.video.container import open_container
from videobrain.video.pyav import PyAVDecoder
from videobrain.video.scan import scan
from videobrain.video.source import MediaSource, resolve_source
from videobrain.video.table import Scan
from videobrain.video.torchcodec import import_torchcodec
from videobrain.video.work import Job

FILES = {  # frames that ffmpeg decodes
    "0.ts": 298,
    "annex-b.mp4": 6,
    "av1_video.mkv": 125,
    "bbb_448x252_av.mp4": 14315,
    "book.mkv": 109,
    "bt709_full_range.mp4": 30,
    "car-detection.mp4": 377,
    "corrupted.mp4": 49,
    "cursed-vfr.mp4": 63,
    "flower.mp4": 150,
    "flower.webm": 150,
    "frames.webm": 100,
    "friday.mp4": 185,
    "h264_10bits.mp4": 30,
    "h265_video.mp4": 10,
    "nasa_13013.mp4": 325,
    "one-by-one-person-detection.mp4": 1394,
    "sar_2x1.mp4": 150,
    "segment001.ts": 50,
    "stream-of-water.webm": 90,
    "unordered.mov": 4,
    "video.mp4": 1465,
    "video_0.mov": 3,
    "video_180.mov": 3,
    "video_90.mov": 3,
}
PYAV_ONLY = {
    "0.ts": "torchcodec finds no frame",
    "segment001.ts": "torchcodec finds no frame",
    "corrupted.mp4": "torchcodec stops at the damaged packet",
    "annex-b.mp4": "how its damaged last frame looks depends on where torchcodec's threads stand",
    "h264_10bits.mp4": "torchcodec's pixels are off by up to 132",
}
SEQUENCE = 100
"""Frames of a file that are compared in a row."""
LONG = 200
"""Of a longer stream only this many frames are compared from its start, and a sample of the rest."""


def first_stream(path: Path) -> tuple[MediaSource, Scan]:
    source = resolve_source(path, allow_remote=False)
    with open_container(source) as container:
        index = container.streams.video[0].index
    return source, scan(source, index, Job(60, "test"))


def md5(frame: Any) -> str:
    digest = hashlib.md5()
    size = 2 if frame.format.components[0].bits > 8 else 1
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        digest.update(rows[:, : plane.width * size].tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_frame_table_has_every_frame_at_its_time(name: str, videos: Path, expected: Callable[[str], Any]) -> None:
    want = expected(name)
    _, found = first_stream(videos / name)
    assert len(found.table) == found.info.frame_count == len(want.pts) == FILES[name]
    seconds = found.table.timestamps_seconds
    # ffmpeg counts the time of transport streams from the first frame that it decodes, we count from the container's
    # start for all; and it rounds to its time base, half a tick at the most.
    offset = seconds[0] if found.info.container == "mpegts" else 0.0
    ticks = (seconds - offset) / float(want.time_base)
    assert np.abs(ticks - want.pts).max() <= 0.5 + 1e-6
    assert np.all(np.diff(seconds) > 0)


@pytest.mark.parametrize("name", FILES)
def test_pyav_frames_are_bit_exact_in_sequence_and_at_random(
    name: str, videos: Path, expected: Callable[[str], Any]
) -> None:
    want = expected(name).md5
    source, found = first_stream(videos / name)
    decoder = PyAVDecoder(source, found)
    job = Job(60, "test")
    chance = random.Random(name)
    try:
        in_order = list(range(len(want)))
        if len(want) > LONG:
            in_order[LONG:] = sorted(chance.sample(range(LONG, len(want)), 12))
        assert {i: md5(frame) for i, frame in decoder.video_frames(in_order, job)} == {i: want[i] for i in in_order}
        for index in chance.sample(range(len(want)), min(len(want), 8)):
            assert {i: md5(frame) for i, frame in decoder.video_frames([index], job)} == {index: want[index]}
    finally:
        decoder.close()


@pytest.mark.anyio
@pytest.mark.parametrize("name", FILES)
async def test_torchcodec_gives_pyavs_pixels(name: str, videos: Path) -> None:
    try:
        import_torchcodec()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    async with VideoPool(Settings(decoder="pyav")) as reference, VideoPool(Settings(decoder="torchcodec")) as tested:
        expected = await reference.open(videos / name)
        video = await tested.open(videos / name)
        indices = random.Random(name).sample(range(len(video)), min(len(video), 6))
        in_order = list(range(0 if name in PYAV_ONLY else min(len(video), SEQUENCE)))
        want = {frame.frame_index: frame for frame in await expected.frames(sorted({*indices, *in_order}))}
        for some in (indices, indices[3:4], indices[:2], in_order):  # a batch, back again, and one after the other
            for frame in await video.frames(some):
                difference = np.abs(want[frame.frame_index].pixels.astype(np.int16) - frame.pixels)
                assert difference.max() <= 16
                assert difference.mean() <= 1
        assert video.decoder == ("pyav" if name in PYAV_ONLY else "torchcodec")
        assert expected.decoder == "pyav"
        assert not video.missing or name in {"corrupted.mp4", "annex-b.mp4"}


@pytest.mark.anyio
async def test_best_stream_and_chosen_stream_match_torchcodecs_reference_frames(
    videos: Path, shared_data: Path
) -> None:
    frames = np.load(shared_data / "torchcodec_reference_frames.npz")
    for stream, setting in ((3, None), (0, 0)):
        async with VideoPool(Settings(video_stream=setting)) as pool:
            video = await pool.open(videos / "nasa_13013.mp4")
            assert video.info.stream_index == stream
            prefix = f"nasa_13013.mp4.stream{stream}.frame"
            want = {int(key[-6:]): frames[key] for key in frames if key.startswith(prefix)}
            assert len(want) > 10
            for frame in await video.frames(list(want)):
                assert np.abs(want[frame.frame_index].astype(int) - frame.pixels).max() <= 2
            if stream == 3:
                for key in (key for key in frames if ".time" in key):
                    # made with ffmpeg -ss, which gives the first frame at or after a time
                    index = video.table.indices_between(float(key.split(".time")[1]), 1e9)[0]
                    (frame,) = await video.frames([index])
                    assert np.abs(frames[key].astype(int) - frame.pixels).max() <= 2


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "size"), [("video_90.mov", (320, 568)), ("video_180.mov", (568, 320))])
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
async def test_rotated_videos_look_like_their_upright_twin(
    name: str, size: tuple[int, int], decoder: Any, videos: Path
) -> None:
    async with VideoPool(Settings(decoder=decoder)) as pool:
        upright = (await (await pool.open(videos / "video_0.mov")).frames([0]))[0].pixels
        video = await pool.open(videos / name)
        (frame,) = await video.frames([0])
        assert (video.info.width, video.info.height) == size == frame.pixels.shape[1::-1]
        if name == "video_180.mov":  # the camera was held upside down, so what it shows is the same way up
            turned = frame.pixels[::-1, ::-1]
            assert np.abs(upright.astype(int) - frame.pixels).mean() < np.abs(upright.astype(int) - turned).mean()


@pytest.mark.anyio
async def test_pixel_aspect_is_applied(pool: VideoPool, videos: Path) -> None:
    video = await pool.open(videos / "sar_2x1.mp4")
    assert (video.info.coded_width, video.info.width, video.info.height) == (640, 1280, 360)
    (frame,) = await video.frames([7])
    assert frame.pixels.shape == (360, 1280, 3)


@pytest.mark.anyio
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
async def test_turned_and_mirrored_pictures_come_upright(turn: int, mirror: bool, decoder: Any, tmp_path: Path) -> None:
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:24, :32], upright[:24, 32:], upright[24:, :32] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    stored = np.rot90(upright, turn // 90)  # anticlockwise, so that a clockwise turn mends it
    if mirror:
        stored = stored[:, ::-1]
    path = tmp_path / "made.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = stored.shape[:2]
        stream.pix_fmt = "yuv420p"
        cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[turn]
        sign = -1 if mirror else 1
        stream.set_display_matrix([sign * cos << 16, sign * sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30])
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")))
        container.mux(stream.encode())
    async with VideoPool(Settings(decoder=decoder)) as pool:
        video = await pool.open(path)
        assert (video.info.rotation, video.info.mirrored) == (turn, mirror)
        (frame,) = await video.frames([0])
        assert frame.pixels.shape == upright.shape
        assert np.abs(upright.astype(int) - frame.pixels).mean() < 8
