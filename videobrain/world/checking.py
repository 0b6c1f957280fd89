"""Whether a planned question is what it claims to be, found out with the samplers that a model has."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from videobrain.index.grid import candidate_frames
from videobrain.settings import Settings
from videobrain.video.sampling import evenly_spaced
from videobrain.video.table import FrameTable
from videobrain.world.planning import INITIAL_FRAMES, Draft
from videobrain.world.scenario import FrameState, Scenario
from videobrain.world.staging import SAMPLES
from videobrain.world.templates import BackgroundAt, Within
from videobrain.world.vocabulary import FPS


class Checks:
    """The samplers' frames of one video, and what they show."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        count = scenario.frame_count
        settings = Settings.model_construct()  # what the world is must not depend on the environment
        self.initial = evenly_spaced(0, count, INITIAL_FRAMES)
        self.grid = candidate_frames(frame_table(count), 0, count, settings)
        ends = [frame for insert in scenario.inserts for frame in (insert.start, insert.end)]
        self._everything = sorted({*(scene.start for scene in scenario.scenes), *ends, count - 1} - {count})

    def agree(self, draft: Draft) -> bool:
        """Whether the answer is unique, is seen by the sampler of the question's class, and by no simpler one."""
        template, answer = draft.template, draft.answer
        at_once = template.read(self._look(self.initial))
        if draft.kind == "unanswerable":
            return template.read(self._look(self._everything)) is None
        everything = self._everything
        if isinstance(template, Within):  # what is shown when the interval begins may have begun before
            everything = sorted({*everything, template.start_frame})
        if template.read(self._look(everything)) != answer:
            return False
        match draft.kind:
            case "direct":
                showing = sum(template.read(self._look([frame])) == answer for frame in self.initial)
                return at_once == answer and showing >= (1 if isinstance(template, BackgroundAt) else 2)
            case "search":
                found = [frame for frame in self.grid if any(a <= frame / FPS < b for a, b in draft.spans)]
                return at_once is None and template.read(self._look(found)) == answer
            case "dense":
                assert isinstance(template, Within)  # the planner's own
                looked = evenly_spaced(template.start_frame, template.end_frame, SAMPLES)
                return at_once != answer and template.read(self._look(looked)) == answer

    def _look(self, frames: Iterable[int]) -> list[tuple[int, FrameState]]:
        return [(frame, self._scenario.state(frame)) for frame in frames]


def frame_table(frame_count: int) -> FrameTable:
    """The table of frames that a file of so many frames has."""
    return FrameTable(
        timestamps_seconds=np.arange(frame_count) / FPS,
        pts=np.arange(frame_count, dtype=np.int64),
        keyframes=np.ones(frame_count, np.bool_),
        duration_seconds=frame_count / FPS,
        time_base=Fraction(1, FPS),
    )
