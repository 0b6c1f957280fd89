"""A row of a benchmark's file, by typed fields. What is wrong with it becomes a problem and ends this row alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.result import Span

_LETTER_FORMS = ("{}. ", "({}) ", "{}) ", "{}: ", "{}.", "({})", "{})", "{}:")


class Row:
    """A row with its place, as a context: an error within it is reported, and the loop goes on with the next row.

    Each getter takes several names, since releases of a benchmark differ: the first that has a value counts. An empty
    text is no value.
    """

    def __init__(
        self, value: Any, place: str, report: Callable[[str, str], None], enter: Callable[[str], None]
    ) -> None:
        self.value = value
        self.place = place
        """File and row, such as ``lvb_val.json, row 17``."""
        self._report = report
        self._enter = enter

    def __enter__(self) -> Self:
        self._enter(self.place)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, ValueError):  # a RowError, a number that is none, or what pydantic refuses
            return False
        self._report(self.place, _cause(error))
        return True

    def get(self, *names: str) -> Any:
        """The value of the first of these fields that has one; None where none has."""
        if isinstance(self.value, RowError):
            raise self.value
        if not isinstance(self.value, Mapping):
            raise RowError(f"no object with fields but {self.value!r:.60}")
        for name in names:
            value = self.value.get(name)
            if value is not None and value != "" and not (isinstance(value, float) and math.isnan(value)):
                return value
        return None

    def __getitem__(self, name: str) -> Any:
        return self._required(name)

    def text(self, *names: str) -> str:
        """A text that is not empty, without the blanks around it; whole numbers are texts too."""
        return _text(self._required(*names), names[0])

    def optional_text(self, *names: str) -> str | None:
        """A text, or None where no field has a value."""
        return None if (value := self.get(*names)) is None else _text(value, names[0])

    def texts(self, *names: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(_text(value, names[0]) for value in _list(self._required(*names), names[0]))

    def number(self, *names: str) -> float:
        """A finite number, also one that is written as text."""
        return _number(self._required(*names), names[0])

    def optional_number(self, *names: str) -> float | None:
        """A number, or None where no field has a value."""
        return None if (value := self.get(*names)) is None else _number(value, names[0])

    def integer(self, *names: str) -> int:
        """A whole number."""
        value = self.number(*names)
        if not value.is_integer():
            raise RowError(f"{names[0]} is no whole number but {value:g}")
        return int(value)

    def spans(self, *names: str) -> tuple[Span, ...]:
        """Spans in seconds from a list of pairs; a single pair is one span."""
        value = _list(self._required(*names), names[0])
        pairs = [value] if len(value) == 2 and not any(isinstance(end, Sequence) for end in value) else value
        return tuple(span_of(pair, names[0]) for pair in pairs)

    def parts(self, name: str) -> Iterator[Row]:
        """The rows that this one holds a list of."""
        for number, part in enumerate(_list(self._required(name), name), 1):
            yield Row(part, f"{self.place}, {name} {number}", self._report, self._enter)

    def _required(self, *names: str) -> Any:
        value = self.get(*names)
        if value is None:
            raise RowError(f"{names[0]} is missing")
        return value


def span_of(value: Any, name: str) -> Span:
    """A span from its start and its end.

    Raises:
        RowError: They are no numbers, or the start is negative or after the end.
    """
    ends = _list(value, name)
    if len(ends) != 2:
        raise RowError(f"{name} has {value!r:.40} where a start and an end belong")
    start, end = (_number(each, name) for each in ends)
    if not 0 <= start <= end:
        raise RowError(f"{name} has a span from {start:g} to {end:g} s")
    return Span(start, end)


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Options without the letters before them, such as ``A. ``, where each of them has its own."""
    for form in _LETTER_FORMS:
        begins = [form.format(letter) for letter in ascii_uppercase[: len(options)]]
        if all(option.startswith(begin) for option, begin in zip(options, begins, strict=True)):
            return tuple(option.removeprefix(begin).strip() for option, begin in zip(options, begins, strict=True))
    return tuple(options)


def option_number(answer: str, options: Sequence[str]) -> int:
    """Number of an option from its letter, alone or as in ``A.`` and ``(A)``.

    Raises:
        RowError: It is no letter of an option.
    """
    letter = answer.strip("(). :").upper()
    if len(letter) != 1 or letter not in ascii_uppercase[: len(options)]:
        raise RowError(f"the answer {answer!r} is no letter of the {len(options)} options")
    return ascii_uppercase.index(letter)


def option_of_text(answer: str, options: Sequence[str]) -> int:
    """Number of the first option with this text; where none has exactly it, small and capital letters are the same.

    Raises:
        RowError: No option has it.
    """
    if answer in options:
        return list(options).index(answer)
    folded = [option.strip().casefold() for option in options]
    if answer.strip().casefold() not in folded:
        raise RowError(f"the answer {answer!r:.60} is none of the options {list(options)!r:.200}")
    return folded.index(answer.strip().casefold())


def _cause(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(_field_cause(dict(each)) for each in error.errors(include_url=False, include_input=False))
    return str(error)


def _field_cause(each: dict[str, Any]) -> str:
    name = ".".join(map(str, each["loc"]))
    return f"{name}: {each['msg']}" if name else each["msg"].removeprefix("Value error, ")


def _text(value: Any, name: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError(f"{name} is no text but {value!r:.40}")
    if not (text := str(value).strip()):
        raise RowError(f"{name} is empty")
    return text


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RowError(f"{name} is no number but {value!r:.40}")
    return number


def _list(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RowError(f"{name} is no list but {value!r:.40}")
    return value
