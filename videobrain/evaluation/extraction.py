"""The chosen option, read out of what a model wrote freely.

Unparsed is unparsed: where nothing, or more than one thing, can be read, there is no choice. It is never guessed from
the first capital letter of a sentence (``A man walks in`` chooses nothing), nor drawn at random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from videobrain.agent import parse_choice, parse_reply
from videobrain.agent.choices import LETTERS

_END = r"(?=[^\S\n]*(?:[)\].:,;!?\n]|[-\u2013\u2014]\s|$))"
_WHY = r"(?=\s+(?:because|since|as|given|due|based|which|where|with)\b)"
_LETTER = rf"[(\[]*(?-i:([A-Z])(?:{_END}|{_WHY}|(?<![AI])(?=\s))|([a-z]){_END})"
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
        rf"(?:(?:correct|best|accurate|answer)\b|(?:right|true)(?:\s+{_OPTION}|{_END}))",
    )
)
"""Phrases that settle on a letter."""
_MENTIONED = re.compile(
    rf"\b(?:option|choice)\s+(?:(?-i:([A-Z]))\b|([a-z]){_END})"
    r"|(?<!\w)\(([A-Za-z])\)|(?<!\w)\[([A-Za-z])\]|(?<!\w)(?-i:([A-Z]))(?=\x00)",
    re.IGNORECASE | re.MULTILINE,
)
"""Phrases that name a letter, perhaps to say that it is wrong. A zero byte stands behind a letter in bold."""
_LEADS = re.compile(rf"^[\s(\[]*([A-Za-z]){_END}", re.MULTILINE)
_MORE = re.compile(
    rf"[)\].]*\s*(?:,|/|&|\band\b|\bor\b)\s*(?:(?:and|or|{_OPTION})\s+)*[(\[]*(?-i:([A-Z])){_END}", re.IGNORECASE
)
"""One more letter right behind another."""
_ABBREVIATION = re.compile(r"\W*(?:[A-Z]\.){2}")
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text(?:bf)?\s*\{)?([^{}]*)\}*")
_BOLD = re.compile(r"(\*\*|__)[(\[]?([A-Z])[)\].:]?\1")
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
_UNSURE = re.compile(r"\b(?:either|neither|between|unsure|unclear|cannot|not\s+sure|can't)\b", re.IGNORECASE)
_NEGATIONS = {"not", "no", "nor", "never", "neither", "cannot", "without", "except", "t"}
"""Words behind which an option's text may mean its contrary; ``t`` is the end of ``isn't``."""
_PLAIN = {"yes", "no", "true", "false", "none", "both", "neither", "all", "other", "unknown", "maybe", "it", "one"}
"""Words that any sentence may have: an option of these alone must begin the answer."""
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_NTH = re.compile(rf"\b({'|'.join(_ORDINALS)}|last)\s+(?:option|choice|answer|alternative)\b", re.IGNORECASE)
_NTH_CHOSEN = re.compile(
    rf"\b(?:choose|pick|select|answer\s+is|go\s+with)\s+the\s+({'|'.join(_ORDINALS)}|last)(?:\s+one)?{_END}",
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
    letters = LETTERS[: len(options)]
    answer = final_answer(text).replace("\u2019", "'")
    whole = parse_choice(answer, options)
    if whole is not None and _says_only(answer, options[letters.index(whole)]):
        return whole
    plain = _plain(answer)
    for candidates in (_stated(plain, options), _mentioned(plain)):
        if candidates:
            letter = candidates.pop()
            return letter if not candidates and letter in letters else None
    return _by_text(answer, options) or _by_place(plain, options)


def final_answer(text: str) -> str:
    """What is meant as the answer: the last ``<answer>`` that is not empty, or else all outside of thinking."""
    parsed = parse_reply(text)
    return next((answer for answer in reversed(parsed.answers) if answer), parsed.outside)


def _plain(answer: str) -> str:
    """The text without marks of emphasis; what is boxed stands as an answer of its own."""
    text = _BOXED.sub(lambda match: f"\nThe answer is {match[1].strip()}.\n", answer.replace("\x00", ""))
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
    behind = _words(text[end:].split("\n", 1)[0])
    same = {other for other, option in zip(LETTERS, options, strict=False) if behind and _words(option) == behind}
    return set() if letter in same else same


def _mentioned(plain: str) -> set[str]:
    """Letters that are named and not refused."""
    if _UNSURE.search(plain):
        return set()
    return {
        next(group for group in match.groups() if group).upper()
        for match in _MENTIONED.finditer(plain)
        if not _REFUSED_BEFORE.search(plain[: match.start()]) and not _REFUSED_AFTER.match(plain, match.end())
    }


def _by_text(answer: str, options: Sequence[str]) -> str | None:
    """The one option whose text stands in the answer."""
    words = _words(answer)
    places = [
        (start, start + len(wanted), letter)
        for letter, option in zip(LETTERS, options, strict=False)
        if (wanted := _words(option))
        for start in _occurrences(wanted, words)
    ]
    outer = [place for place in places if not any(_within(place, other) for other in places)]
    if len({letter for *_, letter in outer}) != 1:
        return None
    start, end, letter = outer[0]
    wanted, rest = words[start:end], words[:start] + words[end:]
    if _PLAIN.issuperset(wanted):
        return letter if re.match(rf"\W*{re.escape(' '.join(wanted))}\s*(?:[,.;:!]|$)", answer.casefold()) else None
    if "?" in answer or _NEGATIONS & set(rest) or _UNSURE.search(" ".join(rest)):
        return None
    if all(word.isdecimal() or len(word) == 1 for word in wanted):
        alone = wanted[0].isdecimal() and not any(word.isdecimal() for word in rest)
        return letter if alone or not rest else None
    return letter


def _by_place(plain: str, options: Sequence[str]) -> str | None:
    """The one option that is named by its place among them."""
    ordinals = {*_ORDINALS, "last"}
    words = set(_words(plain))
    if any(ordinals & set(_words(option)) for option in options) or len(ordinals & words) != 1:
        return None
    if "?" in plain or _NEGATIONS & words or _UNSURE.search(plain):
        return None
    named = {match[1].lower() for pattern in (_NTH, _NTH_CHOSEN) for match in pattern.finditer(plain)}
    place = next((len(options) - 1 if name == "last" else _ORDINALS.index(name) for name in named), len(options))
    return LETTERS[place] if place < len(options) else None


def _says_only(answer: str, option: str) -> bool:
    return answer.strip() == option.strip() or _words(answer) == _words(option) != []


def _is_option(letter: str, options: Sequence[str]) -> bool:
    return letter.upper() in LETTERS[: len(options)]


def _within(place: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    """Whether a place is a part of another one, as ``red`` is of ``dark red``."""
    return place[:2] != other[:2] and other[0] <= place[0] and place[1] <= other[1]


def _occurrences(wanted: Sequence[str], words: Sequence[str]) -> Iterator[int]:
    return (start for start in range(len(words) - len(wanted) + 1) if words[start : start + len(wanted)] == wanted)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
