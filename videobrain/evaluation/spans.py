"""Spans of time, in seconds, read out of an answer in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from videobrain.agent.spans import clock_seconds, written_spans
from videobrain.evaluation.extraction import final_answer
from videobrain.result import Span

SpanReader = Literal["videobrain", "lmms-eval", "timechat"]
"""Who reads. ``videobrain`` is ours. ``lmms-eval`` and ``timechat`` give what the scorers of those names give, for
figures that are to stand beside published ones: at most one span, and none of many answers that say one."""

_NUMBER = r"\d{1,15}(?:\.\d+)?"


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
        return tuple(_span(*span) for span in written_spans(final_answer(text)).spans)
    return _lmms_eval(text) if reader == "lmms-eval" else _timechat(text)


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
    return (_span(clock_seconds(match[1]), clock_seconds(match[2])),) if match else ()


def _pair(moments: Sequence[str]) -> tuple[Span, ...]:
    return (_span(clock_seconds(moments[0]), clock_seconds(moments[1])),) if len(moments) > 1 else ()
