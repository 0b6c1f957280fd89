"""Encoders of any size with random weights, and the film that benchmarks use."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

TEN_MINUTES = Path(__file__).resolve().parents[3] / "shared" / "data" / "videos" / "bbb_448x252_av.mp4"

VIT_B_16: dict[str, Any] = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "patch_size": 16, "width": 768, "layers": 12},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


def small_vit(*, width: int, layers: int) -> dict[str, Any]:
    """A vision transformer that may be as cheap as decoding."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 224, "patch_size": 16, "width": width, "layers": layers, "head_width": 64},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }


def save_model(directory: Path, config: dict[str, Any]) -> Path:
    """Write an open_clip model with random weights as a local directory."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    logging.disable(logging.WARNING)  # that the weights are random is known
    directory.mkdir(parents=True)
    (directory / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}), "utf-8")
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / "open_clip_model.safetensors")
    logging.disable(logging.NOTSET)
    return directory
