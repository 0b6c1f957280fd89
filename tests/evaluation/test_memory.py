"""A batch keeps nothing of the questions that it has finished. The figure is that of `tests.benchmarks.memory`."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest
from evaluation.runs import ANSWER, VIDEOS, brain_at, loaded, question, write_videos

from videobrain.evaluation.progress import Progress
from videobrain.evaluation.runner import evaluate
from videobrain.testing import FakeServer

AT_ONCE = 2
SETTLED, LAST = 20, 80


def living() -> Counter[str]:
    """How many there are of each of our own classes."""
    gc.collect()
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in map(type, gc.get_objects()))
    return Counter(name for name in names if name.startswith("videobrain"))


@pytest.mark.anyio
async def test_nothing_of_a_finished_question_is_kept(tmp_path: Path) -> None:
    alive: dict[int, Counter[str]] = {}

    def look(progress: Progress) -> None:
        if progress.done in (SETTLED, LAST):
            alive[progress.done] = living()

    def reply(_: object) -> str:
        server.all_requests.clear()
        return ANSWER.format("A")

    # All on one video: frames of it are cached, and nothing else may be.
    rows = [question(number, video=VIDEOS[0]) for number in range(LAST + AT_ONCE)]
    benchmark = loaded(tmp_path, write_videos(tmp_path), rows)
    with FakeServer(reply) as server:
        await evaluate(
            benchmark, brain_at(server.base_url, tmp_path), tmp_path / "run", concurrency=AT_ONCE, on_progress=look
        )
    assert alive[SETTLED]["videobrain.evaluation.sample.Sample"] >= LAST  # it does see what is kept
    more = {kind: count for kind, count in (alive[LAST] - alive[SETTLED]).items() if count > 20 * AT_ONCE}
    assert not more
