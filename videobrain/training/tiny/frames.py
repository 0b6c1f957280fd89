"""Frames as the tiny model sees them while it is trained: drawn, compressed, reduced, and some in other colours."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Iterable

import numpy as np

from videobrain.models.engine import frame_image
from videobrain.training.tiny.model import fit_frame
from videobrain.video import EncodedFrame
from videobrain.video.frame import Frame, Pixels
from videobrain.world import COLOURS, FrameState, draw_state
from videobrain.world.vocabulary import SHADE, Colour, Thing, pairs

_JPEG_QUALITIES = (40, 95)
_SATURATION, _BRIGHTNESS = (0.3, 1.0), (0.55, 1.0)
"""Of things in colours that have no name: bright as those of the world are."""
_SHOWN = frozenset(pairs("train"))


def shown(picture: Pixels, rng: random.Random) -> Pixels:
    """A frame as the model sees it: compressed and reduced."""
    return fit_frame(decoded(encoded(Frame(0, 0.0, picture), rng)))


def recoloured(state: FrameState, rng: random.Random) -> Pixels:
    """A frame whose things have any colours, but none that would make a pair which training never shows."""
    return draw_state(state, colours={name: _any_colour(rng, state.things, name) for name in COLOURS})


def _any_colour(rng: random.Random, things: Iterable[Thing], name: str) -> Colour:
    """In place of the colour of this name."""
    shapes = {thing.shape for thing in things if thing.colour == name}
    while True:
        hue, saturation, value = rng.random(), rng.uniform(*_SATURATION), rng.uniform(*_BRIGHTNESS)
        red, green, blue = (round(255 * level) for level in colorsys.hsv_to_rgb(hue, saturation, value))
        looks = {nearest((red + shade, green + shade, blue + shade)) for shade in (-SHADE, 0, SHADE)}
        if all(Thing(look, shape) in _SHOWN for look in looks for shape in shapes):
            return red, green, blue


def nearest(colour: Colour) -> str:
    """The name of the colour that it is most like."""
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], colour))


def encoded(frame: Frame, rng: random.Random) -> EncodedFrame:
    """A frame as JPEG, of a quality that stands for the artefacts of the video's own compression."""
    return EncodedFrame.encode(frame, quality=rng.randint(*_JPEG_QUALITIES))


def decoded(frame: EncodedFrame) -> Pixels:
    """The pixels of a JPEG."""
    return np.asarray(frame_image(frame))
