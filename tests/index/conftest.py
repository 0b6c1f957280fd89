"""A video of coloured scenes and a pool to open it with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from videobrain.settings import Settings
from videobrain.testing import make_video
from videobrain.video import Video, VideoPool

SCENES = ("red", "green", "blue", "yellow", "red", "white")
SCENE_SECONDS = 10


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty seconds, ten frames a second; each scene lasts ten seconds."""
    path = tmp_path_factory.mktemp("videos") / "scenes.mp4"
    return make_video(path, seconds=len(SCENES) * SCENE_SECONDS, fps=10, size=(96, 64), scenes=SCENES)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", index_fps=2.0, offline=True)


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[VideoPool]:
    pool = VideoPool(settings)
    yield pool
    await pool.aclose()


@pytest.fixture
async def video(pool: VideoPool, scenes: Path) -> Video:
    return await pool.open(scenes)
