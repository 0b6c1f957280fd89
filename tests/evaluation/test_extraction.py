"""The chosen option in free text: what is read, and what must not be."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videobrain.agent import parse_choice
from videobrain.evaluation.extraction import final_answer, read_choice

OPTIONS = ["a blue car", "A red car.", "nobody", "The man in the hat"]


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        # the letter
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("**(B)**", "B"),
        ("`B`", "B"),
        ("B. A red car", "B"),
        ("B: it is red", "B"),
        ("B\nA man walks in.", "B"),
        ("B, because option A is blue.", "B"),
        ("<answer>B</answer>", "B"),
        ("A man walks in.\n\nB", "B"),
        ("The car stops.\n(B)", "B"),
        # a phrase around it
        ("The answer is (B)", "B"),
        ("The answer is B because the car is red", "B"),
        ("The answer is A because the car is blue", "A"),
        ("the correct answer is b.", "B"),
        ("Answer: B", "B"),
        ("Answer: **B**", "B"),
        ("**Answer:** B", "B"),
        ("Final answer: option B", "B"),
        ("The best choice is therefore B.", "B"),
        ("The correct option is (B) A red car", "B"),
        ("The answer would be B", "B"),
        ("My answer is most likely B.", "B"),
        ("$\\boxed{B}$", "B"),
        ("So we get \\boxed{\\text{B}} in the end.", "B"),
        ("I choose B", "B"),
        ("I would go with option b.", "B"),
        ("I'd pick (B), since it is red.", "B"),
        ("B is correct", "B"),
        ("Option B is the right answer.", "B"),
        ("A is correct.", "A"),
        ("It's B.", "B"),
        ("it must be b", "B"),
        ("option b", "B"),
        ("Option A shows it best", "A"),
        ("I see it in (B) above all.", "B"),
        ("Everything speaks for **B** here.", "B"),
        ("Option A is wrong; the answer is B.", "B"),
        ("At first I thought of option A. I go with B.", "B"),
        ("Option A is wrong, and (C) can be ruled out, so option B.", "B"),
        ("Option A: blue. Option C: nobody. The answer is B, not C.", "B"),
        ("I cannot be sure, but the answer is likely B.", "B"),
        ("It is not A. The answer is B.", "B"),
        ("<think>The answer is A.</think>The answer is B.", "B"),
        ("Perhaps A.</think>\n\nB", "B"),
        ("<answer>A</answer> No. <answer>B</answer>", "B"),
        # the option's text
        ("a red car", "B"),
        ("A red car", "B"),
        ("A RED CAR!", "B"),
        ("It is a red car.", "B"),
        ("I can see a red car that stops at the corner", "B"),
        ("Nobody.", "C"),
        ("It is the man in the hat who enters.", "D"),
        ("<answer>It was a red car.</answer>", "B"),
        # its place
        ("I choose the second.", "B"),
        ("The second option.", "B"),
        ("It is the last option", "D"),
        ("The answer is the second one.", "B"),
        # never the first capital of a sentence
        ("A man walks in", None),
        ("A car is seen.", None),
        ("A", "A"),
        ("A car", None),
        ("Because of the light I cannot tell.", None),
        ("Cars drive by", None),
        ("Dark", None),
        ("The answer is A man with a dog", None),
        ("A.M. is when it happens", None),
        ("I", None),
        # two candidates, or one that is not there
        ("A, B", None),
        ("A and B", None),
        ("(A) or (B)", None),
        ("A/B", None),
        ("The answer is A or B.", None),
        ("The answer is A, B.", None),
        ("The answer is A. No, the answer is B.", None),
        ("Either (A) or the others", None),
        ("B. But the answer is C.", None),
        ("A. a blue car\nB. A red car\nC. nobody\nD. The man in the hat", None),
        ("A. A red car", None),
        ("The answer is A: a red car", None),
        ("E", None),
        ("The answer is F.", None),
        ("The second or the last option", None),
        ("the fifth option", None),
        ("a blue car and a red car", None),
        # refused, asked or unsure
        ("The answer is not B.", None),
        ("It is not option A.", None),
        ("I would not choose B.", None),
        ("I do not think that the answer is B.", None),
        ("I don't believe the correct answer is B.", None),
        ("Option B is incorrect.", None),
        ("(B) can be ruled out.", None),
        ("It is not a red car.", None),
        ("There isn't a red car.", None),
        ("There isn\u2019t a red car.", None),
        ("It\u2019s B.", "B"),
        ("Is it a red car?", None),
        ("I cannot tell whether it is a red car.", None),
        ("Not the second option.", None),
        # nothing
        ("", None),
        ("   \n", None),
        ("None of them", None),
        ("<think>The answer is B.</think>", None),
        ("<think>The answer is B", None),
        ("<answer></answer>", None),
        ("!", None),
    ],
)
def test_the_choice_of_a_free_text(text: str, letter: str | None) -> None:
    assert read_choice(text, OPTIONS) == letter


@pytest.mark.parametrize(
    ("text", "options", "letter"),
    [
        ("Yes, he does.", ["yes", "no"], "A"),
        ("No, he does not.", ["yes", "no"], "B"),
        ("No dogs can be seen", ["yes", "no"], None),
        ("There is no dog.", ["yes", "no"], None),
        ("I see 3 dogs.", ["2", "3", "4"], "B"),
        ("At 12 seconds there are 3 dogs.", ["2", "3", "4"], None),
        ("In 4 frames I see 3 dogs.", ["2", "3", "4"], None),
        ("dark red", ["red", "dark red"], "B"),
        ("The wall is dark red.", ["red", "dark red"], "B"),
        ("The wall is red.", ["red", "dark red"], "A"),
        ("Team B wins", ["Team A", "Team B"], "B"),
        ("the first car", ["the second car", "the first car"], "B"),
        ("the second option", ["the second car", "the first car"], None),
        ("A", ["B", "A"], "A"),
        ("-", ["+", "-"], "B"),
        ("red", ["red", "red"], None),
        ("A. Smith", ["J. Doe", "A. Smith"], "B"),
        ("It cannot be seen", ["it is red", "it cannot be seen"], "B"),
        ("Either side.", ["the left side", "either side"], "B"),
        ("The ball lies between the cars.", ["on the car", "between the cars"], "B"),
        ("He does not move at all.", ["does move", "does not move"], "B"),
        ("He does not move.", ["move", "jump"], None),
        ("I, for one, choose B.", list("stuvwxyzq"), None),
        ("I think it is B.", [f"thing {number}" for number in range(9)], "B"),
    ],
)
def test_options_of_many_kinds(text: str, options: list[str], letter: str | None) -> None:
    assert read_choice(text, options) == letter


@settings(deadline=None, derandomize=True)
@given(st.text(st.sampled_from("ABCDIabcd ().,:*\n\x00{}<>/?-'\\") | st.characters(), max_size=60), st.integers(2, 9))
def test_a_choice_is_an_option_or_nothing(text: str, count: int) -> None:
    letter = read_choice(text, [f"thing {number}" for number in range(count)])
    assert letter is None or letter in "ABCDEFGHI"[:count]


@settings(deadline=None, derandomize=True)
@given(
    st.sampled_from(
        ["The answer is {}.", "{}", "({})", "**{}**", "I choose {}.", "Answer: {}", "option {}", "{}. It is"]
    ),
    st.sampled_from("ABCD"),
)
def test_every_letter_is_read_alike(phrase: str, letter: str) -> None:
    assert read_choice(phrase.format(letter), OPTIONS) == letter


@settings(deadline=None, derandomize=True)
@given(st.sampled_from("ABCDI"), st.text(st.sampled_from("abcdefgh "), min_size=3, max_size=40))
def test_a_sentence_that_begins_with_a_capital_chooses_nothing(capital: str, rest: str) -> None:
    assert read_choice(f"{capital} m{rest}", OPTIONS) is None
    assert read_choice(f"{capital}m{rest}", OPTIONS) is None


@pytest.mark.parametrize("text", ["B", "(c)", "B. A red car", "a red car", "The answer is B.", "Answer: C", "Nobody"])
def test_what_is_read_in_a_run_is_read_here(text: str) -> None:
    assert read_choice(text, OPTIONS) == parse_choice(text, OPTIONS) is not None


def test_the_last_answer_is_what_is_meant() -> None:
    assert final_answer("<thinking>x</thinking><answer>one</answer><answer> two </answer>") == "two"
    assert final_answer("plain") == "plain"
    assert final_answer("<thinking>only thinking</thinking>") == ""
