"""The words and sights of the synthetic world: a small, closed vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""
Split = Literal["train", "validation", "test"]
"""Which seeds are drawn and which pairs of colour and shape may occur: the held-out ones only in ``test``."""

FPS = 10
"""Frames per second of every video, so that a small model can turn seconds into frame numbers: it writes a zero."""
FRAME_SIDE = 128
"""Width and height of a frame in pixels: 4, 9 or 16 image tokens of 32 pixels when shown at a half, 3/4 or in full."""
TAG = "videobrain-world/1"
"""Comment in the metadata of every file; the number changes when the same seed gives another video."""

COLOURS: Mapping[str, Colour] = MappingProxyType(
    {
        "red": (225, 25, 30),
        "orange": (255, 140, 0),
        "yellow": (250, 235, 40),
        "green": (30, 170, 50),
        "cyan": (50, 225, 235),
        "blue": (35, 60, 235),
        "purple": (140, 30, 190),
        "pink": (255, 135, 195),
    }
)
"""RGB of each colour."""
SHADE = 16
"""Levels by which some objects are darker or lighter."""
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring")
"""All shapes, drawn at most 12 degrees from upright."""
DIGITS = tuple("0123456789")
LETTERS = tuple("ACEHKMTX")
PATTERNS = ("plain", "gradient", "stripes", "checks", "dots")
"""Backgrounds; their colours are dull, those of objects are bright."""
ORDINALS = ("first", "second", "third")
COUNTS = tuple("1234")

_PLAIN_WORDS = (
    "a an and appear at background be between can colour digit do does end flash flashes have how in is "
    "letter like look many next nothing object on order screen seconds seen shape shapes shown start the "
    "times to together what which with"
)
WORDS = tuple(sorted({*COLOURS, *SHAPES, *PATTERNS, *ORDINALS, *_PLAIN_WORDS.split()}))
"""Every word of questions, answers, captions and search prompts, in small letters; a question begins with a capital.
Numbers are written in digits; the letters that videos show are capitals."""


class Thing(NamedTuple):
    """An object as questions name it."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


HELD_OUT_PAIRS = frozenset(
    Thing(colour, SHAPES[(3 * number + 1) % len(SHAPES)]) for number, colour in enumerate(COLOURS)
)
"""One shape of each colour, one colour of each shape, that only the test split shows."""


@cache
def pairs(split: Split) -> tuple[Thing, ...]:
    """The pairs of colour and shape that videos of a split may show."""
    every = (Thing(colour, shape) for colour in COLOURS for shape in SHAPES)
    return tuple(thing for thing in every if split == "test" or thing not in HELD_OUT_PAIRS)


def with_article(noun: str) -> str:
    """``a red star``, ``an orange heart``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
