"""The plan of one video: its questions first, then everything that makes them true, then distractors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from videobrain.result import Span
from videobrain.video.sampling import evenly_spaced
from videobrain.world.casting import Cast, PlanError
from videobrain.world.question import Kind
from videobrain.world.scenario import TICK, Glyph, Insert, Mover, Scenario, Scene
from videobrain.world.staging import (
    SAMPLES,
    Timeline,
    background,
    boundaries,
    halves,
    runs,
    share_half,
    side_by_side,
)
from videobrain.world.templates import (
    BackgroundAt,
    ColourOfShape,
    Companion,
    CountOf,
    GlyphShown,
    ScreenNth,
    ScreenOrder,
    ShapeOfColour,
    ShapeOrder,
    Template,
)
from videobrain.world.vocabulary import COLOURS, COUNTS, FPS, ORDINALS, Split, Thing

INITIAL_FRAMES = 16
_DIRECT = (ColourOfShape, ShapeOfColour, Companion, GlyphShown, BackgroundAt)
_SEARCH = (ColourOfShape, ShapeOfColour, Companion, GlyphShown)
_DENSE = (ScreenOrder, ScreenNth, ShapeOrder, CountOf)
_ASKED_SPACINGS = 2.2
"""Length of the shortest scene that is asked about, in distances between initial frames: at least two show it."""
_OTHER_SPACINGS, _OTHER_SECONDS = 0.7, 12
"""The same of other scenes, and their shortest length in seconds."""
_MOST_SCENES = 9
_SECONDS_PER_DISTRACTOR = 45.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A question whose truth is planned and not yet checked."""

    template: Template
    kind: Kind
    answer: str
    spans: tuple[Span, ...]
    things: tuple[Thing, ...] = ()
    """The objects it is about."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What a direct or search question wants shown."""

    template: Template
    contents: tuple[Thing | Glyph, ...]
    answer: str

    @property
    def things(self) -> tuple[Thing, ...]:
        return tuple(content for content in self.contents if isinstance(content, Thing))


def plan_video(rng: random.Random, split: Split, frame_count: int) -> tuple[Scenario, list[Draft]]:
    """A video with two questions of each class, and one that has no answer.

    Raises:
        PlanError: Chance led nowhere; try again with the same generator of random numbers.
    """
    cast = Cast(rng, split)
    nouns = rng.sample(["digit", "letter"], k=2)
    direct = [_part(form, cast, nouns[0], rng, frame_count) for form in rng.sample(_DIRECT, k=2)]
    search = [_part(form, cast, nouns[1], rng, frame_count) for form in rng.sample(_SEARCH, k=2)]
    initial = evenly_spaced(0, frame_count, INITIAL_FRAMES)
    scenes, drafts = _scenes(rng, cast, direct, frame_count)
    timeline = Timeline(rng, scenes, initial)
    quiet = [
        scene
        for scene in scenes
        if any(isinstance(part.template, Companion) and _shows(scene, part.contents) for part in direct)
    ]
    drafts += [_brief(rng, timeline, part, quiet) for part in search]
    drafts += [_dense(form, rng, cast, timeline, frame_count) for form in rng.sample(_DENSE, k=2)]
    for _ in range(rng.randint(1, 2) + round(frame_count / FPS / _SECONDS_PER_DISTRACTOR)):
        _distractor(rng, cast, timeline, quiet)
    drafts.append(Draft(ColourOfShape(cast.absent_shape), "unanswerable", rng.choice(tuple(COLOURS)), ()))
    return Scenario(tuple(scenes), tuple(sorted(timeline.inserts, key=lambda insert: insert.start))), drafts


def _part(form: type[Template], cast: Cast, noun: str, rng: random.Random, frame_count: int) -> _Part:
    if form is ColourOfShape:
        thing = cast.sole_shape()
        return _Part(ColourOfShape(thing.shape), (thing,), thing.colour)
    if form is ShapeOfColour:
        thing = cast.sole_colour()
        return _Part(ShapeOfColour(thing.colour), (thing,), thing.shape)
    if form is Companion:
        thing = cast.sole_pair()
        other = cast.any(besides=[thing])
        return _Part(Companion(thing), (thing, other), str(other))
    if form is GlyphShown:
        text = cast.sole_glyph(noun)
        return _Part(GlyphShown(noun), (Glyph(text),), text)
    at_start = rng.random() < 0.5
    return _Part(BackgroundAt("start" if at_start else "end", 0 if at_start else frame_count - 1), (), "")


def _scenes(
    rng: random.Random, cast: Cast, direct: Sequence[_Part], frame_count: int
) -> tuple[list[Scene], list[Draft]]:
    """Scenes that show what the direct questions ask about, and these questions."""
    spacing = frame_count / (INITIAL_FRAMES - 1)
    asked, other = _ASKED_SPACINGS * spacing, max(_OTHER_SPACINGS * spacing, _OTHER_SECONDS * FPS)
    with_contents = [part for part in direct if part.contents]
    most = len(with_contents) + int((0.8 * frame_count - asked * len(with_contents)) / other)
    count = rng.randint(4, min(_MOST_SCENES, most))
    shown: dict[int, tuple[Thing | Glyph, ...]] = {}
    for part, number in zip(with_contents, rng.sample(range(count), k=len(with_contents)), strict=True):
        shown[number] = part.contents
    lengths = [asked if number in shown else other for number in range(count)]
    spare = frame_count - sum(lengths)
    cuts = [0.0, *sorted(rng.random() for _ in range(count - 1))]
    starts = [round((sum(lengths[:number]) + spare * cut) / TICK) * TICK for number, cut in enumerate(cuts)]
    scenes = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], frame_count], strict=True)):
        contents = list(shown.get(number, ()))
        more = rng.choices((0, 1, 2), (15, 55, 30))[0] if not contents else rng.randint(0, 1)
        if len(contents) < 2:  # two that are asked about keep each other's company alone
            for _ in range(more):
                contents.append(cast.any(besides=[thing for thing in contents if isinstance(thing, Thing)]))
        rng.shuffle(contents)
        used, free = halves(rng)
        movers = share_half(rng, contents, used) if contents else ()
        scenes.append(Scene(start, end, background(rng), movers, free))
    drafts = []
    for part in direct:
        answer = part.answer
        if isinstance(part.template, BackgroundAt):
            scene = scenes[0 if part.template.frame == 0 else -1]
            answer = scene.background.pattern
        else:
            scene = next(scene for scene in scenes if _shows(scene, part.contents))
        span = Span(scene.start / FPS, scene.end / FPS)
        drafts.append(Draft(part.template, "direct", answer, (span,), part.things))
    return scenes, drafts


def _shows(scene: Scene, contents: Sequence[Thing | Glyph]) -> bool:
    there = [mover.content for mover in scene.movers]
    return bool(contents) and all(content in there for content in contents)


def _brief(rng: random.Random, timeline: Timeline, part: _Part, quiet: Sequence[Scene]) -> Draft:
    """An event of one to three seconds that the initial frames miss."""
    frames = rng.randrange(FPS, 3 * FPS + 1, TICK)
    start, scene = timeline.room(frames, unseen=True)
    _show(rng, timeline, part.contents, start, frames, scene, quiet)
    return Draft(part.template, "search", part.answer, (Span(start / FPS, (start + frames) / FPS),), part.things)


def _show(
    rng: random.Random,
    timeline: Timeline,
    contents: Sequence[Thing | Glyph],
    start: int,
    frames: int,
    scene: Scene,
    quiet: Sequence[Scene],
) -> None:
    """One or two things, in a shot of their own or within the scene."""
    if len(contents) > 1 or scene in quiet or rng.random() < 0.5:
        movers = side_by_side(rng, contents, brief=True)
        insert = Insert(start, start + frames, movers, background=background(rng))
    else:
        insert = Insert(start, start + frames, share_half(rng, contents, scene.free, brief=True))
    timeline.inserts.append(insert)


def _dense(form: type[Template], rng: random.Random, cast: Cast, timeline: Timeline, frame_count: int) -> Draft:
    """A sequence within an interval of whole seconds, each of its parts under one of the interval's eight samples."""
    spacing = frame_count / FPS / (INITIAL_FRAMES - 1)
    seconds = rng.randint(8, max(9, min(18, int(spacing))))
    pad = rng.randrange(0, FPS, TICK)
    try:
        first, _ = timeline.room(seconds * FPS + 2 * FPS, unseen=True, multiple_of=FPS)
    except PlanError:
        first, _ = timeline.room(seconds * FPS + 2 * FPS, unseen=False, multiple_of=FPS)
    start = first + FPS
    end = start + seconds * FPS
    edges = boundaries(rng, start, end)
    given = (start // FPS, end // FPS, FPS)
    span = Span(start / FPS, end / FPS)
    if form in (ScreenOrder, ScreenNth):
        colours = rng.sample(tuple(COLOURS), k=3)
        for colour, (a, b) in zip(colours, runs(rng, 3, apart=False), strict=True):
            timeline.inserts.append(Insert(edges[a], edges[b + 1], screen=colour))
        if form is ScreenOrder:
            return Draft(ScreenOrder(*given), "dense", ", ".join(colours), (span,))
        position = rng.randrange(len(ORDINALS))
        return Draft(ScreenNth(*given, position), "dense", colours[position], (span,))
    shown: list[Thing | None] = [None] * SAMPLES
    if form is ShapeOrder:
        things: list[Thing] = []
        for a, b in runs(rng, 3, apart=False):
            things.append(cast.any(shapes_besides=[thing.shape for thing in things]))
            shown[a : b + 1] = [things[-1]] * (b + 1 - a)
        draft = Draft(ShapeOrder(*given), "dense", ", ".join(thing.shape for thing in things), (span,), tuple(things))
    else:
        target = cast.any()
        count = rng.randint(1, len(COUNTS))
        for a, b in runs(rng, count, apart=True):
            shown[a : b + 1] = [target] * (b + 1 - a)
        shown = [thing or (cast.any(besides=[target]) if rng.random() < 0.35 else None) for thing in shown]
        draft = Draft(CountOf(*given, target), "dense", str(count), (span,), (target,))
        for _ in range(rng.randint(0, 2)):  # elsewhere it appears too
            frames = rng.randrange(FPS, 3 * FPS + 1, TICK)
            place, scene = timeline.room(frames, unseen=False)
            _show(rng, timeline, (target,), place, frames, scene, [scene])
    studio = background(rng)
    edges[0], edges[-1] = start - pad, end + pad
    a = 0
    while a < SAMPLES:
        b = a
        while b + 1 < SAMPLES and shown[b + 1] == shown[a]:
            b += 1
        thing = shown[a]
        movers: tuple[Mover, ...] = side_by_side(rng, (thing,), brief=True) if thing else ()
        timeline.inserts.append(Insert(edges[a], edges[b + 1], movers, background=studio))
        a = b + 1
    return draft


def _distractor(rng: random.Random, cast: Cast, timeline: Timeline, quiet: Sequence[Scene]) -> None:
    """Something brief that no question is about; the initial frames may happen to show it."""
    frames = rng.randrange(FPS, 3 * FPS + 1, TICK)
    try:
        start, scene = timeline.room(frames, unseen=False)
    except PlanError:
        return  # a full video needs none
    chance = rng.random()
    glyph = cast.any_glyph()
    if chance < 0.2:
        timeline.inserts.append(Insert(start, start + frames, screen=rng.choice(tuple(COLOURS))))
    elif chance < 0.35 and glyph is not None:
        _show(rng, timeline, (Glyph(glyph),), start, frames, scene, quiet)
    elif chance < 0.55:
        one = cast.any()
        _show(rng, timeline, (one, cast.any(besides=[one])), start, frames, scene, quiet)
    else:
        _show(rng, timeline, (cast.any(),), start, frames, scene, quiet)
