"""The whole loop on a video, with whatever model there is: a configured one, or a tiny one that knows nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from videobrain.agent import Event, VideoBrainStrategy
from videobrain.brain import VideoBrain
from videobrain.limits import Limits
from videobrain.result import Answer
from videobrain.settings import Settings

QUESTION = "Which colour fills the picture in the last scene?"
_SCENES = ("navy", "darkorange", "seagreen", "firebrick", "goldenrod", "slateblue", "teal", "orchid")
_RANDOM = "tiny-random-1"
"""Name of the directory of the random models; it changes when they do."""


class Demonstration(NamedTuple):
    """What was shown."""

    answer: Answer
    video: Path
    report: Path
    random_model: bool


async def demonstrate(
    video: Path | None,
    question: str | None,
    *,
    model: str | None,
    base_url: str | None,
    report: Path,
    on_event: Callable[[Event], None],
) -> Demonstration:
    """Ask a question about a video, through the whole loop.

    Args:
        video: The video; by default one of coloured scenes is made.
        question: The question; by default one about the made video.
        model: Model string; by default the configured model, else a tiny random one is made.
        base_url: Address of an OpenAI-compatible server.
        report: Where the report goes.
        on_event: Called with each event of the run.
    """
    settings = Settings()
    configured = bool(model or base_url or settings.model or os.environ.get("OPENAI_BASE_URL"))
    home = settings.cache_dir / "demo"
    if video is None:
        video = await anyio.to_thread.run_sync(_make_video, home)
    if configured:
        brain = VideoBrain(model, base_url=base_url, settings=settings)
    else:
        model_dir, encoder_dir = await anyio.to_thread.run_sync(_make_random, home / _RANDOM)
        brain = VideoBrain(
            f"local:{model_dir}",
            encoder=str(encoder_dir),
            # A random model answers at once or never: it is made to look twice, and may err often.
            strategy=VideoBrainStrategy(min_calls=2),
            limits=Limits(corrections=20),
            settings=settings.model_copy(
                update={
                    "constrain_replies": True,
                    "thinking_characters": 120,
                    "offline": True,
                    "temperature": 1.0,
                    "seed": 2,
                }
            ),
        )
    async with brain:
        answer = await brain.ask(video, question or QUESTION, on_event=on_event)
    await anyio.to_thread.run_sync(answer.save_report, report)
    return Demonstration(answer, video, report, not configured)


def _make_video(home: Path) -> Path:
    from videobrain.testing import make_video

    path = home / "scenes.mp4"
    if not path.is_file():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as aside:
            make_video(Path(aside) / path.name, seconds=80, fps=12.5, size=(448, 252), scenes=_SCENES).replace(path)
    return path


def _make_random(home: Path) -> tuple[Path, Path]:
    from videobrain.index.tiny_random import make_tiny_random_encoder
    from videobrain.models.tiny_random import make_tiny_random_model

    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as aside:
            made = Path(aside) / home.name
            make_tiny_random_model(made / "model")
            make_tiny_random_encoder(made / "encoder")
            if not home.is_dir():
                made.replace(home)
    return home / "model", home / "encoder"
