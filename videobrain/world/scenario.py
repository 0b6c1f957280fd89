"""What happens in a video: scenes, and inserts that interrupt them; and what one frame of it shows."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from videobrain.world.vocabulary import FPS, Thing, with_article

TICK = 2
"""Frames from one movement to the next; everything begins and ends on a tick, so every second frame repeats."""
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Glyph:
    """A written digit or letter."""

    text: str

    @property
    def noun(self) -> str:
        """``digit`` or ``letter``."""
        return "digit" if self.text.isdigit() else "letter"

    def __str__(self) -> str:
        return f"{self.noun} {self.text}"


@dataclass(frozen=True, slots=True)
class Background:
    """A dull background; `seed` fixes its colours and its details."""

    pattern: str
    seed: int


@dataclass(frozen=True, slots=True)
class Sight:
    """A thing or a glyph where it is in one frame. Lengths are shares of the frame's side."""

    content: Thing | Glyph
    x: float
    y: float
    radius: float
    angle: int
    """Turn in degrees."""
    shade: int
    """Small change of the colour, -1 to 1 of 16 levels."""


@dataclass(frozen=True, slots=True)
class Mover:
    """A thing or a glyph that goes to and fro between two points and trembles on its way."""

    content: Thing | Glyph
    start: tuple[float, float]
    end: tuple[float, float]
    radius: float
    period: int
    """Frames there and back; ignored where it stays."""
    angle: int
    shade: int
    seed: int

    def at(self, frame: int) -> Sight:
        """Where it is in a frame."""
        tick = frame // TICK
        phase = 2 * ((tick * TICK / self.period + (self.seed % 97) / 97) % 1.0)
        share = phase if phase <= 1 else 2 - phase
        noise = (self.seed * 2654435761 + tick * 40503 + (tick * tick) * 69069) & _MASK
        dx, dy = (noise >> 8 & 3) - 1.5, (noise >> 16 & 3) - 1.5
        return Sight(
            self.content,
            self.start[0] + (self.end[0] - self.start[0]) * share + dx / 200,
            self.start[1] + (self.end[1] - self.start[1]) * share + dy / 200,
            self.radius,
            self.angle,
            self.shade,
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """A long stretch ``[start, end)`` of frames with one background and what is there all the time."""

    start: int
    end: int
    background: Background
    movers: tuple[Mover, ...]
    free: tuple[tuple[float, float], tuple[float, float]]
    """Centres of the two quarters of the frame that nothing of the scene uses."""


@dataclass(frozen=True, slots=True)
class Insert:
    """Something brief, ``[start, end)`` in frames.

    With a `background` it is a shot of its own, with a `screen` the whole frame in one colour; with neither its movers
    join the scene.
    """

    start: int
    end: int
    movers: tuple[Mover, ...] = ()
    background: Background | None = None
    screen: str | None = None


@dataclass(frozen=True, slots=True)
class FrameState:
    """All that one frame shows."""

    background: Background
    screen: str | None
    """Colour that fills the whole frame."""
    sights: tuple[Sight, ...]

    @property
    def things(self) -> tuple[Thing, ...]:
        """The objects, from the upper left to the lower right."""
        return tuple(sight.content for sight in self._in_reading_order() if isinstance(sight.content, Thing))

    @property
    def glyphs(self) -> tuple[Glyph, ...]:
        """The digits and letters, from the upper left to the lower right."""
        return tuple(sight.content for sight in self._in_reading_order() if isinstance(sight.content, Glyph))

    def _in_reading_order(self) -> list[Sight]:
        return sorted(self.sights, key=lambda sight: (sight.y > 0.5, sight.x))


@dataclass(frozen=True)
class Scenario:
    """A whole video: scenes that follow each other without gaps, and inserts that never overlap."""

    scenes: tuple[Scene, ...]
    inserts: tuple[Insert, ...]
    _scene_starts: list[int] = field(init=False, repr=False)
    _insert_starts: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scene_starts", [scene.start for scene in self.scenes])
        object.__setattr__(self, "_insert_starts", [insert.start for insert in self.inserts])

    @property
    def frame_count(self) -> int:
        """Frames of the video."""
        return self.scenes[-1].end

    @property
    def duration_seconds(self) -> float:
        """Length of the video."""
        return self.frame_count / FPS

    def state(self, frame: int) -> FrameState:
        """What frame `frame` shows.

        Raises:
            IndexError: The video has no such frame.
        """
        if not 0 <= frame < self.frame_count:
            raise IndexError(f"frame {frame} of a video of {self.frame_count}")
        scene = self.scenes[bisect_right(self._scene_starts, frame) - 1]
        position = bisect_right(self._insert_starts, frame) - 1
        insert = self.inserts[position] if position >= 0 and frame < self.inserts[position].end else None
        if insert is None:
            movers, background = scene.movers, scene.background
        elif insert.background is not None:
            movers, background = insert.movers, insert.background
        else:
            movers = () if insert.screen else (*scene.movers, *insert.movers)
            background = scene.background
        return FrameState(background, insert.screen if insert else None, tuple(mover.at(frame) for mover in movers))


def caption(state: FrameState) -> str:
    """One frame in words: its objects in reading order, its glyphs, its background.

    The parts are search prompts: ``a red star and a blue ring and the digit 4 on stripes``.
    """
    if state.screen is not None:
        return with_article(f"{state.screen} screen")
    parts = [with_article(str(thing)) for thing in state.things] + [f"the {glyph}" for glyph in state.glyphs]
    return f"{' and '.join(parts) or 'nothing'} on {state.background.pattern}"


def prompts(state: FrameState) -> tuple[str, ...]:
    """Every search prompt that a frame fits, most particular first; empty for a mere background."""
    if state.screen is not None:
        return (with_article(f"{state.screen} screen"),)
    found: list[str] = []
    for thing in state.things:
        found += [with_article(str(thing)), with_article(thing.shape), f"{with_article(thing.colour)} object"]
    for glyph in state.glyphs:
        found += [f"the {glyph}", f"a {glyph.noun}"]
    return tuple(dict.fromkeys(found))
