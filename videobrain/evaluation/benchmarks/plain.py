"""A format of our own, for anybody's questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks.benchmark import Benchmark
from videobrain.evaluation.benchmarks.reader import RowError
from videobrain.evaluation.benchmarks.row import Row, option_number, option_of_text, span_of, without_letters
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.result import Span

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_FIELDS = (
    "key",
    "video",
    "question",
    "task",
    "options",
    "correct_option",
    "answer",
    "spans",
    "clip",
    "duration_seconds",
    "subtitles",
    "subtitles_start_seconds",
    "slices",
    "extra",
)
_COLUMN = re.compile(r"(?:slices|extra)\.\S.*")


def read_plain(source: Source) -> Iterator[Sample]:
    """Reads files of the plain format; a `Benchmark` of one's own may use it."""
    unknown: set[str] = set()
    for row in source.rows() if source.benchmark.splits else source.rows(_file(source)):
        with row:
            row.get("key")  # a row that is no object says so
            for name in sorted(set(row.value) - {*_FIELDS} - unknown):
                if not _COLUMN.fullmatch(name):
                    unknown.add(name)
                    cause = f"there is no field {name!r}, it is left out"
                    source.report("row", row.place, cause, f"Fields: {', '.join(_FIELDS)}, slices.NAME and extra.NAME.")
            yield _sample(source, row)


def _file(source: Source) -> Path:
    if source.given is not None:
        return source.given
    names = [f"{source.split}{suffix}" for suffix in SUFFIXES]
    for name in names:
        if (path := source.root / name).is_file():
            return path
    raise InputError(
        f"{source.root} has no file of questions: {' or '.join(names)}.",
        hint="Name the file itself, or its name without the suffix as the split.",
    )


def _sample(source: Source, row: Row) -> Sample:
    options = _options(row)
    spans = _spans(row)
    correct, answer = _truth(row, options)
    video, question = row.text("video"), row.text("question")
    clip = _json(row.get("clip"), "clip")
    task = row.optional_text("task") or ("choice" if options else "grounding" if spans and answer is None else "open")
    return Sample.model_validate(
        {
            "key": row.optional_text("key") or source.content_key(video, question, *(options or ())),
            "video": _video(source, video),
            "question": question,
            "task": task,
            "options": options,
            "correct_option": correct,
            "answer": answer,
            "spans": spans,
            "clip": None if clip is None else span_of(clip, "clip"),
            "duration_seconds": row.optional_number("duration_seconds"),
            "subtitles": _subtitles(source, row.optional_text("subtitles")),
            "subtitles_start_seconds": row.optional_number("subtitles_start_seconds") or 0.0,
            "slices": {name: str(value) for name, value in _named(row, "slices").items()},
            "extra": _named(row, "extra"),
        }
    )


def _options(row: Row) -> tuple[str, ...] | None:
    value = _json(row.get("options"), "options")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(option, str | int | float) for option in value):
        raise RowError(f"options is no list of texts but {value!r:.80}")
    return without_letters([str(option).strip() for option in value])


def _truth(row: Row, options: tuple[str, ...] | None) -> tuple[int | None, str | None]:
    """Number of the true option, and the answer in words.

    They come from `correct_option`, or from `answer`, which is a letter or a text.
    """
    answer = row.optional_text("answer")
    if options is None:
        return None, answer
    if row.get("correct_option") is not None:
        number = row.integer("correct_option")
        if not 0 <= number < len(options):
            raise RowError(f"correct_option {number} is none of the {len(options)} options, which count from 0")
        return number, options[number]
    if answer is None:
        return None, None
    found = set()
    for reading in (option_number, option_of_text):
        try:
            found.add(reading(answer, options))
        except RowError:
            continue
    if not found:
        raise RowError(
            f"the answer {answer!r:.60} is neither a letter nor the text of one of the {len(options)} options"
        )
    if len(found) > 1:
        raise RowError(
            f"the answer {answer!r} is the letter of one option and the text of another: give correct_option"
        )
    return (number := found.pop()), options[number]


def _spans(row: Row) -> tuple[Span, ...]:
    value = _json(row.get("spans"), "spans")
    return () if value is None else Row({"spans": value}, row.place, _ignore, _ignore).spans("spans")


def _named(row: Row, name: str) -> dict[str, Any]:
    """A field that is an object, with what columns such as ``slices.type`` add."""
    value = _json(row.get(name), name) or {}
    if not isinstance(value, Mapping):
        raise RowError(f"{name} is no object but {value!r:.60}")
    columns = {key.removeprefix(f"{name}."): row.get(key) for key in row.value if key.startswith(f"{name}.")}
    return {key: each for key, each in {**value, **columns}.items() if each is not None}


def _json(value: Any, name: str) -> Any:
    """A value that a table holds as JSON in a cell."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise RowError(f"{name} is no JSON but {value!r:.80}") from error


def _video(source: Source, name: str) -> str:
    """A path of any place: own questions may be about videos anywhere."""
    path = source.videos / name
    if not path.is_file():
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            source.absent.add(name)
            return name
        return source.video(name)
    return PurePath(name).as_posix()


def _subtitles(source: Source, name: str | None) -> str | None:
    if name is not None and not (source.root / name).is_file():
        raise RowError(f"there is no file {name} of subtitles")
    return name


def _ignore(*_: str) -> None:
    pass


PLAIN = Benchmark(
    name="plain",
    title="Own questions",
    tasks=("choice", "open", "grounding", "highlights"),
    splits={},
    licence="your own",
    download="nothing: write questions.jsonl, .csv or .parquet, one question a row, with paths of the videos beside it",
    read=read_plain,
)
