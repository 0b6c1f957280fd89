"""An event loop in a thread of its own, for callers that are not asynchronous or whose loop is busy."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_CLEAN_UP_SECONDS = 10.0


class LoopThread:
    """Runs coroutines on an event loop in a daemon thread; the loop lives until `close` or garbage collection."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="videobrain-loop", daemon=True)
        thread.start()
        self._finalizer = weakref.finalize(self, _stop, self._loop, thread)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for it; an interrupt (Ctrl-C) cancels it and waits until it has cleaned up."""
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_marked(coroutine, ended), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait(_CLEAN_UP_SECONDS)
            raise

    def close(self) -> None:
        """Stop the loop and its thread; idempotent."""
        self._finalizer()


async def _marked(coroutine: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await coroutine
    finally:
        ended.set()


async def _settle() -> None:
    """Wait until every other task of the loop has ended."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=5)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    async def finish() -> None:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        await _settle()
        await loop.shutdown_asyncgens()

    if thread.is_alive():
        asyncio.run_coroutine_threadsafe(finish(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
    if not loop.is_running():
        loop.close()
