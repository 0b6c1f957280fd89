"""How often a search with an encoder shows the event that was asked about, in videos of the synthetic world."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio

from videobrain.index import FrameIndex, OpenClipEncoder, SharedEncoder
from videobrain.settings import Settings
from videobrain.video import VideoPool
from videobrain.world import FPS, WorldQuestion, read_questions, write_dataset

FRAMES_SHOWN = 4
"""Frames that `clip_sample` shows."""


@dataclass(frozen=True)
class Found:
    """One search question and what the search for it showed."""

    question: WorldQuestion
    prompt: str
    frames: tuple[int, ...]

    @property
    def right(self) -> bool:
        """Whether a frame of the event is among them."""
        return any(
            span.start_seconds <= frame / FPS < span.end_seconds
            for span in self.question.spans
            for frame in self.frames
        )


@dataclass(frozen=True)
class Recall:
    """What an evaluation found."""

    found: tuple[Found, ...]
    seconds_per_frame: float

    def share(self, *, held_out: bool | None = None, template: str | None = None) -> tuple[int, int]:
        """Questions whose event was shown, and all; of one part where one is named."""
        chosen = [
            each.right
            for each in self.found
            if held_out in (None, each.question.held_out) and template in (None, each.question.template)
        ]
        return sum(chosen), len(chosen)

    def table(self) -> str:
        """For people."""
        rows = [("all", self.share()), ("seen pairs", self.share(held_out=False))]
        rows.append(("held-out pairs", self.share(held_out=True)))
        names = sorted({each.question.template for each in self.found})
        rows += [(name, self.share(template=name)) for name in names]
        lines = [f"{name:16} {right:4} of {count:4} {right / max(1, count):7.1%}" for name, (right, count) in rows]
        missed = [f"missed: {each.prompt} in {each.question.key}" for each in self.found if not each.right]
        return "\n".join([*lines, f"{self.seconds_per_frame * 1000:.1f} ms per frame", *missed])


def evaluate_encoder(
    encoder: Path,
    *,
    cache: Path,
    videos: int = 200,
    seed: int = 0,
    duration_seconds: int = 600,
    log: Callable[[str], None],
) -> Recall:
    """Search for the events of test videos, through the index that users have.

    Args:
        encoder: Directory of an open_clip model.
        cache: Where the videos are kept.
        videos: How many.
        seed: Seed of the first.
        duration_seconds: Length of each.
        log: Told how it goes.
    """
    ready = [0]

    def progress(done: int, total: int) -> None:
        if done * 10 // total > ready[0]:
            ready[0] = done * 10 // total
            log(f"{done} of {total} videos written")

    folder = cache / f"recall-videos-{duration_seconds}"
    path = write_dataset(folder, "test", videos, seed=seed, duration_seconds=duration_seconds, progress=progress)
    questions = [question for question in read_questions(path) if question.kind == "search"]
    return anyio.run(_search, encoder, folder, questions, log)


async def _search(encoder: Path, folder: Path, questions: list[WorldQuestion], log: Callable[[str], None]) -> Recall:
    settings = Settings(offline=True)
    shared = SharedEncoder(OpenClipEncoder(str(encoder), settings=settings))
    await shared.load()
    found: list[Found] = []
    frames, begun = 0, time.monotonic()
    async with VideoPool(settings) as pool:
        for number, name in enumerate(sorted({question.video for question in questions}), 1):
            index = FrameIndex(await pool.open(folder / name), shared, None, settings)
            for question in questions:
                if question.video == name:
                    call = question.calls[0].arguments
                    prompt = str(call["prompt"])
                    start, end = int(call["start_frame"]), int(call["end_frame"])
                    hits = await index.search(prompt, k=FRAMES_SHOWN, start_frame=start, end_frame=end)
                    found.append(Found(question, prompt, tuple(hit.frame_index for hit in hits)))
            frames += len(index)
            if number % 20 == 0:
                log(f"{number} videos searched: {sum(each.right for each in found)} of {len(found)} found")
    return Recall(tuple(found), (time.monotonic() - begun) / max(1, frames))
