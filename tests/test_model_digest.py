"""What tells the weights of one model from those of another in the same directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from videobrain import VideoBrain
from videobrain.files import digest_of_model
from videobrain.settings import Settings
from videobrain.testing import FakeServer


def test_the_digest_is_of_the_content_and_not_of_the_place(tiny_random_model: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(tiny_random_model, copied)
    digest = digest_of_model([tiny_random_model])
    assert digest == digest_of_model([copied]) == digest_of_model([copied, tmp_path / "none"])
    (copied / "README.md").write_text("Figures, measured later.", "utf-8")
    assert digest_of_model([copied]) == digest
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert digest_of_model([copied]) != digest
    assert digest_of_model([tmp_path / "none", ""]) == ""


@pytest.mark.anyio
async def test_a_run_knows_the_weights_that_it_was_begun_with(tiny_random_model: Path, tmp_path: Path) -> None:
    settings = Settings(offline=True, cache_dir=tmp_path)
    async with VideoBrain(f"local:{tiny_random_model}", settings=settings) as brain:
        assert (await brain.reach()).weights == digest_of_model([tiny_random_model])
    with FakeServer([], models=(str(tiny_random_model),)) as server:
        async with VideoBrain(base_url=server.base_url, api_key="none", settings=settings) as brain:
            assert (await brain.reach()).weights == ""  # wherever its files lie
