"""A small benchmark, a server that knows its answers, and what of a run's records must not differ."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videobrain import Settings, VideoBrain
from videobrain.evaluation.benchmarks import LoadedBenchmark, load_benchmark
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import read_results
from videobrain.evaluation.runner import evaluate
from videobrain.evaluation.scores import Scores
from videobrain.testing import FakeServer, Fault, make_video

ANSWER = "<thinking>The frames suffice.</thinking>\n<answer>{}</answer>"
VIDEOS = ("a.mp4", "b.mp4", "c.mp4")


def write_videos(directory: Path) -> Path:
    for name, colour in zip(VIDEOS, ("red", "green", "blue"), strict=True):
        make_video(directory / name, seconds=1, fps=4, size=(64, 32), scenes=[colour])
    return directory


def question(number: int, **fields: Any) -> dict[str, Any]:
    """A question about one of three videos in turn; every third is answered wrongly by `Answers`."""
    return {
        "key": f"q{number}",
        "video": VIDEOS[number % len(VIDEOS)],
        "question": f"Question {number}: which colour?",
        "options": ["red", "blue"],
        "answer": "B" if number % 3 == 0 else "A",
        **fields,
    }


def write_questions(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def loaded(directory: Path, videos: Path, rows: Iterable[dict[str, Any]]) -> LoadedBenchmark:
    return load_benchmark("plain", write_questions(directory / "questions.jsonl", rows), videos=videos)


class Answers:
    """What a `FakeServer` says: always A, but for questions that have something else to come first.

    Args:
        faults: Of each question's number what it begins with.
        seconds: How long a reply takes.
    """

    def __init__(self, faults: Mapping[int, list[Fault | str]] | None = None, *, seconds: float = 0.0) -> None:
        self.faults = faults or {}
        self.seconds = seconds
        self.asked: list[int] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._let_through = 0

    def __call__(self, body: dict[str, Any]) -> str | Fault:
        number = int(re.findall(r"Question (\d+)", json.dumps(body))[-1])
        with self._lock:
            self.asked.append(number)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            coming = self.faults.get(number)
            fault = coming.pop(0) if coming else None
            held = len(self.asked) > self._let_through
        time.sleep(self.seconds)
        if held:
            self._open.wait()
        with self._lock:
            self._at_once -= 1
        return fault or ANSWER.format("A")

    @contextmanager
    def held(self, *, after: int) -> Iterator[None]:
        """Within it, only so many more questions get a reply, so that whoever asks cannot come to an end."""
        self._let_through = len(self.asked) + after
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @property
    def times(self) -> Counter[int]:
        return Counter(self.asked)


def brain_at(base_url: str, home: Path, **how: Any) -> VideoBrain:
    how.setdefault("tools", ["uniform_sample"])  # loading a frame encoder takes seconds
    settings = Settings(decoder="pyav", cache_dir=home / "cache", warm_index=False, retries=how.pop("retries", 2))
    return VideoBrain("openai:fake-model", base_url=base_url, api_key="none", settings=settings, **how)


def essence(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """The records by key without what differs from run to run, which is the time they took."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        assert record.sample.key not in found, "a question stands there twice"
        found[record.sample.key] = record.model_dump(mode="json", exclude={"usage": {"seconds"}})
    return found


class Bench:
    """Questions with a directory of their own, asked of a server with these answers."""

    def __init__(self, home: Path, videos: Path) -> None:
        self.home = home
        self.videos = videos
        self.rows = [question(number) for number in range(12)]
        self.answers = Answers()
        self.moments: list[Progress] = []

    def brain(self, base_url: str, **how: Any) -> VideoBrain:
        return brain_at(base_url, self.home, **how)

    async def run(self, out: str = "run", *, how: dict[str, Any] | None = None, **given: Any) -> Scores:
        benchmark = loaded(self.home, self.videos, self.rows)
        given = {"on_progress": self.moments.append, **given}
        with FakeServer(self.answers) as server:
            async with self.brain(server.base_url, **(how or {})) as brain:
                return await evaluate(benchmark, brain, self.home / out, **given)

    def essence(self, out: str = "run") -> dict[str, dict[str, Any]]:
        return essence(read_results(self.home / out))
