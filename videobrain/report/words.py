"""Values as words for people: times, counts, arguments."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import pydantic_core

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """The text without characters that HTML or UTF-8 cannot hold or that a terminal obeys."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def clock(seconds: float) -> str:
    """A time as ``m:ss.t`` or ``h:mm:ss``."""
    tenths = round(abs(seconds) * 10)
    sign = "-" if seconds < 0 and tenths else ""
    minutes, rest = divmod(tenths, 600)
    if minutes >= 60:
        return f"{sign}{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}"
    return f"{sign}{minutes}:{rest // 10:02d}.{rest % 10}"


def ranges(spans: Iterable[tuple[float, float]]) -> str:
    """Spans of seconds on the clock, in their order."""
    return ", ".join(f"{clock(start)} \N{EN DASH} {clock(end)}" for start, end in spans)


def took(seconds: float) -> str:
    """A duration in a unit that suits it."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


def number(value: float) -> str:
    """A count with thousands apart."""
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """A count with its noun: ``1 frame``, ``2 frames``."""
    return f"{number(value)} {noun}" if value == 1 else f"{number(value)} {noun}s"


def spoken(name: str) -> str:
    """A field's name as words."""
    return name.replace("_", " ")


def video_name(source: str) -> str:
    """The file's name alone: directories and the query of a URL are nobody else's business."""
    if "://" in source:
        parts = urlsplit(source)
        return PurePath(parts.path).name or parts.hostname or "video"
    return source.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or "video"


def pretty_json(value: Any) -> str:
    """A value of any kind as indented JSON."""
    return pydantic_core.to_json(value, indent=2, fallback=str, inf_nan_mode="strings").decode("utf-8", "replace")


def argument(value: Any) -> str:
    """An argument of a call as the model wrote it; strings without quotation marks."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def whole(value: Any) -> int | None:
    """The value as a frame number, where it is one."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def real(value: Any) -> float | None:
    """The value as a time, where it is one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def frame_range(arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    """The half-open range of frames that a call names, if it names one."""
    start, end = whole(arguments.get("start_frame")), whole(arguments.get("end_frame"))
    return None if start is None or end is None else (start, end)


def second_range(arguments: Mapping[str, Any]) -> tuple[float, float] | None:
    """The range of time that a call names, if it names one."""
    start, end = real(arguments.get("start_seconds")), real(arguments.get("end_seconds"))
    return None if start is None or end is None else (start, end)
