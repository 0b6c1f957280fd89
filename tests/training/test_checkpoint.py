"""Checkpoints are found, and adapters are added to what they adapt."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from videobrain.errors import ConfigurationError, InputError  # noqa: E402
from videobrain.training.verl.checkpoint import find_checkpoint, merged, read_weights  # noqa: E402
from videobrain.training.verl.export import export_model  # noqa: E402


def test_the_last_whole_checkpoint_is_found(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    for step, place in ((2, "."), (4, "actor")):
        (checkpoints / f"global_step_{step}" / place).mkdir(parents=True)
        (checkpoints / f"global_step_{step}" / place / "model_world_size_1_rank_0.pt").touch()
    with pytest.raises(InputError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)  # no checkpoint was finished
    (checkpoints / "latest_checkpointed_iteration.txt").write_text("4", "utf-8")
    assert find_checkpoint(tmp_path) == checkpoints / "global_step_4" / "actor"
    assert find_checkpoint(checkpoints / "global_step_2") == checkpoints / "global_step_2"


def test_adapters_are_multiplied_out() -> None:
    base, a, b = (
        torch.eye(3, dtype=torch.bfloat16),
        torch.tensor([[1.0, 2.0, 0.0]]),
        torch.tensor([[0.0], [1.0], [0.0]]),
    )
    found = merged(
        {
            "base_model.model.layer.q.base_layer.weight": base,
            "base_model.model.layer.q.base_layer.bias": torch.ones(3),
            "base_model.model.layer.q.lora_A.default.weight": a,
            "base_model.model.layer.q.lora_B.default.weight": b,
            "base_model.model.norm.weight": torch.zeros(2),
        },
        scale=2.0,
    )
    assert sorted(found) == ["layer.q.bias", "layer.q.weight", "norm.weight"]
    assert found["layer.q.weight"].tolist() == [[1, 0, 0], [2, 5, 0], [0, 0, 1]]
    assert found["layer.q.weight"].dtype == torch.bfloat16


def test_adapters_without_the_model_are_an_error() -> None:
    alone = {"base_model.model.layer.q.lora_A.default.weight": torch.ones(1, 3)}
    with pytest.raises(InputError, match=r"adapter of 'layer\.q\.weight' without that weight.*save_lora_only"):
        merged(alone, scale=2.0)


def test_shards_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "fsdp_config.json").write_text('{"world_size": 2}', "utf-8")
    torch.save({"w": torch.zeros(1)}, tmp_path / "model_world_size_2_rank_0.pt")
    with pytest.raises(InputError, match="rank_1"):
        read_weights(tmp_path)


def test_what_is_no_checkpoint_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoint"):
        export_model(tmp_path, tmp_path / "out")
    (tmp_path / "model_world_size_1_rank_0.pt").touch()
    with pytest.raises(ConfigurationError, match="which model was trained"):
        export_model(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="exists already"):
        export_model(tmp_path, tmp_path)
    assert not list(tmp_path.glob(".*"))
