"""Conversations that examples are made of: about stills and videos, played by the oracle, and in exchanged words."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from videobrain.agent import Episode
from videobrain.models import ChatReply, Message, Part, TextPart
from videobrain.tools import ToolSpec
from videobrain.training.tiny.frames import encoded
from videobrain.training.tiny.oracle import (
    answer,
    call,
    in_order,
    initial_frames,
    new_episode,
    noted_until,
    play,
    think,
)
from videobrain.training.tiny.tokenizer import TOOLS
from videobrain.video import EncodedFrame, evenly_spaced
from videobrain.video.frame import Frame, Pixels
from videobrain.world import COLOURS, SHAPES, FrameState, Split, World, WorldQuestion, caption, draw_state
from videobrain.world.stills import still_question
from videobrain.world.templates import BackgroundAt, ScreenNth, Template
from videobrain.world.vocabulary import FPS, FRAME_SIDE, ORDINALS, with_article

Draw = Callable[[FrameState], Pixels]
Look = Callable[[int, FrameState], EncodedFrame]
"""The picture of a still, by the number it is given."""
_PLAYED = {"direct": 0.2, "search": 0.35, "dense": 0.45}
"""Share of each class among those."""
FEW = 4
"""Frames that a question about an interval mostly begins with, since none of them matters."""
_COLOUR = re.compile(rf"(?:\b([Aa]n?) )?\b({'|'.join(COLOURS)})\b")


def pictured(rng: random.Random, draw: Draw = draw_state) -> Look:
    """Makes the pictures of stills."""
    return lambda number, state: encoded(Frame(number, number / 10, draw(state)), rng)


def unseen(number: int, state: FrameState) -> EncodedFrame:
    """Takes the place of a picture that is left out."""
    return EncodedFrame(
        frame_index=number, timestamp_seconds=number / 10, width=FRAME_SIDE, height=FRAME_SIDE, digest=""
    )


def flashes(rng: random.Random) -> tuple[Template, list[tuple[int, str]], str]:
    """A question about one of three flashes, with notes that answer it."""
    colours = rng.sample(tuple(COLOURS), k=len(ORDINALS))
    sights: list[str | None] = []
    for colour in colours:
        sights += [*[None] * rng.randint(0, 1), *[colour] * rng.randint(1, 2)]
    start, position = rng.randrange(600), rng.randrange(len(ORDINALS))
    template = ScreenNth(start, start + rng.randint(6, 20), FPS, position)
    frames = evenly_spaced(template.start_frame, template.end_frame, len(sights))
    return template, in_order(list(zip(frames, sights, strict=True))), colours[position]


def searched(rng: random.Random, by_number: Mapping[int, FrameState], look: Look) -> Episode:
    """A question about stills, and the oracle's reply."""
    seen = tuple(by_number.items())
    template = still_question(rng, seen)
    truth = template.read(seen)
    episode = about_stills(rng, by_number, *ask(rng, template, truth), look)
    tells = {number: template.read([(number, state)]) is not None for number, state in seen}
    if isinstance(template, BackgroundAt):
        noted = [(number, caption(state)) for number, state in seen if tells[number]]
    else:
        noted = noted_until(seen, tells.__getitem__)
    thinking = think(template.prompt(), noted, truth and template.conclusion(truth))
    whole = {"start_frame": 0, "end_frame": episode.config.frame_count, "prompt": template.prompt()}
    episode.reply(ChatReply(text=answer(thinking, truth) if truth else call(thinking, "clip_sample", whole)))
    return episode


def ask(rng: random.Random, template: Template, truth: str | None) -> tuple[str, list[str] | None]:
    """A question and, half of the time, its options."""
    options = None
    if rng.random() < 0.5:
        among = truth or rng.choice(template.others(f"{rng.choice(tuple(COLOURS))} {rng.choice(SHAPES)}", rng))
        wrong = dict.fromkeys(text for text in template.others(among, rng) if text != among)
        options = rng.sample([among, *list(wrong)[:3]], k=4)
    return rng.choice(template.wordings()), options


def played_unseen(rng: random.Random, split: Split, counts: Sequence[int]) -> Episode:
    """The oracle's run on one question of a new video, without pictures."""
    world = World(rng.getrandbits(40), split=split)
    (kind,) = rng.choices(list(_PLAYED), list(_PLAYED.values()))
    question = rng.choice([question for question in world.questions if question.kind == kind])
    initial = some_frames(world, question, rng, FEW if kind == "dense" else rng.choice(counts))

    def look(frames: Sequence[int]) -> list[EncodedFrame]:
        return [unseen(frame, world.state(frame)) for frame in frames]

    return play(world, question, look, rng, initial=initial)


def about_stills(
    rng: random.Random,
    by_number: Mapping[int, FrameState],
    question: str,
    options: Sequence[str] | None,
    look: Look,
    tools: Sequence[ToolSpec] = TOOLS,
) -> Episode:
    """An episode that has been shown stills as the frames of a video."""
    episode = new_episode(question, options, max(by_number) + rng.randint(1, 100), tools)
    episode.start([look(number, state) for number, state in by_number.items()])
    return episode


def some_frames(world: World, question: WorldQuestion, rng: random.Random, count: int) -> list[int]:
    """So many of the frames that a run begins with; one shows the answer where any of all does."""
    frames = initial_frames(world)
    telling = [frame for frame in frames if world.answer_from(question, [frame]) == question.answer]
    sure = rng.sample(telling, k=1) if telling else []
    return sorted([*sure, *rng.sample([frame for frame in frames if frame not in sure], k=count - len(sure))])


def exchange_of_colours(rng: random.Random) -> Callable[[str], str]:
    """Makes the words for colours of a text change places, each for the same one everywhere."""
    words = dict(zip(COLOURS, rng.sample(tuple(COLOURS), k=len(COLOURS)), strict=True))

    def exchanged(match: re.Match[str]) -> str:
        article, word = match.groups()
        new = words[word]
        return f"{article[0]}{with_article(new)[1:]}" if article else new

    return lambda text: _COLOUR.sub(exchanged, text)


def reworded(messages: Sequence[Message], reword: Callable[[str], str]) -> list[Message]:
    """Messages with their texts in other words."""

    def part(each: Part) -> Part:
        return TextPart(text=reword(each.text)) if isinstance(each, TextPart) else each

    return [message.model_copy(update={"parts": tuple(map(part, message.parts))}) for message in messages]


def numbers(rng: random.Random, count: int) -> list[int]:
    """Frame numbers: mostly as evenly spaced ones are, else of a short range or at random."""
    total = round(10 ** rng.uniform(3, 4.3))
    chance = rng.random()
    if chance < 0.5:
        return evenly_spaced(0, total, count)
    if chance < 0.75:
        start = rng.randrange(total)
        return evenly_spaced(start, start + rng.randint(max(80, count), 200), count)
    return sorted(rng.sample(range(total), k=count))
