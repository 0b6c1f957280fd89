"""A tiny open_clip encoder with random weights: searches run for real, and what they find is noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from videobrain.errors import MissingDependencyError

_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"interpolation": "bicubic", "resize_mode": "shortest"},
}


def make_tiny_random_encoder(path: str | Path, *, seed: int = 0) -> Path:
    """Write a tiny random CLIP, for ``Settings.encoder``.

    Args:
        path: Directory to write to; made where it is missing.
        seed: Seed of the weights.

    Returns:
        The directory.

    Raises:
        MissingDependencyError: torch or open_clip is not installed.
    """
    try:
        import open_clip
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingDependencyError(
            "Making a tiny random encoder needs torch and open_clip.", extra="local"
        ) from error

    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    (target / "open_clip_config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**_CONFIG["model_cfg"])
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, target / "open_clip_model.safetensors")
    return target
