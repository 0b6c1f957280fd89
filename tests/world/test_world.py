"""The plan of a video: reproducible, of the promised mix, and not to be guessed."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import videobrain.world
from videobrain.errors import ConfigurationError
from videobrain.result import Span
from videobrain.video import evenly_spaced
from videobrain.world import (
    FPS,
    HELD_OUT_PAIRS,
    TAG,
    WORDS,
    FrameState,
    Glyph,
    Sight,
    Split,
    Thing,
    World,
    WorldQuestion,
    caption,
    pairs,
    prompts,
    still,
)
from videobrain.world.scenario import Background

MANY = 300
"""Videos of the tests of distributions; planning one takes about 4 ms."""


@pytest.fixture(scope="module")
def many() -> list[World]:
    return [World(seed, split="test") for seed in range(MANY)]


def every_state(world: World) -> Iterator[FrameState]:
    """Everything that the video ever shows: nothing lasts less than a second, but parts of sequences may."""
    return (world.state(frame) for frame in range(0, world.frame_count, 4))


def test_public_names_are_there() -> None:
    assert len(set(videobrain.world.__all__)) == len(videobrain.world.__all__)
    assert all(hasattr(videobrain.world, name) for name in videobrain.world.__all__)


# --- Reproducible ----------------------------------------------------------------------------------------------------

DIGEST = """
import hashlib
from videobrain.world import World
worlds = [World(seed, split=split) for split in ("train", "test") for seed in range(4)]
text = "".join(f"{question!r}" for world in worlds for question in (*world.questions, world.unanswerable))
text += "".join(repr(world.state(frame)) for world in worlds for frame in range(0, world.frame_count, 50))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def digest(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "VIDEOBRAIN_INDEX_FPS": "3"}
    return subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, timeout=60, env=environment
    ).stdout.strip()


def test_a_seed_is_the_same_video_in_every_process_and_version() -> None:
    # Where this changes on purpose, raise the number in TAG where what is drawn is another video too.
    assert TAG == "videobrain-world/1"
    assert digest("1") == digest("2") == "0c14b118b1aab389f57ca471c79d18f444bbcf520ddcb59b9321714c9db2f342"


def test_other_seeds_splits_and_lengths_are_other_videos() -> None:
    worlds = [World(0), World(1), World(0, split="validation"), World(0, split="test"), World(0, duration_seconds=300)]
    scenarios = {repr(world.scenario) for world in worlds}
    assert len(scenarios) == len(worlds)


def test_pixels_are_the_same_each_time(world: World) -> None:
    again = World(world.seed, split="test", duration_seconds=300)
    for frame in evenly_spaced(0, world.frame_count, 40):
        assert np.array_equal(world.draw(frame), again.draw(frame))


# --- Mix -------------------------------------------------------------------------------------------------------------


def test_each_video_has_two_questions_of_each_class_one_of_each_form(many: list[World]) -> None:
    for world in many:
        forms = Counter((question.kind, question.options is None) for question in world.questions)
        assert forms == {(kind, form): 1 for kind in ("direct", "search", "dense") for form in (True, False)}
        assert world.unanswerable.kind == "unanswerable"
        assert len({question.key for question in (*world.questions, world.unanswerable)}) == 7


def test_options_are_four_with_the_answer_at_any_letter(many: list[World]) -> None:
    letters: Counter[str | None] = Counter()
    for question in (question for world in many for question in world.questions if question.options):
        assert question.options is not None
        assert len(set(question.options)) == 4
        assert question.answer in question.options
        letters[question.letter] += 1
    total = sum(letters.values())
    assert total == 3 * MANY
    # Chi-squared with three degrees of freedom: 16.3 is passed by chance once in 1,000 times.
    assert sum((letters[letter] - total / 4) ** 2 / (total / 4) for letter in "ABCD") < 16.3


def test_the_right_option_does_not_resemble_the_others_most(many: list[World]) -> None:
    parts = {"companion": " ", "shape_order": ", ", "screen_order": ", "}
    guessed: list[float] = []
    for question in (question for world in many for question in world.questions if question.options):
        if question.template in parts and question.options:
            words = [option.split(parts[question.template]) for option in question.options]
            shared = [sum(a == b for other in words for a, b in zip(one, other, strict=True)) for one in words]
            likely = [option for option, score in zip(question.options, shared, strict=True) if score == max(shared)]
            guessed.append(likely.count(question.answer) / len(likely))
    assert len(guessed) > 200
    # Four standard deviations of as many guesses among four.
    assert abs(np.mean(guessed) - 0.25) < 4 * (0.25 * 0.75 / len(guessed)) ** 0.5


def test_answers_cannot_be_guessed_from_the_question(many: list[World]) -> None:
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question in (question for world in many for question in world.questions):
        answers[question.template][question.answer] += 1
    assert len(answers) == 9
    most = {  # the share of each answer if all were equally frequent
        "background_at": 1 / 5,
        "colour_of_shape": 1 / 8,
        "companion": 1 / 16,  # test videos show held-out pairs more often
        "count_of": 1 / 4,
        "glyph_shown": 1 / 18,
        "screen_nth": 1 / 8,
        "screen_order": 1 / 336,
        "shape_of_colour": 1 / 8,
        "shape_order": 1 / 336,
    }
    for template, counts in answers.items():
        total = sum(counts.values())
        expected = most[template] * total
        assert counts.most_common(1)[0][1] <= expected + 4 * expected**0.5 + 2, (template, counts.most_common(3))


def test_the_wording_does_not_tell_the_class(many: list[World]) -> None:
    """Whether a star is among the initial frames is to be seen, not read."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question in (question for world in many for question in world.questions):
        kinds[question.template][question.kind] += 1
    for template in ("colour_of_shape", "shape_of_colour", "companion", "glyph_shown"):
        assert min(kinds[template]["direct"], kinds[template]["search"]) > 0.3 * sum(kinds[template].values())


def test_lengths_are_two_to_thirty_minutes(many: list[World]) -> None:
    seconds = [world.duration_seconds for world in many]
    assert 120 <= min(seconds) < 150
    assert 1500 < max(seconds) <= 1800


@pytest.mark.parametrize("seconds", [119, 1801, 0, -5])
def test_other_lengths_are_refused(seconds: int) -> None:
    with pytest.raises(ConfigurationError, match="Choose 120 to 1800"):
        World(0, duration_seconds=seconds)


@pytest.mark.parametrize("side", [0, 31, 33, 127, 1026])
def test_other_sizes_are_refused(side: int) -> None:
    with pytest.raises(ConfigurationError, match="even number"):
        World(0, side=side)


def test_other_seeds_and_splits_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="seed -1"):
        World(-1)
    with pytest.raises(ConfigurationError, match=r"'tset'.*train, validation, test"):
        World(0, split="tset")  # type: ignore[arg-type]


# --- Splits ----------------------------------------------------------------------------------------------------------


def test_held_out_pairs_have_each_colour_and_shape_once() -> None:
    assert len(HELD_OUT_PAIRS) == len({thing.colour for thing in HELD_OUT_PAIRS}) == 8
    assert len({thing.shape for thing in HELD_OUT_PAIRS}) == 8
    assert set(pairs("test")) - set(pairs("train")) == HELD_OUT_PAIRS
    assert pairs("train") == pairs("validation")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_never_shows_or_names_a_held_out_pair(split: Split) -> None:
    names = {str(thing) for thing in HELD_OUT_PAIRS}
    for world in (World(seed, split=split) for seed in range(40)):
        shown = {thing for state in every_state(world) for thing in state.things}
        assert not shown & HELD_OUT_PAIRS
        for question in (*world.questions, world.unanswerable):
            assert not question.held_out
            assert not names & {question.answer, *(question.options or ())} or question.template == "companion"


def test_a_third_of_the_test_questions_is_about_held_out_pairs(many: list[World]) -> None:
    flagged = [question.held_out for world in many for question in world.questions]
    assert 0.25 < sum(flagged) / len(flagged) < 0.45


def test_a_flag_says_that_a_held_out_pair_is_seen(many: list[World]) -> None:
    for world in many[:60]:
        for question in world.questions:
            seen = {
                thing
                for span in question.spans
                for frame in range(round(span.start_seconds * FPS), round(span.end_seconds * FPS), 2)
                for thing in world.state(frame).things
            }
            assert not question.held_out or seen & HELD_OUT_PAIRS


# --- Truth -----------------------------------------------------------------------------------------------------------


def test_a_search_question_is_about_one_brief_event_between_the_initial_frames(many: list[World]) -> None:
    for world in many:
        for question in (question for question in world.questions if question.kind == "search"):
            (span,) = question.spans
            assert 1 <= round(span.end_seconds - span.start_seconds, 3) <= 3
            assert not any(span.start_seconds <= frame / FPS < span.end_seconds for frame in world.initial_frames)
            assert any(span.start_seconds <= frame / FPS < span.end_seconds for frame in world.grid_frames)
            (call,) = question.calls
            prompt = call.arguments["prompt"]
            fitting = {frame for frame in world.grid_frames if prompt in prompts(world.state(frame))}
            assert fitting
            assert all(span.start_seconds <= frame / FPS < span.end_seconds for frame in fitting)


def test_a_viewer_needs_the_sampler_of_the_class(many: list[World]) -> None:
    """Shares of questions that a viewer without fault answers from some frames alone."""
    right: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for world in many:
        for question in world.questions:
            looks = {"16": world.initial_frames, "64": evenly_spaced(0, world.frame_count, 64), "calls": []}
            for call in question.calls:
                if call.name == "uniform_sample":
                    looks["calls"] += evenly_spaced(*map(int, call.arguments.values()), 8)
                else:
                    prompt = call.arguments["prompt"]
                    looks["calls"] += [f for f in world.grid_frames if prompt in prompts(world.state(f))][:4]
            for name, frames in looks.items():
                right[question.kind][name] += world.answer_from(question, frames) == question.answer
    assert right["direct"]["16"] == right["direct"]["64"] == 2 * MANY
    assert right["search"]["16"] == right["dense"]["16"] == 0
    assert right["search"]["calls"] == right["dense"]["calls"] == 2 * MANY
    # Three times as many frames are a poor substitute for looking in the right place.
    assert 0.25 < right["search"]["64"] / (2 * MANY) < 0.45
    assert 0.02 < right["dense"]["64"] / (2 * MANY) < 0.15


def test_a_viewer_of_other_frames_knows_nothing(world: World) -> None:
    assert all(world.answer_from(question, []) is None for question in world.questions)
    assert world.answer_from(world.unanswerable, range(world.frame_count)) is None
    with pytest.raises(ConfigurationError, match="is no question about"):
        world.answer_from(World(0).questions[0], [])
    with pytest.raises(ConfigurationError, match="seed, split and length"):
        World(38, split="test", duration_seconds=600).answer_from(World(38, split="test").questions[0], [])


def test_a_dense_question_states_its_interval_in_whole_seconds(many: list[World]) -> None:
    for world in many:
        for question in (question for question in world.questions if question.kind == "dense"):
            start, end = map(int, re.findall(r"\d+", question.question))
            assert question.spans == (Span(start, end),)
            assert 8 <= end - start <= 18
            assert question.calls[0].arguments == {"start_frame": start * FPS, "end_frame": end * FPS}


def test_an_unanswerable_question_is_about_a_shape_that_is_never_shown(many: list[World]) -> None:
    for world in many[:60]:
        match = re.search(r"the (\w+)", world.unanswerable.question)
        assert match
        assert not any(thing.shape == match[1] for state in every_state(world) for thing in state.things)
        assert world.unanswerable.spans == ()


def test_the_vocabulary_is_closed(many: list[World]) -> None:
    texts = []
    for world in many[:150]:
        for question in (*world.questions, world.unanswerable):
            texts += [question.question, question.answer, *(question.options or ())]
            texts += [str(call.arguments.get("prompt", "")) for call in question.calls]
        for frame in range(0, world.frame_count, 100):
            texts += [caption(world.state(frame)), *prompts(world.state(frame))]
    used = {word.lower() for text in texts for word in re.findall(r"[A-Za-z]{2,}", text)}
    assert used | {"a"} == set(WORDS)
    assert all(re.fullmatch(r"[A-Za-z0-9 ,?]*", text) for text in texts)


def test_frames_in_words() -> None:
    plain = Background("stripes", 0)

    def sight(content: Thing | Glyph, x: float, y: float) -> Sight:
        return Sight(content, x, y, 0.2, 0, 0)

    star, heart, four = Thing("red", "star"), Thing("orange", "heart"), Glyph("4")
    state = FrameState(plain, None, (sight(four, 0.2, 0.2), sight(heart, 0.7, 0.7), sight(star, 0.2, 0.7)))
    assert caption(state) == "a red star and an orange heart and the digit 4 on stripes"
    assert prompts(state) == (
        "a red star", "a star", "a red object", "an orange heart", "a heart", "an orange object",
        "the digit 4", "a digit",
    )  # fmt: skip
    assert caption(FrameState(plain, None, ())) == "nothing on stripes"
    assert caption(FrameState(plain, "orange", ())) == "an orange screen"
    assert prompts(FrameState(plain, "blue", (sight(star, 0, 0),))) == ("a blue screen",)


# --- Frames on demand ------------------------------------------------------------------------------------------------


def test_frames_by_time(world: World) -> None:
    assert world.frame_count == 3000
    for seconds, index in ((0, 0), (0.099, 0), (0.1, 1), (123.4, 1234), (299.95, 2999), (-3, 0), (1e6, 2999)):
        frame = world.frame_at(seconds)
        assert (frame.frame_index, frame.timestamp_seconds) == (index, index / FPS)
        assert frame.pixels.shape == (128, 128, 3)
    with pytest.raises(IndexError):
        world.draw(3000)
    with pytest.raises(IndexError):
        world.state(-1)


def test_a_drawn_frame_may_be_written_to_without_harm(world: World) -> None:
    before = world.draw(0).copy()
    pixels = world.draw(0)
    if pixels.flags.writeable:
        pixels[:] = 0
    assert np.array_equal(world.draw(0), before)


def test_another_size_is_the_same_picture(world: World) -> None:
    small = World(world.seed, split="test", duration_seconds=300, side=64)
    assert small.questions == world.questions
    for frame in evenly_spaced(0, world.frame_count, 20):
        halved = world.draw(frame).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(small.draw(frame) - halved).mean() < 8


def test_stills_are_frames_of_a_split_in_which_everything_is_frequent() -> None:
    rng = random.Random(0)
    states = [still(rng, "train") for _ in range(2000)]
    things = Counter(thing for state in states for thing in state.things)
    assert set(things) == set(pairs("train"))
    assert max(things.values()) < 4 * min(things.values())
    glyphs = Counter(glyph.text for state in states for glyph in state.glyphs)
    assert len(glyphs) == 18
    assert min(glyphs.values()) >= 8
    assert {len(state.sights) for state in states} == {0, 1, 2, 3}
    assert len({caption(state) for state in states}) > 1000
    assert {"test", "train"} == {
        split
        for split in ("test", "train")
        if any(HELD_OUT_PAIRS & set(still(rng, split).things) for _ in range(300)) == (split == "test")
    }


def test_nothing_hides_anything(many: list[World]) -> None:
    rng = random.Random(1)
    states = [still(rng, "test") for _ in range(1000)]
    states += [state for world in many[:30] for state in every_state(world)]
    for state in states:
        for one, other in combinations(state.sights, 2):
            reach = one.radius + other.radius
            assert abs(one.x - other.x) > reach or abs(one.y - other.y) > reach
        for sight in state.sights:
            assert sight.radius <= min(sight.x, sight.y, 1 - sight.x, 1 - sight.y)


# --- Answers ---------------------------------------------------------------------------------------------------------


def question(answer: str, options: tuple[str, ...] | None = None, asked: str = "?") -> WorldQuestion:
    return WorldQuestion(
        key="k", video="v.mp4", question=asked, options=options, answer=answer, kind="direct", template="t",
        held_out=False, spans=(), frame_count=10, calls=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "right", "wrong"),
    [
        ("red", ["red", "Red.", "It is red.", "The star is red."], ["blue", "", "red or blue", "reddish", "not red"]),
        ("diamond", ["diamond", "The red object is a diamond."], ["ring", "It isn't a diamond."]),
        ("stripes", ["stripes", "striped", "The background is striped."], ["checks", "no stripes"]),
        ("3", ["3", "three", "3 times", "It appears three times."], ["4", "", "13", "3 or 4"]),
        ("0", ["0", "The digit 0.", "zero"], ["O", ""]),
        ("7", ["7", "seven"], ["8", "17"]),
        ("K", ["K", "A K can be seen.", "I see K.", "A letter K."], ["A", "A B", "A K or a B"]),
        ("A", ["A", "the letter A", "It is A.", "A letter A."], ["a", "B", "", "A or B", "A letter cannot be seen."]),
        ("red, blue, green", ["red, blue, green", "red, then blue, then green"], ["blue, red, green", "red"]),
        ("red star", ["a red star", "Red star"], ["star", "red", "red ring", "a red star and a blue star"]),
    ],
)  # fmt: skip
def test_open_ended_answers(answer: str, right: list[str], wrong: list[str]) -> None:
    assert [text for text in right if not question(answer).accepts(text)] == []
    assert [text for text in wrong if question(answer).accepts(text)] == []


def test_numbers_that_the_question_states_are_no_answer() -> None:
    asked = question("3", asked="How many times does the red star appear between 455 and 467 seconds?")
    assert asked.accepts("The red star appears 3 times between 455 and 467 seconds.")
    assert asked.accepts("From 455 seconds on, 3 times.")
    assert not asked.accepts("The red star appears between 455 and 467 seconds.")
    asked = question("4", asked="Between 4 and 12 seconds, how many times is the yellow heart shown?")
    assert [text for text in ("4", "four", "4 times between 4 and 12 seconds") if not asked.accepts(text)] == []
    assert [text for text in ("12", "between 4 and 12 seconds", "3 times from 4 to 12") if asked.accepts(text)] == []


def test_things_that_the_question_names_are_no_answer() -> None:
    asked = question("purple star", asked="What is next to the green triangle?")
    right = (
        "purple star",
        "A purple star is next to the green triangle.",
        "Next to the green triangle is a purple star.",
    )
    assert [text for text in right if not asked.accepts(text)] == []
    wrong = ("green triangle", "A green star is next to the green triangle.", "the green triangle and the purple ring")
    assert [text for text in wrong if asked.accepts(text)] == []


def test_a_truth_is_one_of_the_options() -> None:
    with pytest.raises(ValueError, match="'red' is none of the options"):
        question("red", ("blue", "pink", "cyan", "green"))


def test_multiple_choice_answers() -> None:
    asked = question("red", ("blue", "red", "pink", "cyan"))
    assert asked.letter == "B"
    assert [text for text in ("B", "b", "(B)", "B. red", " B ", "red", "a red object") if not asked.accepts(text)] == []
    assert [
        text
        for text in ("A", "blue", "A. red", "A, since it is red", "", "E", "B or C?", "BC", "not red")
        if asked.accepts(text)
    ] == []


# --- Documentation ---------------------------------------------------------------------------------------------------


def test_the_page_shows_the_questions_of_its_video() -> None:
    page = (Path(__file__).parents[2] / "docs" / "synthetic-world.md").read_text("utf-8")
    for number, question in enumerate(World(38, split="test", duration_seconds=600).questions, 1):
        options = "; ".join(question.options) if question.options else "–"  # noqa: RUF001  # as printed
        letter = f" ({question.letter})" if question.letter else ""
        row = f"| {number} | `{question.kind}` | {question.question} | {options} | {question.answer}{letter} |"
        assert row in page
