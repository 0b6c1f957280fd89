"""Multiple choice: options as text, and the letter in an answer.

Unread is unread: where nothing, or more than one thing, can be read, there is no choice. It is never guessed from the
first capital letter of a sentence (``A man walks in`` chooses nothing).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

PHRASE_END = r"(?=[^\S\n]*(?:[)\].:,;!?\n]|[-\u2013\u2014]\s|$))"
"""What may follow a letter or number that ends its phrase."""
_WHY = r"(?=\s+(?:because|since|as|given|due|based|which|where|with)\b)"
_LETTER = rf"[(\[]*(?-i:([A-Z])(?:{PHRASE_END}|{_WHY}|(?<![AI])(?=\s))|([a-z]){PHRASE_END})"
"""A letter that stands for an option: a capital, or a small one that ends its phrase. ``A`` and ``I`` are words too:
more may follow them only where it gives a reason."""
_OPTION = r"(?:option|choice|answer|letter|alternative)"
_SURE = r"(?:(?:most|very|likely|probably|clearly|definitely|therefore|thus|the|correct|right|best)\s+)*"

_STATED = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"\b{_OPTION}\s*(?:is|was|would\s+be|must\s+be|should\s+be|:|=)\s*:?\s*{_SURE}(?:{_OPTION}\s*:?\s+)?{_LETTER}",
        rf"\banswer\s+{_LETTER}",
        rf"\b(?:choose|chose|pick|picked|select|selected|go(?:ing)?\s+with|opt\s+for)\s+(?:the\s+)?(?:{_OPTION}\s+)?{_LETTER}",
        rf"\b(?:it|that)(?:\s+is|'s|\s+must\s+be|\s+would\s+be)\s+{_SURE}(?:{_OPTION}\s+)?{_LETTER}",
        r"(?<![\w'])[(\[]*(?-i:([A-Z]))[)\]]*\s+(?:is|must\s+be)\s+(?:(?:the|most|likely|clearly)\s+)*"
        rf"(?:(?:correct|best|accurate|answer)\b|(?:right|true)(?:\s+{_OPTION}|{PHRASE_END}))",
    )
)
"""Phrases that settle on a letter."""
_MENTIONED = re.compile(
    rf"\b(?:option|choice)\s+(?:(?-i:([A-Z]))\b|([a-z]){PHRASE_END})"
    r"|(?<!\w)\(([A-Za-z])\)|(?<!\w)\[([A-Za-z])\]|(?<!\w)(?-i:([A-Z]))(?=\x00)",
    re.IGNORECASE | re.MULTILINE,
)
"""Phrases that name a letter, perhaps to say that it is wrong. A zero byte stands behind a letter in bold."""
_LEADS = re.compile(rf"^[\s(\[]*([A-Za-z]){PHRASE_END}", re.MULTILINE)
_MORE = re.compile(
    rf"[)\].]*\s*(?:,|/|&|\band\b|\bor\b)\s*(?:(?:and|or|{_OPTION})\s+)*[(\[]*(?-i:([A-Z])){PHRASE_END}", re.IGNORECASE
)
"""One more letter right behind another."""
_ABBREVIATION = re.compile(r"\W*(?:[A-Z]\.){2}")
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text(?:bf)?\s*\{)?([^{}]*)\}*")
_BOLD = re.compile(r"(\*\*|__)[(\[]?([A-Z])[)\].:]?\1")
_QUOTED = re.compile(r"(?<!\w)['\u2018]([A-Za-z])'(?!\w)")
_FULL_WIDTH = str.maketrans("\uff08\uff09\uff3b\uff3d\uff1a", "()[]:")
_REFUSED_BEFORE = re.compile(
    r"(?:\bnot|n't|\bnever|\brather\s+than|\binstead\s+of|\bunlike|\bexcept|\bexclude[sd]?|\beliminate[sd]?"
    r"|\brul(?:e|ed|ing)\s+out|(?:\bnot|n't)\s+(?:think|believe|agree|say)(?:\s+(?:that|the|correct))*)\s+(?:\w+\s+)?[(\[]*$",
    re.IGNORECASE,
)
_REFUSED_AFTER = re.compile(
    r"[)\]\x00]*\s*(?:(?:is|are|was|can|could|may|must|should|would|does|do)(?:\s+(?:clearly|also|therefore))?\s*"
    r"(?:not\b|n't\b|be\s+(?:ruled|eliminated|excluded)|wrong|incorrect|false|unlikely|out\b|eliminated|ruled)"
    r"|(?:isn|doesn|can|wouldn|couldn)'t)",
    re.IGNORECASE,
)
UNSURE = re.compile(r"\b(?:either|neither|between|unsure|unclear|cannot|not\s+sure|can't)\b", re.IGNORECASE)
"""Words of somebody who does not choose."""


def format_options(options: Sequence[str]) -> str:
    """Options as lines ``A. text``."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def options_pattern(options: Sequence[str]) -> str:
    """A regular expression of the options' texts."""
    texts = "|".join(re.escape(option.strip()) for option in options)
    return f"(?:{texts})".replace(r"\ ", " ")


def parse_choice(answer: str, options: Sequence[str], *, in_words: bool = False) -> str | None:
    """The letter that an answer chooses, or None where it chooses none or more than one.

    Read are an option's whole text, a letter on which the answer settles (``B``, ``(B)``, ``B. text``, ``the answer is
    B``), and one that it names without refusing it (``option B``). ``It is not option A`` chooses nothing.

    Args:
        answer: The answer's text.
        options: Texts of the options.
        in_words: Whether an option's text was asked for: then a lone letter is the option that it is the text of, if
            there is one, and a letter otherwise.
    """
    return whole_option(answer, options, in_words=in_words) or sole_option(named_letters(answer, options), options)


def whole_option(answer: str, options: Sequence[str], *, in_words: bool = False) -> str | None:
    """The letter of the one option whose text, and nothing else, is the answer.

    A lone letter is a letter, unless texts were asked for (`in_words`).
    """
    text = answer.strip()
    letters = LETTERS[: len(options)]
    if len(text) == 1 and text.upper() in letters and not in_words:
        return None
    for form in (str.strip, _normal):
        same = [letter for letter, option in zip(letters, options, strict=True) if form(option) == form(text) != ""]
        if len(same) == 1:
            return same[0]
    return None


def named_letters(answer: str, options: Sequence[str]) -> set[str]:
    """Letters on which an answer settles; where it settles on none, those that it names without refusing them.

    Several are a contradiction, and one may be none of the options: see `sole_option`.
    """
    plain = plain_text(answer)
    return _stated(plain, options) or _mentioned(plain)


def sole_option(letters: set[str], options: Sequence[str]) -> str | None:
    """The letter, where there is one alone and it is that of an option."""
    letter = next(iter(letters)) if len(letters) == 1 else ""
    return letter if letter and _is_option(letter, options) else None


def plain_text(answer: str) -> str:
    """The text without marks of emphasis; what is boxed stands as an answer of its own."""
    text = _BOXED.sub(
        lambda match: f"\nThe answer is {match[1].strip()}.\n", answer.replace("\x00", "").replace("\u2019", "'")
    )
    text = _QUOTED.sub(r"\1", text.translate(_FULL_WIDTH))
    text = _BOLD.sub(lambda match: f"{match[2]}\x00", text)
    return re.sub(r"[*_`\"“”]|\\text(?:bf)?|[{}$]", "", text).replace("\x00\x00", "\x00").strip()


def _stated(plain: str, options: Sequence[str]) -> set[str]:
    """Letters on which the text settles."""
    found: set[str] = set()
    bare = plain.replace("\x00", "")
    leading = _LEADS.match(bare)
    if leading and not _ABBREVIATION.match(bare) and not _REFUSED_AFTER.match(bare, leading.end()):
        found |= {match[1].upper() for match in _LEADS.finditer(bare) if _is_option(match[1], options)}
        found |= _others_behind(bare, leading.end(), leading[1].upper(), options)
    last = bare.rsplit("\n", 1)[-1].strip(" ().[]:")
    if len(last) == 1 and _is_option(last, options):
        found.add(last.upper())
    for pattern in _STATED:
        for match in pattern.finditer(bare):
            letter = next(group for group in match.groups() if group).upper()
            if _REFUSED_BEFORE.search(bare[: match.start()]):
                continue
            found |= {letter} | _others_behind(bare, match.end(), letter, options)
    return found


def _others_behind(text: str, end: int, letter: str, options: Sequence[str]) -> set[str]:
    """What contradicts a letter right behind it: one more letter, or the text of another option."""
    if more := _MORE.match(text, end):
        return {more[1]}
    behind = words_of(text[end:].split("\n", 1)[0])
    same = {other for other, option in zip(LETTERS, options, strict=False) if behind and words_of(option) == behind}
    return set() if letter in same else same


def _mentioned(plain: str) -> set[str]:
    """Letters that are named and not refused."""
    if UNSURE.search(plain):
        return set()
    return {
        next(group for group in match.groups() if group).upper()
        for match in _MENTIONED.finditer(plain)
        if not _REFUSED_BEFORE.search(plain[: match.start()]) and not _REFUSED_AFTER.match(plain, match.end())
    }


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return re.findall(r"\w+", text.casefold())


def _is_option(letter: str, options: Sequence[str]) -> bool:
    return letter.upper() in LETTERS[: len(options)]


def _normal(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.casefold()).split())
