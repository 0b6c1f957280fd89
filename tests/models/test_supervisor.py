"""The supervisor of managed servers: whatever ends, nothing is left over. With a small command in vLLM's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from videobrain.models import supervisor
from videobrain.models.server import ServerProcess, free_port

FAKE = Path(__file__).parent / "fake_vllm.py"


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that still run; zombies have ended."""
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            continue
        if state != "Z":
            found.append(pid)
    return found


def until(condition: object, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def _only_where_there_is_proc() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("descendants are only known where there is /proc")


@pytest.fixture
def pids_file(tmp_path: Path) -> Path:
    return tmp_path / "pids.json"


@pytest.fixture
def family(tmp_path: Path, pids_file: Path) -> Iterator[tuple[ServerProcess, list[int]]]:
    process = ServerProcess(
        [sys.executable, str(FAKE), "good", "serve", "m", "--port", str(free_port())],
        env=os.environ | {"FAKE_VLLM_PIDS": str(pids_file), "VLLM_API_KEY": "k"},
        log_dir=tmp_path,
        name="fake",
    )
    process.start()
    assert until(pids_file.exists, 10)
    pids = json.loads(pids_file.read_text())
    assert alive(pids) == pids
    yield process, pids
    process.stop()


def test_stopping_ends_every_process(family: tuple[ServerProcess, list[int]]) -> None:
    process, pids = family
    started = time.monotonic()
    process.stop()
    assert alive(pids) == []
    assert time.monotonic() - started < supervisor.GRACE_SECONDS
    process.stop()


def test_a_command_that_ends_takes_its_descendants_along(family: tuple[ServerProcess, list[int]]) -> None:
    process, pids = family
    os.kill(pids[0], signal.SIGKILL)
    assert until(lambda: process.status() is not None, 5)
    assert process.status() == 128 + signal.SIGKILL
    assert alive(pids) == []


def test_a_killed_program_takes_the_server_along(tmp_path: Path, pids_file: Path) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from videobrain.models.server import ServerProcess, free_port
command = [sys.executable, {str(FAKE)!r}, "good", "serve", "m", "--port", str(free_port())]
process = ServerProcess(command, env=dict(os.environ), log_dir=Path({str(tmp_path)!r}), name="fake")
process.start()
if os.fork() == 0:
    os.setsid()  # a child that goes on holding the pipe
time.sleep(10)
"""
    environment = os.environ | {"FAKE_VLLM_PIDS": str(pids_file), "VLLM_API_KEY": "k"}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as killed:
        assert until(pids_file.exists, 15)
        pids = json.loads(pids_file.read_text())
        killed.kill()
    assert until(lambda: not alive(pids), 10), f"left over: {alive(pids)}"


def test_a_command_that_ignores_the_request_is_killed_after_the_grace_period(tmp_path: Path, pids_file: Path) -> None:
    stubborn = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    stubborn += f"open({str(pids_file)!r}, 'w').close(); time.sleep(600)"
    process = ServerProcess([sys.executable, "-c", stubborn], env=os.environ, log_dir=tmp_path, name="fake")
    process.start()
    assert until(pids_file.exists, 10)
    started = time.monotonic()
    process.stop()
    assert supervisor.GRACE_SECONDS <= time.monotonic() - started < supervisor.GRACE_SECONDS + 3
    assert process.status() == 128 + signal.SIGKILL


def test_the_log_is_kept_and_its_cause_is_found(tmp_path: Path) -> None:
    words = "x = 1\\n" * 2000 + "(EngineCore pid=7) ERROR 11-20 [core.py:1] ValueError: no memory\\n"
    words += "RuntimeError: Engine core initialization failed. See root cause above.\\nbye"
    process = ServerProcess([sys.executable, "-c", f"print('{words}')"], env=os.environ, log_dir=tmp_path, name="fake")
    process.start()
    assert until(lambda: process.status() is not None, 10)
    assert process.status() == 0
    assert process.cause() == "ValueError: no memory"
    assert process.tail().endswith("\nbye")
    assert len(process.tail()) < 4096 < process.log.stat().st_size
    process.stop()


def test_a_command_that_cannot_run_is_told(tmp_path: Path) -> None:
    process = ServerProcess(["/no/such/command"], env=os.environ, log_dir=tmp_path, name="fake")
    process.start()
    assert until(lambda: process.status() is not None, 10)
    assert process.status() == 127
    assert "No such file" in process.cause()
    process.stop()


def test_old_logs_are_removed(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"fake-2000{number:02}.log").touch()
    process = ServerProcess([sys.executable, "-c", ""], env=os.environ, log_dir=tmp_path, name="fake")
    process.start()
    process.stop()
    names = sorted(path.name for path in tmp_path.glob("*.log"))
    assert len(names) == 20
    assert names[0] == "fake-200011.log"
    assert process.log.name in names
