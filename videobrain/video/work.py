"""Blocking work in threads that can be cancelled and has a deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from videobrain.errors import DecodeTimeoutError

T = TypeVar("T")

_GRACE_SECONDS = 1.0
"""What a thread gets beyond its deadline to notice it by itself before it is abandoned."""


class JobCancelledError(Exception):
    """The caller of a job went away. Raised in the job's thread only, where nobody waits for it any more."""


class Job:
    """One piece of blocking work. Its thread calls `check` between packets, so that it ends soon after `cancel`.

    Its time begins with the first `check`: what waits for a thread is not slow, there is only much to do.

    Args:
        seconds: Time the work may take.
        what: What is being done, for the error.
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self.what = what
        self._deadline: float | None = None
        self._cancelled = threading.Event()

    @property
    def is_abandoned(self) -> bool:
        """Whether its thread is busy long after the deadline, so that it did not even notice it."""
        return self._deadline is not None and time.monotonic() > self._deadline + _GRACE_SECONDS

    def cancel(self) -> None:
        """Ask the thread to end. May be called from any thread, more than once."""
        self._cancelled.set()

    def check(self) -> None:
        """Called by the thread.

        Raises:
            JobCancelledError: Nobody waits for the result.
            DecodeTimeoutError: The deadline is past.
        """
        if self._cancelled.is_set():
            raise JobCancelledError
        if self._deadline is None:
            self._deadline = time.monotonic() + self.seconds
        if time.monotonic() >= self._deadline:
            raise self.timeout()

    def timeout(self) -> DecodeTimeoutError:
        """The error of a passed deadline."""
        return DecodeTimeoutError(
            f"{self.what} took longer than {self.seconds:g} s.",
            hint="Allow more with VIDEOBRAIN_DECODE_TIMEOUT_SECONDS (decode_timeout_seconds).",
        )


async def run_job(job: Job, function: Callable[[], T], *, limiter: anyio.CapacityLimiter) -> T:
    """Run `function` in a worker thread until it is done, its deadline passes, or the caller is cancelled.

    A thread that is left behind ends at its next `Job.check`; it counts against `limiter` until then. Where all that
    the limiter allows hang in abandoned work, what waits for one of them fails too.
    """
    began = asyncio.Event()

    def body() -> T:
        job.check()
        return function()

    async def work() -> T:
        await limiter.acquire_on_behalf_of(job)
        try:
            began.set()
            return await anyio.to_thread.run_sync(body, limiter=anyio.CapacityLimiter(1))
        finally:
            limiter.release_on_behalf_of(job)

    # In a task that is never cancelled: anyio gives an abandoned thread's token back while the thread still works.
    task = asyncio.create_task(work())
    task.add_done_callback(_hear)
    try:
        while not began.is_set():
            with anyio.move_on_after(job.seconds + _GRACE_SECONDS):
                await began.wait()
            if not began.is_set() and _all_abandoned(limiter):
                raise DecodeTimeoutError(
                    f"{job.what} could not begin: {limiter.total_tokens:g} threads hang in earlier work on videos.",
                    hint="Look for videos on a disk or a server that does not answer.",
                )
        with anyio.move_on_after(job.seconds + _GRACE_SECONDS):
            await asyncio.wait([task])
            return task.result()
    finally:
        job.cancel()
    raise job.timeout()


def _all_abandoned(limiter: anyio.CapacityLimiter) -> bool:
    return all(isinstance(each, Job) and each.is_abandoned for each in limiter.statistics().borrowers)


def _hear(task: asyncio.Task[object]) -> None:
    """Look at what ended a task, or asyncio would complain that nobody did."""
    if not task.cancelled():
        task.exception()
