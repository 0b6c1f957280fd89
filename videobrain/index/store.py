"""Embeddings on disk: one file per video and encoder, shared between processes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from videobrain.files import ASIDE, whole_file
from videobrain.index.encoder import Embeddings
from videobrain.settings import Settings
from videobrain.video.frame import FRAME_SIZES

_LOGGER = logging.getLogger(__name__)
_MAGIC = b"videobrain index 1\n"
_SUFFIX = ".index"
_LOCK_SECONDS = 10.0
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class StoredIndex:
    """Embeddings of frames of one video.

    Attributes:
        frames: Frame indices, sorted, without duplicates; shape (n,).
        vectors: Their embeddings; shape (n, dimension).
    """

    frames: npt.NDArray[np.int64]
    vectors: Embeddings

    def __repr__(self) -> str:
        return f"StoredIndex({len(self.frames)} frames, dimension {self.vectors.shape[1]})"


class IndexEntry(BaseModel):
    """One file of the store, for listings."""

    model_config = ConfigDict(frozen=True)

    path: Path
    video: str
    """Name of the video when it was indexed; empty where the file is damaged."""
    video_key: str
    encoder: str
    fingerprint: str
    frames: int
    size_bytes: int
    used_seconds: float
    """When it was last used, in seconds since the epoch."""


class IndexStore:
    """Files of embeddings under ``cache_dir/index``. All methods block.

    A file is written aside and renamed, so that readers see the old one or the new one. Writers take turns through one
    lock file. A file that is damaged, or belongs to another video, encoder or version, counts as absent and is
    overwritten. A disk that is full or read-only costs a warning, never an error: the index can be made again.

    Args:
        settings: Where the files lie and how much space they may take.
    """

    def __init__(self, settings: Settings) -> None:
        self._directory = settings.cache_dir / "index"
        self._limit = settings.index_cache_bytes

    def __repr__(self) -> str:
        return f"IndexStore({str(self._directory)!r})"

    def path(self, video_key: str, fingerprint: str) -> Path:
        """The file of one video and encoder, whether or not it exists."""
        name = hashlib.sha256(json.dumps([video_key, fingerprint]).encode()).hexdigest()[:32]
        return self._directory / (name + _SUFFIX)

    def load(self, video_key: str, fingerprint: str) -> StoredIndex | None:
        """What is stored for a video and encoder; None where nothing is, or nothing that can be trusted."""
        path = self.path(video_key, fingerprint)
        try:
            stored = _read(path, video_key, fingerprint)
            os.utime(path)  # the least recently used go first
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOGGER.warning("the frame index %s cannot be read: %s", path, error)
            return None
        except _DamagedError as error:
            _LOGGER.warning("the frame index %s is not used and will be rebuilt: %s", path, error)
            return None
        return stored

    def save(
        self, video_key: str, fingerprint: str, index: StoredIndex, *, video: str = "", encoder: str = ""
    ) -> StoredIndex:
        """Write embeddings, together with those that another process has written meanwhile; returns them all."""
        path = self.path(video_key, fingerprint)
        try:
            with self._locked():
                try:
                    merged = _merge(_read(path, video_key, fingerprint), index)
                except (FileNotFoundError, _DamagedError):
                    merged = index
                header = {
                    "video": video,
                    "video_key": video_key,
                    "encoder": encoder,
                    "fingerprint": fingerprint,
                    "box": list(FRAME_SIZES[0]),
                    "frames": len(merged.frames),
                    "dimension": merged.vectors.shape[1],
                }
                _write(path, header, merged)
                self._evict(keep=path)
        except (OSError, filelock.Timeout) as error:
            _LOGGER.warning("the frame index of %s cannot be saved: %s", video or video_key, error)
            return index
        return merged

    def list(self) -> tuple[IndexEntry, ...]:
        """Every file of the store, the most recently used first."""
        entries = []
        for path in self._files():
            try:
                stat = path.stat()
                with path.open("rb") as file:
                    header = _read_header(file)
            except FileNotFoundError:
                continue
            except (OSError, _DamagedError):
                header = {}
            entries.append(
                IndexEntry(
                    path=path,
                    video=str(header.get("video", "")),
                    video_key=str(header.get("video_key", "")),
                    encoder=str(header.get("encoder", "")),
                    fingerprint=str(header.get("fingerprint", "")),
                    frames=int(header.get("frames", 0)),
                    size_bytes=stat.st_size,
                    used_seconds=stat.st_mtime,
                )
            )
        return tuple(sorted(entries, key=lambda entry: (-entry.used_seconds, entry.path)))

    def clear(self, video_key: str | None = None) -> int:
        """Delete the files of one video, or of all; returns how many.

        Raises:
            OSError: A file cannot be deleted.
        """
        if not self._directory.is_dir():
            return 0
        with self._locked():
            doomed = [entry.path for entry in self.list() if video_key is None or entry.video_key == video_key]
            for path in doomed:
                path.unlink(missing_ok=True)
            return len(doomed)

    def _files(self) -> tuple[Path, ...]:
        return tuple(sorted(self._directory.glob("*" + _SUFFIX)))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self._directory / ".lock", timeout=_LOCK_SECONDS):
            # Only the lock's holder writes, so whatever lies aside now was left by one that was killed.
            for orphan in self._directory.glob("*" + ASIDE):
                orphan.unlink(missing_ok=True)
            yield

    def _evict(self, *, keep: Path) -> None:
        files = [(path.stat(), path) for path in self._files()]
        total = sum(stat.st_size for stat, _ in files)
        # The one just written goes last, and only if it is too large by itself.
        for stat, path in sorted(files, key=lambda each: (each[1] == keep, each[0].st_mtime, each[1])):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size
            _LOGGER.info("deleted the frame index %s to stay below %d bytes", path, self._limit)


class _DamagedError(Exception):
    """A file that cannot be trusted."""


def _merge(old: StoredIndex, new: StoredIndex) -> StoredIndex:
    if old.vectors.shape[1] != new.vectors.shape[1]:
        raise _DamagedError("its embeddings have another dimension")
    only_old = ~np.isin(old.frames, new.frames)
    frames = np.concatenate([old.frames[only_old], new.frames])
    order = np.argsort(frames, kind="stable")
    return StoredIndex(frames[order], np.concatenate([old.vectors[only_old], new.vectors])[order])


def _write(path: Path, header: dict[str, Any], index: StoredIndex) -> None:
    frames = np.ascontiguousarray(index.frames, "<i8")
    vectors = np.ascontiguousarray(index.vectors, "<f4")
    header = header | {"sha256": _checksum(header, frames.data, vectors.data), "written": time.time()}
    with whole_file(path) as file:
        file.write(_MAGIC + json.dumps(header).encode() + b"\n")
        file.write(frames.data)
        file.write(vectors.data)


def _read(path: Path, video_key: str, fingerprint: str) -> StoredIndex:
    with path.open("rb") as file:
        header = _read_header(file)
        payload = file.read()
    try:
        count, dimension, checksum = int(header["frames"]), int(header["dimension"]), str(header["sha256"])
        identity = (header["video_key"], header["fingerprint"], header["box"])
    except (KeyError, TypeError, ValueError) as error:
        raise _DamagedError(f"its header is incomplete ({error})") from error
    if identity != (video_key, fingerprint, list(FRAME_SIZES[0])):
        raise _DamagedError("it belongs to another video, encoder or frame size")
    if count < 0 or dimension < 1 or len(payload) != count * (8 + 4 * dimension):
        raise _DamagedError("its length is wrong")
    view = memoryview(payload)
    if _checksum(header, view[: 8 * count], view[8 * count :]) != checksum:
        raise _DamagedError("its checksum is wrong")
    frames = np.frombuffer(payload, "<i8", count)
    vectors = np.frombuffer(payload, "<f4", count * dimension, 8 * count).reshape(count, dimension)
    return StoredIndex(frames.astype(np.int64), vectors.astype(np.float32))


def _read_header(file: BinaryIO) -> dict[str, Any]:
    if file.readline(len(_MAGIC)) != _MAGIC:
        raise _DamagedError("it was written by another version, or not by videobrain")
    try:
        header = json.loads(file.readline(_LONGEST_HEADER))
    except ValueError as error:
        raise _DamagedError("its header cannot be read") from error
    if not isinstance(header, dict):
        raise _DamagedError("its header cannot be read")
    return header


def _checksum(header: dict[str, Any], *parts: memoryview) -> str:
    facts = {key: header[key] for key in sorted(header) if key not in {"sha256", "written"}}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
