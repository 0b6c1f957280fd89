"""Search over several videos."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.index.encoders import ColourEncoder
from videobrain.errors import InputError
from videobrain.index import FrameIndex, Library, SharedEncoder
from videobrain.settings import Settings
from videobrain.testing import make_video
from videobrain.video import VideoPool

pytestmark = pytest.mark.anyio


@pytest.fixture
async def indexes(pool: VideoPool, scenes: Path, settings: Settings, tmp_path: Path) -> list[FrameIndex]:
    other = make_video(tmp_path / "other.mp4", seconds=20, fps=10, size=(96, 64), scenes=("blue", "magenta"))
    encoder = SharedEncoder(ColourEncoder())
    return [FrameIndex(await pool.open(path), encoder, None, settings) for path in (scenes, other)]


@pytest.mark.parametrize("backend", ["auto", "exact", "hnsw"])
async def test_one_call_searches_all_videos(indexes: list[FrameIndex], backend: str) -> None:
    library = Library(indexes, backend=backend)
    first, second = (index.video.info.source for index in indexes)
    assert {hit.video for hit in await library.search("yellow")} == {first}
    assert {hit.video for hit in await library.search("magenta")} == {second}
    blue = await library.search("blue", k=30)
    assert {hit.video for hit in blue} == {first, second}
    assert [hit.similarity for hit in blue] == sorted((hit.similarity for hit in blue), reverse=True)


async def test_both_backends_find_the_same(indexes: list[FrameIndex]) -> None:
    for query in ("red", "blue", "green magenta"):
        exact = await Library(indexes, backend="exact").search(query, k=8)
        assert await Library(indexes, backend="hnsw").search(query, k=8) == exact
        assert len(exact) == 8


async def test_near_duplicates_are_left_out_within_each_video(indexes: list[FrameIndex]) -> None:
    for index in indexes:
        index.settings = index.settings.model_copy(update={"min_gap_seconds": 20.0})
    for backend in ("exact", "hnsw"):
        hits = await Library(indexes, backend=backend).search("blue", k=4)
        for index in indexes:
            times = sorted(hit.timestamp_seconds for hit in hits if hit.video == index.video.info.source)
            assert times
            assert all(later - earlier >= 20 for earlier, later in pairwise(times))


async def test_a_range_of_time_holds_within_each_video(indexes: list[FrameIndex]) -> None:
    hits = await Library(indexes, backend="hnsw").search("blue", k=10, start_seconds=15, end_seconds=25)
    assert hits
    assert all(15 <= hit.timestamp_seconds < 25 for hit in hits)
    # The second video ends at 20 s: it is left out, not an error.
    hits = await Library(indexes).search("white", start_seconds=50)
    assert {hit.video for hit in hits} == {indexes[0].video.info.source}
    with pytest.raises(InputError, match="between"):
        await Library(indexes).search("white", start_seconds=1000)


async def test_a_library_needs_videos_and_one_encoder(indexes: list[FrameIndex], settings: Settings) -> None:
    with pytest.raises(InputError, match="no video"):
        Library([])
    stranger = FrameIndex(indexes[0].video, ColourEncoder(), None, settings)
    with pytest.raises(InputError, match="different encoders"):
        Library([*indexes, stranger])


async def test_preparing_reports_progress(indexes: list[FrameIndex]) -> None:
    told: list[tuple[int, int]] = []
    await Library(indexes).prepare(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (160, 160)
    assert told == sorted(told)
