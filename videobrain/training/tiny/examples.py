"""What the tiny model learns from: pictures with captions, look-ups by frame number, and an oracle's trajectories."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from videobrain.agent import Episode
from videobrain.agent.prompts import COMPACT
from videobrain.models import ChatReply
from videobrain.training.tiny.conversations import (
    FEW,
    Draw,
    about_stills,
    ask,
    exchange_of_colours,
    flashes,
    numbers,
    pictured,
    played_unseen,
    reworded,
    searched,
    some_frames,
    unseen,
)
from videobrain.training.tiny.frames import decoded, encoded, recoloured, shown
from videobrain.training.tiny.model import collate, fit_frame
from videobrain.training.tiny.oracle import (
    INITIAL_FRAMES,
    YES,
    answer,
    asked,
    content,
    found_text,
    play,
    think,
)
from videobrain.training.tokens import ConversationTokenizer, TokenizedConversation
from videobrain.video import EncodedFrame
from videobrain.video.frame import Frame, Pixels
from videobrain.world import COLOURS, FrameState, Split, World, caption, draw_state, still
from videobrain.world.scenario import Background
from videobrain.world.stills import still_question
from videobrain.world.templates import Companion, Template
from videobrain.world.vocabulary import ORDINALS, WORDS

if TYPE_CHECKING:
    from videobrain.training.tiny.model import Batch

T = TypeVar("T")
_IN_ORDER = 0.8
"""Share of look-ups that go through all frames, as the notes of a trajectory do."""
_BACKGROUNDS_ALONE = 0.35
"""Share of captions and look-ups that say a background and nothing else. So where a picture ends, the model gathers its
background too, which else it reads from the last picture only, and from no frame further back."""
_RECOLOURED = 0.5
"""Share of captions and look-ups whose pictures have other colours and whose words for colours are any: so that a shape
is known in a colour, and after a word, that it was never seen with."""
_EXCHANGED = 0.25
"""Share of trajectories in which the words for colours change places: so that what follows from notes is read from them
in pairs of words, too, whose pictures the training never shows."""
_IN_A_ROW, _SEQUENCES, _SEVERAL = 12, 0.2, 0.8
"""Conclusions in a row, how many of them are from sequences, and how many others from notes of several things: of one,
nothing has to be told apart."""
_CONCLUDED = ((50, (1, 2, 4)), (math.inf, (2, 4, 8, 16)))
"""Frames of conclusions, by the number of the batch: whether one frame tells is learnt sooner than which of many."""
_COPIED = ((400, (3, 6)), (650, (4, 14)), (math.inf, (8, 40)))
"""Least and most words of what is copied, by the number of the batch: of few, the like of a word is soon found."""
_ANY_TOKEN = 400
"""Batch from which on what is copied is not of words only, but of all tokens: numbers above all."""
_TRIES, _TRIES_ALIKE = 200, 600
"""Stills that are drawn for one that tells what is looked for, and for one that holds something like it, too."""
_COMPANIONS, _ALIKE = 0.6, 0.6
"""Where drills are hard: the share of questions about what is beside a thing, and of their notes with another thing of
its colour or shape."""
_JUDGED, _TELLING = 12, 0.4
"""Most notes that are judged, and the share of those that tell."""
_OF_VIDEOS = (50, 0.6)
"""Batch from which on conclusions are of videos too, and their share; the others are about stills."""
_FOUND = 0.75
"""About the share of those that found something: to say that nothing was is learnt soon."""
_SINGLE_SHOT = (8, 16, 16, 16, 32, 64)
"""Frames of single-shot prompts."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to be trained on.

    Attributes:
        input_ids: Token ids.
        sampled: Which of them are trained.
        frames: Its frames in the model's size, in order.
    """

    input_ids: npt.NDArray[np.int64]
    sampled: npt.NDArray[np.bool_]
    frames: list[Pixels]


class ExampleMaker:
    """Makes examples of every stage.

    Args:
        processor: From `make_tiny_processor`.
        split: Which part of the world they show.
    """

    def __init__(self, processor: Any, *, split: Split = "train") -> None:
        self._tokenizer = processor.tokenizer
        self._tokenize = ConversationTokenizer(processor)
        self._split = split
        to_ids = self._tokenizer.convert_tokens_to_ids
        ids = to_ids(["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"])
        self._image = [ids[0], *[ids[1]] * self._tokenize.image_tokens(128, 128), ids[2]]
        self._tokens = range(self._tokenizer.vocab_size)
        self._words = [one[0] for one in map(self._ids, (f" {word}" for word in WORDS)) if len(one) == 1]
        self._thinking, self._asked, self._digit = to_ids(["<thinking>", "?", "Ġdigit"])
        self._colours: list[int] = to_ids([f"Ġ{colour}" for colour in COLOURS])
        self._naming: list[int] = [*self._colours, *to_ids(["Ġa", "Ġan"])]
        self._linking = set(to_ids([",Ġ", ".", f"Ġ{YES}"]))
        self._concluding = set(to_ids(["ĠSo", "So", "ĠNot", "Not", "Look"]))
        vocabulary = self._tokenizer.get_vocab()
        read = {number for text, number in vocabulary.items() if text.strip("Ġ").isalpha()}
        self._seen = read - self._linking - set(to_ids([f"Ġ{word}" for word in ORDINALS]))
        self.image_token: int = ids[1]

    def copied(self, rng: random.Random, number: int = sys.maxsize) -> Example:
        """Words, and the same again, often in pieces of any order: after a word comes what came after it before.

        Args:
            rng: Chance.
            number: Of the batch; by default a late one.
        """
        least, most = planned(_COPIED, number)
        tokens = self._tokens if number >= _ANY_TOKEN and rng.random() < 0.5 else self._words
        words = rng.sample(tokens, k=rng.randint(least, most))
        piece = rng.randint(2, 6)
        pieces = [words[begin : begin + piece] for begin in range(0, len(words), piece)]
        ids = [*rng.choices(tokens, k=rng.randint(0, 6)), *words]
        sampled = [False] * len(ids)
        for each in rng.sample(pieces, k=len(pieces)) if rng.random() < 0.5 else pieces:
            ids += each
            sampled += [False] + [True] * (len(each) - 1)
        return Example(np.array(ids), np.array(sampled), [])

    def judged(self, rng: random.Random, *, exchange: bool = False, hard: bool = False) -> Example:
        """What is looked for and notes, each of which tells it or not: ``a ring? 3 a red star, 5 a blue ring yes``.

        Args:
            rng: Chance.
            exchange: Whether words for colours change places.
            hard: Whether most are about a thing of one colour and shape, among others of that colour or shape.
        """
        companion = hard and rng.random() < _COMPANIONS
        while True:
            template = still_question(rng, [(0, still(rng, self._split))])
            if template.prompt() and (not companion or isinstance(template, Companion)):
                break
        by_number: dict[int, FrameState] = {}
        tells: dict[int, bool] = {}
        for number in numbers(rng, rng.randint(1, _JUDGED)):
            wanted = rng.random() < _TELLING
            alike = hard and isinstance(template, Companion) and rng.random() < _ALIKE
            for _ in range(_TRIES_ALIKE if alike else _TRIES):
                by_number[number] = still(rng, self._split)
                tells[number] = template.read([(number, by_number[number])]) is not None
                if tells[number] == wanted and (not alike or _resembles(by_number[number], template)):
                    break
        reword = exchange_of_colours(rng) if exchange else str
        ids = []
        if rng.random() < 0.5:  # behind the question, whose words are like those of the notes too
            _, *messages = about_stills(rng, by_number, *ask(rng, template, None), unseen).messages
            tokens = self._tokenize(reworded(messages, reword)).input_ids
            ids = [token for token in tokens if token not in self._image] + self._ids("<|im_start|>assistant\n")
        ids += self._ids(f"<thinking>{reword(asked(template.prompt()))} ")
        sampled = [False] * len(ids)
        for number, state in by_number.items():
            note, end = self._ids(f"{number} {reword(content(state))}"), self._ids(", ")
            verdict = self._ids(f" {YES}") if tells[number] else []
            ids += note + verdict + end
            sampled += [False] * len(note) + [True] * len(verdict) + [not verdict] * len(end)
        return Example(np.array(ids), np.array(sampled), [])

    def concluded(self, rng: random.Random, *, hard: bool = False) -> Example:
        """What is looked for, a note that tells it and what follows, many in a row and in any words for colours.

        ``A red object? 3 a blue ring and a red star yes. So red star.``

        Args:
            rng: Chance.
            hard: Whether half of the questions are about a thing beside one of its colour or shape.
        """
        ids: list[int] = []
        sampled: list[bool] = []
        for _ in range(_IN_A_ROW):
            reword = exchange_of_colours(rng)
            template, noted, truth = flashes(rng) if rng.random() < _SEQUENCES else self._several(rng, hard)
            thinking = think(template.prompt(), noted, template.conclusion(truth))
            if not template.prompt():
                before = f"{rng.choice(template.wordings())}\n"
            elif rng.random() < 0.5:
                before = ""
            else:  # after a search, what is looked for stands in the words of its result
                thinking = thinking.partition("? ")[2]
                before = f"{found_text(1, 0, noted[0][0] + 1, template.prompt())}\n"
            notes, so, conclusion = thinking.rpartition(" So ")
            given = self._ids(reword(f"{before}<thinking>{notes}"))
            said = self._ids(reword(answer(f"{so}{conclusion}", truth)).removeprefix("<thinking>"))
            ids += given + said
            sampled += [False] * len(given) + [True] * len(said)
        return Example(np.array(ids), np.array(sampled), [])

    def _several(self, rng: random.Random, hard: bool) -> tuple[Template, list[tuple[int, str]], str]:
        """A question about a still, mostly of several things, that it answers."""
        alike = hard and rng.random() < 0.5
        while True:
            state = still(rng, self._split)
            template = still_question(rng, [(0, state)])
            if alike and not _resembles(state, template):
                continue
            truth = template.read([(0, state)])
            if truth and template.prompt() and (len(state.things) > 1 or rng.random() >= _SEVERAL):
                return template, [(rng.choice(numbers(rng, 8)), f"{content(state)} {YES}")], truth

    def captions(self, rng: random.Random, count: int, backgrounds: Sequence[int]) -> Example:
        """Pictures, each followed by what is noted of it: perception alone, in the words that all notes are made of."""
        by_number = self._numbered_stills(rng, count, backgrounds)
        draw, recolour = _drawing(rng)
        ids: list[int] = []
        sampled: list[bool] = []
        for number, state in by_number.items():
            label = COMPACT.frame_label.format(frame_index=number, timestamp=number / 10)
            alone = rng.random() < _BACKGROUNDS_ALONE and state.screen is None
            what = state.background.pattern if alone else caption(state)
            before, said = [*self._ids(label), *self._image], self._ids(f" {what}")
            ids += before + said
            sampled += [False] * len(before) + [True] * len(said)
        example = Example(np.array(ids), np.array(sampled), [shown(draw(state), rng) for state in by_number.values()])
        return self._miscalled(example, rng) if recolour else example

    def lookup(self, rng: random.Random, count: int, backgrounds: Sequence[int]) -> Example:
        """Labelled frames, then what they show: all in order, or those that are asked for by number in any order.

        All say backgrounds: they would be forgotten among trajectories, which name few.
        """
        by_number = self._numbered_stills(rng, count, backgrounds)
        draw, recolour = _drawing(rng)
        alone = rng.random() < _BACKGROUNDS_ALONE
        wanted, which = list(by_number), "the frames"
        if rng.random() >= _IN_ORDER:
            wanted = rng.sample(wanted, k=rng.randint(max(1, count // 2), count))
            which = f"frames {', '.join(map(str, wanted))}"
        question = f"Which background do {which} have?" if alone else f"What do {which} show on which background?"

        def said(number: int) -> str:
            state = by_number[number]
            return state.background.pattern if alone and state.screen is None else caption(state)

        listed = ", ".join(f"{number} {said(number)}" for number in wanted)
        episode = about_stills(rng, by_number, question, None, pictured(rng, draw), tools=())
        episode.reply(ChatReply(text=answer(f"{listed}.", said(wanted[-1]))))
        example = self.of_episode(episode)
        return self._miscalled(example, rng) if recolour else example

    def _miscalled(self, example: Example, rng: random.Random) -> Example:
        """Its colours called by any words, none of which is trained."""
        colours = np.isin(example.input_ids, self._colours)
        ids = example.input_ids.copy()
        ids[colours] = rng.choices(self._colours, k=int(colours.sum()))
        return Example(ids, example.sampled & ~colours, example.frames)

    def search(self, rng: random.Random, count: int, backgrounds: Sequence[int]) -> Example:
        """Labelled frames and a question: what is looked for is found among them, or a tool is called for more."""
        return self.of_episode(searched(rng, self._numbered_stills(rng, count, backgrounds), pictured(rng)))

    def conclusion(self, rng: random.Random, number: int = sys.maxsize) -> Example:
        """A conversation without its pictures; all of it is trained but the words that only they tell.

        So what holds a conversation together is learnt at little cost: which frame comes next, which one tells, what
        follows from it, and the call.

        Args:
            rng: Chance.
            number: Of the batch; by default a late one.
        """
        counts = planned(_CONCLUDED, number)
        begin, share = _OF_VIDEOS
        if number < begin or rng.random() >= share:
            seldom = rng.random() > _FOUND
            while True:
                states = [still(rng, self._split) for _ in range(rng.choice(counts))]
                by_number = dict(zip(numbers(rng, len(states)), states, strict=True))
                episode = searched(rng, by_number, unseen)
                if seldom or "<answer>" in episode.messages[-1].text:
                    break
        else:
            episode = played_unseen(rng, self._split, counts)
        tokens = self._tokenize(episode.messages[1:])
        ids = np.array(tokens.input_ids)
        words = ~np.isin(ids, self._image)
        return Example(ids[words], self._told_by_words(tokens)[words], [])

    def _told_by_words(self, tokens: TokenizedConversation) -> npt.NDArray[np.bool_]:
        """Which sampled tokens follow from the words before them: all but those of what a frame shows."""
        told = np.array(tokens.sampled)
        begin, noting, digit = 0, False, False
        for place in np.flatnonzero(told).tolist():
            token = tokens.input_ids[place]
            if token == self._thinking:
                begin, noting = place, True
            elif token in self._concluding:
                noting = False
            elif token == self._asked and noting:
                told[begin:place], digit = True, False  # what is looked for
            elif noting:
                digit = digit and token not in self._linking
                told[place] = not digit and token not in self._seen
                digit = digit or token == self._digit
        return told

    def trajectory(
        self, rng: random.Random, world: World, number: int, count: int = INITIAL_FRAMES, *, hard: bool = False
    ) -> Example:
        """The oracle's run on one question of a video, with tools or, now and then, in a single shot.

        Args:
            rng: Chance.
            world: The video.
            number: Which of its questions.
            count: Frames to begin with: as many of the 16 of a real run.
            hard: Searches miss more often, and twice.
        """
        question = world.questions[number]
        cache: dict[int, EncodedFrame] = {}

        def look(frames: Sequence[int]) -> list[EncodedFrame]:
            for frame in frames:
                if frame not in cache:  # a frame that is shown again is the same one
                    cache[frame] = encoded(Frame(frame, frame / 10, world.draw(frame)), rng)
            return [cache[frame] for frame in frames]

        single = rng.choice(_SINGLE_SHOT) if count == INITIAL_FRAMES and rng.random() < 0.2 else None
        if question.kind == "dense" and rng.random() < 0.7:
            count = min(count, FEW)  # none of them matters, and each costs
        initial = None if single else some_frames(world, question, rng, count)
        episode = play(world, question, look, rng, single_shot=single, initial=initial, hard=hard)
        return self.of_episode(episode, exchange_of_colours(rng) if rng.random() < _EXCHANGED else None)

    def of_episode(self, episode: Episode, exchange: Callable[[str], str] | None = None) -> Example:
        """A finished episode as an example.

        Args:
            episode: The episode.
            exchange: Makes words for colours change places, if they do. What of them only frames tell is not trained
                then.
        """
        system, *messages = episode.messages
        if exchange:
            messages = reworded(messages, exchange)
        tokens = self._tokenize([system, *messages])
        frames = [fit_frame(decoded(frame)) for frame in tokens.frames]
        ids, sampled = np.array(tokens.input_ids), np.array(tokens.sampled)
        if exchange:
            sampled &= self._told_by_words(tokens) | ~np.isin(ids, self._naming)
        return Example(ids, sampled, frames)

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Examples as a batch."""
        return collate(
            [(example.input_ids, example.sampled) for example in examples],
            [frame for example in examples for frame in example.frames],
            image_token=self.image_token,
        )

    def _stills(self, rng: random.Random, count: int, backgrounds: Sequence[int]) -> list[FrameState]:
        states = [still(rng, self._split) for _ in range(count)]
        return [
            FrameState(Background(state.background.pattern, rng.choice(backgrounds)), state.screen, state.sights)
            for state in states
        ]

    def _numbered_stills(self, rng: random.Random, count: int, backgrounds: Sequence[int]) -> dict[int, FrameState]:
        states = self._stills(rng, count, backgrounds)
        return dict(zip(numbers(rng, count), states, strict=True))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def _resembles(state: FrameState, template: Template) -> bool:
    """Whether a still holds a thing of the colour or the shape of the one whose companion is asked for."""
    if not isinstance(template, Companion):
        return False
    asked = template.thing
    others = [thing for thing in state.things if thing != asked]
    return any(thing.colour == asked.colour or thing.shape == asked.shape for thing in others)


def _drawing(rng: random.Random) -> tuple[Draw, bool]:
    """How the pictures of an example are drawn, and whether that is in other colours."""
    if rng.random() < _RECOLOURED:
        return lambda state: recoloured(state, rng), True
    return draw_state, False


def planned(plan: Sequence[tuple[float, T]], number: int) -> T:
    """What a plan says of the batch of this number."""
    return next(value for end, value in plan if number < end)
