"""The tiny model's tokenizer and processor, made for the compact prompts and the words of the synthetic world."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from videobrain.agent.episode import describe_tool
from videobrain.agent.prompts import COMPACT
from videobrain.models.tiny_random import make_processor, make_tokenizer
from videobrain.tools import ToolSpec, clip_sample, uniform_sample
from videobrain.world import COLOURS, SHAPES, WORDS

CONTEXT_TOKENS = 8192
FRAME_PIXELS = 64
"""Side of a frame as the model sees it."""
PATCH_PIXELS = 8
MERGE = 4
"""Patches along the side of an image token: a frame is four tokens, a quarter each, as objects keep to quarters."""
TOOLS: tuple[ToolSpec, ...] = (uniform_sample.spec, clip_sample.spec)
"""The tools that the model learns."""
_VOCABULARY = 1152
_OTHER_WORDS = "system user assistant no yes alone seen not look closer so describe frame frames what do show"


def make_tiny_processor() -> Any:
    """Tokenizer, image processor and chat template; the same at each call."""
    tokenizer = make_tokenizer(
        [text for text in _texts() for _ in range(4)],
        vocab_size=_VOCABULARY,
        phrases=fixed_phrases(),
        digits=2,  # frame numbers are half of what is read and written
        model_max_length=CONTEXT_TOKENS,
    )
    pixels = FRAME_PIXELS * FRAME_PIXELS
    return make_processor(
        tokenizer, patch_size=PATCH_PIXELS, merge_size=MERGE, fewest_pixels=pixels, most_pixels=pixels
    )


def fixed_phrases() -> tuple[str, ...]:
    """What stands in every prompt in the same words, one token each: a tiny model reads no descriptions of tools."""
    return (*(describe_tool(tool) for tool in TOOLS), COMPACT.form_tags, COMPACT.form_tags_without_tools)


def _texts() -> Iterator[str]:
    """Every word that prompts and replies are made of, in the places where they stand."""
    for word in (*WORDS, *_OTHER_WORDS.split()):
        yield from (word, f" {word}", word.capitalize(), f" {word.capitalize()}")
    yield from (f"\n{letter}. {letter} <{letter}" for letter in "ABCD")
    yield from (f"{number:02}" for number in range(100))
    yield from (f" {letter}" for letter in "ACEHKMTX")
    yield from (text for text in COMPACT.model_dump().values() if isinstance(text, str))
    for colour, shape in product(COLOURS, SHAPES):
        yield f"a {colour} {shape} and an {colour} object"
    yield '{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 16}}'
    yield '{"name": "clip_sample", "arguments": {"start_frame": 0, "end_frame": 16, "prompt": "a red star"}}'
    yield "8 frames evenly spaced from frame 0 to 9."
    yield "4 frames from frame 0 to 9 that best match 'a star', in time order."
