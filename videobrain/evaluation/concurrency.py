"""How many questions at once: as many as a server serves faster than fewer, and fewer when it says so. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

FIRST, MOST = 16, 64
_PAID = 0.1
"""Share of what was added that throughput must have grown by, and of what was taken that it may have shrunk by."""
_LEAST_REPLIES = 24
"""Replies that a measurement takes at least."""
_REST = 8
"""Windows between a step that was taken back and the next one."""


class _Pace(NamedTuple):
    factor: float
    """By which the number changes in one step."""
    per_slot: int
    """Replies that a measurement takes for each question at once."""


_FAST, _SLOW = _Pace(2.0, 2), _Pace(1.25, 4)
"""Until the number is about right, and after: at first a server that stands half idle costs more than a wrong step."""


class AdaptiveLimit:
    """A number of questions at once that follows what the server can do.

    It grows while the rate of replies grows: by doubling at first, in steps of a quarter later on. A step that does not
    pay is taken back, and a step in the other direction is tried: rates are noisy, and a number that only ever grew
    would not stop. Where the first doubling does not pay, it is halved as long as that costs nothing. It is halved too
    where the server refuses for load (429) or a request times out. Failures of requests that were sent before the last
    halving say nothing new, and count for nothing.

    Attributes:
        now: The number at present.

    Args:
        first: The number at first.
        least: It is never below.
        most: It is never above; ``least == most`` is a fixed number.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, first: int = FIRST, *, least: int = 1, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"a number from {least} to {most} is none of questions at once")
        self.now = min(max(first, least), most)
        self._least, self._most = least, most
        self._clock = clock
        self._pace = _FAST
        self._kept = False  # whether any step paid
        self._up = True
        self._before: tuple[int, float] | None = None  # the number and the rate from which the last step was taken
        self._cut_at = float("-inf")
        self._rest = 0
        self._replies = 0
        self._began: float | None = None  # the window that is measured; None while replies of before are waited for

    @classmethod
    def fixed(cls, number: int) -> AdaptiveLimit:
        """A number that never changes."""
        return cls(number, least=number, most=number)

    @classmethod
    def of_servers(
        cls, servers: int, *, workers: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> AdaptiveLimit:
        """For so many servers, which share what is asked, by so many processes, none of which is to be idle."""
        return cls(max(servers * FIRST, workers), most=max(servers * MOST, workers), clock=clock)

    def replied(self) -> None:
        """A reply came in."""
        self._replies += 1
        if self._began is None:
            # Requests under way were sent under the number before: one reply of each is waited for.
            if self._replies >= self.now:
                self._began, self._replies = self._clock(), 0
            return
        seconds = self._clock() - self._began
        if self._replies >= max(_LEAST_REPLIES, self._pace.per_slot * self.now) and seconds > 0:
            self._measured(self._replies / seconds)

    def overloaded(self, sent_at: float) -> None:
        """A request was refused for load, or timed out.

        Args:
            sent_at: When it was sent, by the clock.
        """
        if sent_at < self._cut_at:
            return
        self._cut_at = self._clock()
        self._before, self._pace, self._up, self._rest = None, _SLOW, True, _REST
        self._set(self.now // 2)

    def _measured(self, rate: float) -> None:
        """A window has ended."""
        if self._before is not None:
            number, rate_before = self._before
            self._before = None
            if rate < rate_before * (1 + _PAID * (self.now / number - 1)):
                if self._kept or not self._up:
                    self._pace, self._rest = _SLOW, _REST
                self._up = not self._up
                self._set(number)
                return
            self._kept = True
        if self._rest:
            self._rest -= 1
            self._restart()
            return
        before = self.now
        factor = self._pace.factor
        up, down = max(before + 1, int(before * factor)), min(before - 1, int(before / factor))
        self._set(up if self._up else down)
        if self.now != before:
            self._before = before, rate
        else:
            self._up = not self._up  # it is as far as it may be

    def _set(self, number: int) -> None:
        self.now = min(max(number, self._least), self._most)
        self._restart()

    def _restart(self) -> None:
        self._replies, self._began = 0, None
