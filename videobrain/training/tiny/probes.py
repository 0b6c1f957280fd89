"""Still pictures on which the tiny encoder is measured while it is trained."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from videobrain.training.tiny.pictures import Text, channels_first, picture, search_prompts, truths
from videobrain.world import HELD_OUT_PAIRS, still
from videobrain.world.vocabulary import with_article

_SEED = "probe"
_PEERS, _SHOWN = 600, 4
"""A search of ten minutes compares 600 frames and shows four."""


class Point(NamedTuple):
    """Recall among still pictures: how often a true picture is among the four of 600 that a search would show."""

    recall: float
    held_out: float


class Probes:
    """Pictures of the test split on which the curve is measured; no video shows them.

    Args:
        count: How many.
        side: Their width and height.
    """

    def __init__(self, count: int, side: int) -> None:
        rng = random.Random(_SEED)
        states = [still(rng, "test") for _ in range(count)]
        self.texts: list[Text] = search_prompts("test")
        self.pixels = channels_first([picture(state, side, rng) for state in states])
        self._true = truths(states, self.texts)
        held_out = {with_article(str(thing)) for thing in HELD_OUT_PAIRS}
        self._held_out = np.array([text.words in held_out for text in self.texts])

    def measure(self, scores: npt.NDArray[np.float32]) -> Point:
        """Recall from scores of shape (pictures, texts)."""
        found = np.zeros_like(self._true)
        for column, true in enumerate(self._true.T):
            wrong = np.sort(scores[~true, column])[::-1]
            # Where a search of 600 frames has its fourth wrong one.
            bar = wrong[max(0, round(len(wrong) * _SHOWN / _PEERS) - 1)]
            found[:, column] = true & (scores[:, column] > bar)
        ours, theirs = self._true[:, ~self._held_out], self._true[:, self._held_out]
        return Point(
            float(found[:, ~self._held_out].sum() / ours.sum()), float(found[:, self._held_out].sum() / theirs.sum())
        )
