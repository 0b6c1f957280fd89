"""Kinds of questions: their words, and what a viewer of some frames would answer.

`Template.read` is that viewer. It knows the frames it is given and nothing else, so that whether frames suffice is
found out rather than assumed: with the frames of the real samplers.
"""

# ruff: noqa: D102  # what the methods do is said once, at Template

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, permutations

from videobrain.world.scenario import FrameState
from videobrain.world.vocabulary import (
    COLOURS,
    COUNTS,
    DIGITS,
    LETTERS,
    ORDINALS,
    PATTERNS,
    SHAPES,
    Thing,
    with_article,
)

Seen = Sequence[tuple[int, FrameState]]
"""Frames with their numbers, in order."""


@dataclass(frozen=True, slots=True)
class Template:
    """A question with its particulars filled in; subclasses are the kinds of questions."""

    @property
    def name(self) -> str:
        """The kind, as `WorldQuestion.template` has it."""
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in type(self).__name__).lstrip("_")

    def wordings(self) -> tuple[str, ...]:
        """Ways to ask."""
        raise NotImplementedError

    def read(self, seen: Seen) -> str | None:
        """The answer that these frames give; None where they give none or several."""
        raise NotImplementedError

    def prompt(self) -> str:
        """What to search for; empty where a search leads nowhere."""
        return ""

    def conclusion(self, answer: str) -> str:
        """An answer behind what was asked about: ``red star``, where it is the shape of the red object."""
        return answer

    def others(self, answer: str, rng: random.Random) -> list[str]:
        """Wrong answers of the same form, at least three, at random; no sight of them all tells which one is right."""
        raise NotImplementedError


def _only(found: set[str]) -> str | None:
    return next(iter(found)) if len(found) == 1 else None


def _besides(words: Sequence[str], without: Sequence[str]) -> list[str]:
    return [word for word in words if word not in without]


def _without(words: Sequence[str], answer: str, rng: random.Random) -> list[str]:
    return rng.sample(_besides(words, [answer]), k=min(len(words) - 1, 6))


@dataclass(frozen=True, slots=True)
class ColourOfShape(Template):
    """Which colour the only star has."""

    shape: str

    def wordings(self) -> tuple[str, ...]:
        return f"What colour is the {self.shape}?", f"Which colour does the {self.shape} have?"

    def read(self, seen: Seen) -> str | None:
        return _only({thing.colour for _, state in seen for thing in state.things if thing.shape == self.shape})

    def prompt(self) -> str:
        return with_article(self.shape)

    def conclusion(self, answer: str) -> str:
        return f"{self.shape} {answer}"

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _without(tuple(COLOURS), answer, rng)


@dataclass(frozen=True, slots=True)
class ShapeOfColour(Template):
    """Which shape the only red object has."""

    colour: str

    def wordings(self) -> tuple[str, ...]:
        return f"What shape is the {self.colour} object?", f"Which shape does the {self.colour} object have?"

    def read(self, seen: Seen) -> str | None:
        return _only({thing.shape for _, state in seen for thing in state.things if thing.colour == self.colour})

    def prompt(self) -> str:
        return f"{with_article(self.colour)} object"

    def conclusion(self, answer: str) -> str:
        return f"{self.colour} {answer}"

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _without(SHAPES, answer, rng)


@dataclass(frozen=True, slots=True)
class Companion(Template):
    """What is shown together with an object."""

    thing: Thing

    def wordings(self) -> tuple[str, ...]:
        return f"What is next to the {self.thing}?", f"What can be seen together with the {self.thing}?"

    def read(self, seen: Seen) -> str | None:
        companies = {state.things for _, state in seen if self.thing in state.things}
        return _only({str(other) for things in companies for other in things if other != self.thing})

    def prompt(self) -> str:
        return with_article(str(self.thing))

    def others(self, answer: str, rng: random.Random) -> list[str]:
        colour, shape = answer.split()
        while True:  # two colours by two shapes, so that none of the four resembles the others more than another does
            strange, form = rng.choice(_besides(tuple(COLOURS), [colour])), rng.choice(_besides(SHAPES, [shape]))
            wrong = [f"{strange} {shape}", f"{colour} {form}", f"{strange} {form}"]
            if str(self.thing) not in wrong:
                return wrong


@dataclass(frozen=True, slots=True)
class GlyphShown(Template):
    """Which digit or letter is shown."""

    noun: str

    def wordings(self) -> tuple[str, ...]:
        return f"Which {self.noun} is shown?", f"What {self.noun} can be seen?"

    def read(self, seen: Seen) -> str | None:
        return _only({glyph.text for _, state in seen for glyph in state.glyphs if glyph.noun == self.noun})

    def prompt(self) -> str:
        return with_article(self.noun)

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _without(DIGITS if self.noun == "digit" else LETTERS, answer, rng)


@dataclass(frozen=True, slots=True)
class BackgroundAt(Template):
    """What the background is like in the first or in the last frame."""

    place: str
    frame: int

    def wordings(self) -> tuple[str, ...]:
        return (
            f"What is the background like at the {self.place}?",
            f"At the {self.place}, what does the background look like?",
        )

    def read(self, seen: Seen) -> str | None:
        return next((state.background.pattern for frame, state in seen if frame == self.frame), None)

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _without(PATTERNS, answer, rng)


@dataclass(frozen=True, slots=True)
class Within(Template):
    """A question about an interval, half-open, that is given in whole seconds."""

    start_seconds: int
    end_seconds: int
    fps: int

    @property
    def start_frame(self) -> int:
        """First frame of the interval."""
        return self.start_seconds * self.fps

    @property
    def end_frame(self) -> int:
        """Frame after the last one of the interval."""
        return self.end_seconds * self.fps

    @property
    def when(self) -> str:
        """The interval in words."""
        return f"between {self.start_seconds} and {self.end_seconds} seconds"

    def inside(self, seen: Seen) -> list[FrameState]:
        """The frames of the interval."""
        return [state for frame, state in seen if self.start_frame <= frame < self.end_frame]


def _runs(sights: Sequence[str | None]) -> list[str]:
    """What is seen one after the other; a pause divides."""
    return [sight for sight, _ in groupby(sights) if sight is not None]


@dataclass(frozen=True, slots=True)
class ScreenOrder(Within):
    """In which order the screen flashes in three colours."""

    def wordings(self) -> tuple[str, ...]:
        return (
            f"In which order does the screen flash {self.when}?",
            f"{self.when.capitalize()}, in which order does the screen flash?",
        )

    def read(self, seen: Seen) -> str | None:
        runs = _runs([state.screen for state in self.inside(seen)])
        return ", ".join(runs) if len(runs) == 3 else None

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _orders(answer, tuple(COLOURS), rng)


@dataclass(frozen=True, slots=True)
class ScreenNth(Within):
    """In which colour the screen flashes first, second or third, of three."""

    position: int

    def wordings(self) -> tuple[str, ...]:
        ordinal = ORDINALS[self.position]
        return (
            f"Which colour is the {ordinal} flash {self.when}?",
            f"{self.when.capitalize()}, which colour flashes {ordinal}?",
        )

    def read(self, seen: Seen) -> str | None:
        runs = _runs([state.screen for state in self.inside(seen)])
        return runs[self.position] if len(runs) == 3 else None

    def conclusion(self, answer: str) -> str:
        return f"{ORDINALS[self.position]} {answer}"

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _without(tuple(COLOURS), answer, rng)


@dataclass(frozen=True, slots=True)
class ShapeOrder(Within):
    """In which order three shapes appear, one at a time."""

    def wordings(self) -> tuple[str, ...]:
        return (
            f"In which order do the shapes appear {self.when}?",
            f"{self.when.capitalize()}, in which order do shapes appear?",
        )

    def read(self, seen: Seen) -> str | None:
        states = self.inside(seen)
        if any(len(state.things) > 1 for state in states):
            return None
        runs = _runs([state.things[0].shape if state.things else None for state in states])
        return ", ".join(runs) if len(runs) == 3 else None

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _orders(answer, SHAPES, rng)


@dataclass(frozen=True, slots=True)
class CountOf(Within):
    """How many times an object appears."""

    thing: Thing

    def wordings(self) -> tuple[str, ...]:
        return (
            f"How many times does the {self.thing} appear {self.when}?",
            f"{self.when.capitalize()}, how many times is the {self.thing} shown?",
        )

    def read(self, seen: Seen) -> str | None:
        runs = _runs([str(self.thing) if self.thing in state.things else None for state in self.inside(seen)])
        return str(len(runs)) if runs else None

    def prompt(self) -> str:
        return with_article(str(self.thing))

    def others(self, answer: str, rng: random.Random) -> list[str]:
        return _without(COUNTS, answer, rng)


def _orders(answer: str, words: Sequence[str], rng: random.Random) -> list[str]:
    """Another order of the same words, and both with one word changed: none resembles the others most."""
    right = answer.split(", ")
    other = rng.choice([list(order) for order in permutations(right) if list(order) != right])
    word, strange = rng.choice(right), rng.choice(_besides(words, right))
    changed = [[strange if each == word else each for each in order] for order in (right, other)]
    return [", ".join(order) for order in (other, *changed)]
