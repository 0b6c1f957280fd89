"""One synthetic video: its questions, and its pixels on demand or as a file."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import get_args

from videobrain.errors import ConfigurationError
from videobrain.video.frame import Frame, Pixels
from videobrain.world.casting import PlanError
from videobrain.world.checking import Checks
from videobrain.world.drawing import draw_state
from videobrain.world.files import write_file
from videobrain.world.planning import Draft, plan_video
from videobrain.world.question import ToolUse, WorldQuestion
from videobrain.world.scenario import TICK, FrameState, Scenario
from videobrain.world.templates import Template, Within
from videobrain.world.vocabulary import FPS, FRAME_SIDE, HELD_OUT_PAIRS, TAG, Split

SHORTEST_SECONDS, LONGEST_SECONDS = 120, 1800
_LARGEST_SIDE = 1024
"""Pictures of backgrounds and shapes are kept in memory: at this size almost two gigabytes."""
_TRIES = 200
_BEST_CRF, _CRFS = 18, 9


class World:
    """A video with exactly known truth.

    The same seed, split and length give the same video and the same questions on every machine; seeds of different
    splits share nothing. Planning takes milliseconds and draws nothing.

    Args:
        seed: Any number from 0.
        split: ``test`` videos also show the held-out pairs of colour and shape; the others never do.
        duration_seconds: Length in whole seconds, 120 to 1800; by default at random, short ones more often.
        side: Width and height of the frames in pixels, even.

    Raises:
        ConfigurationError: The seed, the split, the length or the size is none that there is.

    Attributes:
        name: Name in a data set, such as ``test-000007``.
        comment: What it is made from: the version of the world, the name and the length that was asked for. Its file
            carries it.
        scenario: Everything that happens.
        questions: Two of each class, of them one multiple choice and one open-ended.
        unanswerable: A question whose answer the video does not hold; its `WorldQuestion.answer` is a guess.
    """

    def __init__(
        self, seed: int, *, split: Split = "train", duration_seconds: int | None = None, side: int = FRAME_SIDE
    ) -> None:
        if split not in get_args(Split):
            raise ConfigurationError(
                f"There is no split {split!r}.", hint=f"Choose one of {', '.join(get_args(Split))}."
            )
        if seed < 0:
            raise ConfigurationError(f"A synthetic video cannot have the seed {seed}.", hint="Choose a number from 0.")
        if duration_seconds is not None and not SHORTEST_SECONDS <= duration_seconds <= LONGEST_SECONDS:
            raise ConfigurationError(
                f"A synthetic video cannot last {duration_seconds} seconds.",
                hint=f"Choose {SHORTEST_SECONDS} to {LONGEST_SECONDS}.",
            )
        if not 32 <= side <= _LARGEST_SIDE or side % 2:
            raise ConfigurationError(
                f"Frames cannot be {side} pixels wide.", hint=f"Choose an even number from 32 to {_LARGEST_SIDE}."
            )
        self.seed, self.split, self.side = seed, split, side
        self.name = f"{split}-{seed:06d}"
        self.comment = f"{TAG}/{self.name}/{duration_seconds}"
        rng = random.Random(self.comment)
        if duration_seconds is None:
            duration_seconds = round(math.exp(rng.uniform(math.log(SHORTEST_SECONDS), math.log(LONGEST_SECONDS))))
        self.scenario, drafts = _plan(rng, split, duration_seconds * FPS)
        choice_first = [rng.random() < 0.5 for _ in drafts[::2]]
        questions = [
            self._question(number, draft, (number % 2 == 0) == choice_first[number // 2])
            for number, draft in enumerate(drafts)
        ]
        self.questions, self.unanswerable = tuple(questions[:-1]), questions[-1]
        self._templates = {
            question.key: (question, draft.template) for question, draft in zip(questions, drafts, strict=True)
        }

    def __repr__(self) -> str:
        return f"World({self.name}, {self.duration_seconds:.0f} s)"

    @property
    def file_name(self) -> str:
        """Name of its file in a data set."""
        return f"{self.name}.mp4"

    @property
    def frame_count(self) -> int:
        """Frames of the video."""
        return self.scenario.frame_count

    @property
    def duration_seconds(self) -> float:
        """Length of the video."""
        return self.scenario.duration_seconds

    @cached_property
    def _checks(self) -> Checks:
        return Checks(self.scenario)

    @property
    def initial_frames(self) -> list[int]:
        """The 16 frames that a model sees first."""
        return list(self._checks.initial)

    @property
    def grid_frames(self) -> list[int]:
        """The frames among which `clip_sample` searches."""
        return list(self._checks.grid)

    def state(self, frame_index: int) -> FrameState:
        """What a frame shows.

        Raises:
            IndexError: The video has no such frame.
        """
        return self.scenario.state(frame_index)

    def draw(self, frame_index: int) -> Pixels:
        """The pixels of a frame as they are before compression: RGB, (side, side, 3), uint8, not to be written to.

        Raises:
            IndexError: The video has no such frame.
        """
        return draw_state(self.state(frame_index), self.side)

    def frame_at(self, seconds: float) -> Frame:
        """The frame shown at a time; the first or last one for a time before or after the video."""
        index = max(0, min(self.frame_count - 1, math.floor(seconds * FPS + 1e-6)))
        return Frame(index, index / FPS, self.draw(index))

    def answer_from(self, question: WorldQuestion, frames: Iterable[int]) -> str | None:
        """What a viewer without fault who sees these frames and no others would answer.

        Args:
            question: One of this video's.
            frames: Frame numbers.

        Returns:
            The answer, or None where the frames show none or several. A count is that of what is seen, so it is wrong
            where frames between were left out.

        Raises:
            ConfigurationError: The question is about another video.
            IndexError: The video has no such frame.
        """
        return self._template(question).read([(frame, self.state(frame)) for frame in sorted(frames)])

    def subject(self, question: WorldQuestion) -> str:
        """What a question is about, as a search prompt; empty where it is about no one thing.

        Args:
            question: One of this video's.

        Raises:
            ConfigurationError: The question is about another video.
        """
        return self._template(question).prompt()

    def conclusion(self, question: WorldQuestion, answer: str) -> str:
        """An answer behind what was asked about, such as ``red star`` where it is the shape of the red object.

        Args:
            question: One of this video's.
            answer: An answer to it.

        Raises:
            ConfigurationError: The question is about another video.
        """
        return self._template(question).conclusion(answer)

    def _template(self, question: WorldQuestion) -> Template:
        own, template = self._templates.get(question.key, (None, None))
        if template is None or own != question:
            raise ConfigurationError(
                f"{question.key} is no question about {self!r}.", hint="Use the World of its seed, split and length."
            )
        return template

    def write(self, path: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Write the video as H.264 in MP4: aside first, then renamed, so that a file that exists is whole.

        Args:
            path: The file.
            progress: Called with the number of frames written and of all frames, about once in 1,000 frames.
        """
        crf = _BEST_CRF + self.seed % _CRFS  # coarser and finer compression, by the seed
        return write_file(Path(path), self._frames(progress), comment=self.comment, side=self.side, crf=crf)

    def _frames(self, progress: Callable[[int, int], None] | None) -> Iterator[Pixels]:
        for first in range(0, self.frame_count, TICK):
            pixels = self.draw(first)
            for _ in range(min(TICK, self.frame_count - first)):
                yield pixels
            if progress and first % 1000 == 0:
                progress(first, self.frame_count)
        if progress:
            progress(self.frame_count, self.frame_count)

    def _question(self, number: int, draft: Draft, multiple_choice: bool) -> WorldQuestion:
        template = draft.template
        rng = random.Random(f"{TAG}/{self.name}/{self.frame_count}/{number}")
        wording = rng.choice(template.wordings())
        wrong = list(dict.fromkeys(template.others(draft.answer, rng)))[:3]
        options = rng.sample([draft.answer, *wrong], k=4)
        calls: tuple[ToolUse, ...] = ()
        if isinstance(template, Within):
            calls = (
                ToolUse(
                    name="uniform_sample",
                    arguments={"start_frame": template.start_frame, "end_frame": template.end_frame},
                ),
            )
        elif draft.kind != "direct":
            arguments: dict[str, int | str] = {"start_frame": 0, "end_frame": self.frame_count}
            calls = (ToolUse(name="clip_sample", arguments={**arguments, "prompt": template.prompt()}),)
        return WorldQuestion(
            key=f"{self.name}/{number}",
            video=self.file_name,
            question=wording,
            options=tuple(options) if multiple_choice else None,
            answer=draft.answer,
            kind=draft.kind,
            template=template.name,
            held_out=any(thing in HELD_OUT_PAIRS for thing in draft.things),
            spans=draft.spans,
            frame_count=self.frame_count,
            calls=calls,
        )


def _plan(rng: random.Random, split: Split, frame_count: int) -> tuple[Scenario, list[Draft]]:
    for _ in range(_TRIES):
        try:
            scenario, drafts = plan_video(rng, split, frame_count)
        except PlanError:
            continue
        checks = Checks(scenario)
        if all(checks.agree(draft) for draft in drafts):
            return scenario, drafts
    raise PlanError(f"{_TRIES} plans of a video of {frame_count} frames failed")
