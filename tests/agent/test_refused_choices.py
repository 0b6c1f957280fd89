"""Answers to multiple choice that name an option without choosing it, and some that choose it in other words."""

from __future__ import annotations

import pytest

from tests.agent.episodes import asked, ended, say, started
from videobrain.agent import parse_choice

OPTIONS = ["a red car", "Two dogs.", "nobody", "The man"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("It is not option A.", None),
        ("It is not A.", None),
        ("Not option B", None),
        ("(A) is wrong.", None),
        ("I would not choose option B.", None),
        ("I don’t think the answer is B.", None),  # noqa: RUF001  # an apostrophe as models write it
        ("Either option A or option B.", None),
        ("Neither option A nor option B.", None),
        ("Everything except option B.", None),
        ("Option A cannot be right.", None),
        ("It is not A. The answer is B.", "B"),
        ("It is not option A, so option C.", "C"),
        ("B is correct.", "B"),
        ("I choose B", "B"),
        ("\\boxed{B}", "B"),
    ],
)
def test_a_letter_that_is_refused_is_not_chosen(answer: str, letter: str | None) -> None:
    assert parse_choice(answer, OPTIONS) == letter


def test_a_run_goes_on_where_the_model_only_refuses() -> None:
    episode = started(options=("red", "blue"))
    step = asked(say(episode, "<thinking>t</thinking><answer>It is not option A.</answer>"))
    assert step.correction == "the answer must be one letter from A to B"
    assert ended(say(episode, "<thinking>t</thinking><answer>B</answer>")).conclusion.choice == "B"
