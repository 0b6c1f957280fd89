"""Encoded frames, kept within a bound on bytes, each made once however many ask for it at the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import anyio

from videobrain.video.frame import EncodedFrame, FrameSize

_OVERHEAD_BYTES = 512
"""What an entry costs beside its JPEG."""


class FrameKey(NamedTuple):
    """What an encoded frame depends on."""

    video: str
    frame_index: int
    size: FrameSize
    quality: int


class _Making:
    """A frame that somebody is making; the others wait."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.made = False
        self.frame: EncodedFrame | None = None


class FrameCache:
    """Least recently used frames go first. For one event loop; holds no lock across threads.

    Args:
        max_bytes: Memory that the frames may take; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._frames: OrderedDict[FrameKey, EncodedFrame] = OrderedDict()
        self._making: dict[FrameKey, _Making] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def __repr__(self) -> str:
        return f"FrameCache({len(self)} frames, {self.size_bytes} of {self.max_bytes} bytes)"

    async def get_many(
        self, keys: Sequence[FrameKey], make: Callable[[list[FrameKey]], Awaitable[dict[FrameKey, EncodedFrame]]]
    ) -> dict[FrameKey, EncodedFrame]:
        """The frames of `keys`; those that are not there come from `make`, called with all of them at once.

        A frame that another call is making is waited for; if that call fails or is cancelled, this one makes it.
        `make` may leave frames out, which are then left out here.
        """
        found: dict[FrameKey, EncodedFrame] = {}
        wanted = list(dict.fromkeys(keys))
        while wanted:
            mine: dict[FrameKey, _Making] = {}
            others: dict[FrameKey, _Making] = {}
            for key in wanted:
                if (frame := self._get(key)) is not None:
                    found[key] = frame
                elif key in self._making:
                    others[key] = self._making[key]
                else:
                    mine[key] = self._making[key] = _Making()
            if mine:
                found.update(await self._make(mine, make))
            wanted = []
            for key, making in others.items():
                await making.done.wait()
                if not making.made:
                    wanted.append(key)
                elif making.frame is not None:
                    found[key] = making.frame
        return found

    def clear(self) -> None:
        """Forget every frame."""
        self._frames.clear()
        self.size_bytes = 0

    async def _make(
        self,
        mine: dict[FrameKey, _Making],
        make: Callable[[list[FrameKey]], Awaitable[dict[FrameKey, EncodedFrame]]],
    ) -> dict[FrameKey, EncodedFrame]:
        try:
            made = await make(list(mine))
            for key, making in mine.items():
                making.made, making.frame = True, made.get(key)
            for key, frame in made.items():
                self._put(key, frame)
            return made
        finally:
            for key, making in mine.items():
                del self._making[key]
                making.done.set()

    def _get(self, key: FrameKey) -> EncodedFrame | None:
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
        return frame

    def _put(self, key: FrameKey, frame: EncodedFrame) -> None:
        size = len(frame.jpeg) + _OVERHEAD_BYTES
        if size > self.max_bytes:
            return
        self._frames[key] = frame
        self.size_bytes += size
        while self.size_bytes > self.max_bytes:
            _, old = self._frames.popitem(last=False)
            self.size_bytes -= len(old.jpeg) + _OVERHEAD_BYTES
