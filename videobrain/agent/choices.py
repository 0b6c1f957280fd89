"""Multiple choice: options as text, and the letter in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LETTER = re.compile(r"^[\s(\[*]*([A-Za-z])\s*(?:[)\].:*,]|$)")
_STATED = re.compile(r"\b(?:answer|option|choice)\s*(?:is|:)?\s*[(\[*]*([A-Z])(?=\s*(?:[)\].:,*]|$))", re.MULTILINE)


def format_options(options: Sequence[str]) -> str:
    """Options as lines ``A. text``."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def parse_choice(answer: str, options: Sequence[str]) -> str | None:
    """The letter that an answer chooses, or None where it chooses none or more than one.

    Read are a letter alone or first (``B``, ``(B)``, ``B. text``), an option's whole text, and ``the answer is B``.
    A sentence that merely begins with a capital letter is no choice.
    """
    letters = LETTERS[: len(options)]
    text = answer.strip()
    normal = _normal(text)
    by_text = [letter for letter, option in zip(letters, options, strict=True) if _normal(option) == normal]
    if len(by_text) == 1:
        return by_text[0]
    if match := _LETTER.match(text):
        letter = match[1].upper()
        return letter if letter in letters else None
    stated = {letter for letter in _STATED.findall(text) if letter in letters}
    return stated.pop() if len(stated) == 1 else None


def _normal(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())
