"""The paper's two tools on a real video."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.index.encoders import ColourEncoder
from videobrain.index import FrameIndex
from videobrain.settings import Settings
from videobrain.testing import make_video, read_frame_index
from videobrain.tools import (
    FrameAccess,
    Remaining,
    Tool,
    ToolContext,
    ToolResult,
    ToolRetry,
    clip_sample,
    uniform_sample,
)
from videobrain.video import EncodedFrame, Frame, FrameSize, VideoPool, evenly_spaced

FRAMES = 200  # ten seconds of each colour, five frames a second


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "colours.mp4", seconds=40, fps=5, size=(160, 96))


@pytest.fixture
async def context(path: Path, tmp_path: Path) -> AsyncIterator[Callable[..., ToolContext]]:
    settings = Settings(cache_dir=tmp_path, index_fps=2)
    async with VideoPool(settings) as pool:
        video = await pool.open(path)
        index = FrameIndex(video, ColourEncoder(), None, settings)

        def make(*, frames_per_call: int = 20) -> ToolContext:
            return ToolContext(
                video=video,
                frames=FrameAccess(video, FrameSize(80, 80), 90),
                search=index.search,
                remaining=Remaining(turns=5, frames=100, frames_per_call=frames_per_call, seconds=None),
                emit=lambda text: None,
            )

        yield make


async def call(made: Tool[Any], context: ToolContext, **arguments: Any) -> ToolResult:
    return await made.run(context, arguments, timeout_seconds=30)


def pixels(frame: EncodedFrame) -> Any:
    return np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("RGB"))


@pytest.mark.anyio
async def test_uniform_sample_gives_eight_frames_of_the_range(context: Callable[..., ToolContext]) -> None:
    result = await call(uniform_sample, context(), start_frame=20, end_frame=120)
    indices = [frame.frame_index for frame in result.frames]
    assert indices == evenly_spaced(20, 120, 8)
    assert len(indices) == 8
    assert [read_frame_index(pixels(frame)) for frame in result.frames] == indices
    assert {(frame.width, frame.height) for frame in result.frames} == {(80, 48)}
    assert result.text == "8 frames evenly spaced from frame 20 to 120."


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("start", "end", "cut"),
    [(-50, 100, (0, 100)), (100, 5000, (100, FRAMES)), (-1, 10**30, (0, FRAMES)), (0, FRAMES, None)],
)
async def test_ranges_are_cut_to_the_video_and_that_is_said(
    context: Callable[..., ToolContext], start: int, end: int, cut: tuple[int, int] | None
) -> None:
    for made, more in ((uniform_sample, {}), (clip_sample, {"prompt": "green"})):
        result = await call(made, context(), start_frame=start, end_frame=end, **more)
        told = "" if cut is None else f"The video has 200 frames; the range was cut to {cut[0]} to {cut[1]}. "
        assert result.text.startswith(told)
        assert ("cut to" in result.text) is (cut is not None)
        low, high = cut or (start, end)
        assert all(low <= frame.frame_index < high for frame in result.frames)
        if made is uniform_sample:
            assert [frame.frame_index for frame in result.frames] == evenly_spaced(low, high, 8)


@pytest.mark.anyio
@pytest.mark.parametrize(("start", "end"), [(FRAMES, 300), (5000, 6000), (-20, 0), (-20, -5), (50, 50), (60, 50)])
async def test_a_range_outside_of_the_video_is_sent_back(
    context: Callable[..., ToolContext], start: int, end: int
) -> None:
    for made, more in ((uniform_sample, {}), (clip_sample, {"prompt": "green"})):
        with pytest.raises(ToolRetry) as caught:
            await call(made, context(), start_frame=start, end_frame=end, **more)
        assert "0 to 199" in str(caught.value)


@pytest.mark.anyio
async def test_a_short_range_gives_all_its_frames(context: Callable[..., ToolContext]) -> None:
    result = await call(uniform_sample, context(), start_frame=10, end_frame=13)
    assert [frame.frame_index for frame in result.frames] == [10, 11, 12]
    result = await call(uniform_sample, context(), start_frame=199, end_frame=200)
    assert [frame.frame_index for frame in result.frames] == [199]


@pytest.mark.anyio
async def test_no_more_frames_than_one_call_may_show(context: Callable[..., ToolContext]) -> None:
    result = await call(uniform_sample, context(frames_per_call=3), start_frame=0, end_frame=101)
    assert [frame.frame_index for frame in result.frames] == [0, 50, 100]
    result = await call(clip_sample, context(frames_per_call=2), start_frame=0, end_frame=200, prompt="blue")
    assert len(result.frames) == 2


@pytest.mark.anyio
async def test_clip_sample_finds_what_the_prompt_says(context: Callable[..., ToolContext]) -> None:
    result = await call(clip_sample, context(), start_frame=0, end_frame=200, prompt="blue")
    indices = [frame.frame_index for frame in result.frames]
    assert len(indices) == 4
    assert indices == sorted(indices)
    assert all(100 <= index < 150 for index in indices)  # the third quarter
    assert [read_frame_index(pixels(frame)) for frame in result.frames] == indices
    assert sorted(result.similarities) == indices
    assert all(0.5 < similarity <= 1 for similarity in result.similarities.values())
    assert result.text == "4 frames from frame 0 to 200 that best match 'blue', in time order."


@pytest.mark.anyio
async def test_clip_sample_keeps_to_its_range(context: Callable[..., ToolContext]) -> None:
    result = await call(clip_sample, context(), start_frame=0, end_frame=60, prompt="blue")
    assert all(frame.frame_index < 60 for frame in result.frames)


@pytest.mark.anyio
async def test_tools_may_show_pictures_of_their_own(context: Callable[..., ToolContext]) -> None:
    access = context().frames
    (frame,) = await access.pixels([120])
    assert frame.pixels.shape == (96, 160, 3)  # full size
    crop = access.encode(Frame(120, frame.timestamp_seconds, frame.pixels[:40, :40]))
    assert (crop.frame_index, crop.width, crop.height) == (120, 40, 40)  # never enlarged
    whole = access.encode(frame)
    (shown,) = await access.at([120])
    assert (whole.width, whole.height) == (shown.width, shown.height) == (80, 48)
