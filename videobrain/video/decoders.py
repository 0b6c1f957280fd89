"""Open decoders: one to work with is borrowed, and given back for the next who wants frames of the same video."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from videobrain.video.frame import Pixels
from videobrain.video.work import Job


class Decoder(Protocol):
    """An open video stream. Used by one thread at a time."""

    name: str

    def read(self, indices: Sequence[int], job: Job) -> Iterator[tuple[int, Pixels]]:
        """Upright RGB images of sorted unique indices; those that cannot be decoded are left out."""
        ...

    def cost(self, index: int) -> int:
        """Frames that have to be decoded to reach this one."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class DecoderPool:
    """Idle decoders of all videos, at most `capacity` open ones with those in use.

    The number of borrowers is bounded by the caller (it runs them under a limiter of the same capacity), so there is
    always room for one more after an idle decoder of another video has been closed. For threads.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._idle: list[tuple[str, Decoder]] = []  # least recently used first
        self._busy = 0
        self._closed = False

    @property
    def open_count(self) -> int:
        """Decoders that are open now."""
        with self._lock:
            return self._busy + len(self._idle)

    @contextmanager
    def borrow(self, key: str, first_index: int, make: Callable[[], Decoder]) -> Iterator[Decoder]:
        """A decoder of the video `key`: the idle one that is nearest to its first frame, or a new one.

        A decoder in whose use an error was raised is closed, not given back: its position is unknown.
        """
        surplus: list[Decoder] = []
        with self._lock:
            mine = [decoder for owner, decoder in self._idle if owner == key]
            decoder = min(mine, key=lambda idle: idle.cost(first_index), default=None)
            if decoder is not None:
                self._idle = [entry for entry in self._idle if entry[1] is not decoder]
            elif self._busy + len(self._idle) >= self._capacity and self._idle:
                surplus.append(self._idle.pop(0)[1])
            self._busy += 1
        keep = False
        try:
            for old in surplus:
                old.close()
            decoder = decoder or make()
            yield decoder
            keep = True
        finally:
            with self._lock:
                self._busy -= 1
                keep = keep and not self._closed
                if keep and decoder is not None:
                    self._idle.append((key, decoder))
            if not keep and decoder is not None:
                decoder.close()

    def forget(self, key: str) -> None:
        """Close the idle decoders of a video."""
        with self._lock:
            mine = [decoder for owner, decoder in self._idle if owner == key]
            self._idle = [entry for entry in self._idle if entry[0] != key]
        for decoder in mine:
            decoder.close()

    def close(self) -> None:
        """Close every idle decoder; those in use are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, decoder in idle:
            decoder.close()
