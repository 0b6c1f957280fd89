"""The file of kept replies: shared, killed, damaged, full."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from videobrain.models.replies import ReplyStore

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]
PUTS = """
import sys
from pathlib import Path
from videobrain.models.replies import ReplyStore

store = ReplyStore(Path(sys.argv[1]), max_bytes=1 << 30)
for number in range(int(sys.argv[3])):
    store.put(f"{sys.argv[2]} {number}".encode(), f"{sys.argv[2]} {number} ".encode() * 500)
    print(number, flush=True)
"""


def store(directory: Path, max_bytes: int = 1 << 30) -> ReplyStore:
    return ReplyStore(directory / "replies.sqlite", max_bytes=max_bytes)


def putting(directory: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", PUTS, str(directory / "replies.sqlite"), name, str(count)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE)


def kept(opened: ReplyStore, name: str, count: int) -> int:
    found = [opened.get(f"{name} {number}".encode()) for number in range(count)]
    for number, value in enumerate(found):
        assert value in (None, f"{name} {number} ".encode() * 500)
    return sum(value is not None for value in found)


def test_two_processes_fill_one_file(tmp_path: Path) -> None:
    processes = [putting(tmp_path, name, 100) for name in ("one", "two")]
    for process in processes:
        output, _ = process.communicate(timeout=50)
        assert (process.returncode, len(output.split())) == (0, 100)
    opened = store(tmp_path)
    assert (kept(opened, "one", 100), kept(opened, "two", 100)) == (100, 100)
    opened.close()


def test_what_was_kept_survives_a_kill_in_the_middle_of_writing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with putting(tmp_path, "one", 100_000) as process:
        assert process.stdout is not None
        for _ in range(60):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
    done = max([last, *map(int, rest)]) + 1
    assert process.returncode == -signal.SIGKILL
    opened = store(tmp_path)
    assert kept(opened, "one", done) == done
    opened.put(b"k", b"v")
    assert opened.get(b"k") == b"v"
    opened.close()
    assert caplog.records == []


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(50_000))


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE letters (text)")
    database.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def holes(path: Path) -> None:
    """The pages of the table are overwritten, its head is not."""
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))


@pytest.mark.parametrize("damage", [garbage, half, foreign, newer, holes])
@pytest.mark.parametrize("open_already", [False, True], ids=["closed", "open"])
def test_a_damaged_file_is_moved_aside_and_begun_anew(
    tmp_path: Path, damage: object, open_already: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(damage)
    opened = store(tmp_path)
    for number in range(50):
        opened.put(f"one {number}".encode(), f"one {number} ".encode() * 500)
    opened.close()
    other = store(tmp_path)
    if open_already and damage is not foreign:
        other.get(b"absent")  # has the file open, and nothing of the table in memory
    damage(opened.path)
    if damage is foreign:
        opened.path.with_name("replies.sqlite-wal").unlink(missing_ok=True)
    with caplog.at_level(logging.WARNING):
        kept(opened, "one", 50)  # whole ones or none
        opened.put(b"new", b"value")
        assert opened.get(b"new") == b"value"
    assert any("moved to replies.sqlite.damaged" in record.getMessage() for record in caplog.records)
    assert opened.path.with_name("replies.sqlite.damaged").exists()
    # One that had the old file open goes over to the new one, and harms it not.
    assert other.get(b"new") == b"value"
    other.put(b"newer", b"value")
    assert opened.get(b"newer") == b"value"
    opened.close()
    other.close()
    with sqlite3.connect(opened.path) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


def test_a_damaged_value_is_given_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = store(tmp_path)
    opened.put(b"k", b"value")
    opened.put(b"l", b"other")
    with sqlite3.connect(opened.path) as database:
        database.execute("UPDATE replies SET value = ? WHERE key = ?", (b"forged", b"k"))
    database.close()
    assert opened.get(b"k") is None
    assert "was damaged" in caplog.text
    assert opened.get(b"l") == b"other"
    opened.put(b"k", b"value")
    assert opened.get(b"k") == b"value"
    opened.close()


def test_a_file_that_is_deleted_while_it_is_open_is_begun_anew(tmp_path: Path) -> None:
    opened = store(tmp_path)
    opened.put(b"k", b"value")
    for path in tmp_path.iterdir():
        path.unlink()
    assert opened.get(b"k") is None
    opened.put(b"k", b"again")
    other = store(tmp_path)
    assert other.get(b"k") == b"again"
    opened.close()
    other.close()


def test_the_oldest_go_first_and_the_file_stays_small(tmp_path: Path) -> None:
    opened = store(tmp_path, max_bytes=200_000)
    for number in range(400):
        opened.put(str(number).encode(), os.urandom(4000))
    present = [number for number in range(400) if opened.get(str(number).encode()) is not None]
    assert present == list(range(present[0], 400))
    assert 20 < len(present) < 50
    assert opened.path.stat().st_size < 250_000
    assert opened.clear() == len(present)
    assert opened.path.stat().st_size < 50_000
    opened.close()


def test_no_space_keeps_nothing_and_fails_nobody(tmp_path: Path) -> None:
    opened = store(tmp_path, max_bytes=0)
    opened.put(b"k", b"value")
    assert opened.get(b"k") is None
    opened.close()


@pytest.mark.anyio
async def test_a_file_that_another_process_writes_to_blocks_no_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = store(tmp_path)
    opened.put(b"k", b"value")
    holder = sqlite3.connect(opened.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        assert await anyio.to_thread.run_sync(opened.get, b"k") == b"value"  # readers do not wait
        await anyio.to_thread.run_sync(opened.put, b"l", b"other")
        tasks.cancel_scope.cancel()
    assert ticks > 10
    assert time.monotonic() - began < 10  # it gives up
    assert "cannot be used: database is locked" in caplog.text
    holder.execute("ROLLBACK")
    holder.close()
    opened.put(b"l", b"other")
    assert opened.get(b"l") == b"other"
    opened.close()
