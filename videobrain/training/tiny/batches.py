"""The batches of each stage: what of the examples, how many, and in which order they get harder.

Every batch follows from its stage, a seed and its number alone, so that training resumes without a trace and any
number of workers makes the same batches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from videobrain.training.tiny.examples import Example, ExampleMaker, planned
from videobrain.world import World

if TYPE_CHECKING:
    from videobrain.training.tiny.model import Batch

StageName = Literal["copying", "judging", "conclusions", "captions", "lookup", "trajectories", "refining"]

_BACKGROUNDS, _KEPT = 64, 16
"""Backgrounds of pictures, and the batches in a row that share them: drawing one costs more than all else."""
_LOOKUP_FRAMES = ((50, (2, 3, 4)), (100, (4, 6, 8)), (math.inf, (4, 8, 16, 16, 24)))
"""Frames to look up among, by the number of the batch: which of two it is, is learnt sooner than which of sixteen."""
_ASKED_FROM = 100
"""Batch from which on half of the look-ups are questions: before frames are found, they drown what frames show."""
_INITIAL_FRAMES = ((100, (2, 4, 8, 16)), (math.inf, (4, 8, 16, 16)))
"""Frames that trajectories begin with, by the number of the batch: of few, most show something of what is asked."""
_BESIDE, _CONCLUSIONS = 4, 6
"""Every so many batches with pictures have so many conclusions beside them, lest those be forgotten."""
_LOOKED_UP = 32
"""Frames of a look-up that stands beside as many batches of trajectories, which name few backgrounds."""
_DRILLS = 3
"""Examples of `concluded` and of `judged` each that stand beside every other batch of trajectories: which of two things
is meant comes too seldom there to be learnt."""
_HARD_CONCLUDED, _HARD_JUDGED = 3, 8
"""The same in the last stage, beside all batches but two of eight, and harder: a thing among others of its colour or
shape."""
_TOKENS_OF_A_FRAME = 60
"""Tokens of a sequence without pictures that count as one frame in a batch."""
_OF_A_VIDEO = 2
"""Trajectories of one video: more of them would show the same pictures again."""


@dataclass(frozen=True)
class Batches:
    """The batches of a stage, for torch's DataLoader.

    Attributes:
        maker: Makes the examples.
        stage: Which examples.
        frames: About as many frames in a batch.
        seed: Seed of all batches.
    """

    maker: ExampleMaker
    stage: StageName
    frames: int
    seed: int

    def __getitem__(self, number: int) -> Batch:
        return self.maker.batch(self.examples(number))

    def examples(self, number: int) -> list[Example]:
        """What a batch is made of: the stage's own, then what stands beside them."""
        rng = random.Random(f"{self.stage}/{self.seed}/{number}")
        examples: list[Example] = []
        shared = random.Random(f"{self.seed}/{number // _KEPT}")
        kept = [shared.getrandbits(30) for _ in range(_BACKGROUNDS)]
        make = self._maker(number, rng, kept)
        while sum(map(_size, examples)) < self.frames:
            examples += make()
        if any(example.frames for example in examples):
            examples += self._beside(number, rng, kept)
        return examples

    def _beside(self, number: int, rng: random.Random, backgrounds: Sequence[int]) -> list[Example]:
        """What stands beside a batch with pictures."""
        maker = self.maker
        every = 2 * _BESIDE if self.stage == "refining" else _BESIDE
        if number % every == 0:
            return [maker.conclusion(rng) for _ in range(_CONCLUSIONS)]
        if self.stage not in ("trajectories", "refining"):
            return []
        if number % every == every // 2:
            return [maker.lookup(rng, _LOOKED_UP, backgrounds)]
        if self.stage == "refining":
            concluded = [maker.concluded(rng, hard=True) for _ in range(_HARD_CONCLUDED)]
            judged = (maker.judged(rng, exchange=rng.random() < 0.5, hard=True) for _ in range(_HARD_JUDGED))
            return [*concluded, *judged]
        drills = [maker.concluded(rng) for _ in range(_DRILLS)]
        return [*drills, *(maker.judged(rng, exchange=True) for _ in range(_DRILLS))]

    def _maker(self, number: int, rng: random.Random, backgrounds: Sequence[int]) -> Callable[[], list[Example]]:
        maker = self.maker
        match self.stage:
            case "copying":
                return lambda: [maker.copied(rng, number)]
            case "judging":
                return lambda: [maker.judged(rng)]
            case "conclusions":
                return lambda: [
                    maker.conclusion(rng, number),
                    maker.judged(rng),
                    maker.judged(rng),
                    maker.concluded(rng),
                ]
            case "captions":
                return lambda: [maker.captions(rng, 8, backgrounds)]
            case "lookup":
                count = rng.choice(planned(_LOOKUP_FRAMES, number))
                asked = 0.5 if number >= _ASKED_FROM else 0.0
                return lambda: [
                    maker.search(rng, count, backgrounds)
                    if rng.random() < asked
                    else maker.lookup(rng, count, backgrounds)
                ]
            case "trajectories" | "refining":
                counts = planned(_INITIAL_FRAMES, number)

                def of_a_video() -> list[Example]:
                    world = World(rng.getrandbits(40), split="train")
                    count = rng.choice(counts)
                    numbers = rng.sample(range(len(world.questions)), k=_OF_A_VIDEO)
                    hard = self.stage == "refining"
                    return [maker.trajectory(rng, world, each, count, hard=hard) for each in numbers]

                return of_a_video


def _size(example: Example) -> float:
    """How much of a batch an example is, in frames."""
    return len(example.frames) or len(example.input_ids) / _TOKENS_OF_A_FRAME
