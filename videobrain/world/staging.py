"""Where and when things are shown: places in the frame and stretches of time."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from videobrain.video.sampling import evenly_spaced
from videobrain.world.casting import PlanError
from videobrain.world.scenario import TICK, Background, Glyph, Insert, Mover, Scene
from videobrain.world.vocabulary import FPS, PATTERNS, Thing

Place = tuple[float, float]
_HALVES: tuple[tuple[tuple[Place, Place], tuple[Place, Place]], ...] = (
    (((0.25, 0.25), (0.75, 0.25)), ((0.25, 0.75), (0.75, 0.75))),
    (((0.25, 0.25), (0.25, 0.75)), ((0.75, 0.25), (0.75, 0.75))),
)
"""The centres of the frame's quarters, as upper and lower half, and as left and right half."""
_TREMBLE = 0.01
_MARGIN = 2 * FPS
"""Frames between two inserts, and from an insert to a change of scene, at least."""
_TRIES = 300
SAMPLES = 8
"""Frames with which `uniform_sample` looks at an interval."""


def halves(rng: random.Random) -> tuple[tuple[Place, Place], tuple[Place, Place]]:
    """A frame cut in two, each half as the centres of its quarters."""
    first, second = rng.choice(_HALVES)
    return (first, second) if rng.random() < 0.5 else (second, first)


def background(rng: random.Random) -> Background:
    """Any background."""
    return Background(rng.choice(PATTERNS), rng.getrandbits(30))


def mover(rng: random.Random, content: Thing | Glyph, places: Sequence[Place], *, brief: bool = False) -> Mover:
    """Something that stays within the quarters of the frame around `places`, one or two."""
    radius = rng.uniform(0.18, 0.22) if isinstance(content, Glyph) else rng.uniform(0.15, 0.22)
    slack = 0.25 - radius - _TREMBLE
    start = rng.choice(places)
    end = rng.choice(places) if rng.random() < 0.6 else start

    def near(place: Place) -> Place:
        return place[0] + rng.uniform(-slack, slack), place[1] + rng.uniform(-slack, slack)

    first = near(start)
    return Mover(
        content,
        first,
        near(end) if end != start or rng.random() < 0.5 else first,
        radius,
        period=rng.randint(3 * FPS, 8 * FPS) if brief else rng.randint(6 * FPS, 20 * FPS),
        angle=rng.randint(-12, 12),
        shade=rng.choice((-1, 0, 0, 1)),
        seed=rng.getrandbits(30),
    )


def side_by_side(rng: random.Random, contents: Sequence[Thing | Glyph], *, brief: bool = False) -> tuple[Mover, ...]:
    """Up to two things in one half of the frame; one of them alone may cross it."""
    half = halves(rng)[0]
    return share_half(rng, contents, half, brief=brief)


def share_half(
    rng: random.Random, contents: Sequence[Thing | Glyph], half: tuple[Place, Place], *, brief: bool = False
) -> tuple[Mover, ...]:
    """Up to two things in a given half of the frame."""
    if len(contents) == 1:
        return (mover(rng, contents[0], half, brief=brief),)
    return tuple(mover(rng, content, [place], brief=brief) for content, place in zip(contents, half, strict=False))


class Timeline:
    """Finds room for inserts in the scenes of a video."""

    def __init__(self, rng: random.Random, scenes: Sequence[Scene], initial: Sequence[int]) -> None:
        self._rng = rng
        self._scenes = scenes
        self._initial = initial
        self._taken: list[tuple[int, int]] = []
        self.inserts: list[Insert] = []

    def room(
        self,
        frames: int,
        *,
        unseen: bool,
        besides: Sequence[tuple[int, int]] = (),
        multiple_of: int = TICK,
        scenes: Sequence[Scene] | None = None,
    ) -> tuple[int, Scene]:
        """First frame of a free stretch within one scene, which is taken by it, and the scene.

        Args:
            frames: Its length.
            unseen: None of the initial frames may fall into it.
            besides: Stretches of frames that it may not touch.
            multiple_of: What its first frame is a multiple of.
            scenes: Where it may lie; by default anywhere.

        Raises:
            PlanError: No room was found.
        """
        scenes = scenes or self._scenes
        weights = [scene.end - scene.start for scene in scenes]
        for _ in range(_TRIES):
            scene = self._rng.choices(scenes, weights)[0]
            lowest = -(-(scene.start + _MARGIN) // multiple_of)
            highest = (scene.end - _MARGIN - frames) // multiple_of
            if lowest > highest:
                continue
            start = self._rng.randint(lowest, highest) * multiple_of
            end = start + frames
            if any(start < b + _MARGIN and end > a - _MARGIN for a, b in (*self._taken, *besides)):
                continue
            position = bisect_left(self._initial, start)
            if unseen and position < len(self._initial) and self._initial[position] < end:
                continue
            self._taken.append((start, end))
            return start, scene
        raise PlanError(f"no room for {frames} frames")


def runs(rng: random.Random, count: int, *, apart: bool) -> list[tuple[int, int]]:
    """First and last sample of `count` stretches of the eight samples of an interval.

    Args:
        rng: Chance.
        count: How many stretches.
        apart: There is at least one sample between them.
    """
    lengths = [1] * count
    spare = SAMPLES - count - (count - 1 if apart else 0)
    for number in range(count):
        if spare > 0 and rng.random() < 0.4:
            lengths[number] += 1
            spare -= 1
    gaps = [0] + [int(apart)] * (count - 1) + [0]
    for _ in range(spare):
        gaps[rng.randrange(count + 1)] += 1
    found, sample = [], 0
    for gap, length in zip(gaps, lengths, strict=False):
        sample += gap
        found.append((sample, sample + length - 1))
        sample += length
    return found


def boundaries(rng: random.Random, start: int, end: int) -> list[int]:
    """Nine frames that divide ``[start, end)`` so that each part holds one of its eight samples, not at its edge."""
    samples = evenly_spaced(start, end, SAMPLES)
    between = [start]
    for left, right in pairwise(samples):
        middle = (left + right) / 2 + rng.uniform(-0.2, 0.2) * (right - left)
        between.append(round(middle / TICK) * TICK)
    return [*between, end]
