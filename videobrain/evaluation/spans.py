"""Spans of time, in seconds, read out of an answer in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from videobrain.evaluation.extraction import final_answer
from videobrain.result import Span

SpanReader = Literal["videobrain", "lmms-eval", "timechat"]
"""Who reads. ``videobrain`` is ours. ``lmms-eval`` and ``timechat`` give what the scorers of those names give, for
figures that are to stand beside published ones: at most one span, and none of many answers that say one."""

# --- Ours ------------------------------------------------------------------------------------------------------------

_DASH = r"[-\u2013\u2014~]"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_UNIT = r"(?:h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)\b"
_CLOCK = r"\d{1,9}:\d{1,2}(?::\d{1,2})?(?:\.\d+)?"
_NUMBER = r"\d{1,15}(?:\.\d+)?"
_LASTING = rf"{_NUMBER}\s*{_UNIT}"
_MOMENT = (
    rf"(?<![\d.:])(?:(?:second|time)\s+)?(?:{_CLOCK}|{_LASTING}(?:\s*(?:and\s+)?{_LASTING})*|{_NUMBER})(?![\d:]|\.\d)"
)
_STARTS = r"(?:start|begin|began|from)\w*"
_ENDS = r"(?:end|finish|stop|until|till)\w*"

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"[\[(]\s*(?P<start>{_MOMENT})\s*,\s*(?P<end>{_MOMENT})\s*[\])]",
        rf"<\s*(?P<start>{_MOMENT})\s*>[^\d<]*<\s*(?P<end>{_MOMENT})\s*>",
        rf"(?P<start>{_MOMENT})\s*(?:{_DASH}|\bto\b|\buntil\b|\btill\b)\s*(?P<end>{_MOMENT})",
        rf"\bbetween\s+(?P<start>{_MOMENT})\s+and\s+(?P<end>{_MOMENT})",
        rf"\b{_STARTS}\b[^\d\n]{{0,40}}?(?P<start>{_MOMENT})[^\d]{{0,60}}?\b{_ENDS}\b[^\d\n]{{0,40}}?(?P<end>{_MOMENT})",
    )
)
"""Forms in which a span is written. Where a text has several, those of the first form are taken."""
_TIMED = re.compile(r"[:a-z]", re.IGNORECASE)


def read_spans(text: str, *, reader: SpanReader = "videobrain") -> tuple[Span, ...]:
    """The spans that an answer in words gives, in its order; none where it gives none.

    Read are ``24.3 - 30.4 seconds``, ``from 5s to 9s``, ``between 5 and 9 seconds``, ``[[5, 9], [12, 15]]``,
    ``<5.0> <9.5>``, ``starts at 5 and ends at 9``, with times as seconds, ``1:05``, ``1:02:03.5`` or ``1 min 5 s``.
    Reversed ends are put in order. One time alone is no span. Bare numbers, such as those of ``3-4 people``, are left
    aside where another span of the text has units or is written as ``1:05``. Thinking is never read.

    The scorers read less. ``lmms-eval`` (its task ``charades_sta``) knows ranges with a dash or ``to``, and else takes
    the first number of each line that speaks of a start or an end; it gives nothing for ``between 5 and 9 seconds`` or
    ``[5.0, 9.5]``, and 1.0 to 2.5 for ``01:02.5 - 01:04.0``. ``timechat`` (the older ``eval_tvg.py``) looks only at
    lines with ``start``, ``end`` or ``happen``, and knows no ``1:05``.

    Args:
        text: What the model wrote.
        reader: Who reads; see `SpanReader`.
    """
    if reader == "videobrain":
        return _read(final_answer(text))
    return _lmms_eval(text) if reader == "lmms-eval" else _timechat(text)


def _read(answer: str) -> tuple[Span, ...]:
    plain = re.sub(r"[*_`\"']", "", answer)
    for pattern in _PATTERNS:
        found = [(match["start"], match["end"]) for match in pattern.finditer(plain)]
        if found:
            timed = [pair for pair in found if any(map(_TIMED.search, pair))]
            return tuple(_span(*_with_units(start, end)) for start, end in timed or found)
    return ()


def _with_units(start: str, end: str) -> tuple[float, float]:
    unit = re.search(_UNIT + "$", end, re.IGNORECASE)
    if unit and re.fullmatch(_NUMBER, start):  # 1-2 minutes
        start += unit[0]
    return _seconds(start), _seconds(end)


def _seconds(moment: str) -> float:
    moment = re.sub(r"^(?:second|time)\s+", "", moment, flags=re.IGNORECASE)
    if ":" in moment:
        return _clock(moment)
    parts = re.findall(rf"({_NUMBER})\s*([hms]?)", moment, re.IGNORECASE)
    return float(sum(float(number) * _UNITS[unit.lower() or "s"] for number, unit in parts))


def _clock(moment: str) -> float:
    seconds = 0.0
    for part in moment.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def _span(one: float, other: float) -> Span:
    return Span(min(one, other), max(one, other))


# --- The scorers -----------------------------------------------------------------------------------------------------

_EXAMPLE = "a specific example is : 20.8 - 30.0 seconds"
"""Stands in TimeChat's prompt, and so in answers that repeat it."""
_KEYWORDS = ("start", "end", "happen")
_SHORT_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?"
_CLOCK_RANGE = re.compile(rf"\b({_SHORT_CLOCK})\s*[\u2013-]\s*({_SHORT_CLOCK})\b")
_NUMBER_RANGE = re.compile(rf"({_NUMBER})\s*[\u2013-]\s*({_NUMBER})")
_SECONDS_RANGE = re.compile(rf"({_NUMBER})\s*s?\s*[\u2013-]\s*({_NUMBER})")
_FULL_CLOCKS = re.compile(r"\b\d{1,2}:\d{2}:\d{2}\b")
_CLOCKS = re.compile(rf"\b{_SHORT_CLOCK}\b")
_NUMBERS = re.compile(rf"\b{_NUMBER}\b")


def _lmms_eval(text: str) -> tuple[Span, ...]:
    """What ``extract_time`` of lmms-eval's task ``charades_sta`` reads."""
    lines = _lines(text)
    told = [line for line in lines if _tells(line)] or lines
    for pattern in (_CLOCK_RANGE, _NUMBER_RANGE):
        if spans := _first(pattern, told):
            return spans
    clocks = [clock for line in told for clock in _CLOCKS.findall(line)]
    numbers = [found[0] for line in told if (found := _NUMBERS.findall(line))]
    return _pair(clocks) or _pair(numbers) or _first(_SECONDS_RANGE, told)


def _timechat(text: str) -> tuple[Span, ...]:
    """What ``extract_time`` of lmms-eval's ``eval_tvg.py`` reads, which is TimeChat's."""
    told = [line for line in _lines(text) if _tells(line)]
    numbers = [found[0] for line in told if (found := _NUMBERS.findall(line))]
    clocks = [found[0] for line in told if (found := _FULL_CLOCKS.findall(line))]
    return _first(_NUMBER_RANGE, told) or _pair(numbers) or _pair(clocks)


def _lines(text: str) -> list[str]:
    return re.split(r"[!?\n]", text.lower().replace(_EXAMPLE, "").replace("to", "-"))


def _tells(line: str) -> bool:
    return any(keyword in line for keyword in _KEYWORDS)


def _first(pattern: re.Pattern[str], lines: Sequence[str]) -> tuple[Span, ...]:
    match = next(filter(None, map(pattern.search, lines)), None)
    return (_span(_clock(match[1]), _clock(match[2])),) if match else ()


def _pair(moments: Sequence[str]) -> tuple[Span, ...]:
    return (_span(_clock(moments[0]), _clock(moments[1])),) if len(moments) > 1 else ()
