"""Frame encoders from open_clip: CLIP, SigLIP, SigLIP2 and everything else it can load."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from videobrain.errors import EncoderUnavailableError, VideoBrainError
from videobrain.index.encoder import Embeddings
from videobrain.index.weights import Weights, find_weights, require, weights_on_disk
from videobrain.settings import Settings
from videobrain.video.frame import Pixels

_LOGGER = logging.getLogger(__name__)
_PRECISIONS = {"float32": "fp32", "bfloat16": "pure_bf16", "float16": "pure_fp16"}


class OpenClipEncoder:
    """Embeds frames and text with any model that open_clip can load.

    Embeddings depend on the frame alone, not on which frames are embedded beside it: accelerators get batches of one
    fixed shape (filled up where frames are few), and a CPU gets one frame at a time, which is as fast there.

    Args:
        model: ``hf-hub:OWNER/MODEL``, ``local-dir:PATH``, a directory, ``ARCHITECTURE/PRETRAINED``, ``ARCHITECTURE``,
            ``siglip2`` or ``siglip-so400m``; by default ``settings.encoder``.
        settings: Device, dtype, batch size, and whether to stay offline.
    """

    def __init__(self, model: str | None = None, *, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._name = model or self._settings.encoder
        self._model: Any = None
        self._preprocess: Any = None
        self._tokenizer: Any = None
        self._device: Any = None
        self._dtype: Any = None
        self._fingerprint = ""
        self._dimension = 0
        self._batch = 1

    def __repr__(self) -> str:
        loaded = f"{self._device}, {self._dtype}" if self._model is not None else "not loaded"
        return f"OpenClipEncoder({self._name!r}, {loaded})"

    @property
    def name(self) -> str:
        """The model as it was named."""
        return self._name

    @property
    def weights_local(self) -> bool:
        """Whether weights and tokenizer are on disk; no for names of open_clip's own table until it is imported."""
        return self._model is not None or weights_on_disk(self._name)

    @property
    def fingerprint(self) -> str:
        """Hash of the weights as they are used, so of their dtype too, and of configuration and preprocessing."""
        self._require_loaded()
        return self._fingerprint

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        self._require_loaded()
        return self._dimension

    def load(self) -> None:
        """Load the weights; does nothing the second time.

        Raises:
            EncoderUnavailableError: The weights are missing or damaged, or do not fit into memory.
            MissingDependencyError: The extra is not installed.
        """
        if self._model is not None:
            return
        require("torch", "open_clip")
        # What others raise on files (or versions) they did not expect has no common base below Exception.
        try:
            # Before torch is imported, so that a missing model is reported at once and not after seconds.
            weights = find_weights(self._name, offline=self._settings.offline)
            self._load(weights)
        except VideoBrainError:
            raise
        except Exception as error:
            raise EncoderUnavailableError(
                f"The frame encoder {self._name} cannot be loaded: {error}",
                hint="Its files may be damaged, or memory too small; VIDEOBRAIN_ENCODER names another.",
            ) from error

    def _load(self, weights: Weights) -> None:
        import open_clip
        import torch

        device = self._choose_device(torch)
        dtype = self._choose_dtype(torch, device)
        options: dict[str, Any] = {}
        if weights.checkpoint is not None:
            tag = weights.tag
            options = {
                "pretrained": str(weights.checkpoint),
                "force_quick_gelu": bool(tag.get("quick_gelu", False)),
                "image_mean": tag.get("mean"),
                "image_std": tag.get("std"),
                "image_interpolation": tag.get("interpolation"),
                "image_resize_mode": tag.get("resize_mode"),
            }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm and torch announce deprecations that a user cannot act on
            model, preprocess = open_clip.create_model_from_pretrained(
                weights.model, precision=_PRECISIONS[dtype], device=device, **options
            )
            tokenizer = self._make_tokenizer(weights)
        model.eval().requires_grad_(False)
        self._device, self._dtype = device, getattr(torch, dtype)
        self._batch = 1 if device.type == "cpu" else self._settings.encoder_batch_size
        self._preprocess, self._tokenizer = preprocess, tokenizer
        self._fingerprint = self._hash(model, weights, dtype)
        self._model = model
        try:
            self._dimension = int(self.embed_texts(["a"]).shape[1])
        except BaseException:
            self._model = None
            raise
        _LOGGER.info("loaded %r", self)

    def embed_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed RGB images of any sizes; shape (len(images), dimension), float32 unit vectors."""
        import torch
        from PIL import Image

        self._require_loaded()
        rows = [np.empty((0, self._dimension), np.float32)]
        with torch.inference_mode():
            for batch in _batches(images, self._batch):
                inputs = torch.stack([self._preprocess(Image.fromarray(image)) for image in batch])
                if len(batch) < self._batch:
                    inputs = torch.cat([inputs, inputs.new_zeros(self._batch - len(batch), *inputs.shape[1:])])
                outputs = self._model.encode_image(inputs.to(self._device, self._dtype))
                rows.append(self._unit_vectors(outputs[: len(batch)]))
        return np.concatenate(rows)

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts; shape (len(texts), dimension), float32 unit vectors."""
        import torch

        self._require_loaded()
        rows = [np.empty((0, self._dimension), np.float32)] if self._dimension else []
        with torch.inference_mode():
            for text in texts:
                outputs = self._model.encode_text(self._tokenizer([text]).to(self._device))
                rows.append(self._unit_vectors(outputs))
        return np.concatenate(rows)

    def _unit_vectors(self, outputs: Any) -> Embeddings:
        vectors = outputs.float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise EncoderUnavailableError(
                f"The frame encoder {self._name} overflows in {self._dtype}.",
                hint="Set VIDEOBRAIN_ENCODER_DTYPE=float32.",
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)

    def _require_loaded(self) -> None:
        if self._model is None:
            raise RuntimeError(f"{self!r}: call load() first")

    def _choose_device(self, torch: Any) -> Any:
        if self._settings.encoder_device:
            return torch.device(self._settings.encoder_device)
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")

    def _choose_dtype(self, torch: Any, device: Any) -> str:
        if self._settings.encoder_dtype != "auto":
            return self._settings.encoder_dtype
        if device.type == "cuda":
            return "float16"
        # Without the instructions bfloat16 is emulated and slower than float32.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes):
            return "bfloat16"
        return "float32"

    def _make_tokenizer(self, weights: Weights) -> Any:
        import open_clip
        from open_clip.tokenizer import HFTokenizer

        config = weights.text_config
        options = dict(config.get("tokenizer_kwargs", {}))
        length = config.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        if weights.tokenizer is None:
            return open_clip.SimpleTokenizer(context_length=length, **options)
        # Not through open_clip.get_tokenizer: for a name on the hub it asks the hub, even where all is on disk.
        mode = config.get("tokenizer_mode")
        path = str(weights.tokenizer)
        return HFTokenizer(path, context_length=length, tokenizer_mode=mode, local_files_only=True, **options)

    def _hash(self, model: Any, weights: Weights, dtype: str) -> str:
        import torch

        facts = {
            "dtype": dtype,
            "preprocess": model.visual.preprocess_cfg,
            "text": dict(weights.text_config),
            "architecture": str(model),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _batches(images: Sequence[Pixels], size: int) -> Iterator[Sequence[Pixels]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]
