"""Spans of time in an answer: read as models write them, and held against the video.

A model that is asked where something is seen answers in seconds, not in frame numbers: that is what public models were
trained on, each frame is labelled with its time, and where the frame rate varies only times say how long a span is.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from videobrain.agent.grammar import decode_json
from videobrain.agent.json_pattern import json_pattern
from videobrain.result import Span

_ROUNDED = 1.0
"""Seconds that a span may reach beyond the video's end without a word: models round the duration up."""
_TOLD = 3
"""Spans of one answer that are told to be wrong."""

# --- As they are written ---------------------------------------------------------------------------------------------

_DASH = r"[-\u2013\u2014~]"
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_UNIT = r"(?:h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?)\b"
_CLOCK = r"\d{1,9}:\d{1,2}(?::\d{1,2})?(?:\.\d+)?"
_NUMBER = r"\d{1,15}(?:\.\d+)?"
_LASTING = rf"{_NUMBER}\s*{_UNIT}"
_LENGTH = rf"{_LASTING}(?:\s*(?:and\s+)?{_LASTING}){{0,2}}"  # hours, minutes and seconds
_MOMENT = rf"(?<![\d.:])(?:(?:second|time)\s+)?(?:{_CLOCK}|{_LENGTH}|{_NUMBER})(?![\d:]|\.\d)"
_STARTS = r"(?:start|begin|began|from)\w*"
_ENDS = r"(?:end|finish|stop|until|till)\w*"

_RANGE = rf"(?P<start>{_MOMENT})\s*(?:{_DASH}|\bto\b|\buntil\b|\btill\b)\s*(?P<end>{_MOMENT})"
_FORMS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"[\[(]\s*(?P<start>{_MOMENT})\s*,\s*(?P<end>{_MOMENT})\s*[\])]",
        rf"<\s*(?P<start>{_MOMENT})\s*>[^\d<]*<\s*(?P<end>{_MOMENT})\s*>",
        _RANGE,
        rf"\bbetween\s+(?P<start>{_MOMENT})\s+and\s+(?P<end>{_MOMENT})",
        rf"\b{_STARTS}\b[^\d\n]{{0,40}}?(?P<start>{_MOMENT})[^\d]{{0,60}}?\b{_ENDS}\b[^\d\n]{{0,40}}?(?P<end>{_MOMENT})",
    )
)
"""Forms in which a span is written. Where a text has several, those of the first form are taken."""
_TIMED = re.compile(r"[:a-z]", re.IGNORECASE)
_TIME = re.compile(rf"{_CLOCK}|{_LASTING}", re.IGNORECASE)
_FRAME = re.compile(r"\bframes?\s+(?:numbers?\s+)?\d", re.IGNORECASE)


class Written(NamedTuple):
    """Spans that stand in a text.

    Attributes:
        spans: As they are written, also reversed, in their order.
        sure: They are times. Several bare ranges may count anything: ``3-4 people come in from 12 to 15``.
    """

    spans: tuple[Span, ...] = ()
    sure: bool = True


def written_spans(text: str) -> Written:
    """The spans that a text gives in words or brackets, such as ``from 1:05 to 1:09`` or ``[[5, 9], [12, 15]]``."""
    plain = re.sub(r"[*_`\"']", "", text)
    for form in _FORMS:
        found = [(match["start"], match["end"]) for match in form.finditer(plain)]
        if found:
            timed = [pair for pair in found if any(map(_TIMED.search, pair))]
            spans = tuple(Span(*_with_units(start, end)) for start, end in timed or found)
            return Written(spans, form.pattern != _RANGE or bool(timed) or len(spans) == 1)
    return Written()


def _with_units(start: str, end: str) -> tuple[float, float]:
    unit = re.search(_UNIT + "$", end, re.IGNORECASE)
    if unit and re.fullmatch(_NUMBER, start):  # 1-2 minutes
        start += unit[0]
    return _seconds(start), _seconds(end)


def _seconds(moment: str) -> float:
    moment = re.sub(r"^(?:second|time)\s+", "", moment, flags=re.IGNORECASE)
    if ":" in moment:
        return clock_seconds(moment)
    parts = re.findall(rf"({_NUMBER})\s*([hms]?)", moment, re.IGNORECASE)
    return float(sum(float(number) * _UNITS[unit.lower() or "s"] for number, unit in parts))


def clock_seconds(moment: str) -> float:
    """Seconds of a time such as ``1:02:03.5``."""
    seconds = 0.0
    for part in moment.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


# --- As an answer ----------------------------------------------------------------------------------------------------


class SpanForm(NamedTuple):
    """What spans are held against: how many are asked for, and the video."""

    max_spans: int
    duration_seconds: float
    frame_count: int


class SpanAnswer(NamedTuple):
    """The spans of an answer.

    Attributes:
        spans: Those that can be used, in the answer's order, which is the surest first.
        problem: What is wrong with the answer, for the model; empty where nothing is.
        notes: What was left out or cut, for the reader.
    """

    spans: tuple[Span, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()


def read_span_answer(text: str, form: SpanForm) -> SpanAnswer:
    """Read an answer that is to be spans of time in seconds, and hold it against the video.

    The form that the prompt asks for is ``[[START, END], ...]``; whatever `written_spans` reads is taken too. ``[]``
    says that the video does not show it. A span that is reversed, has no length or lies outside of the video is a
    problem, and so are bare numbers that may be no times. Spans that reach beyond the video are cut. Spans that overlap
    are alternatives and stay; of equal ones the first stays.

    Args:
        text: The answer.
        form: What it is held against.
    """
    written = _from_json(text)
    if written is None:
        read = written_spans(text)
        if not read.spans:
            return SpanAnswer(problem="no span of time can be read in the answer; write [[START, END]] in seconds")
        if _FRAME.search(text) and not _TIME.search(text):
            return SpanAnswer(problem="the answer is in frame numbers; give seconds")
        if not read.sure:
            return SpanAnswer(problem="which numbers of the answer are times is unclear; write [[START, END], ...]")
        written = read.spans
    wrong = [(span, problem) for span in written if (problem := _wrong(span, form))]
    told = "; ".join(f"the span {_said(span)} {problem}" for span, problem in wrong[:_TOLD])
    refused = {span for span, _ in wrong}
    spans = [_cut(span, form) for span in written if span not in refused]
    notes = [
        f"The span {_said(span)} was cut to the video."
        for span in dict.fromkeys(written)
        if span not in refused and _reaches_beyond(span, form)
    ]
    kept = tuple(dict.fromkeys(spans))
    if len(kept) > form.max_spans:
        notes.append(f"Of {len(kept)} spans the first {form.max_spans} are kept: no more were asked for.")
    return SpanAnswer(kept[: form.max_spans], told, tuple(notes))


def spans_pattern(form: SpanForm) -> str:
    """The answer as a regular expression: up to `max_spans` pairs of seconds within the video, or none."""
    whole = json_pattern({"type": "integer", "minimum": 0, "maximum": max(0, math.floor(form.duration_seconds))})
    seconds = rf"{whole}(?:\.[0-9]{{1,2}})?"
    span = rf"\[{seconds}, {seconds}\]"
    return rf"\[(?:{span}(?:, {span}){{0,{form.max_spans - 1}}})?\]"


def _from_json(text: str) -> tuple[Span, ...] | None:
    """The spans of a JSON list of pairs, or of one pair, fenced or within an object; None where it is none."""
    begin, end = text.find("["), text.rfind("]")
    if begin < 0 or end < begin:
        return None
    try:
        value = decode_json(text[begin : end + 1])
    except ValueError:
        return None
    pairs = [value] if _is_pair(value) else value
    if not all(map(_is_pair, pairs)):
        return None
    return tuple(Span(float(start), float(end)) for start, end in pairs)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_time, value))


def _is_time(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _wrong(span: Span, form: SpanForm) -> str:
    """What is wrong with a span; nothing where it can be used."""
    start, end = span
    if end < start:
        return "ends before it begins"
    if end == start:
        return "has no length"
    if end <= 0 or start >= form.duration_seconds:
        frames = start.is_integer() and end.is_integer() and end <= form.frame_count
        hint = "; give seconds, not frame numbers" if frames else ""
        return f"lies outside of the video, which lasts {_number(form.duration_seconds)} seconds{hint}"
    return ""


def _cut(span: Span, form: SpanForm) -> Span:
    return Span(max(0.0, span.start_seconds), min(form.duration_seconds, span.end_seconds))


def _reaches_beyond(span: Span, form: SpanForm) -> bool:
    return span.start_seconds < 0 or span.end_seconds > form.duration_seconds + _ROUNDED


def _said(span: Span) -> str:
    return f"{_number(span.start_seconds)} to {_number(span.end_seconds)}"


def _number(seconds: float) -> str:
    return f"{seconds:.2f}".rstrip("0").rstrip(".") if abs(seconds) < 1e15 else f"{seconds:g}"
