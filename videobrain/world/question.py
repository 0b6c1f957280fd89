"""A question about a synthetic video, with everything that is known about its answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from videobrain.errors import InputError
from videobrain.result import Span
from videobrain.world.vocabulary import COLOURS, DIGITS, LETTERS, PATTERNS, SHAPES

Kind = Literal["direct", "search", "dense", "unanswerable"]
"""``direct``: the 16 initial frames suffice. ``search``: a brief event that none of them shows. ``dense``: order or
number within a given interval. ``unanswerable``: the video does not hold the answer; the `answer` is a guess."""

_KINDS_OF_WORDS = (frozenset(COLOURS), frozenset(SHAPES), frozenset(PATTERNS))
_LETTER = re.compile(r"\(?([A-Da-d])\)?(?:[.,):]\s.*)?[.):]?", re.DOTALL)
"""A letter alone, or before an option's text."""
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NUMBERS = {"once": "1", "twice": "2", **{word: str(number) for number, word in enumerate(_NUMBER_WORDS)}}
_SYNONYMS = {"striped": "stripes", "checkerboard": "checks", "checkered": "checks", "dotted": "dots"}
_ARTICLE = re.compile(r"\bA(?=\s+\w)")
_DENIAL = re.compile(r"\b(?:no|not|none|nothing|cannot|neither)\b|n't\b", re.IGNORECASE)


class ToolUse(BaseModel):
    """One call that leads to the answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["clip_sample", "uniform_sample"]
    arguments: dict[str, int | str]


class WorldQuestion(BaseModel):
    """One question, its true answer and where in the video the answer is seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Unique: the video's name and a number."""
    video: str
    """File name within the data set."""
    question: str
    options: tuple[str, ...] | None
    """Four options of a multiple-choice question, without letters; None for an open-ended one."""
    answer: str
    """The true answer in words, for both forms."""
    kind: Kind
    template: str
    held_out: bool
    """Whether it is about a pair of colour and shape that training never shows."""
    spans: tuple[Span, ...]
    """Where the answer is seen, in seconds; empty where it is not."""
    frame_count: int
    calls: tuple[ToolUse, ...]
    """What a model does that plays by the rules and knows where to look; empty where it answers at once."""

    @model_validator(mode="after")
    def _an_option_is_right(self) -> WorldQuestion:
        if self.options is not None and self.answer not in self.options:
            raise ValueError(f"the answer {self.answer!r} is none of the options")
        return self

    @property
    def letter(self) -> str | None:
        """Letter of the true option; None for an open-ended question."""
        return None if self.options is None else "ABCD"[self.options.index(self.answer)]

    def accepts(self, text: str) -> bool:
        """Whether an answer is right.

        Multiple choice: the letter, alone or before the option's text, or that text. A letter is always that of an
        option, also where options are letters themselves. Open-ended: of the words that could answer the question, the
        text holds those of the truth, in the same order, and beside them at the most what the question says itself; so
        ``The star is red.`` is ``red``, and ``not red`` is not.
        """
        if self.options is not None and (match := _LETTER.fullmatch(text.strip())):
            return match[1].upper() == self.letter
        if _DENIAL.search(text):
            return False
        truth = _essence(self.answer, self.answer)
        said, asked = _essence(text, self.answer), _essence(self.question, self.answer)
        readings = [said, _without(said, asked)]
        if self.answer in LETTERS:
            readings.append(_essence(_ARTICLE.sub("", text), self.answer))
        elif self.answer in DIGITS and self.answer not in asked:
            readings.append([number for number in said if number not in asked])
        return truth in readings


def _without(words: list[str], phrase: list[str]) -> list[str]:
    """Words without the last occurrence of a phrase of some of them."""
    for begin in range(len(words) - len(phrase), -1, -1) if phrase else ():
        if words[begin : begin + len(phrase)] == phrase:
            return words[:begin] + words[begin + len(phrase) :]
    return words


def _essence(text: str, truth: str) -> list[str]:
    """The words of a text that could be answers of the truth's form, in order."""
    if truth in LETTERS:
        return [word for word in re.findall(r"\b[A-Z0-9]\b", text) if word != "I"]  # which is no letter of the world
    words = [_SYNONYMS.get(word, word) for word in re.findall(r"[a-z]+|\d+", text.lower())]
    if truth in DIGITS:
        return [_NUMBERS.get(word, word) for word in words if word.isdigit() or word in _NUMBERS]
    true = set(re.findall(r"[a-z]+", truth))
    fitting = frozenset[str]().union(*(kind for kind in _KINDS_OF_WORDS if kind & true))
    return [word for word in words if word in fitting]


def read_questions(path: str | Path) -> list[WorldQuestion]:
    """The questions of a file that `write_dataset` wrote.

    Raises:
        InputError: The file cannot be read, or a line is no question.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} holds no questions of the synthetic world: {error}", hint="Write them with write_dataset."
        ) from error
    questions: list[WorldQuestion] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            questions.append(WorldQuestion.model_validate_json(line))
        except ValueError as error:
            raise InputError(
                f"Line {number} of {path} is no question of the synthetic world: {error}",
                hint="Write the file anew with write_dataset.",
            ) from error
    return questions
