"""One question of a benchmark with everything that is known about its answer."""

from __future__ import annotations

from pathlib import PurePosixPath
from string import ascii_uppercase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from videobrain.result import Span

Task = Literal["choice", "open", "grounding", "highlights"]
"""``choice``: one of several options. ``open``: an answer in words. ``grounding``: the spans that a query describes.
``highlights``: those, and how salient each clip is. A ``choice`` with `spans` is scored for both."""


class Sample(BaseModel):
    """A question and its truth. What a model answered never stands here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(min_length=1)
    """Unique within the benchmark, and the same in every version of its file."""
    video: str = Field(min_length=1)
    """Path of the video: absolute, or within the directory that holds the benchmark's videos, with ``/``."""
    question: str = Field(min_length=1)
    task: Task
    options: tuple[str, ...] | None = None
    """Texts of the options, without letters."""
    correct_option: int | None = None
    """Number of the true option, from 0; None where the benchmark keeps it to itself."""
    answer: str | None = None
    """The true answer in words; of a choice the text of the true option."""
    spans: tuple[Span, ...] = ()
    """Where the answer is seen, in seconds; of a grounding task the truth."""
    duration_seconds: float | None = None
    clip: Span | None = None
    """The part of the video that the question is about; None for all of it."""
    subtitles: str | None = None
    """Path of the subtitle file: absolute, or within the benchmark's directory; None where the video has none."""
    subtitles_start_seconds: float = 0.0
    """Time of the subtitles at which the video begins: it is a part of what they were written for."""
    slices: dict[str, str] = Field(default_factory=dict)
    """What results are broken down by, such as ``{"duration": "long", "type": "counting"}``."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """What one benchmark alone needs for its scores."""

    @model_validator(mode="after")
    def _options_hold_the_truth(self) -> Sample:
        if (self.task == "choice") != (self.options is not None):
            raise ValueError("a choice has options, and nothing else has")
        if self.options is not None and not 2 <= len(self.options) <= len(ascii_uppercase):
            raise ValueError(f"a choice has 2 to {len(ascii_uppercase)} options, this one has {len(self.options)}")
        if self.correct_option is not None and not 0 <= self.correct_option < len(self.options or ()):
            raise ValueError(f"option {self.correct_option} is none of the {len(self.options or ())} options")
        return self

    @property
    def video_name(self) -> str:
        """Name of the video without its folder and its suffix, which are another matter on another machine."""
        return PurePosixPath(self.video).stem

    @property
    def begins_seconds(self) -> float:
        """Second of the whole video at which what is asked about begins."""
        return self.clip.start_seconds if self.clip else 0.0

    @property
    def letter(self) -> str | None:
        """Letter of the true option."""
        return None if self.correct_option is None else ascii_uppercase[self.correct_option]
