"""Synthetic videos whose truth is known exactly: for the demo, for evaluation and for training."""

from __future__ import annotations

from videobrain.world.dataset import write_dataset
from videobrain.world.drawing import draw_state
from videobrain.world.files import is_world_video
from videobrain.world.question import Kind, ToolUse, WorldQuestion, read_questions
from videobrain.world.scenario import FrameState, Glyph, Sight, caption, prompts
from videobrain.world.stills import still
from videobrain.world.vocabulary import (
    COLOURS,
    FPS,
    FRAME_SIDE,
    HELD_OUT_PAIRS,
    SHAPES,
    TAG,
    WORDS,
    Split,
    Thing,
    pairs,
)
from videobrain.world.world import World

__all__ = [
    "COLOURS",
    "FPS",
    "FRAME_SIDE",
    "HELD_OUT_PAIRS",
    "SHAPES",
    "TAG",
    "WORDS",
    "FrameState",
    "Glyph",
    "Kind",
    "Sight",
    "Split",
    "Thing",
    "ToolUse",
    "World",
    "WorldQuestion",
    "caption",
    "draw_state",
    "is_world_video",
    "pairs",
    "prompts",
    "read_questions",
    "still",
    "write_dataset",
]
