"""The chosen option, read out of what a model wrote freely.

It reads what a run reads (`videobrain.agent.parse_choice`), and beyond that an option's text or place in a sentence.
Unparsed is unparsed: where nothing, or more than one thing, can be read, there is no choice. It is never guessed from
the first capital letter of a sentence (``A man walks in`` chooses nothing), nor drawn at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from videobrain.agent import parse_reply
from videobrain.agent.choices import (
    LETTERS,
    PHRASE_END,
    UNSURE,
    named_letters,
    plain_text,
    sole_option,
    whole_option,
    words_of,
)

_NEGATIONS = {"not", "no", "nor", "never", "neither", "cannot", "without", "except", "t"}
"""Words behind which an option's text may mean its contrary; ``t`` is the end of ``isn't``."""
_PLAIN = {"yes", "no", "true", "false", "none", "both", "neither", "all", "other", "unknown", "maybe", "it", "one"}
"""Words that any sentence may have: an option of these alone must begin the answer."""
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_NTH = re.compile(rf"\b({'|'.join(_ORDINALS)}|last)\s+(?:option|choice|answer|alternative)\b", re.IGNORECASE)
_NTH_CHOSEN = re.compile(
    rf"\b(?:choose|pick|select|answer\s+is|go\s+with)\s+the\s+({'|'.join(_ORDINALS)}|last)(?:\s+one)?{PHRASE_END}",
    re.IGNORECASE,
)


def read_choice(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a free text chooses, or None where it chooses none or more than one.

    Read are, in this order, the first that says anything deciding:

    1. an option's whole text and nothing else;
    2. a letter on which the text settles, alone, first, or in a phrase: ``B``, ``B. red``, ``The answer is (B)``,
       ``B is correct``, ``I choose option b``, ``\\boxed{B}``, a last line ``B``;
    3. a letter that is named without being refused: ``(B)``, ``**B**``, ``option B``;
    4. the text of one option, in a sentence without a negation: ``The car is red.``;
    5. its place: ``the second option``.

    Two candidates of one kind are no choice, and so is a letter before another option's text. Where the text has
    ``<answer>`` tags the last of them is read alone; thinking is never read.

    Args:
        text: What the model wrote.
        options: Texts of the options, without letters.
    """
    answer = final_answer(text).replace("\u2019", "'")
    if whole := whole_option(answer, options):
        return whole
    if letters := named_letters(answer, options):
        return sole_option(letters, options)
    return _by_text(answer, options) or _by_place(plain_text(answer), options)


def final_answer(text: str) -> str:
    """What is meant as the answer: the last ``<answer>`` that is not empty, or else all outside of thinking."""
    parsed = parse_reply(text)
    return next((answer for answer in reversed(parsed.answers) if answer), parsed.outside)


def _by_text(answer: str, options: Sequence[str]) -> str | None:
    """The one option whose text stands in the answer."""
    words = words_of(answer)
    places = [
        (start, start + len(wanted), letter)
        for letter, option in zip(LETTERS, options, strict=False)
        if (wanted := words_of(option))
        for start in _occurrences(wanted, words)
    ]
    outer = [place for place in places if not any(_within(place, other) for other in places)]
    if len({letter for *_, letter in outer}) != 1:
        return None
    start, end, letter = outer[0]
    wanted, rest = words[start:end], words[:start] + words[end:]
    if _PLAIN.issuperset(wanted):
        return letter if re.match(rf"\W*{re.escape(' '.join(wanted))}\s*(?:[,.;:!]|$)", answer.casefold()) else None
    if "?" in answer or _NEGATIONS & set(rest) or UNSURE.search(" ".join(rest)):
        return None
    if all(word.isdecimal() or len(word) == 1 for word in wanted):
        alone = wanted[0].isdecimal() and not any(word.isdecimal() for word in rest)
        return letter if alone or not rest else None
    return letter


def _by_place(plain: str, options: Sequence[str]) -> str | None:
    """The one option that is named by its place among them."""
    ordinals = {*_ORDINALS, "last"}
    words = set(words_of(plain))
    if any(ordinals & set(words_of(option)) for option in options) or len(ordinals & words) != 1:
        return None
    if "?" in plain or _NEGATIONS & words or UNSURE.search(plain):
        return None
    named = {match[1].lower() for pattern in (_NTH, _NTH_CHOSEN) for match in pattern.finditer(plain)}
    place = next((len(options) - 1 if name == "last" else _ORDINALS.index(name) for name in named), len(options))
    return LETTERS[place] if place < len(options) else None


def _within(place: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    """Whether a place is a part of another one, as ``red`` is of ``dark red``."""
    return place[:2] != other[:2] and other[0] <= place[0] and place[1] <= other[1]


def _occurrences(wanted: Sequence[str], words: Sequence[str]) -> Iterator[int]:
    return (start for start in range(len(words) - len(wanted) + 1) if words[start : start + len(wanted)] == wanted)
