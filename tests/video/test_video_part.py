"""A part of a video is a video: its frames and times count from its own start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index.encoders import ColourEncoder
from videobrain import Settings, VideoBrain
from videobrain.errors import NoFramesError
from videobrain.result import Clip, Question
from videobrain.testing import ScriptedModel, make_video, read_frame_index
from videobrain.video import FrameSize, VideoPool

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of 10 frames: red, green, blue, yellow, two seconds each."""
    return make_video(tmp_path_factory.mktemp("videos") / "scenes.mp4", seconds=8, fps=10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(decoder="pyav", cache_dir=tmp_path, warm_index=False)


async def test_frames_and_times_count_from_the_start_of_the_part(video: Path, settings: Settings) -> None:
    async with VideoPool(settings) as pool:
        part = await pool.open(Clip(video, 2.0, 4.05))
        whole = await pool.open(video)
        assert (len(part), part.info.frame_count, part.info.duration_seconds) == (21, 21, pytest.approx(2.05))
        assert part.key != whole.key
        frames = await part.frames([20, 0, 3])
        assert [frame.frame_index for frame in frames] == [0, 3, 20]
        assert [frame.timestamp_seconds for frame in frames] == pytest.approx([0.0, 0.3, 2.0])
        assert [read_frame_index(frame.pixels) for frame in frames] == [20, 23, 40]
        (encoded,) = await part.encoded([1], size=FrameSize(320, 180))
        (same,) = await whole.encoded([21], size=FrameSize(320, 180))
        assert (encoded.frame_index, encoded.jpeg) == (1, same.jpeg)
        assert part.table.index_at(0.45) == 4
        with pytest.raises(IndexError, match="it has 21"):
            await part.frames([21])


async def test_a_part_ends_with_the_video_and_must_have_a_frame(video: Path, settings: Settings) -> None:
    async with VideoPool(settings) as pool:
        part = await pool.open(Clip(video, 7.0, 100.0))
        assert (len(part), part.info.duration_seconds) == (10, pytest.approx(1.0))
        with pytest.raises(NoFramesError, match=r"no frame from 9 to 10 s; it ends at 8 s"):
            await pool.open(Clip(video, 9.0, 10.0))


async def test_a_question_about_a_part_sees_and_searches_nothing_else(video: Path, settings: Settings) -> None:
    asked = '{"name": "clip_sample", "arguments": {"start_frame": 0, "end_frame": 40, "prompt": "red"}}'
    call = f"<thinking>Where is red?</thinking>\n<tool_call>{asked}</tool_call>"
    model = ScriptedModel([call, "<thinking>None.</thinking>\n<answer>green</answer>"])
    async with VideoBrain(model, encoder=ColourEncoder(), settings=settings) as brain:
        answer = await brain.ask(Clip(video, 2.0, 6.0), "Which colour comes first?")
        hits = await brain.search(Clip(video, 2.0, 6.0), "blue", k=1)
    assert answer.text == "green"
    assert max(shown.timestamp_seconds for shown in answer.evidence) < 4.0
    assert {shown.frame_index for shown in answer.evidence} <= set(range(40))
    assert 20 <= hits[0].frame_index < 40


def test_a_part_is_a_video_of_a_question() -> None:
    question = Question(video=Clip("match.mp4", 1.0, 2.0), question="Who?")
    assert Question.model_validate_json(question.model_dump_json()) == question
