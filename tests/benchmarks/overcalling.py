"""A policy that looks closer where it need not, for a training to mend: lessons for it, by a teacher who does so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import anyio

from videobrain import Settings
from videobrain.evaluation.benchmarks import load_benchmark
from videobrain.models import ChatReply, ChatRequest, ModelCapacity, ModelEvent, ModelProfile
from videobrain.training.rounds import Asking
from videobrain.training.sample import TrainingSample, training_samples
from videobrain.training.tiny.oracle import answer, call, initial_frames, notes, think
from videobrain.training.tiny.recipe import tiny_profile
from videobrain.training.trajectories import TRAJECTORIES_FILE, write_trajectories
from videobrain.world import World, WorldQuestion, write_dataset

DIRECTLY = 4
"""One in so many conversations about each question is without a call, so that both is tried where replies are drawn."""
SECONDS = 600


class Overcalling:
    """Knows the truth about questions that the first frames answer, and calls a tool before most of its answers.

    Whether it does, does not depend on the question: then chance decides in its pupil too, and both ways are tried.

    Args:
        questions: With their videos; no two have the same words.
    """

    name = "overcalling"

    def __init__(self, questions: Iterable[tuple[World, WorldQuestion]]) -> None:
        self._questions = {question.question: (world, question) for world, question in questions}
        self._begun: Counter[str] = Counter()

    @property
    def profile(self) -> ModelProfile:
        return tiny_profile().model_copy(update={"encoder": None})

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        return ModelCapacity(model=self.name)

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        asked, *_ = (message for message in request.messages if message.role == "user")
        world, question = self._questions[asked.text.partition("\n")[0]]
        subject = world.subject(question)
        called = len(request.messages) > 2
        self._begun[question.question] += not called
        if not called and self._begun[question.question] % DIRECTLY:
            everything = {"start_frame": 0, "end_frame": question.frame_count}
            if subject:
                return ChatReply(text=call("Look closer.", "clip_sample", {**everything, "prompt": subject}))
            return ChatReply(text=call("Look closer.", "uniform_sample", everything))
        seen = [frame.frame_index for frame in request.messages[-1].frames]
        if world.answer_from(question, seen) != question.answer:
            seen = initial_frames(world)
        noted, conclusion = notes(world, question, seen), world.conclusion(question, question.answer)
        thinking = think("" if called else subject, noted, conclusion)
        return ChatReply(text=answer(thinking, question.answer))

    async def aclose(self) -> None:
        """Holds nothing."""


def write_lessons(place: Path, *, videos: int, seed: int, encoder: Path) -> Path:
    """Its conversations about as many videos, as far as they are not there yet; the file of trajectories. Blocks."""
    folder = place / "world"
    write_dataset(folder, "train", videos, seed=seed, duration_seconds=SECONDS)
    worlds = {world.file_name: world for world in (World(seed + n, duration_seconds=SECONDS) for n in range(videos))}
    lessons: dict[str, tuple[TrainingSample, WorldQuestion]] = {}
    for sample in training_samples(load_benchmark("world", folder)):
        if sample.question_class == "Direct":
            question = WorldQuestion.model_validate(sample.extra["world"])
            lessons.setdefault(question.question, (sample.of_class("Adaptive"), question))
    teacher = Overcalling((worlds[question.video], question) for _, question in lessons.values())
    settings = Settings(offline=True, temperature=1.0, cache_dir=place / "cache", tool_timeout_seconds=600)
    samples = [sample for sample, _ in lessons.values()]
    asking = Asking(settings=settings, encoder=str(encoder))
    taught = partial(write_trajectories, per_sample=DIRECTLY, keep="all", asking=asking)
    anyio.run(taught, samples, teacher, place / "taught")
    return place / "taught" / TRAJECTORIES_FILE
