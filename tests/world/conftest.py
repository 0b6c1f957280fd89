"""One written video that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from videobrain.world import World


@pytest.fixture(scope="session")
def world() -> World:
    return World(3, split="test", duration_seconds=300)


@pytest.fixture(scope="session")
def world_file(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world") / world.file_name)
