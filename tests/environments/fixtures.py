"""Fixtures around real models: a tiny random one, and a vLLM that serves it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random vision-language model, for ``local:`` and ``vllm:``."""
    pytest.importorskip("transformers")
    from videobrain.models.tiny_random import make_tiny_random_model

    return make_tiny_random_model(tmp_path_factory.mktemp("models") / "tiny-random")
