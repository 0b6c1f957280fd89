"""Which objects a video shows, so that what a question asks about is unique."""

from __future__ import annotations

import random
from collections.abc import Iterable

from videobrain.world.vocabulary import DIGITS, HELD_OUT_PAIRS, LETTERS, SHAPES, Split, Thing, pairs

_HELD_OUT_SHARE = 0.4
"""Share of the objects of test videos for which a held-out pair is taken, where one is left."""


class PlanError(Exception):
    """Chance has led to a plan that cannot be carried out; another try will do."""


class Cast:
    """Hands out pairs of colour and shape and keeps promises about them.

    Promises are made to questions before anything else is shown, so ask for `sole_shape`, `sole_colour` and `sole_pair`
    first.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self._rng = rng
        self._pairs = pairs(split)
        self.absent_shape = rng.choice(SHAPES)
        """A shape that the whole video never shows."""
        self._closed_shapes = {self.absent_shape}
        self._closed_colours: set[str] = set()
        self._closed_pairs: set[Thing] = set()
        self._shown: set[Thing] = set()
        self._closed_nouns: set[str] = set()

    def any(self, *, besides: Iterable[Thing] = (), shapes_besides: Iterable[str] = ()) -> Thing:
        """An object that no promise forbids."""
        besides, shapes_besides = set(besides), set(shapes_besides)
        return self._take(thing for thing in self._open() if thing not in besides and thing.shape not in shapes_besides)

    def sole_shape(self) -> Thing:
        """An object whose shape nothing else in the video has."""
        shown = {thing.shape for thing in self._shown}
        shape = self._choice({thing.shape for thing in self._open()} - shown)
        thing = self._take(thing for thing in self._open() if thing.shape == shape)
        self._closed_shapes.add(thing.shape)
        return thing

    def sole_colour(self) -> Thing:
        """An object whose colour no other object of the video has."""
        shown = {thing.colour for thing in self._shown}
        colour = self._choice({thing.colour for thing in self._open()} - shown)
        thing = self._take(thing for thing in self._open() if thing.colour == colour)
        self._closed_colours.add(thing.colour)
        return thing

    def sole_pair(self) -> Thing:
        """An object that is seen only here, though its colour and its shape may be seen elsewhere."""
        thing = self._take(thing for thing in self._open() if thing not in self._shown)
        self._closed_pairs.add(thing)
        return thing

    def sole_glyph(self, noun: str) -> str:
        """A digit or letter beside which the video shows no other."""
        self._closed_nouns.add(noun)
        return self._rng.choice(DIGITS if noun == "digit" else LETTERS)

    def any_glyph(self) -> str | None:
        """A digit or letter that no promise forbids; None where all are forbidden."""
        nouns = [noun for noun in ("digit", "letter") if noun not in self._closed_nouns]
        return self._rng.choice(DIGITS if self._rng.choice(nouns) == "digit" else LETTERS) if nouns else None

    def _open(self) -> list[Thing]:
        return [
            thing
            for thing in self._pairs
            if thing.shape not in self._closed_shapes
            and thing.colour not in self._closed_colours
            and thing not in self._closed_pairs
        ]

    def _take(self, candidates: Iterable[Thing]) -> Thing:
        every = list(candidates)
        held_out = [thing for thing in every if thing in HELD_OUT_PAIRS]
        if not every:
            raise PlanError("no object is left")
        thing = self._rng.choice(held_out if held_out and self._rng.random() < _HELD_OUT_SHARE else every)
        self._shown.add(thing)
        return thing

    def _choice(self, words: set[str]) -> str:
        if not words:
            raise PlanError("no colour or shape is left")
        return self._rng.choice(sorted(words))  # a set has no order of its own
