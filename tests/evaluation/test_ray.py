"""A run on a Ray cluster of two workers keeps what a local one keeps, whoever is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluation.runs import VIDEOS, Answers, Bench, write_videos

from tests.evaluation.test_eval_command import SECONDS, Command, wait_for
from videobrain import Settings, VideoBrain
from videobrain.agent import Trace
from videobrain.errors import ConfigurationError, EvaluationStoppedError, MissingDependencyError
from videobrain.evaluation.concurrency import FIRST
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.ray_session import RayCluster
from videobrain.evaluation.results import read_manifest, read_results
from videobrain.evaluation.scores import Scores
from videobrain.testing import FakeServer, Fault

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]
TWO = RayCluster(workers=2)
PATIENT = {
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_timeout_ms": "100000",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_AUTH_MODE": "disabled",
}
"""Of Ray, on a machine that is busy with other things. It would keep a token in the home directory, which commands of
these tests have their own of."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster on this machine with room for two workers; its address."""
    import ray

    with pytest.MonkeyPatch.context() as patched:
        # What workers get from their machine: the key, and the package that is beside these tests.
        patched.setenv("OPENAI_API_KEY", "none")
        for name, value in PATIENT.items():
            patched.setenv(name, value)
        patched.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


class ClusterBench(Bench):
    """Questions that are asked on the cluster."""

    def brain(self, base_url: str, **how: Any) -> VideoBrain:
        how.setdefault("tools", ["uniform_sample"])
        settings = Settings(decoder="pyav", cache_dir=self.home / "cache", warm_index=False, retries=2)
        return VideoBrain("openai:fake-model", base_url=base_url, settings=settings, **how)  # the key is not sent

    async def run(self, out: str = "run", *, how: dict[str, Any] | None = None, **given: Any) -> Scores:
        return await super().run(out, how=how, **{"executor": TWO, **given})

    def holders(self, number: int) -> set[int]:
        """Processes that have the video of a question open: it stays open for the next question."""
        video = self.videos / VIDEOS[number % len(VIDEOS)]
        found = set()
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                if link.readlink() == video:
                    found.add(int(link.parts[2]))
            except OSError:  # it was closed, or is somebody else's
                continue
        return found


@pytest.fixture
def bench(tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterBench:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return ClusterBench(tmp_path, videos)


# --- What is missing: before there is a cluster -----------------------------------------------------------------------


async def test_without_ray_the_extra_is_named(bench: ClusterBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"Ray is not installed.*pip install 'videobrain\[ray\]'"):
        await bench.run(executor="ray")
    assert (bench.answers.asked, (bench.home / "run").exists()) == ([], False)


async def test_a_cluster_that_is_not_there(bench: ClusterBench, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    assert not ray.is_initialized()
    for address in ("127.0.0.1:9", "nonsense"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigurationError, match=rf"at RAY_ADDRESS={address} cannot be reached.*ray start --head"):
            await bench.run(executor="ray")
    assert not (bench.home / "run").exists()


def test_a_command_starts_a_cluster_of_its_own(tmp_path: Path, videos: Path) -> None:
    command = Command(tmp_path, videos)
    with FakeServer(Answers()) as server:
        run = command.evaluation(server, "run", "--json", "--executor", "ray", "--workers", "2")
        process = command.start(*run, RAY_ADDRESS="local", **PATIENT)
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, err
        assert json.loads(out)["total"]["questions"] == len(server.requests) == 24
        for wrong in (["--executor", "slurm"], ["--workers", "2"]):
            command(*command.evaluation(server, "other", *wrong), expect=2)


# --- On two workers --------------------------------------------------------------------------------------------------


async def test_a_run_equals_a_local_one_and_each_video_has_one_worker(bench: ClusterBench, cluster: str) -> None:
    held: dict[int, set[int]] = {}

    def look(progress: Progress) -> None:
        if progress.done == 12:
            held.update({number: bench.holders(number) for number in range(3)})

    for out, executor in (("local", "local"), ("ray", TWO)):
        bench.answers.faults = {1: [Fault.context_length()], 5: [Fault.rate_limit(0.01)]}
        await bench.run(out, executor=executor, on_progress=look)
    assert bench.answers.times == {**dict.fromkeys(range(12), 2), 5: 4}
    assert [len(processes) for processes in held.values()] == [1, 1, 1]
    assert len(set.union(*held.values()) - {os.getpid()}) == 2

    assert bench.essence("ray") == bench.essence("local")
    assert (bench.essence("ray")["q1"]["error"] or "").startswith("ContextLengthError: ")
    changing = {"started_at"}
    one, two = (read_manifest(bench.home / out).model_dump(exclude=changing) for out in ("local", "ray"))
    assert one == two
    for record in read_results(bench.home / "ray"):
        traces = [Trace.load(bench.home / out / (record.trace or "")) for out in ("local", "ray")]
        assert traces[0].messages == traces[1].messages
        assert not any(frame.jpeg for frame in traces[1].frames().values())

    await bench.run("local", retry_errors=True)  # either goes on where the other stopped
    await bench.run("ray", retry_errors=True, executor="local")
    assert bench.essence("ray") == bench.essence("local")
    assert bench.answers.times == {**dict.fromkeys(range(12), 2), 5: 4, 1: 4}


async def test_what_ends_a_run(bench: ClusterBench, cluster: str) -> None:
    bench.answers.faults = {number: [Fault.status(400, "out of paper")] for number in range(12)}
    with pytest.raises(
        EvaluationStoppedError, match=r'3 x RequestRejectedError: The server answered 400: "out of paper"'
    ):
        await bench.run(max_errors=3, concurrency=1)
    assert len(bench.answers.asked) == 3

    bench.answers.faults = {number: [Fault.unauthorized()] for number in range(12)}
    with pytest.raises(EvaluationStoppedError, match=r"Every question fails with AuthenticationError: .* API key"):
        await bench.run("hopeless", concurrency=1)
    assert bench.essence("hopeless") == {}

    for executor, said in ((RayCluster(workers=3), "room for 2 workers"), ("slurm", "no executor 'slurm'")):
        with pytest.raises(ConfigurationError, match=said):
            await bench.run("other", executor=executor)
    with pytest.raises(ConfigurationError, match="the strategy is 'videobrain', not 'blind'"):
        await bench.run(how={"strategy": "blind"})
    assert not (bench.home / "other").exists()


async def test_a_server_that_refuses_for_load_is_asked_less_and_frames_are_kept(
    bench: ClusterBench, cluster: str
) -> None:
    bench.answers = Answers({number: [Fault.rate_limit(0.01)] for number in (0, 3)}, seconds=0.1)
    await bench.run(keep_frames=True)
    assert bench.moments[0].concurrency == FIRST
    assert bench.moments[-1].concurrency in (FIRST // 2, FIRST // 4)
    records = read_results(bench.home / "run")
    assert len(records) == 12
    trace = Trace.load(bench.home / "run" / (records[0].trace or ""))
    assert all(frame.jpeg for frame in trace.frames().values())


async def test_a_worker_that_is_killed_loses_nothing(bench: ClusterBench, cluster: str) -> None:
    await bench.run("whole", executor="local")
    bench.answers = Answers(seconds=0.2)
    killed: set[int] = set()

    def kill_one(progress: Progress) -> None:
        if progress.done == 3:
            killed.update(bench.holders(0))
            for process in killed:
                os.kill(process, signal.SIGKILL)

    await bench.run(on_progress=kill_one, concurrency=4)
    assert len(killed) == 1
    assert bench.essence() == bench.essence("whole")
    assert set(bench.answers.times) == {*range(12)}
    assert len(bench.answers.asked) <= 12 + 4  # what was under way there is asked again, and nothing else


async def test_a_question_that_kills_its_workers_is_an_error_of_its_own(bench: ClusterBench, cluster: str) -> None:
    class Deadly(Answers):
        alive = True

        def __call__(self, body: dict[str, Any]) -> str | Fault:
            if self.alive and "Question 4:" in json.dumps(body):
                for process in bench.holders(4):
                    os.kill(process, signal.SIGKILL)
            return super().__call__(body)

    bench.answers = Deadly()
    scores = await bench.run(concurrency=1)
    assert (scores.total.errors, scores.total.questions) == (1, 12)
    assert bench.essence()["q4"]["error"].startswith("WorkerDiedError: The worker that was asked died, 2 times")
    assert bench.answers.times == {**dict.fromkeys(range(12), 1), 4: 2}
    bench.answers.alive = False
    scores = await bench.run(retry_errors=True)
    assert (scores.total.errors, len(bench.answers.asked)) == (0, 14)


async def test_a_driver_that_is_killed_or_interrupted_is_followed_by_one_that_does_the_rest(
    bench: ClusterBench, cluster: str
) -> None:
    command = Command(bench.home, bench.videos)
    command_line = ["--executor", "ray", "--workers", "2", "--concurrency", "3"]
    await bench.run("whole", executor="local", limit=12)
    bench.answers.asked.clear()
    run = bench.home / "run"
    for target, number in ((3, signal.SIGKILL), (7, signal.SIGINT)):
        with FakeServer(bench.answers) as server:
            process = command.start(*command.evaluation(server, "run", *command_line), RAY_ADDRESS=cluster, **PATIENT)
            with process, bench.answers.held(after=4):
                wait_for(target, run, process)
                os.kill(process.pid, number)
                _, err = process.communicate(timeout=SECONDS)
        assert "Traceback" not in err
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    kept = {int(key[1:]) for key in bench.essence()}
    before = bench.answers.times
    await bench.run()
    assert bench.answers.times - before == dict.fromkeys({*range(12)} - kept, 1)
    assert {key: bench.essence()[key] for key in bench.essence("whole")} == bench.essence("whole")
