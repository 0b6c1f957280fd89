"""The files: what is decoded from them is what the questions say, found out from pixels alone."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from videobrain import VideoBrain
from videobrain.errors import ConfigurationError, InputError
from videobrain.index import candidate_frames
from videobrain.settings import Settings
from videobrain.testing import ScriptedModel, make_video
from videobrain.video import Video, VideoPool, evenly_spaced
from videobrain.world import (
    COLOURS,
    FPS,
    World,
    WorldQuestion,
    is_world_video,
    read_questions,
    write_dataset,
)

Pixels = npt.NDArray[np.uint8]
ORDINALS = ("first", "second", "third")


@pytest.fixture
async def pool() -> AsyncIterator[VideoPool]:
    async with VideoPool(Settings(decoder="pyav")) as pool:
        yield pool


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_same_video_is_the_same_file(world: World, world_file: Path, tmp_path: Path) -> None:
    assert world.write(tmp_path / "again.mp4").read_bytes() == world_file.read_bytes()


def test_files_carry_what_they_are_made_from(world: World, world_file: Path, tmp_path: Path) -> None:
    with av.open(str(world_file)) as container:
        assert container.metadata["comment"] == world.comment
        assert container.streams.video[0].codec_context.name == "h264"
    assert is_world_video(world_file)
    assert is_world_video(str(world_file))
    assert is_world_video(world_file.read_bytes())
    assert not is_world_video(make_video(tmp_path / "other.mp4", seconds=1))
    assert not is_world_video(tmp_path / "missing.mp4")
    assert not is_world_video(b"no video")
    assert not is_world_video("https://example.com/video.mp4")


@pytest.mark.anyio
async def test_an_open_video_knows_its_comment(world: World, world_file: Path, pool: VideoPool, tmp_path: Path) -> None:
    video = await pool.open(world_file)
    other = await pool.open(make_video(tmp_path / "other.mp4", seconds=1))
    assert (video.comment, other.comment) == (world.comment, "")
    assert is_world_video(video)
    assert not is_world_video(other)


@pytest.mark.anyio
async def test_frames_and_times_are_as_planned(world: World, world_file: Path, pool: VideoPool) -> None:
    video = await pool.open(world_file)
    assert video.info.duration_seconds == pytest.approx(world.duration_seconds)
    assert np.allclose(video.table.timestamps_seconds, np.arange(world.frame_count) / FPS)
    assert not video.info.variable_frame_rate
    assert (video.info.width, video.info.height) == (128, 128)
    assert world.initial_frames == evenly_spaced(0, len(video.table), Settings().initial_frames)
    assert world.grid_frames == candidate_frames(video.table, 0, len(video.table), Settings())
    for frame in await video.frames(evenly_spaced(0, world.frame_count, 60)):
        difference = frame.pixels.astype(float) - world.draw(frame.frame_index)
        assert np.mean(difference**2) < 255**2 / 10**2.8  # 28 dB


def test_a_video_is_written_much_faster_than_it_is_watched(tmp_path: Path) -> None:
    world = World(1, duration_seconds=240)
    began = time.process_time()
    world.write(tmp_path / "video.mp4")
    assert world.duration_seconds / (time.process_time() - began) > 60


# --- What the pixels say ---------------------------------------------------------------------------------------------

_NAMES = tuple(COLOURS)
_FEWEST = 90
"""Pixels that the smallest of all objects has at the least."""


def colours_of(pixels: Pixels) -> set[str]:
    """Names of the bright colours that a frame shows, by the nearest of the eight."""
    high, low = pixels.max(axis=-1).astype(int), pixels.min(axis=-1).astype(int)
    bright = pixels[(high - low > 95)].astype(int)
    palette = np.array([COLOURS[name] for name in _NAMES])
    distance = np.linalg.norm(bright[:, None] - palette[None], axis=-1)
    nearest = distance.argmin(axis=1)[distance.min(axis=1) < 60]
    counts = np.bincount(nearest, minlength=len(_NAMES))
    return {name for name, count in zip(_NAMES, counts, strict=True) if count >= _FEWEST}


def screen_of(pixels: Pixels) -> str | None:
    """Colour that fills a frame from corner to corner."""
    corners = [pixels[4:12, 4:12], pixels[4:12, -12:-4], pixels[-12:-4, 4:12], pixels[-12:-4, -12:-4]]
    corners.append(pixels[60:68, 60:68])
    found = [colours_of(np.repeat(np.repeat(corner, 4, 0), 4, 1)) for corner in corners]
    return next(iter(found[0])) if len(set.union(*found)) == 1 and all(found) else None


def card_share(pixels: Pixels) -> float:
    """Share of a frame that a dark card with a bright glyph may be: white pixels beside near-black ones."""
    white = (pixels.min(axis=-1) > 215).mean()
    black = (pixels.max(axis=-1) < 45).mean()
    return float(min(white, black))


async def pixels_of(video: Video, frames: Sequence[int]) -> list[Pixels]:
    return [frame.pixels for frame in await video.frames(frames)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dataset")
    write_dataset(directory, "test", 12, seed=100, duration_seconds=200)
    return directory


@pytest.fixture(scope="module")
def questions(dataset: Path) -> list[WorldQuestion]:
    return read_questions(dataset / "questions.jsonl")


def of(questions: list[WorldQuestion], kind: str, template: str) -> list[WorldQuestion]:
    found = [question for question in questions if (question.kind, question.template) == (kind, template)]
    assert found, f"no {kind} question of {template} in the sample; take another seed"
    return found


def within(question: WorldQuestion, frames: Sequence[int]) -> list[int]:
    (span,) = question.spans
    return [frame for frame in frames if span.start_seconds <= frame / FPS < span.end_seconds]


@pytest.mark.anyio
async def test_a_searched_colour_is_in_its_event_and_in_no_initial_frame(
    questions: list[WorldQuestion], dataset: Path, pool: VideoPool
) -> None:
    for question in of(questions, "search", "shape_of_colour"):
        colour = next(word for word in question.question.split() if word in COLOURS)
        video = await pool.open(dataset / question.video)
        grid = candidate_frames(video.table, 0, len(video.table), Settings())
        event = within(question, grid)
        assert event
        assert all(colour in colours_of(pixels) for pixels in await pixels_of(video, event))
        initial = evenly_spaced(0, len(video.table), 16)
        shown = [pixels for pixels in await pixels_of(video, initial) if screen_of(pixels) is None]
        assert len(shown) >= 12
        assert not any(colour in colours_of(pixels) for pixels in shown)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["direct", "search"])
async def test_the_colour_of_a_shape_is_seen_where_it_is_said_to_be(
    kind: str, questions: list[WorldQuestion], dataset: Path, pool: VideoPool
) -> None:
    for question in of(questions, kind, "colour_of_shape"):
        video = await pool.open(dataset / question.video)
        count = len(video.table)
        looked = evenly_spaced(0, count, 16)
        if kind == "search":
            looked = candidate_frames(video.table, 0, count, Settings())
        shown = [question.answer in colours_of(pixels) for pixels in await pixels_of(video, within(question, looked))]
        assert sum(shown) >= (len(shown) if kind == "search" else 2)


@pytest.mark.anyio
async def test_a_searched_glyph_is_on_a_card(questions: list[WorldQuestion], dataset: Path, pool: VideoPool) -> None:
    for question in of(questions, "search", "glyph_shown"):
        video = await pool.open(dataset / question.video)
        (span,) = question.spans
        (before, during) = await pixels_of(
            video, [round(span.start_seconds * FPS) - 1, round(span.start_seconds * FPS) + 3]
        )
        assert card_share(during) > card_share(before) + 0.01


@pytest.mark.anyio
@pytest.mark.parametrize("template", ["screen_order", "screen_nth"])
async def test_eight_frames_of_the_interval_show_the_order_and_sixteen_of_the_video_do_not(
    template: str, questions: list[WorldQuestion], dataset: Path, pool: VideoPool
) -> None:
    def flashes(frames: Sequence[Pixels]) -> list[str]:
        return [colour for colour, _ in groupby(map(screen_of, frames)) if colour is not None]

    for question in of(questions, "dense", template):
        video = await pool.open(dataset / question.video)
        (span,) = question.spans
        start, end = round(span.start_seconds * FPS), round(span.end_seconds * FPS)
        seen = flashes(await pixels_of(video, evenly_spaced(start, end, 8)))
        assert len(seen) == 3
        if template == "screen_order":
            assert ", ".join(seen) == question.answer
        else:
            ordinal = next(
                number for number, word in enumerate(ORDINALS) if word in question.question.rstrip("?").split()
            )
            assert seen[ordinal] == question.answer
        initial = within(question, evenly_spaced(0, len(video.table), 16))
        assert len(flashes(await pixels_of(video, initial))) < 3


@pytest.mark.anyio
async def test_counted_objects_come_and_go_as_often_as_the_answer_says(
    questions: list[WorldQuestion], dataset: Path, pool: VideoPool
) -> None:
    counted = 0
    for question in of(questions, "dense", "count_of"):
        world = World(int(question.key[5:11]), split="test", duration_seconds=200)
        (span,) = question.spans
        start, end = round(span.start_seconds * FPS), round(span.end_seconds * FPS)
        words = question.question.split()
        colour, shape = next(pair for pair in pairwise(words) if pair[0] in COLOURS)
        others = {thing for frame in range(start, end, 2) for thing in world.state(frame).things}
        if any(thing.colour == colour and thing.shape != shape for thing in others):
            continue  # the colour alone does not tell
        video = await pool.open(dataset / question.video)
        looked = await pixels_of(video, evenly_spaced(start, end, 8))
        shown = [colour in colours_of(pixels) for pixels in looked]
        assert sum(there for there, _ in groupby(shown)) == int(question.answer)
        counted += 1
    assert counted


@pytest.mark.anyio
async def test_the_calls_of_a_question_lead_to_its_answer(world: World, world_file: Path) -> None:
    """Played through the front door by a model that does what the question says."""
    for question in (question for question in world.questions if question.kind != "search"):
        calls = [f"<tool_call>{call.model_dump_json()}</tool_call>" for call in question.calls]
        replies = [*calls, f"<answer>{question.letter or question.answer}</answer>"]
        async with (
            ScriptedModel([f"<thinking>…</thinking>{reply}" for reply in replies]) as model,
            VideoBrain(model, settings=Settings(warm_index=False)) as brain,
        ):
            answer = await brain.ask(world_file, question.question, options=question.options)
        assert answer.usage.corrections == 0
        assert question.accepts(answer.text)
        assert answer.choice == question.letter
        shown = [evidence.frame_index for evidence in answer.evidence]
        assert world.answer_from(question, shown[16:] or shown) == question.answer


# --- Data sets -------------------------------------------------------------------------------------------------------


def test_a_dataset_is_a_folder_and_a_file_of_lines(dataset: Path, questions: list[WorldQuestion]) -> None:
    assert len(questions) == 72
    assert {path.name for path in dataset.iterdir()} == {question.video for question in questions} | {"questions.jsonl"}
    assert sum(question.options is None for question in questions) == 36
    assert {kind: sum(question.kind == kind for question in questions) for kind in ("direct", "search", "dense")} == {
        "direct": 24,
        "search": 24,
        "dense": 24,
    }


def test_a_second_start_keeps_whole_files_and_writes_the_rest(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = write_dataset(tmp_path, "train", 3, seed=5, duration_seconds=120, unanswerable=True)
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 21
    kept, lost, cut = sorted(tmp_path.glob("*.mp4"))
    whole = cut.read_bytes()
    os.utime(kept, (1, 1))
    lost.unlink()
    cut.unlink()
    left = tmp_path / f".{cut.name}.0123abcd.part"  # of a process that was killed
    left.write_bytes(whole[:1000])
    write_dataset(
        tmp_path, "train", 3, seed=5, duration_seconds=120, unanswerable=True,
        progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    assert kept.stat().st_mtime == 1
    assert lost.is_file()
    assert cut.read_bytes() == whole
    assert list(tmp_path.glob(".*")) == [left]  # of others nothing is known
    assert path.read_text("utf-8").splitlines() == lines
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_video_whose_length_was_not_asked_for_is_another_than_one_of_the_same_length(tmp_path: Path) -> None:
    drawn = World(seed=11)  # a short one
    (video,) = write_dataset(tmp_path, "train", 1, seed=11).parent.glob("*.mp4")
    before = video.read_bytes()
    write_dataset(tmp_path, "train", 1, seed=11, duration_seconds=round(drawn.duration_seconds))
    assert video.read_bytes() != before


@pytest.mark.parametrize("content", ["cut", "other length", "other video", "no video"])
def test_what_is_not_the_whole_video_is_written_anew(content: str, tmp_path: Path) -> None:
    write_dataset(tmp_path, "train", 1, duration_seconds=120)
    path = tmp_path / "train-000000.mp4"
    whole = path.read_bytes()
    match content:
        case "cut":
            path.write_bytes(whole[:-2000])
        case "other length":
            World(0, duration_seconds=150).write(path)
        case "other video":
            make_video(path, seconds=1)
        case _:
            path.write_bytes(b"no video")
    write_dataset(tmp_path, "train", 1, duration_seconds=120)
    assert path.read_bytes() == whole


def test_two_processes_write_the_same_dataset(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    one, two = tmp_path / "one", tmp_path / "two"
    write_dataset(one, "validation", 2, duration_seconds=120)
    write_dataset(
        two, "validation", 2, duration_seconds=120, processes=2, progress=lambda done, of: seen.append((done, of))
    )
    assert seen == [(1, 2), (2, 2)]
    assert [path.read_bytes() for path in sorted(one.iterdir())] == [
        path.read_bytes() for path in sorted(two.iterdir())
    ]


def test_what_is_no_file_of_questions_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.jsonl holds no questions"):
        read_questions(tmp_path / "missing.jsonl")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n', "utf-8")
    with pytest.raises(InputError, match=r"(?s)Line 1 of .*write_dataset"):
        read_questions(tmp_path / "other.jsonl")


@pytest.mark.parametrize(("videos", "processes"), [(0, 1), (-3, 1), (1, 0)])
def test_a_data_set_without_videos_or_processes_is_refused(tmp_path: Path, videos: int, processes: int) -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        write_dataset(tmp_path / "new", "test", videos, processes=processes)
    assert not (tmp_path / "new").exists()


def test_frames_have_the_rate_of_the_header(world_file: Path) -> None:
    with av.open(str(world_file)) as container:
        assert container.streams.video[0].average_rate == Fraction(FPS)
