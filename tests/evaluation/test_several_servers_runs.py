"""An evaluation on several servers of one model: they share it, and one that dies loses nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from evaluation.runs import Answers, brain_at, essence, loaded, question, write_videos

from videobrain.evaluation.concurrency import FIRST, MOST, AdaptiveLimit
from videobrain.evaluation.manifest import key_of
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.results import read_manifest, read_results
from videobrain.evaluation.runner import evaluate
from videobrain.testing import FakeServer

pytestmark = pytest.mark.anyio


async def test_a_server_that_dies_mid_run_loses_nothing(tmp_path: Path) -> None:
    """The run has the records of one on a single server, under the same keys."""
    benchmark = loaded(tmp_path, write_videos(tmp_path), [question(number) for number in range(24)])
    answers = Answers(), Answers()
    servers = [FakeServer(each).__enter__() for each in answers]
    alive = list(servers)
    deaths: list[threading.Thread] = []
    urls = ",".join(server.base_url for server in servers)

    def kill_one(progress: Progress) -> None:
        if progress.done >= 6 and not deaths:
            dying = max(servers, key=lambda server: len(server.requests))
            alive.remove(dying)
            deaths.append(threading.Thread(target=dying.__exit__, args=(None, None, None)))
            deaths[0].start()

    try:
        brain = brain_at(urls, tmp_path)
        scores = await evaluate(benchmark, brain, tmp_path / "several", concurrency=4, on_progress=kill_one)
        assert len(alive) == 1
        await evaluate(benchmark, brain_at(alive[0].base_url, tmp_path), tmp_path / "one", concurrency=4)
    finally:
        for thread in deaths:
            thread.join()
        for server in alive:
            server.__exit__(None, None, None)
    assert (scores.total.questions, scores.total.errors) == (24, 0)
    several, one = read_results(tmp_path / "several"), read_results(tmp_path / "one")
    assert essence(several).keys() == essence(one).keys()
    assert {key_of(record) for record in several} == {key_of(record) for record in one}
    assert {record.sample.key: record.prediction for record in several} == {
        record.sample.key: record.prediction for record in one
    }
    assert read_manifest(tmp_path / "several").settings_digest == read_manifest(tmp_path / "one").settings_digest


async def test_the_questions_of_a_video_go_to_one_server(tmp_path: Path) -> None:
    benchmark = loaded(tmp_path, write_videos(tmp_path), [question(number) for number in range(18)])
    answers = Answers(), Answers()
    with FakeServer(answers[0]) as one, FakeServer(answers[1]) as two:
        brain = brain_at(f"{one.base_url},{two.base_url}", tmp_path)
        await evaluate(benchmark, brain, tmp_path / "run", concurrency=4)
    for video in range(3):  # question n is about video n % 3
        asked = [sum(number % 3 == video for number in each.asked) for each in answers]
        assert sorted(asked) == [0, 6]


def test_several_servers_begin_with_more_and_may_have_more() -> None:
    clock = 0.0
    limit = AdaptiveLimit.of_servers(3, clock=lambda: clock)
    assert limit.now == 3 * FIRST
    most = 0
    for _ in range(20_000):
        clock += 1 / limit.now  # each further question at once pays
        limit.replied()
        most = max(most, limit.now)
    assert most == 3 * MOST
