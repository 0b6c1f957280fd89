"""Trying again: what heals by waiting is tried again, with exponential back-off and full jitter, within bounds.

The delays follow "full jitter" (each delay is uniform between nothing and the exponential bound), which spreads the
clients of an overloaded server best: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from videobrain.errors import ModelError
from videobrain.models.messages import RequestRetried

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)


class PassingFailure(Exception):
    """One try failed for a reason that may pass. It never leaves this package.

    It carries no cause: the openai package's exceptions hold the request, and with it the API key.

    Attributes:
        elsewhere: Another server is there that can be asked at once.
    """

    def __init__(
        self,
        kind: type[ModelError],
        message: str,
        *,
        hint: str = "",
        status: int | None = None,
        server_message: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.status = status
        self.server_message = server_message
        self.retry_after_seconds = retry_after_seconds
        self.elsewhere = False

    def error(self, remark: str) -> ModelError:
        """The error for the caller once it is not tried again; `remark` says why not."""
        return self.kind(
            f"{self.message} {remark}".strip(),
            hint=self.hint,
            status=self.status,
            server_message=self.server_message,
        )


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a request is tried again.

    Attributes:
        retries: Tries after the first.
        seconds: Time since the first try's start after which no further one is begun.
        base_seconds: Upper bound of the first delay; it doubles with each try.
        longest_seconds: Upper bound of any delay that the server does not ask for.
        clock: Monotonic time in seconds.
        sleep: Waits, cancellable.
        jitter: A number from 0 to 1.
    """

    retries: int = 5
    seconds: float = 120.0
    base_seconds: float = 0.5
    longest_seconds: float = 20.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(default=anyio.sleep, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    def delay_seconds(self, attempt: int, retry_after_seconds: float | None) -> float:
        """Delay after the try `attempt` (from 1); never shorter than the server asks for."""
        bound: float = min(self.longest_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 30))
        jittered = self.jitter() * bound
        # A server tells all its clients the same time; the jitter on top keeps them from coming back at once.
        return jittered if retry_after_seconds is None else retry_after_seconds + min(jittered, self.base_seconds)


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    seconds_left: float | None = None,
    on_retry: Callable[[RequestRetried], None] | None = None,
) -> T:
    """Await `attempt` until it succeeds, fails for good, or the bounds of `policy` are reached.

    Args:
        attempt: One try. `PassingFailure` asks for another; any other exception passes through.
        policy: The bounds.
        seconds_left: What is left of the run; no delay is begun that would outlast it.
        on_retry: Told of each delay before it begins.

    Raises:
        ModelError: The last failure, when no further try is made.
    """
    started = policy.clock()
    bound = policy.seconds if seconds_left is None else min(policy.seconds, seconds_left)
    tries = 1
    while True:
        try:
            return await attempt()
        except PassingFailure as caught:
            failure = caught
        # A server that did not fail yet is no second try: neither waited for nor counted.
        delay = 0.0 if failure.elsewhere else policy.delay_seconds(tries, failure.retry_after_seconds)
        made = "Tried once" if tries == 1 else f"Tried {tries} times"
        if tries > policy.retries and not failure.elsewhere:
            error = failure.error(f"{made}.")
            break
        if policy.clock() - started + delay > bound:
            asked = None if failure.elsewhere else failure.retry_after_seconds
            wish = f", and the server asks to wait {asked:g} s" if asked else ""
            error = failure.error(f"{made}; no time is left for another try ({bound:g} s in all{wish}).")
            break
        kind = failure.kind.__name__
        event = RequestRetried(attempt=tries, delay_seconds=delay, reason=failure.message, error=kind)
        _LOGGER.info("try %d failed, next in %.2f s: %s", tries, delay, failure.message)
        if on_retry is not None:
            on_retry(event)
        await policy.sleep(delay)
        tries += not failure.elsewhere
    raise error  # outside the except clause, so that it drags no context along
