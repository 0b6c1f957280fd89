"""A part of a video is a video: its frames and times count from its own start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.index.encoders import ColourEncoder
from videobrain import Settings, VideoBrain
from videobrain.errors import ConfigurationError, NoFramesError, SubtitleError
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


SRT = """1
00:00:01,000 --> 00:00:02,500
before and into it

2
00:00:04,000 --> 00:00:05,000
in it

3
00:00:06,500 --> 00:00:07,000
after it
"""


async def test_subtitles_are_in_the_time_of_the_part(video: Path, settings: Settings, tmp_path: Path) -> None:
    srt = tmp_path / "scenes.srt"
    srt.write_text(SRT, "utf-8")
    async with VideoPool(settings) as pool:
        whole = await pool.open(video)
        part = await pool.open(Clip(video, 2.0, 6.0))
        found = await part.subtitles(srt)
        assert [line[:4] for line in found.lines] == [(0, 5, 0.0, 0.5), (20, 30, 2.0, 3.0)]
        assert await (await pool.open(Clip(video, 2.0, 6.0))).subtitles(srt) is found  # read once for all questions
        assert [line.start_frame for line in (await whole.subtitles(srt, start_seconds=2.0)).lines] == [0, 20, 45]
        cut = await part.subtitles(srt, start_seconds=1.0)  # the whole video begins a second into the subtitles
        assert [line[2:] for line in cut.lines] == [(1.0, 2.0, "in it"), (3.5, 4.0, "after it")]
        with pytest.raises(SubtitleError, match="no subtitle stream"):
            await part.subtitles("embedded")
        with pytest.raises(ConfigurationError):
            await part.subtitles(srt, start_seconds="1")  # type: ignore[arg-type]


async def test_a_question_about_a_part_is_told_what_is_said_in_it(
    video: Path, settings: Settings, tmp_path: Path
) -> None:
    srt = tmp_path / "scenes.srt"
    srt.write_text(SRT, "utf-8")
    model = ScriptedModel(["<thinking>It is said.</thinking>\n<answer>in it</answer>"])
    async with model, VideoBrain(model, settings=settings) as brain:
        answer = await brain.ask(Clip(video, 2.0, 6.0), "What is said?", subtitles=srt)
    asked = model.requests[0].messages[-1].text
    assert "before and into it" in asked
    assert "after it" not in asked
    assert answer.warnings == ()


def test_a_part_is_a_video_of_a_question() -> None:
    question = Question(video=Clip("match.mp4", 1.0, 2.0), question="Who?")
    assert Question.model_validate_json(question.model_dump_json()) == question
