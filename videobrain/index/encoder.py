"""The seam between the index and whatever embeds frames and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from videobrain.video.frame import Pixels

Embeddings = npt.NDArray[np.float32]
"""Unit vectors, shape (n, dimension), float32."""


@runtime_checkable
class FrameEncoder(Protocol):
    """Embeds frames and text into one space. All methods block and are called from worker threads, one at a time."""

    @property
    def name(self) -> str:
        """For people: logs, traces, listings."""

    @property
    def weights_local(self) -> bool:
        """Whether loading needs no network. Must be quick and must not load anything."""

    @property
    def fingerprint(self) -> str:
        """Identifies weights and preprocessing: equal fingerprints give equal embeddings. Valid after `load`."""

    @property
    def dimension(self) -> int:
        """Length of an embedding. Valid after `load`."""

    def load(self) -> None:
        """Load the weights; does nothing the second time.

        Raises:
            EncoderUnavailableError: Packages, weights or memory are missing.
            MissingDependencyError: The extra is not installed.
        """

    def embed_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed RGB images of any sizes; shape (len(images), dimension)."""

    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts; shape (len(texts), dimension)."""
