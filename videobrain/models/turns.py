"""A lock that tasks of different event loops may share."""

from __future__ import annotations

from collections import deque

import anyio

_POLL_SECONDS = 0.02


class Turns:
    """Lets in one task at a time, in the order of their coming.

    `anyio.Lock` belongs to one event loop while tasks wait for it: a task of another thread's loop would not be woken.
    Here those who wait look again by themselves.
    """

    def __init__(self) -> None:
        self._queue: deque[object] = deque()

    async def __aenter__(self) -> None:
        ticket = object()
        self._queue.append(ticket)
        try:
            while self._queue[0] is not ticket:  # noqa: ASYNC110 - events belong to one event loop
                await anyio.sleep(_POLL_SECONDS)
        except BaseException:
            self._queue.remove(ticket)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._queue.popleft()
