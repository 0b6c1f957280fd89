"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from environments.fixtures import (  # noqa: F401  # fixtures
    tiny_random_encoder,
    tiny_random_model,
    untrained_tiny_model,
    verl_python,
    vllm_arguments,
    vllm_command,
    vllm_python,
    vllm_server,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of real videos, annotations and golden numbers; it is not part of the repository."""
    path = Path(os.environ.get("VIDEOBRAIN_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "videos.json").is_file():
        pytest.skip(f"no shared test data at {path}; name its place in VIDEOBRAIN_SHARED_DATA")
    return path


@pytest.fixture(scope="session")
def videos(shared_data: Path) -> Path:
    """The directory of real videos."""
    return shared_data / "videos"
