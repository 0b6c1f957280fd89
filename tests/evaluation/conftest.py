"""What tests of whole runs share: videos, and a place where questions about them are asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.runs import Bench, write_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def bench(tmp_path: Path, videos: Path) -> Bench:
    return Bench(tmp_path, videos)
