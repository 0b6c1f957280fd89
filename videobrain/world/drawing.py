"""Pixels of the synthetic world, from what a frame shows."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from videobrain.video.frame import Pixels
from videobrain.world.scenario import Background, FrameState, Glyph, Sight
from videobrain.world.vocabulary import COLOURS, FRAME_SIDE, SHADE, Colour

_FINER = 4
"""Masks are drawn so many times larger and averaged: Pillow's polygons have hard edges."""
_CARD, _INK = (15, 15, 20), (250, 250, 250)


def draw_state(state: FrameState, side: int = FRAME_SIDE, colours: Mapping[str, Colour] = COLOURS) -> Pixels:
    """The pixels of one frame.

    Args:
        state: What it shows.
        side: Width and height in pixels.
        colours: RGB of each colour.

    Returns:
        RGB, shape (side, side, 3), uint8.
    """
    if state.screen is not None:
        return _screen(colours[state.screen], side).copy()
    image = Image.fromarray(_background(state.background, side))
    for sight in state.sights:
        _paste(image, sight, side, colours)
    return np.asarray(image)


def _paste(image: Image.Image, sight: Sight, side: int, colours: Mapping[str, Colour]) -> None:
    if isinstance(sight.content, Glyph):
        stamp = _glyph(sight.content.text, round(2 * sight.radius * side))
        image.paste(stamp, (round(sight.x * side - stamp.width / 2), round(sight.y * side - stamp.height / 2)))
        return
    mask = _mask(sight.content.shape, round(2 * sight.radius * side), sight.angle)
    red, green, blue = (max(0, min(255, level + SHADE * sight.shade)) for level in colours[sight.content.colour])
    place = (round(sight.x * side - mask.width / 2), round(sight.y * side - mask.height / 2))
    image.paste((red, green, blue), (*place, place[0] + mask.width, place[1] + mask.height), mask)


@lru_cache(maxsize=4096)
def _mask(shape: str, size: int, angle: int) -> Image.Image:
    """How much of each pixel of a `size` x `size` square a shape covers, 0 to 255."""
    fine = size * _FINER
    mask = Image.new("L", (fine, fine), 0)
    pen = ImageDraw.Draw(mask)
    centre, radius = fine / 2, fine / 2 - 1
    if shape in ("circle", "ring"):
        pen.ellipse((centre - radius, centre - radius, centre + radius, centre + radius), fill=255)
        if shape == "ring":
            hole = radius * 0.55
            pen.ellipse((centre - hole, centre - hole, centre + hole, centre + hole), fill=0)
    else:
        turn = math.radians(angle)
        cosine, sine = math.cos(turn), math.sin(turn)
        corners = [
            (centre + radius * (x * cosine - y * sine), centre + radius * (x * sine + y * cosine))
            for x, y in _outline(shape)
        ]
        pen.polygon(corners, fill=255)
    return mask.resize((size, size), Image.Resampling.BOX)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Corners within the unit circle; y points down."""

    def around(radii: list[float], first: float = -90.0) -> list[tuple[float, float]]:
        step = 360 / len(radii)
        angles = [math.radians(first + number * step) for number in range(len(radii))]
        return [(radius * math.cos(a), radius * math.sin(a)) for radius, a in zip(radii, angles, strict=True)]

    match shape:
        case "square":
            return around([1.0] * 4, first=-45.0)
        case "triangle":
            return around([1.0] * 3)
        case "star":
            return around([1.0, 0.4] * 5)
        case "diamond":
            return [(0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0)]
        case "cross":
            a, b = 0.32, 0.95
            return [
                (-a, -b),
                (a, -b),
                (a, -a),
                (b, -a),
                (b, a),
                (a, a),
                (a, b),
                (-a, b),
                (-a, a),
                (-b, a),
                (-b, -a),
                (-a, -a),
            ]
        case "heart":
            points = []
            for number in range(40):
                t = 2 * math.pi * number / 40
                y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
                points.append((math.sin(t) ** 3 * 0.95, -(y + 2.5) / 16.5))
            return points
    raise ValueError(f"no shape {shape!r}")


@lru_cache(maxsize=512)
def _glyph(text: str, size: int) -> Image.Image:
    """A dark card with a bright digit or letter."""
    card = Image.new("RGB", (round(size * 0.85), size), _CARD)
    pen = ImageDraw.Draw(card)
    # Pillow's own font: the same on every machine.
    font = ImageFont.load_default(size=size)
    pen.text(
        (card.width / 2, card.height / 2),
        text,
        fill=_INK,
        font=font,
        anchor="mm",
        stroke_width=max(1, size // 40),
        stroke_fill=_INK,
    )
    return card


@lru_cache(maxsize=64)
def _screen(colour: Colour, side: int) -> Pixels:
    """One colour, a little darker towards the edges."""
    distance = np.hypot(*np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side)))
    pixels = np.asarray(colour) * (1 - 0.12 * distance[..., None])
    return _frozen(pixels)


@lru_cache(maxsize=256)
def _background(background: Background, side: int) -> Pixels:
    """Two dull tones in a pattern."""
    rng = random.Random(background.seed)
    low = rng.uniform(0.10, 0.32)
    tones = [
        np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.0, 0.35), value)) * 255
        for value in (low, low + rng.uniform(0.17, 0.25))
    ]
    y, x = np.mgrid[0:side, 0:side] / side
    turn = rng.uniform(0, math.pi)
    along = x * math.cos(turn) + y * math.sin(turn)
    cells = rng.uniform(4.0, 6.0)
    phase = rng.random()
    match background.pattern:
        case "plain":
            share = np.full((side, side), rng.random())
        case "gradient":
            share = (along - along.min()) / np.ptp(along)
            tones = [tones[0] * 0.6, tones[1] * 1.25]
        case "stripes":
            share = (along * cells + phase) % 1.0 < 0.5
        case "checks":
            share = (np.floor(x * cells + phase) + np.floor(y * cells + phase)) % 2
        case "dots":
            share = ((x * cells + phase) % 1.0 - 0.5) ** 2 + ((y * cells + phase) % 1.0 - 0.5) ** 2 < 0.09
        case _:
            raise ValueError(f"no pattern {background.pattern!r}")
    mixed = np.asarray(share, np.float64)[..., None]
    grain = np.random.default_rng(background.seed).normal(0, 2.0, (side, side, 1))
    return _frozen(tones[0] * (1 - mixed) + tones[1] * mixed + grain)


def _frozen(pixels: npt.NDArray[np.float64]) -> Pixels:
    frozen: Pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    frozen.setflags(write=False)
    return frozen
