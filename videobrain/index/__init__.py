"""The meaning of frames: encoders, nearest-neighbour search, the frame index and its store."""

from __future__ import annotations

from videobrain.index.clip import OpenClipEncoder
from videobrain.index.encoder import Embeddings, FrameEncoder
from videobrain.index.frame_index import FrameHit, FrameIndex
from videobrain.index.grid import candidate_frames
from videobrain.index.library import Library
from videobrain.index.shared import SharedEncoder
from videobrain.index.store import IndexEntry, IndexStore

__all__ = [
    "Embeddings",
    "FrameEncoder",
    "FrameHit",
    "FrameIndex",
    "IndexEntry",
    "IndexStore",
    "Library",
    "OpenClipEncoder",
    "SharedEncoder",
    "candidate_frames",
]
