"""Questions are dealt by video, evenly, and what a lost worker had goes to another. No process, no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from videobrain.errors import ConfigurationError
from videobrain.evaluation.concurrency import FIRST
from videobrain.evaluation.executor import Posed, limit_for
from videobrain.evaluation.ray_session import RayCluster, gpus_of, places
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.spreading import Spread


def posed(video: str, number: int) -> Posed:
    return Posed(Sample(key=f"{video}{number}", video=video, question="?", task="open"), Path(video), None)


def keys(questions: list[Posed]) -> list[str]:
    return [question.sample.key for question in questions]


QUESTIONS = [posed(video, number) for number in range(3) for video in "abcd"]


def test_workers_go_through_their_videos_side_by_side() -> None:
    spread = Spread(QUESTIONS, 2)
    dealt = list(spread)
    assert keys(dealt) == ["a0", "b0", "a1", "b1", "a2", "b2", "c0", "d0", "c1", "d1", "c2", "d2"]
    assert [spread.worker_of(question) for question in dealt] == [0, 1] * 6


def test_a_worker_that_is_done_sooner_takes_more_videos() -> None:
    spread = Spread(QUESTIONS, 2)
    slow, quick = next(spread), next(spread)
    spread.ended(quick)
    done = [quick]
    for question in spread:
        done.append(question)
        spread.ended(question)
        if spread.worker_of(question) == spread.worker_of(slow):
            break
    assert keys(done) == ["b0", "b1", "b2", "c0", "c1", "c2", "d0", "d1", "d2", "a1"]
    assert keys(list(spread)) == ["a2"]


def test_what_a_lost_worker_had_goes_to_another() -> None:
    spread = Spread(QUESTIONS, 2)
    first, second = next(spread), next(spread)
    assert spread.lose(0)
    assert spread.worker_of(first) == spread.worker_of(second) == 1
    rest = list(spread)
    assert sorted(keys([first, second, *rest])) == sorted(keys(QUESTIONS))
    assert {spread.worker_of(question) for question in rest} == {1}
    assert spread.lose(0)  # somebody else found it out too
    assert not spread.lose(1)
    spread.ended(first)


def test_more_workers_than_videos() -> None:
    spread = Spread(QUESTIONS[:1], 3)
    assert keys(list(spread)) == ["a0"]
    assert list(Spread((), 3)) == []


def test_how_many_workers() -> None:
    machines = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}, {"memory": 1.0}]
    assert gpus_of(machines, RayCluster()) == 1
    assert gpus_of(machines[1:], RayCluster()) == 0
    assert gpus_of(machines, RayCluster(gpus=0)) == 0
    assert places(machines, RayCluster(), gpus=1) == 2  # one for each GPU
    assert places(machines, RayCluster(), gpus=0) == 2  # one on each machine that has room
    assert places(machines, RayCluster(workers=12), gpus=0) == 12
    assert places(machines, RayCluster(gpus=2), gpus=2) == 1
    with pytest.raises(
        ConfigurationError, match="room for 3 workers of 4 CPUs and 0 GPUs, not for 4; it has 3 machines"
    ):
        places(machines, RayCluster(workers=4, cpus=4), gpus=0)
    with pytest.raises(ConfigurationError, match="room for 0 workers"):
        places(machines, RayCluster(), gpus=4)
    for wrong in ({"workers": 0}, {"cpus": 0}, {"gpus": -1}, {"start_seconds": 0}):
        with pytest.raises(ConfigurationError):
            RayCluster(**wrong)  # type: ignore[arg-type]


def test_how_many_questions_at_once() -> None:
    assert limit_for("openai:m", 7, workers=3).now == 7
    assert limit_for("openai:m", "auto", workers=3).now == FIRST  # one server for all
    assert limit_for("openai:m", "auto", workers=FIRST + 5).now == FIRST + 5
    assert limit_for("local:m", "auto").now == 2
    assert limit_for("tiny", "auto", workers=3).now == 6  # each has its own
    assert limit_for("vllm:m", "auto", workers=3).now == 3 * FIRST
