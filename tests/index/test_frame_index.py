"""The frame index on a real video: what it finds, what it embeds, what it keeps."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import anyio
import numpy as np
import pytest

from tests.index.encoders import ColourEncoder
from videobrain.errors import DecodeTimeoutError, EncoderUnavailableError, InputError, MissingDependencyError
from videobrain.index import FrameIndex, IndexStore, SharedEncoder, candidate_frames, frame_index
from videobrain.settings import Settings
from videobrain.video import Video, VideoPool

pytestmark = pytest.mark.anyio


async def test_it_finds_what_is_asked_for_in_time_order(video: Video, settings: Settings) -> None:
    index = FrameIndex(video, ColourEncoder(), None, settings)
    for query, scenes in {"a red ball": {0, 4}, "green": {1}, "something blue": {2}, "white": {5}}.items():
        hits = await index.search(query, k=6)
        assert [hit.frame_index for hit in hits] == sorted(hit.frame_index for hit in hits)
        assert {int(hit.timestamp_seconds // 10) for hit in hits} <= scenes, query
        assert len(hits) == 6
        assert all(0.8 < hit.similarity <= 1 for hit in hits)
        assert {hit.video for hit in hits} == {video.info.source}


async def test_a_search_stays_within_its_range(video: Video, settings: Settings) -> None:
    encoder = ColourEncoder()
    index = FrameIndex(video, encoder, None, settings)
    hits = await index.search("red", k=4, start_frame=300, end_frame=600)
    assert {int(hit.timestamp_seconds // 10) for hit in hits} == {4}
    assert encoder.images == len(index) == len(candidate_frames(video.table, 300, 600, settings)) == 60
    hits = await index.search("red", k=4, start_frame=100, end_frame=200)
    assert all(100 <= hit.frame_index < 200 for hit in hits)


async def test_results_do_not_depend_on_what_is_embedded(video: Video, settings: Settings) -> None:
    draw = random.Random(0)
    warm = FrameIndex(video, ColourEncoder(), None, settings)
    for _ in range(12):
        start = draw.randrange(0, len(video.table) - 1)
        end = draw.randrange(start + 1, len(video.table) + 1)
        query = draw.choice(["red", "green and blue", "white", "black magenta"])
        fresh = FrameIndex(video, ColourEncoder(), None, settings)
        asked = {"k": draw.choice([1, 4, 9]), "start_frame": start, "end_frame": end}
        assert await warm.search(query, **asked) == await fresh.search(query, **asked)


async def test_each_frame_is_embedded_once(video: Video, settings: Settings) -> None:
    encoder = ColourEncoder(seconds=0.001)
    index = FrameIndex(video, encoder, None, settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(index.build)
        for start in (0, 100, 150, 333):
            tasks.start_soon(lambda start=start: index.search("red", start_frame=start))
        tasks.start_soon(index.build)
    assert encoder.images == len(index)
    before = len(index)
    await index.search("green", start_frame=100)
    assert encoder.images == len(index) == before


async def test_a_search_does_not_wait_for_a_build_to_end(video: Video, settings: Settings) -> None:
    encoder = ColourEncoder(seconds=0.02)
    index = FrameIndex(video, encoder, None, settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(index.build)
        await _until_it_embeds(encoder)
        hits = await index.search("white", start_frame=500, end_frame=520)
        assert hits
        assert len(index) < 100, "the build was over before the search"
        tasks.cancel_scope.cancel()


async def test_building_reports_progress(video: Video, settings: Settings) -> None:
    index = FrameIndex(video, ColourEncoder(), None, settings)
    told: list[tuple[int, int]] = []
    await index.build(progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 120)
    assert told[-1] == (120, 120)
    assert len(told) > 5
    assert told == sorted(told)
    assert len(index) == 120
    again: list[tuple[int, int]] = []
    await index.build(progress=lambda done, total: again.append((done, total)))
    assert again == [(120, 120)]


async def test_a_cancelled_build_leaves_nothing_running_and_keeps_its_work(video: Video, settings: Settings) -> None:
    encoder = ColourEncoder(seconds=0.05)
    index = FrameIndex(video, encoder, IndexStore(settings), settings)
    with anyio.move_on_after(1.0) as scope:
        await index.build()
    assert scope.cancelled_caught
    await anyio.sleep(0.5)
    assert not encoder.working
    images = encoder.images
    assert 0 < images < 120
    await anyio.sleep(0.3)
    assert encoder.images == images
    assert not index._claims

    kept = FrameIndex(video, second := ColourEncoder(), IndexStore(settings), settings)
    await kept.build()
    assert 0 < second.images < 120
    assert len(kept) == 120


async def test_a_search_takes_over_frames_of_a_cancelled_build(video: Video, settings: Settings) -> None:
    encoder = ColourEncoder(seconds=0.02)
    index = FrameIndex(video, encoder, None, settings)
    found: list[int] = []

    async def search() -> None:
        found.extend(hit.frame_index for hit in await index.search("red"))

    async with anyio.create_task_group() as searches, anyio.create_task_group() as builds:
        builds.start_soon(index.build)
        await _until_it_embeds(encoder)
        searches.start_soon(search)
        await anyio.sleep(0.05)
        builds.cancel_scope.cancel()
    assert len(found) == 4
    assert len(index) == 120


async def test_a_second_run_embeds_nothing(video: Video, settings: Settings) -> None:
    first = FrameIndex(video, ColourEncoder(), IndexStore(settings), settings)
    hits = await first.search("green")
    encoder = ColourEncoder()
    second = FrameIndex(video, encoder, IndexStore(settings), settings)
    assert await second.search("green") == hits
    assert encoder.images == 0
    denser = settings.model_copy(update={"index_fps": 4.0})
    third = FrameIndex(video, encoder, IndexStore(settings), denser)
    await third.build()
    assert encoder.images == 120  # the other half


async def test_another_encoder_or_a_damaged_file_is_embedded_anew(video: Video, settings: Settings) -> None:
    store = IndexStore(settings)
    hits = await FrameIndex(video, ColourEncoder(), store, settings).search("green")
    other = ColourEncoder(version="2")
    await FrameIndex(video, other, store, settings).search("green")
    assert other.images == 120
    path = store.path(video.key, ColourEncoder().fingerprint)
    path.write_bytes(path.read_bytes()[:-4])
    again = ColourEncoder()
    assert await FrameIndex(video, again, store, settings).search("green") == hits
    assert again.images == 120


async def test_two_indexes_of_one_video_add_up_on_disk(video: Video, settings: Settings) -> None:
    store = IndexStore(settings)
    one = FrameIndex(video, ColourEncoder(), store, settings)
    two = FrameIndex(video, ColourEncoder(), store, settings)
    await one.search("red", end_frame=300)
    await two.search("red", start_frame=300)
    assert store.list()[0].frames == 120


async def test_frames_that_another_process_stores_meanwhile(
    video: Video, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_index, "_SAVE_SECONDS", 0.0)  # saves, and so learns of the other, after each batch
    store = IndexStore(settings)
    slow = ColourEncoder(seconds=0.005)
    one = FrameIndex(video, slow, store, settings)
    two = FrameIndex(video, ColourEncoder(), store, settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.build)
        await _until_it_embeds(slow)
        tasks.start_soon(two.build)
    assert slow.images < 120, "the other was not faster"
    fresh = FrameIndex(video, ColourEncoder(), None, settings)
    await fresh.build()
    frames, expected = await fresh.embeddings(fresh.frames)
    for index in (one, two, FrameIndex(video, ColourEncoder(), store, settings)):
        await index.ensure(frames)
        known, vectors = await index.embeddings(frames)
        assert known == frames
        assert (vectors == expected).all()


async def test_near_duplicates_are_left_out_by_setting(video: Video, settings: Settings) -> None:
    index = FrameIndex(video, ColourEncoder(), None, settings.model_copy(update={"min_gap_seconds": 8.0}))
    hits = await index.search("red", k=3)
    times = [hit.timestamp_seconds for hit in hits]
    assert len(times) == 3
    assert min(later - earlier for earlier, later in pairwise(times)) >= 8.0


async def test_fewer_frames_than_asked_for(video: Video, settings: Settings) -> None:
    index = FrameIndex(video, ColourEncoder(), None, settings)
    assert len(await index.search("red", k=50, start_frame=5, end_frame=8)) == 3


async def test_what_cannot_be_searched(video: Video, settings: Settings) -> None:
    index = FrameIndex(video, encoder := ColourEncoder(), None, settings)
    with pytest.raises(InputError, match="frames 0 to 599"):
        await index.search("red", start_frame=600, end_frame=700)
    with pytest.raises(InputError, match="empty"):
        await index.search("  ")
    with pytest.raises(InputError, match="at least 1"):
        await index.search("red", k=0)
    assert encoder.loads == 0


@pytest.mark.parametrize(
    "failure", [EncoderUnavailableError("no weights"), MissingDependencyError("no weights", extra="local")]
)
async def test_a_failure_to_load_is_remembered(video: Video, settings: Settings, failure: Exception) -> None:
    encoder = ColourEncoder(failure=failure)
    shared = SharedEncoder(encoder)
    for _ in range(2):
        with pytest.raises(EncoderUnavailableError, match="no weights"):
            await FrameIndex(video, shared, None, settings).search("red")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(_expect_failure, shared)
    assert encoder.loads == 1


async def _until_it_embeds(encoder: ColourEncoder) -> None:
    while encoder.images == 0:  # noqa: ASYNC110 - the encoder works in a thread and knows no events
        await anyio.sleep(0.01)


async def _expect_failure(shared: SharedEncoder) -> None:
    with pytest.raises(EncoderUnavailableError):
        await shared.load()


async def test_an_encoder_is_loaded_once_and_called_by_one_at_a_time() -> None:
    encoder = ColourEncoder(seconds=0.002)  # raises where two call it at a time
    shared = SharedEncoder(encoder)
    images = [np.full((8, 8, 3), i, np.uint8) for i in range(20)]
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(shared.embed_images, images)
    assert encoder.loads == 1
    assert encoder.images == 100
    with anyio.move_on_after(0.01):
        await shared.embed_images(images)
    await shared.embed_images(images)  # waits until the abandoned call has ended


async def test_a_slow_encoder_gets_few_frames_at_once() -> None:
    encoder = ColourEncoder(seconds=0.1)
    await SharedEncoder(encoder).embed_images([np.zeros((8, 8, 3), np.uint8)] * 10)
    assert encoder.largest_call <= 3


async def test_frames_that_cannot_be_decoded_are_passed_over(pool: VideoPool, videos: Path, settings: Settings) -> None:
    video = await pool.open(videos / "corrupted.mp4")
    encoder = ColourEncoder()
    index = FrameIndex(video, encoder, None, settings.model_copy(update={"index_fps": 50.0}))
    await index.build()
    await index.search("black")
    assert encoder.images == len(index)
    assert 0 < len(index) <= len(video.table)


async def test_a_decoding_error_keeps_its_type(
    video: Video, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def overrun(*_: object, **__: object) -> None:
        raise DecodeTimeoutError("too slow")

    monkeypatch.setattr(video, "frames", overrun)
    index = FrameIndex(video, ColourEncoder(), None, settings)
    with pytest.raises(DecodeTimeoutError, match="too slow"):
        await index.search("red")
    assert not index._claims
