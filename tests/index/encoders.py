"""Encoders for tests: small open_clip models with random weights, and one that knows colours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videobrain.index.encoder import Embeddings
from videobrain.video.frame import Pixels

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (220, 20, 20),
    "green": (20, 180, 20),
    "blue": (20, 20, 220),
    "yellow": (230, 220, 20),
    "magenta": (220, 20, 220),
    "cyan": (20, 210, 210),
}


class ColourEncoder:
    """Knows what share of a picture has which of eight colours. Counts the pictures it is given.

    Args:
        seconds: What one picture costs.
        version: Part of the fingerprint.
        failure: What `load` raises.
    """

    def __init__(self, *, seconds: float = 0.0, version: str = "1", failure: Exception | None = None) -> None:
        self.seconds = seconds
        self.version = version
        self.failure = failure
        self.loads = 0
        self.images = 0
        self.largest_call = 0
        self.working = False
        self._alone = threading.Lock()

    @property
    def name(self) -> str:
        return "colours"

    @property
    def weights_local(self) -> bool:
        return True

    @property
    def fingerprint(self) -> str:
        return f"colours {self.version}"

    @property
    def dimension(self) -> int:
        return len(COLOURS)

    def load(self) -> None:
        self.loads += 1
        if self.failure is not None:
            raise self.failure

    def embed_images(self, images: Sequence[Pixels]) -> Embeddings:
        if not self._alone.acquire(blocking=False):
            raise AssertionError("two calls at a time")
        self.working = True
        try:
            time.sleep(self.seconds * len(images))
            self.images += len(images)
            self.largest_call = max(self.largest_call, len(images))
            return np.stack([self._shares(image) for image in images]).astype(np.float32)
        finally:
            self.working = False
            self._alone.release()

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        rows = [[float(colour in text.lower().split()) for colour in COLOURS] for text in texts]
        vectors = np.array(rows, np.float32) + 1e-3
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def _shares(self, image: Pixels) -> Embeddings:
        pixels = image[::4, ::4].reshape(-1, 1, 3).astype(np.int32)
        distances = ((pixels - np.array(list(COLOURS.values()))) ** 2).sum(axis=2)
        shares = np.bincount(distances.argmin(axis=1), minlength=len(COLOURS)).astype(np.float32) + 1e-3
        return np.asarray(shares / np.linalg.norm(shares), np.float32)


def save_clip(directory: Path, *, width: int = 32, layers: int = 2, image_size: int = 32, seed: int = 0) -> Path:
    """A small CLIP with random weights, which uses open_clip's own tokenizer."""
    return _save(
        directory,
        {
            "embed_dim": width,
            "vision_cfg": {
                "image_size": image_size,
                "patch_size": 8,
                "width": width,
                "layers": layers,
                "head_width": width // 2,
            },
            "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": width, "heads": 2, "layers": 1},
        },
        {"interpolation": "bicubic", "resize_mode": "shortest"},
        seed,
    )


def save_siglip(directory: Path, *, seed: int = 0) -> Path:
    """A small model made like SigLIP: a timm tower, a text tower of its own, a Hugging Face tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    path = _save(
        directory,
        {
            "embed_dim": 48,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 160,
                "timm_model_name": "test_vit",
                "timm_model_pretrained": False,
                "timm_pool": "token",
                "timm_proj": "linear",
            },
            "text_cfg": {
                "context_length": 8,
                "vocab_size": 64,
                "hf_tokenizer_name": "somebody/some-tokenizer",
                "tokenizer_kwargs": {"clean": "canonicalize"},
                "width": 48,
                "heads": 2,
                "layers": 1,
                "no_causal_mask": True,
                "pool_type": "last",
            },
        },
        {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"},
        seed,
    )
    words = ["<pad>", "<unk>", *COLOURS]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(path)
    return path


def _save(directory: Path, model_cfg: dict[str, object], preprocess_cfg: dict[str, object], seed: int) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}), "utf-8"
    )
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{directory}", load_weights=False, pretrained_text=False)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / "open_clip_model.safetensors")
    return directory
