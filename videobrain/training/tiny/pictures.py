"""Pictures of the synthetic world and the search prompts that are true of them, for the tiny encoder."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from videobrain.video.frame import Pixels
from videobrain.world import COLOURS, SHAPES, FrameState, Glyph, Split, caption, draw_state, pairs, prompts, still
from videobrain.world.staging import background
from videobrain.world.vocabulary import DIGITS, LETTERS, with_article

_JPEG_QUALITIES = (25, 95)
"""Stand for the artefacts of the videos' compression; colours are stored at half the resolution, as there."""
_BACKGROUNDS = 8
"""Backgrounds of a batch: drawing one costs more than all else in a picture."""


class Text(NamedTuple):
    """What the text tower reads, and the facts that a frame must show for it to be true."""

    words: str
    facts: frozenset[str]


class Batch(NamedTuple):
    """Pictures, texts, and which of the texts are true of which picture."""

    pixels: npt.NDArray[np.uint8]
    """Shape (pictures, 3, side, side)."""
    words: list[str]
    true: npt.NDArray[np.bool_]
    """Shape (pictures, texts)."""


def search_prompts(split: Split) -> list[Text]:
    """Every search prompt that a frame of a split may fit."""
    things = [with_article(str(thing)) for thing in pairs(split)]
    objects = [f"{with_article(colour)} object" for colour in COLOURS]
    screens = [with_article(f"{colour} screen") for colour in COLOURS]
    glyphs = [f"the {Glyph(text)}" for text in (*DIGITS, *LETTERS)]
    words = [*things, *map(with_article, SHAPES), *objects, *screens, *glyphs, "a digit", "a letter"]
    return [Text(prompt, frozenset((prompt,))) for prompt in words]


def facts_of(state: FrameState) -> frozenset[str]:
    """The prompts that a frame fits, its background, and whether it is empty."""
    if state.screen is not None:
        return frozenset(prompts(state))
    found = (*prompts(state), f"on {state.background.pattern}")
    return frozenset(found if state.sights else (*found, "nothing"))


def caption_of(state: FrameState) -> Text:
    """A frame's caption; it is true of every frame that shows as much."""
    return Text(caption(state), facts_of(state))


def truths(states: Iterable[FrameState], texts: Sequence[Text]) -> npt.NDArray[np.bool_]:
    """Which texts are true of which frame: shape (frames, texts)."""
    return np.array([[text.facts <= facts for text in texts] for facts in map(facts_of, states)], np.bool_)


def compressed(pixels: Pixels, rng: random.Random) -> Image.Image:
    """A picture with artefacts of compression."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=rng.randint(*_JPEG_QUALITIES), subsampling="4:2:0")
    return Image.open(file)


def picture(state: FrameState, side: int, rng: random.Random) -> Pixels:
    """A frame as the encoder sees it: drawn in full, compressed, and reduced to `side` x `side` pixels."""
    return np.asarray(compressed(draw_state(state), rng).resize((side, side), Image.Resampling.BILINEAR))


def channels_first(pictures: Sequence[Pixels]) -> npt.NDArray[np.uint8]:
    """Pictures as a batch of shape (pictures, 3, side, side)."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class Pictures:
    """Batches without end: batch `n` follows from the seed and `n`, so that training can be resumed.

    Attributes:
        side: Width and height of the pictures.
        size: Pictures of a batch.
        captions: Captions of a batch, besides the search prompts.
        seed: Seed of all batches.
    """

    side: int
    size: int
    captions: int
    seed: int

    def __getitem__(self, number: int) -> Batch:
        """Batch `number`: search prompts first, then captions."""
        rng = random.Random(f"{self.seed}/{number}")
        few = [background(rng) for _ in range(_BACKGROUNDS)]
        states = []
        for _ in range(self.size):
            states.append(replace(still(rng, "train"), background=rng.choice(few)))
        texts = [*search_prompts("train"), *map(caption_of, states[: self.captions])]
        pixels = channels_first([picture(state, self.side, rng) for state in states])
        return Batch(pixels, [_reworded(text.words, rng) for text in texts], truths(states, texts))


def _reworded(words: str, rng: random.Random) -> str:
    """Now and then without its article or with the other one, as people and models write."""
    chance = rng.random()
    article, _, rest = words.partition(" ")
    if chance < 0.7 or article not in {"a", "an", "the"}:
        return words
    return rest if chance < 0.85 else f"{'a' if article == 'the' else 'the'} {rest}"


def tokenizer() -> Any:
    """A Hugging Face tokenizer of whole words, for every word and glyph of the world and a few others."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from videobrain.world import WORDS

    words = sorted({*WORDS, *DIGITS, *(letter.lower() for letter in LETTERS), "screen"})
    # The end has the highest number: open_clip takes a text's features there.
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unknown>", *words, "<end>"])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", vocabulary["<end>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unknown>",
        eos_token="<end>",
        clean_up_tokenization_spaces=False,
    )
