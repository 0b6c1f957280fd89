"""A question about a synthetic video, with everything that is known about its answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from videobrain.errors import InputError
from videobrain.result import Span
from videobrain.world.vocabulary import COLOURS, DIGITS, LETTERS, PATTERNS, SHAPES

Kind = Literal["direct", "search", "dense", "unanswerable"]
"""``direct``: the 16 initial frames suffice. ``search``: a brief event that none of them shows. ``dense``: order or
number within a given interval. ``unanswerable``: the video does not hold the answer; the `answer` is a guess."""

_ANSWER_WORDS = frozenset({*COLOURS, *SHAPES, *PATTERNS})
_LETTER = re.compile(r"\(?([A-Da-d])\)?(?:[.):]\s.*)?[.):]?", re.DOTALL)
"""A letter alone, or before an option's text."""
_NUMBERS = {"zero": "0", "once": "1", "one": "1", "twice": "2", "two": "2", "three": "3", "four": "4"}


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

    @property
    def letter(self) -> str | None:
        """Letter of the true option; None for an open-ended question."""
        return None if self.options is None else "ABCD"[self.options.index(self.answer)]

    def accepts(self, text: str) -> bool:
        """Whether an answer is right.

        Multiple choice: the letter, alone or before the option's text, or that text. Open-ended: the words of the
        vocabulary that the text holds are those of the truth, in the same order; so ``It is red.`` is ``red``.
        """
        if self.options is not None and (match := _LETTER.fullmatch(text.strip())):
            return match[1].upper() == self.letter
        return _essence(text, self.answer) == _essence(self.answer, self.answer)


def _essence(text: str, truth: str) -> list[str]:
    """The words of a text that could be answers of the truth's form, in order."""
    if truth in LETTERS:
        return re.findall(r"\b[A-Z0-9]\b", text)
    words = re.findall(r"[a-z]+|\d+", text.lower())
    if truth in DIGITS:
        return [_NUMBERS.get(word, word) for word in words if word.isdigit() or word in _NUMBERS]
    return [word for word in words if word in _ANSWER_WORDS]


def read_questions(path: str | Path) -> list[WorldQuestion]:
    """The questions of a file that `write_dataset` wrote.

    Raises:
        InputError: The file cannot be read, or a line is no question.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
        return [WorldQuestion.model_validate_json(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} holds no questions of the synthetic world: {error}", hint="Write them with write_dataset."
        ) from error
