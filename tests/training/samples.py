"""Samples to learn from, and models on servers that answer by a function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.evaluation.runs import VIDEOS
from videobrain import Settings
from videobrain.models import ChatModel, resolve_model
from videobrain.testing import FakeServer, Fault
from videobrain.training.sample import TrainingSample

COLOURS = ("red", "green", "blue", "white")


def sample(number: int, folder: Path, **fields: Any) -> TrainingSample:
    facts: dict[str, Any] = {
        "key": f"q{number}",
        "video": str(folder / VIDEOS[number % 3]),
        "question": f"Question {number}: which colour?",
        "task": "choice",
        "options": COLOURS,
        "correct_option": number % 4,
        "answer": COLOURS[number % 4],
    }
    return TrainingSample(**{**facts, **fields})


def settings(home: Path, **given: Any) -> Settings:
    return Settings(decoder="pyav", cache_dir=home / "cache", warm_index=False, retries=0, **given)


@asynccontextmanager
async def models(home: Path, **answers: Callable[[dict[str, Any]], str | Fault]) -> AsyncIterator[dict[str, ChatModel]]:
    """A model on a server of its own for each name."""
    made: dict[str, ChatModel] = {}
    with ExitStack() as servers:
        for name, answer in answers.items():
            url = servers.enter_context(FakeServer(answer, models=(name,))).base_url
            made[name] = resolve_model(f"openai:{name}", base_url=url, api_key="none", settings=settings(home))
        yield made
        for model in made.values():
            await model.aclose()
