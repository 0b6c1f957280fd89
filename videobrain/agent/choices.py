"""Multiple choice: options as text, and the letter in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_ENDS = r"[^\S\n]*(?:[)\].:,*\n]|[-–—]\s|$)"  # noqa: RUF001  # dashes as models write them
_LETTER = re.compile(rf"^[\s(\[*]*([A-Za-z]){_ENDS}")
_LETTERS = re.compile(r"[\W_]*[A-Za-z](?:[\W_]+(?:(?:and|or)[\W_]+)?[A-Za-z])+[\W_]*")
_STATED = re.compile(rf"\b(?i:answer|option|choice)[^\S\n]*(?:is|:)?[^\S\n]*[(\[*]*([A-Z])(?={_ENDS})", re.MULTILINE)


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
    if len(text) > 1 or text.upper() not in letters:
        for form in (str.strip, _normal):
            same = [letter for letter, option in zip(letters, options, strict=True) if form(option) == form(text) != ""]
            if len(same) == 1:
                return same[0]
    if _LETTERS.fullmatch(text):
        return None
    if match := _LETTER.match(text):
        letter = match[1].upper()
        return letter if letter in letters else None
    stated = {letter for letter in _STATED.findall(text) if letter in letters}
    return stated.pop() if len(stated) == 1 else None


def _normal(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())
