"""The number of questions at once, against servers that are simulated: no clock, no network."""

from __future__ import annotations

import heapq
import random
from typing import NamedTuple

import pytest

from videobrain.evaluation.concurrency import MOST, AdaptiveLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Seen(NamedTuple):
    limits: list[int]
    """After each reply."""
    replies_per_second: float
    refused: int


def simulate(*, slots: int, most: int = 10_000, replies: int = 4000, noise: float = 0.5) -> Seen:
    """A server that works on `slots` requests at once, lets others wait, and refuses what would be more than `most`."""
    clock, chance = Clock(), random.Random(0)
    limit = AdaptiveLimit(clock=clock)
    free = [0.0] * slots
    events: list[tuple[float, int, str, float]] = []  # when, a number, what, and when it was sent
    limits: list[int] = []
    running = number = at_server = refused = 0

    def send() -> None:
        nonlocal at_server, number
        number += 1
        if at_server >= most:
            heapq.heappush(events, (clock.now + 0.01, number, "refused", clock.now))
            return
        at_server += 1
        begins = max(clock.now, heapq.heappop(free))
        ends = begins + chance.uniform(1 - noise, 1 + noise)
        heapq.heappush(free, ends)
        heapq.heappush(events, (ends, number, "replied", clock.now))

    while len(limits) < replies:
        while running < limit.now:
            running += 1
            send()
        clock.now, _, what, sent_at = heapq.heappop(events)
        if what == "replied":
            at_server -= 1
            running -= 1
            limit.replied()
            limits.append(limit.now)
        elif what == "refused":
            refused += 1
            limit.overloaded(sent_at)
            number += 1
            heapq.heappush(events, (clock.now + 0.5, number, "again", sent_at))
        else:
            send()
    return Seen(limits, replies / clock.now, refused)


@pytest.mark.parametrize("slots", [1, 2, 4, 8, 16, 32, 64, 200])
def test_it_finds_what_the_server_can_do_and_stays_there(slots: int) -> None:
    seen = simulate(slots=slots)
    late = seen.limits[len(seen.limits) // 2 :]
    mean = sum(late) / len(late)
    wanted = min(slots, MOST)
    assert 0.7 * wanted <= mean <= max(2 * wanted, 8)  # a few too many only wait
    assert seen.replies_per_second >= 0.7 * wanted


def test_a_server_for_many_soon_gets_many() -> None:
    """A short evaluation is not over before its server is full."""
    seen = simulate(slots=64, replies=300)
    assert seen.limits.index(64) < 200
    assert seen.replies_per_second >= 0.4 * 64


@pytest.mark.parametrize("most", [2, 10, 25])
def test_a_server_that_refuses_is_asked_less(most: int) -> None:
    seen = simulate(slots=50, most=most)
    late = seen.limits[len(seen.limits) // 2 :]
    assert sum(late) / len(late) <= 1.3 * most
    assert seen.refused < 0.05 * len(seen.limits)
    assert seen.replies_per_second >= 0.5 * most


def test_it_is_halved_once_for_what_was_sent_before() -> None:
    clock = Clock()
    limit = AdaptiveLimit(16, clock=clock)
    clock.now = 10.0
    for _ in range(16):  # all of them were sent before the first refusal came
        limit.overloaded(9.0)
    assert limit.now == 8
    clock.now = 11.0
    limit.overloaded(10.5)
    assert limit.now == 4
    for moment in range(12, 20):
        clock.now = moment
        limit.overloaded(moment - 0.5)
    assert limit.now == 1


def test_a_step_that_does_not_pay_is_taken_back_and_one_that_does_is_kept() -> None:
    def limits(rates: dict[int, float], first: int = 4) -> list[int]:
        """What it does where so many at once give so many replies a second."""
        clock = Clock()
        limit = AdaptiveLimit(first, clock=clock)
        found = [limit.now]
        for _ in range(600):
            clock.now += 1 / rates.get(limit.now, max(rates.values()))
            limit.replied()
            if limit.now != found[-1]:
                found.append(limit.now)
        return found

    assert limits({4: 4.0, 8: 8.0, 16: 8.5})[:4] == [4, 8, 16, 8]
    assert limits({4: 4.0})[:3] == [4, 8, 4]
    assert limits({8: 4.0, 4: 4.0, 2: 2.0}, first=8)[:6] == [8, 16, 8, 4, 2, 4]


def test_a_fixed_number_never_changes() -> None:
    clock = Clock()
    limit = AdaptiveLimit.fixed(7)
    assert limit.now == 7
    limit.overloaded(float("inf"))
    for _ in range(500):
        clock.now += 1
        limit.replied()
    assert limit.now == 7


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 0"):
        AdaptiveLimit.fixed(0)
