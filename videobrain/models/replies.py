"""Replies on disk: one SQLite file, shared between tasks, threads and processes. Everything here blocks."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import filelock

from videobrain.errors import ConfigurationError

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)

_APPLICATION = 0x76_62_72_70  # "vbrp", so that no other program's file is taken for one of ours
_LAYOUT = 1
_TABLE = """
CREATE TABLE replies (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    checksum BLOB NOT NULL
)
"""
_BUSY_SECONDS = 1.0
"""What waits for another process's write: losing a reply costs less than waiting, and a cancelled task waits too."""
_OPEN_SECONDS = 2.0
_WAL_BYTES = 4 * 2**20
_COMPANIONS = ("-wal", "-shm")
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class ReplyStore:
    """Values by key in an SQLite file (in WAL mode, so that readers and one writer do not wait for each other).

    A value that was put is there after the process was killed at any moment. A file that is damaged, or is not ours,
    is moved aside (``NAME.damaged``) and begun anew, with a warning. A disk that is full or read-only costs a warning
    too, never an error: what is kept here can be asked for again.

    Args:
        path: The file.
        max_bytes: Space that the values may take; beyond, the oldest tenth goes.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._inode = 0
        self._complained = False

    def __del__(self) -> None:
        self._drop()  # Python warns of a connection that is forgotten open

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r})"

    def get(self, key: bytes) -> bytes | None:
        """The value under a key; None where there is none that can be trusted."""

        def read(database: sqlite3.Connection) -> bytes | None:
            row = database.execute("SELECT value, checksum FROM replies WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            value, checksum = row
            if isinstance(value, bytes) and checksum == _checksum(key, value):
                return value
            database.execute("DELETE FROM replies WHERE key = ?", (key,))
            _LOGGER.warning("a reply in %s was damaged, and is asked for again", self.path)
            return None

        return self._tolerantly(read)

    def put(self, key: bytes, value: bytes) -> None:
        """Keep a value; one that was there under the key is replaced."""

        def write(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT OR REPLACE INTO replies (key, value, checksum) VALUES (?, ?, ?)",
                (key, value, _checksum(key, value)),
            )
            while _used_bytes(database) > self._max_bytes and (count := _count(database)):
                database.execute(
                    "DELETE FROM replies WHERE number IN (SELECT number FROM replies ORDER BY number LIMIT ?)",
                    (max(1, count // 10),),
                )

        self._tolerantly(write)

    def clear(self) -> int:
        """Delete all values; returns how many there were.

        Raises:
            ConfigurationError: The file cannot be written.
        """

        def delete(database: sqlite3.Connection) -> int:
            count = database.execute("DELETE FROM replies").rowcount
            database.execute("VACUUM")  # gives the disk its space back, together with the checkpoint
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return count

        try:
            return self._do(delete)
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(
                f"The replies in {self.path} cannot be deleted: {error}.", hint="Delete the file."
            ) from error

    def close(self) -> None:
        """Close the file; a later call opens it again. Idempotent."""
        with self._lock:
            self._drop()

    def _tolerantly(self, work: Callable[[sqlite3.Connection], T | None]) -> T | None:
        try:
            return self._do(work)
        except (sqlite3.Error, OSError) as error:
            level = logging.DEBUG if self._complained else logging.WARNING  # or a full disk would say so at each reply
            self._complained = True
            _LOGGER.log(level, "the cache of replies %s cannot be used: %s", self.path, error)
            return None

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                return work(self._open())
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._begin_anew(error)
                return work(self._open())

    def _open(self) -> sqlite3.Connection:
        if self._database is not None and _inode(self.path) != self._inode:
            self._drop()  # deleted, or moved aside by another process
        if self._database is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                if not self.path.exists():
                    for companion in _COMPANIONS:  # would be taken for the new file's
                        self._beside(companion).unlink(missing_ok=True)
                    self.path.touch()
                self._inode = _inode(self.path)
                self._database = _connect(self.path)
        return self._database

    def _begin_anew(self, error: Exception) -> None:
        self._drop()
        with self._alone():
            if _inode(self.path) != self._inode:
                return  # another process was faster
            aside = self._beside(".damaged")
            for companion in ("", *_COMPANIONS):
                if self._beside(companion).exists():
                    self._beside(companion).replace(aside.with_name(aside.name + companion))
        _LOGGER.warning(
            "the cache of replies %s cannot be read (%s); it was moved to %s and is begun anew",
            self.path,
            error,
            aside.name,
        )

    def _drop(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _alone(self) -> filelock.BaseFileLock:
        """Whoever creates, opens or moves the file does so alone."""
        return filelock.FileLock(self._beside(".lock"), timeout=_OPEN_SECONDS)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


class _ForeignError(sqlite3.DatabaseError):
    """A database, but none of ours."""


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        found = (_pragma(database, "application_id"), _pragma(database, "user_version"))
        if found == (0, 0) and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            database.execute(_TABLE)
            database.execute(f"PRAGMA application_id = {_APPLICATION}")
            database.execute(f"PRAGMA user_version = {_LAYOUT}")
            database.execute("COMMIT")
        elif found != (_APPLICATION, _LAYOUT):
            raise _ForeignError("it was written by another version, or not by videobrain")
        # A commit survives the end of the process; after a power cut the last ones may be missing, none is torn.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    except BaseException:
        database.close()
        raise
    return database


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code: int = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, _ForeignError) or code & 0xFF in _DAMAGE  # its other bits say where it happened


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _used_bytes(database: sqlite3.Connection) -> int:
    """Pages that hold something: pages that are freed stay in the file, and are used again."""
    pages = _pragma(database, "page_count") - _pragma(database, "freelist_count")
    return pages * _pragma(database, "page_size")


def _count(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM replies").fetchone()[0])


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0
