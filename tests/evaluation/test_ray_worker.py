"""The two ends of a run on a cluster, the driver and its workers, without a cluster between them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from evaluation.runs import Answers, essence, loaded, question, write_videos

from videobrain import Settings, VideoBrain
from videobrain.evaluation import ray_executor
from videobrain.evaluation.ray_session import RayCluster
from videobrain.evaluation.ray_worker import Place, Refusal
from videobrain.evaluation.results import read_results
from videobrain.evaluation.runner import evaluate
from videobrain.testing import FakeServer

pytestmark = pytest.mark.anyio


class Died(Exception):
    pass


class Method:
    """A method of an object that is called as those of an actor are."""

    def __init__(self, actor: Actor, method: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self.actor = actor
        self.method = method

    async def remote(self, *arguments: object) -> Any:
        if self.method.__name__ == "ask":
            self.actor.session.asked.append((str(arguments[1]), self.actor.number))
            if self.actor.session.dies(str(arguments[0])):
                self.actor.dead = True
        if self.actor.dead:
            raise Died("Ray says so.")
        return await self.method(*arguments)


class Actor:
    def __init__(self, session: Session, number: int, worker: Any) -> None:
        self.session = session
        self.number = number
        self.worker = worker
        self.dead = False

    def __getattr__(self, name: str) -> Method:
        return Method(self, getattr(self.worker, name))


class Refused:
    async def place(self) -> Place:
        return Place("here", 0)

    async def reach(self) -> Refusal:
        return Refusal("ModelStartError", "The GPU is full.", "")


class Session:
    """Two machines that are this process."""

    lost = (Died,)
    any_error = Died
    dies: Callable[[str], bool] = staticmethod(lambda sample: False)
    room = 99
    """So many processes reach the model."""
    asked: list[tuple[str, int]]
    workers: list[Any]

    def __init__(self) -> None:
        self.started = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def kill(self, actor: Actor) -> None:
        actor.dead = True

    async def machines(self) -> list[Mapping[str, float]]:
        return [{"CPU": 1.0}, {"CPU": 1.0}]

    async def start(self, kind: type, arguments: Iterable[object], cluster: RayCluster, *, gpus: float) -> Actor:
        self.started += 1
        if self.started > self.room:
            return Actor(self, self.started, Refused())
        worker = kind(*arguments)
        self.workers.append(worker)
        return Actor(self, self.started, worker)


@pytest.mark.parametrize(("deaths", "room"), [(0, 99), (1, 99), (2, 99), (1, 2)])
async def test_a_run_on_workers_equals_a_local_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int, room: int
) -> None:
    """Also where one dies, and a new one cannot reach the model: the other takes over."""
    monkeypatch.setattr(Session, "room", room)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr(ray_executor, "RaySession", Session)
    left = [True] * deaths
    monkeypatch.setattr(Session, "asked", [], raising=False)
    monkeypatch.setattr(Session, "workers", [], raising=False)
    monkeypatch.setattr(
        Session, "dies", staticmethod(lambda sample: "Question 4:" in sample and bool(left) and left.pop())
    )
    benchmark = loaded(tmp_path, write_videos(tmp_path), [question(number) for number in range(6)])
    settings = Settings(decoder="pyav", cache_dir=tmp_path / "cache", warm_index=False, retries=2)
    answers = Answers()
    with FakeServer(answers) as server:
        brain = VideoBrain("openai:fake-model", base_url=server.base_url, tools=["uniform_sample"], settings=settings)
        await evaluate(benchmark, brain, tmp_path / "local")
        scores = await evaluate(benchmark, brain, tmp_path / "run", executor="ray", concurrency=1)
    for worker in Session.workers:  # a process that dies leaves nothing open, and this one has not died
        await worker.close()
    one, two = (essence(read_results(tmp_path / out)) for out in ("local", "run"))
    if deaths == 2:
        assert str(two.pop("q4")["error"]).startswith("WorkerDiedError: The worker that was asked died, 2 times")
        del one["q4"]
    assert one == two
    assert scores.total.errors == (deaths == 2)
    videos: dict[str, set[int]] = {}
    for video, number in Session.asked:
        videos.setdefault(video, set()).add(number)
    assert len(videos) == 3
    if not deaths:
        assert all(len(numbers) == 1 for numbers in videos.values())
