"""What the tiny model learns from: examples of every stage, and the batches that they make."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from videobrain.training.tiny.batches import Batches
from videobrain.training.tiny.examples import Example, ExampleMaker
from videobrain.training.tiny.frames import nearest, recoloured
from videobrain.training.tiny.model import FRAME_TOKENS
from videobrain.training.tiny.tokenizer import make_tiny_processor
from videobrain.world import COLOURS, SHAPES, World, draw_state, still
from videobrain.world.vocabulary import HELD_OUT_PAIRS, PATTERNS, Thing

NAMES = ("copying", "judging", "conclusions", "captions", "lookup", "trajectories", "refining")


@pytest.fixture(scope="module")
def processor() -> Any:
    return make_tiny_processor()


def test_conclusions_train_all_but_what_only_pictures_tell(processor: Any) -> None:
    maker = ExampleMaker(processor)
    rng = random.Random(0)
    read = processor.tokenizer.decode
    ends, turns = [], 0
    for _ in range(200):
        example = maker.conclusion(rng)
        assert not len(example.frames)
        assert maker.image_token not in example.input_ids
        replies = re.split(r"<\|im_end\|>", read(example.input_ids[example.sampled]))[:-1]
        turns += len(replies)
        for reply in replies:
            listed, concluded, end = re.fullmatch(r"\s*<thinking>(.*?)(So|Not|Look)( .+)", reply, re.DOTALL).groups()
            subject, _, notes = listed.rpartition("?") if "?" in listed else ("", "", listed)
            assert re.fullmatch(r"(?:[\d ,.]|yes|first|second|third)*", notes), reply
            assert re.fullmatch(r"(An?( [a-z]+)+)?", subject), reply
            if concluded == "So":
                assert re.fullmatch(r" (?:\w+ )??(.+)\.</thinking>\n<answer>\1</answer>", end), reply
            else:
                assert "</thinking>\n<tool_call>{" in end, reply
        ends.append(concluded)
    assert turns > 280
    assert 120 < ends.count("So") < 198


def test_what_is_copied_stood_there_before(processor: Any) -> None:
    maker = ExampleMaker(processor)
    rng = random.Random(0)
    for number in (0, 500, 900):
        for _ in range(50):
            example = maker.copied(rng, number)
            ids = example.input_ids.tolist()
            for place in np.flatnonzero(example.sampled):
                pair = ids[place - 1 : place + 1]
                assert any(ids[before : before + 2] == pair for before in range(place - 1)), ids


def test_what_follows_from_a_note_is_what_it_says(processor: Any) -> None:
    """Rows of ``A red object? 3 a blue ring and a red star yes. So red star.``, where all but the note is trained."""
    maker, rng = ExampleMaker(processor), random.Random(0)
    told, held_out = Counter[str](), 0
    for _ in range(30):
        example = maker.concluded(rng)
        text, trained = map(processor.tokenizer.decode, (example.input_ids, example.input_ids[example.sampled]))
        rows = re.findall(r"(.*?)<thinking>(.*?)\.( So (.+?)\.</thinking>\n<answer>(.+?)</answer>)", text, re.DOTALL)
        assert trained == "".join(row[2] for row in rows)
        assert len(rows) == 12
        for before, thinking, _, conclusion, answer in rows:
            assert conclusion.endswith(answer)
            things = [tuple(words.split()[-2:]) for words in re.split(" and |, ", thinking.removesuffix(" yes"))]
            held_out += len(set(things) & set(HELD_OUT_PAIRS))
            said = conclusion.split()
            if "flash" in before:
                assert said[0] in before
                assert tuple(reversed(said)) in things
                told["sequence"] += 1
                continue
            asked = re.search(r"^(?:an? )?(.+?)(?: object)?(?:'|$)", _subject(before, thinking))
            assert asked is not None
            if said == [answer]:  # of a glyph
                assert (asked[1], answer) in things
            elif answer == conclusion:
                assert {tuple(asked[1].split()), tuple(said)} <= set(things)
                told["companion"] += 1
            else:
                assert said == [asked[1], answer]
                assert set(said) in map(set, things)
                told["of several" if len(things) > 1 else "of one"] += 1
    assert told["of several"] > 2 * told["of one"] > 0
    assert min(told["companion"], told["sequence"]) > 20
    assert held_out > 30  # in words alone, they are among all others


def _subject(before: str, thinking: str) -> str:
    """What is looked for, as a row says it."""
    asked, stands, _ = thinking.rpartition("? ")
    return asked[0].lower() + asked[1:] if stands else before.partition("best match '")[2]


def test_words_for_colours_change_places_in_whole_conversations(
    processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(share: float, number: int) -> tuple[Example, list[str], list[str]]:
        monkeypatch.setattr("videobrain.training.tiny.examples._EXCHANGED", share)
        example = maker.trajectory(random.Random(1), World(3), number, 16)
        words = processor.tokenizer.convert_ids_to_tokens(example.input_ids)
        trained = [word.strip("Ġ") for word, sampled in zip(words, example.sampled, strict=True) if sampled]
        return example, [word.strip("Ġ") for word in words], trained

    maker, exchanged = ExampleMaker(processor), 0
    for number in range(6):
        (plain, words, _), (changed, others, trained) = made(0.0, number), made(1.0, number)
        assert all(np.array_equal(one, other) for one, other in zip(plain.frames, changed.frames, strict=True))
        assert len(words) == len(others)
        names = {(word, other) for word, other in zip(words, others, strict=True) if word != other}
        names -= {("a", "an"), ("an", "a"), ("A", "An"), ("An", "A")}
        assert {word for pair in names for word in pair} <= set(COLOURS)
        assert len(names) == len(dict(names))  # each for the same one
        exchanged += len(names)
        text = "".join(trained)
        notes = re.findall(r"<thinking>(.*?)(?:So|Not|Look)", text)
        assert not [note for note in notes if any(colour in note.partition("?")[2] for colour in COLOURS)]
    assert exchanged > 10


@pytest.mark.parametrize("exchange", [False, True])
def test_judged_notes_tell_what_is_looked_for(processor: Any, exchange: bool) -> None:
    """Of a shape or colour a note says ``yes`` just where its word stands in it, but for two of them."""
    maker = ExampleMaker(processor)
    rng = random.Random(0)
    yes = no = 0
    for _ in range(100):
        text = processor.tokenizer.decode(maker.judged(rng, exchange=exchange).input_ids)
        subject, listed = re.search(r"<thinking>An? (.+?)\? (.+), $", text).groups()
        word = subject.removesuffix(" object")
        if " " in word:
            continue
        for note in listed.split(", "):
            if note.split().count(word) == 1:
                assert note.endswith(" yes"), text
                yes += 1
            elif word not in note.split():
                assert not note.endswith(" yes"), text
                no += 1
    assert yes > 50
    assert no > 100


def test_hard_notes_are_of_things_that_resemble_what_is_looked_for(processor: Any) -> None:
    """Of ``red star`` a note says ``yes`` just where the two words stand together; many others have one of the two."""
    maker = ExampleMaker(processor)
    rng = random.Random(0)
    yes = alike = other = 0
    for _ in range(60):
        text = processor.tokenizer.decode(maker.judged(rng, hard=True).input_ids)
        subject, listed = re.search(r"<thinking>An? (.+?)\? (.+), $", text).groups()
        colour, _, shape = subject.partition(" ")
        if shape not in SHAPES:
            continue
        for note in listed.split(", "):
            if note.count(subject) != 1:
                assert subject in note or not note.endswith(" yes"), text
                alike += colour in note or shape in note
                other += 1
            elif note.count(" and ") == 1:
                assert note.endswith(" yes"), text
                yes += 1
    assert yes > 20
    assert alike > other / 2


@pytest.mark.parametrize("stage", NAMES)
def test_batches_follow_from_their_number(processor: Any, stage: Any) -> None:
    batches = Batches(ExampleMaker(processor), stage, 24, 7)
    first, again, other = batches[3], batches[3], batches[4]
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert first.input_ids.shape != other.input_ids.shape or not torch.equal(first.input_ids, other.input_ids)
    assert len(first.frames) * FRAME_TOKENS == int((first.input_ids == batches.maker.image_token).sum())
    assert all((part != -100).any() for part in first.targets.split(first.lengths.tolist()))
    lengths = [len(example.input_ids) for example in batches.examples(3)]
    assert all(0 <= filled - length < 64 for filled, length in zip(first.lengths[:-1].tolist(), lengths, strict=False))
    assert len(first.input_ids) == first.lengths.sum()


def test_drills_and_look_ups_stand_beside_batches_of_conversations(processor: Any) -> None:
    maker = ExampleMaker(processor)

    def beside(stage: Any, number: int) -> tuple[int, bool]:
        frames = [len(example.frames) for example in Batches(maker, stage, 24, 7).examples(number)]
        return frames.count(0), frames[-1] == 32

    assert [beside("trajectories", number) for number in range(4)] == [(6, False), (6, False), (0, True), (6, False)]
    assert [beside("refining", number) for number in (0, 1, 4)] == [(6, False), (11, False), (0, True)]


def test_look_ups_say_every_background(processor: Any) -> None:
    batches = Batches(ExampleMaker(processor), "lookup", 24, 7)
    patterns = [processor.tokenizer.encode(f" {pattern}", add_special_tokens=False)[-1] for pattern in PATTERNS]
    for number in range(4):
        whole = batches.maker.batch([example for example in batches.examples(number) if example.frames])
        said = sum(int((whole.targets == token).sum()) for token in patterns)
        screens = len(whole.frames) // 4  # they have no background
        assert said >= len(whole.frames) - screens


def test_recoloured_things_are_where_they_were_and_never_of_a_pair_that_is_held_out() -> None:
    rng = random.Random(0)
    colours = set()
    for _ in range(200):
        state = still(rng, "train")
        picture, made = draw_state(state), recoloured(state, rng)
        changed = (made != picture).any(-1)
        assert state.screen or changed.mean() < 0.6  # the background is as it was
        for sight in state.sights:
            if isinstance(sight.content, Thing):
                place = round(sight.y * len(made)), round(sight.x * len(made))
                if sight.content.shape != "ring" and place in np.ndindex(*made.shape[:2]):
                    colour = tuple(map(int, made[place]))
                    colours.add(colour)
                    assert (nearest(colour), sight.content.shape) not in HELD_OUT_PAIRS
    assert len(colours) > 150
    assert {nearest(colour) for colour in colours} == set(COLOURS)


@pytest.mark.parametrize("make", ["captions", "lookup"])
def test_a_picture_in_other_colours_teaches_its_shapes_and_no_colour(
    processor: Any, make: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taught(share: float) -> tuple[dict[str, int], int]:
        """Which words are trained how often, and how many colours are called."""
        monkeypatch.setattr("videobrain.training.tiny.examples._RECOLOURED", share)
        maker, rng, words, called = ExampleMaker(processor), random.Random(3), Counter[str](), 0
        for _ in range(20):
            example = getattr(maker, make)(rng, 8, [1, 2])
            texts = [text.strip("Ġ") for text in processor.tokenizer.convert_ids_to_tokens(example.input_ids)]
            words.update(text for text, trained in zip(texts, example.sampled, strict=True) if trained)
            called += sum(text in COLOURS for text in texts)
        return words, called

    as_it_is, called = taught(0.0)
    assert sum(as_it_is[colour] for colour in COLOURS) == called > 20
    exchanged, called = taught(1.0)
    assert not any(exchanged[colour] for colour in COLOURS)
    assert called > 20
    assert sum(exchanged[shape] for shape in SHAPES) > 20
