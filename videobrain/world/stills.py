"""Single frames that belong to no video, for training on pictures and their captions."""

from __future__ import annotations

import random

from videobrain.world.casting import Cast
from videobrain.world.scenario import FrameState, Glyph, Mover
from videobrain.world.staging import background, halves, share_half
from videobrain.world.templates import BackgroundAt, ColourOfShape, Companion, GlyphShown, Seen, ShapeOfColour, Template
from videobrain.world.vocabulary import COLOURS, SHAPES, Split, Thing

_CONTENTS = {"": 5, "screen": 6, "t": 34, "tt": 25, "g": 8, "tg": 10, "tt+t": 6, "t+g": 6}
"""How often a still holds what: things and glyphs of a scene, and after the plus those that an event adds."""


def still(rng: random.Random, split: Split) -> FrameState:
    """What a frame of some video of a split could show, chosen so that everything is seen often enough.

    Colours and shapes, digits and letters, and places are equally frequent each; `draw_state` gives the pixels.
    """
    content = rng.choices(tuple(_CONTENTS), tuple(_CONTENTS.values()))[0]
    scene = background(rng)
    if content == "screen":
        return FrameState(scene, rng.choice(tuple(COLOURS)), ())
    cast = Cast(rng, split)
    used, free = halves(rng)
    staying, _, added = content.partition("+")
    movers: list[Mover] = []
    shown: list[Thing] = []
    for half, letters in ((used, staying), (free, added)):
        contents: list[Thing | Glyph] = []
        for letter in letters:
            if letter == "t":
                shown.append(cast.any(besides=shown))
                contents.append(shown[-1])
            else:
                contents.append(Glyph(cast.sole_glyph(rng.choice(("digit", "letter")))))
        rng.shuffle(contents)
        movers += share_half(rng, contents, half) if contents else ()
    frame = rng.randrange(10_000)
    return FrameState(scene, None, tuple(mover.at(frame) for mover in movers))


def still_question(rng: random.Random, seen: Seen) -> Template:
    """A question that stills answer or, about half of the time, that none of them does."""
    states = [state for _, state in seen]
    if rng.random() < 0.1:
        return rng.choice((BackgroundAt("start", seen[0][0]), BackgroundAt("end", seen[-1][0])))
    while True:
        here = rng.random() < 0.6  # some of these are given up, having two answers
        things = [thing for state in states for thing in state.things if here] or [_any_thing(rng)]
        nouns = [glyph.noun for state in states for glyph in state.glyphs if here] or ["digit", "letter"]
        thing = rng.choice(things)
        template: Template = rng.choice(
            (ColourOfShape(thing.shape), ShapeOfColour(thing.colour), Companion(thing), GlyphShown(rng.choice(nouns)))
        )
        if template.read(seen) or not any(template.read([one]) for one in seen):
            return template


def _any_thing(rng: random.Random) -> Thing:
    return Thing(rng.choice(tuple(COLOURS)), rng.choice(SHAPES))
