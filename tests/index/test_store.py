"""Embeddings on disk: between processes, after damage, within bounds."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import filelock
import numpy as np
import pytest

from videobrain.index import IndexStore
from videobrain.index import store as store_module
from videobrain.index.store import StoredIndex
from videobrain.settings import Settings

DIMENSION = 8


def index_of(frames: Sequence[int]) -> StoredIndex:
    """Embeddings that can be told from the frame."""
    array = np.array(sorted(frames), np.int64)
    return StoredIndex(array, np.repeat(array[:, None], DIMENSION, axis=1).astype(np.float32))


def frames_of(stored: StoredIndex | None) -> list[int]:
    assert stored is not None
    assert stored.vectors.dtype == np.float32
    assert (stored.vectors == stored.frames[:, None]).all()
    return [int(frame) for frame in stored.frames]


@pytest.fixture
def store(settings: Settings) -> IndexStore:
    return IndexStore(settings)


def test_what_is_saved_is_loaded(store: IndexStore) -> None:
    assert store.load("video", "encoder") is None
    store.save("video", "encoder", index_of([3, 1, 700]), video="film.mp4", encoder="colours")
    assert frames_of(store.load("video", "encoder")) == [1, 3, 700]
    assert store.load("video", "other encoder") is None
    assert store.load("other video", "encoder") is None
    (entry,) = store.list()
    assert (entry.video, entry.video_key, entry.encoder, entry.frames) == ("film.mp4", "video", "colours", 3)
    assert entry.size_bytes == entry.path.stat().st_size


def test_saving_merges_with_what_another_wrote(store: IndexStore) -> None:
    store.save("video", "encoder", index_of([1, 2, 3]))
    merged = store.save("video", "encoder", index_of([3, 4]))
    assert frames_of(merged) == frames_of(store.load("video", "encoder")) == [1, 2, 3, 4]


def test_every_truncation_and_every_flipped_byte_is_noticed(
    store: IndexStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.save("video", "encoder", index_of(range(4)), video="film.mp4")
    path = store.path("video", "encoder")
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        assert store.load("video", "encoder") is None, length
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 0x41]) + good[position + 1 :])
        stored = store.load("video", "encoder")
        # Only the note of when it was written may change unnoticed.
        assert stored is None or frames_of(stored) == [0, 1, 2, 3], position
    path.write_bytes(good + b"\0")
    assert store.load("video", "encoder") is None
    assert "will be rebuilt" in caplog.text


def test_a_damaged_file_is_replaced_not_merged(store: IndexStore) -> None:
    store.save("video", "encoder", index_of([1, 2, 3]))
    path = store.path("video", "encoder")
    path.write_bytes(path.read_bytes()[:-1])
    assert frames_of(store.save("video", "encoder", index_of([9]))) == [9]
    assert frames_of(store.load("video", "encoder")) == [9]


def test_a_file_in_anothers_place_is_not_believed(store: IndexStore) -> None:
    store.save("video", "encoder", index_of([1]))
    store.path("video", "encoder").rename(store.path("other", "encoder"))
    assert store.load("other", "encoder") is None


def test_embeddings_of_another_dimension_are_replaced(store: IndexStore) -> None:
    store.save("video", "encoder", index_of([1]))
    wide = StoredIndex(np.array([2], np.int64), np.zeros((1, 2 * DIMENSION), np.float32))
    assert store.save("video", "encoder", wide).vectors.shape == (1, 2 * DIMENSION)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from videobrain.index.store import IndexStore, StoredIndex
from videobrain.settings import Settings

store = IndexStore(Settings(cache_dir=Path(sys.argv[1])))
for frame in range(int(sys.argv[2]), 60, 2):
    store.save("video", "encoder", StoredIndex(np.array([frame]), np.full((1, 8), frame, np.float32)))
    assert store.load("video", "encoder") is not None
"""

KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from videobrain.index.store import IndexStore, StoredIndex
from videobrain.settings import Settings

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
store = IndexStore(Settings(cache_dir=Path(sys.argv[1])))
store.save("video", "encoder", StoredIndex(np.arange(1000), np.zeros((1000, 8), np.float32)))
"""


def test_two_processes_lose_nothing(settings: Settings, store: IndexStore) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(settings.cache_dir), str(first)], stderr=subprocess.PIPE)
        for first in (0, 1)
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, b"")
    assert frames_of(store.load("video", "encoder")) == list(range(60))


def test_a_writer_killed_while_writing_harms_nothing(settings: Settings, store: IndexStore) -> None:
    store.save("video", "encoder", index_of([1, 2]))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(settings.cache_dir)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    directory = store.path("video", "encoder").parent
    assert list(directory.glob("*.part")), "it was killed at another place than meant"
    assert frames_of(store.load("video", "encoder")) == [1, 2]
    store.save("video", "encoder", index_of([3]))  # the lock died with its holder
    assert frames_of(store.load("video", "encoder")) == [1, 2, 3]
    assert not list(directory.glob("*.part"))


def test_the_least_recently_used_go_first(settings: Settings) -> None:
    store = IndexStore(settings)
    store.save("one", "encoder", index_of(range(100)))
    size = store.list()[0].size_bytes
    store = IndexStore(settings.model_copy(update={"index_cache_bytes": 3 * size + 200}))
    for age, name in enumerate(("one", "two", "three")):
        store.save(name, "encoder", index_of(range(100)))
        os.utime(store.path(name, "encoder"), (1000 + age, 1000 + age))
    assert store.load("one", "encoder") is not None  # now the most recently used
    store.save("four", "encoder", index_of(range(100)))
    assert {entry.video_key for entry in store.list()} == {"one", "three", "four"}


def test_what_is_too_large_by_itself_is_not_kept(settings: Settings) -> None:
    store = IndexStore(settings.model_copy(update={"index_cache_bytes": 100}))
    saved = store.save("one", "encoder", index_of(range(100)))
    assert frames_of(saved) == list(range(100))
    assert store.list() == ()


def test_clearing(store: IndexStore) -> None:
    assert store.clear() == 0
    for name in ("one", "two", "three"):
        store.save(name, "encoder", index_of([1]))
    assert store.clear("two") == 1
    assert {entry.video_key for entry in store.list()} == {"one", "three"}
    damaged = store.path("one", "encoder")
    damaged.write_bytes(b"something else")
    assert [entry.video_key for entry in store.list() if entry.path == damaged] == [""]
    assert store.clear() == 2
    assert store.list() == ()


def test_a_disk_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no directory")
    store = IndexStore(Settings(cache_dir=tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert store.load("video", "encoder") is None
        assert frames_of(store.save("video", "encoder", index_of([1]), video="film.mp4")) == [1]
    assert "film.mp4 cannot be saved" in caplog.text
    assert store.list() == ()


def test_a_lock_that_is_never_freed_costs_a_warning(
    store: IndexStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LOCK_SECONDS", 0.1)
    store.save("video", "encoder", index_of([1]))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with filelock.FileLock(store.path("video", "encoder").parent / ".lock"):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        store.save("video", "encoder", index_of([2]))
    finally:
        done.set()
        thread.join()
    assert "cannot be saved" in caplog.text
    assert frames_of(store.load("video", "encoder")) == [1]
