"""Which frames a search looks at."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videobrain.index import candidate_frames
from videobrain.index.grid import FEWEST, dense_frames
from videobrain.settings import Settings
from videobrain.video import FrameTable, evenly_spaced


def table_of(times: list[float]) -> FrameTable:
    count = len(times)
    return FrameTable(
        timestamps_seconds=np.array(times, np.float64),
        pts=np.arange(count, dtype=np.int64),
        keyframes=np.ones(count, np.bool_),
        duration_seconds=times[-1] + 0.04,
        time_base=Fraction(1, 1000),
    )


def constant(seconds: float, fps: float, start: float = 0.0) -> FrameTable:
    return table_of([start + i / fps for i in range(round(seconds * fps))])


tables = st.builds(
    lambda start, gaps: table_of(list(accumulate(gaps, initial=start))),
    st.floats(0, 5),
    st.lists(st.floats(0.001, 3.0), min_size=1, max_size=200),
)
grids = st.builds(
    lambda fps, cap: Settings(index_fps=fps, index_max_frames=cap),
    st.sampled_from([0.5, 1.0, 7.0]),
    st.integers(16, 64),
)


def test_one_frame_for_each_second() -> None:
    frames = candidate_frames(constant(100, 24), 0, 2400, Settings())
    assert frames == [24 * second for second in range(100)]


def test_a_grid_frame_is_the_one_shown_at_its_time() -> None:
    # At 0.5 s a frame comes, and nothing for ten seconds: it is shown at 1 s, 2 s, … and stands for all of them.
    table = table_of([0.0, 0.5, *(10.2 + i for i in range(30))])
    frames = candidate_frames(table, 0, len(table), Settings())
    assert frames == [0, 1, *range(2, 31)]  # the last frame ends before 40 s


def test_a_last_frame_that_stays_is_looked_at() -> None:
    times = [i / 10 for i in range(205)]
    table = replace(table_of(times), duration_seconds=40.0)
    assert candidate_frames(table, 0, 205, Settings()) == [*range(0, 205, 10), 204]


def test_times_count_from_the_container_and_not_from_the_first_frame() -> None:
    table = constant(60, 10, start=1.45)
    frames = candidate_frames(table, 0, len(table), Settings())
    assert frames[:2] == [5, 15]
    assert table.timestamps_seconds[frames[0]] <= 2.0 < table.timestamps_seconds[frames[0] + 1]


def test_a_long_range_uses_every_second_grid_point() -> None:
    settings = Settings(index_max_frames=60)
    table = constant(200, 10)
    # 200 points, so every fourth; a range that begins elsewhere meets the same points.
    assert candidate_frames(table, 0, 2000, settings) == [40 * i for i in range(50)]
    assert candidate_frames(table, 70, 2000, settings) == [40 * i for i in range(2, 50)]


def test_a_short_range_is_sampled_evenly() -> None:
    table = constant(200, 25)
    assert candidate_frames(table, 100, 200, Settings()) == evenly_spaced(100, 200, FEWEST)
    assert candidate_frames(table, 100, 103, Settings()) == [100, 101, 102]
    assert candidate_frames(table, 7, 7, Settings()) == []


@pytest.mark.parametrize(("frames", "expected"), [(100, 100), (20_000, 128), (20_001, 256)])
def test_paper_mode(frames: int, expected: int) -> None:
    table = constant(frames / 10, 10)
    found = candidate_frames(table, 0, frames, Settings(candidates="paper"))
    assert found == evenly_spaced(0, frames, expected)


@given(tables, grids, st.data())
def test_candidates_lie_in_the_range_and_on_the_grid(
    table: FrameTable, settings: Settings, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(table) - 1))
    end = data.draw(st.integers(start + 1, len(table)))
    frames = candidate_frames(table, start, end, settings)
    assert frames
    assert frames == sorted(set(frames))
    assert start <= frames[0] <= frames[-1] < end
    assert len(frames) <= settings.index_max_frames
    shown = {
        table.index_at(k / settings.index_fps)
        for k in range(5000)
        if table.timestamps_seconds[0] <= k / settings.index_fps < table.duration_seconds - 1e-3
    }
    grid = sorted(frame for frame in shown if start <= frame < end)
    if FEWEST < len(grid) < settings.index_max_frames:
        assert set(grid) <= set(frames)
        assert len(frames) <= len(grid) + 1  # a grid point within the last millisecond
    elif len(grid) > settings.index_max_frames:
        assert set(frames) <= {*grid, len(table) - 1}
        assert len(frames) > settings.index_max_frames // 4


@given(tables, grids)
def test_the_dense_grid_serves_every_range_it_should(table: FrameTable, settings: Settings) -> None:
    whole = candidate_frames(table, 0, len(table), settings)
    assert set(whole) <= set(dense_frames(table, settings))
