"""Runs on disk, with results and traces, for tests of what compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from records import record

from tests.report.traces import short_run
from videobrain.evaluation.record import Record
from videobrain.result import Usage


def write_run(directory: Path, records: list[Record], *, traces: bool = True) -> Path:
    """Write a run's results, and a trace for each question."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for each in records:
        if traces:
            each = each.model_copy(update={"trace": f"traces/{each.sample.key}.jsonl"})
            text = each.prediction.text if each.prediction is not None else ""
            short_run(initial=2).finish(text).save(directory / (each.trace or ""))
        lines.append(each.model_dump_json() + "\n")
    (directory / "results.jsonl").write_text("".join(lines), "utf-8")
    (directory / "run.json").write_text("{}", "utf-8")
    return directory


def records(letters: str, *, frames: int = 16, **fields: Any) -> list[Record]:
    """A question for each letter, of which B is true: ``-`` is no answer, ``!`` an error."""
    said = {"-": {"text": "I cannot say."}, "!": {"error": "The server was away."}}
    return [
        record(
            f"q{number}",
            **{
                "question": f"Which colour is number {number}?",
                "video": f"v{number // 2}.mp4",
                "slices": {"type": ("colour", "number")[number % 2]},
                "usage": Usage(frames=frames, turns=2, tool_calls={"clip_sample": 1}, input_tokens=1000, seconds=1.5),
                **said.get(letter, {"text": f"It is {letter}.", "choice": letter}),
                **fields,
            },
        )
        for number, letter in enumerate(letters)
    ]
