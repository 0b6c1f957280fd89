"""The letter in an answer."""

from __future__ import annotations

import pytest

from videobrain.agent import parse_choice
from videobrain.agent.choices import format_options

OPTIONS = ["a red car", "Two dogs.", "nobody", "The man"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" b ", "B"),
        ("(B)", "B"),
        ("[B]", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B)", "B"),
        ("B: Two dogs", "B"),
        ("B. Two dogs.", "B"),
        ("B, because two dogs run.", "B"),
        ("B - two dogs", "B"),
        ("B\nTwo dogs run.", "B"),
        ("two dogs", "B"),
        ("A red car", "A"),
        ("the man", "D"),
        ("The answer is B.", "B"),
        ("The correct answer is 'B'.", "B"),
        ("\u2018B\u2019", "B"),
        ("\uff08B\uff09", "B"),
        ("It's 'a' or 'b'", None),
        ("I think the answer is (C).", "C"),
        ("Answer: B", "B"),
        ("Option C", "C"),
        ("Option A is wrong; the answer is B.", "B"),
        # none, or more than one
        ("", None),
        ("E", None),
        ("A dog and a cat", None),
        ("A man walks in", None),
        ("Both", None),
        ("A, B", None),
        ("A and B", None),
        ("(A) or (B)", None),
        ("A/B", None),
        ("The answer is A. No, the answer is B.", None),
        ("I cannot see it.", None),
        ("None of them", None),
        ("!", None),
    ],
)
def test_the_letter_of_an_answer(answer: str, letter: str | None) -> None:
    assert parse_choice(answer, OPTIONS) == letter


def test_a_lone_letter_is_a_letter_whatever_the_options_say() -> None:
    assert parse_choice("A", ["B", "A"]) == "A"


def test_a_lone_letter_is_an_option_where_its_words_were_asked_for() -> None:
    assert parse_choice("A", ["B", "A"], in_words=True) == "B"
    assert parse_choice("A", ["F", "K"], in_words=True) == "A"


def test_options_of_signs_are_told_apart() -> None:
    assert parse_choice("-", ["+", "-"]) == "B"
    assert parse_choice("5 %", ["$ 5", "5 %"]) == "B"


def test_options_are_lettered() -> None:
    assert format_options(["one", "two"]) == "A. one\nB. two"
