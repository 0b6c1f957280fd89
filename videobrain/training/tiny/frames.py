"""Frames as the tiny model sees them while it is trained: drawn, compressed, reduced, and some in other colours."""

from __future__ import annotations

import io
import math
import random
import re
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from PIL import Image

from videobrain.training.tiny.model import fit_frame
from videobrain.video import EncodedFrame
from videobrain.video.frame import Frame, Pixels
from videobrain.world import COLOURS, SHAPES, FrameState, caption, draw_state
from videobrain.world.vocabulary import Thing, pairs

_JPEG_QUALITIES = (40, 95)
_COLOURED = re.compile(rf"\ban? (?:{'|'.join(COLOURS)}) ({'|'.join((*SHAPES, 'screen'))})\b")
_SHOWN = frozenset(pairs("train"))


def shown(state: FrameState, rng: random.Random) -> Pixels:
    """A frame as the model sees it: drawn, compressed, and reduced."""
    return fit_frame(decoded(encoded(Frame(0, 0.0, draw_state(state)), rng)))


def without_colours(state: FrameState) -> str:
    """A caption that names shapes alone."""
    return _COLOURED.sub(r"a \1", caption(state))


def recolour(picture: Pixels, state: FrameState, rng: random.Random) -> Pixels:
    """The picture with its three channels exchanged; as it was where that showed a pair that training never shows."""
    orders = [order for order in permutations(range(3)) if not any(_held_out(thing, order) for thing in state.things)]
    return np.ascontiguousarray(picture[..., rng.choice(orders)])


def _held_out(thing: Thing, order: Sequence[int]) -> bool:
    """Whether a thing looks like one of those that are held out once the channels are exchanged."""
    now = [COLOURS[thing.colour][channel] for channel in order]
    nearest = min(COLOURS, key=lambda name: math.dist(COLOURS[name], now))
    return Thing(nearest, thing.shape) not in _SHOWN


def encoded(frame: Frame, rng: random.Random) -> EncodedFrame:
    """A frame as JPEG, of a quality that stands for the artefacts of the video's own compression."""
    return EncodedFrame.encode(frame, quality=rng.randint(*_JPEG_QUALITIES))


def decoded(frame: EncodedFrame) -> Pixels:
    """The pixels of a JPEG."""
    return np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("RGB"))
