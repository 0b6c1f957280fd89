"""The rule that gives a question its class, from what a student and a teacher made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from videobrain.training.sample import QuestionClass

Round = Literal["student-blind", "teacher-blind", "student-initial", "teacher-initial", "teacher-more", "student-more"]
"""Who is asked with what: nothing, the initial frames, or more of the video. In the order in which they are asked."""
Label = QuestionClass | Literal["dropped", "open"]
"""``dropped``: no question to learn from. ``open``: not known yet, since answers that decide it are missing."""
Votes = tuple[bool | None, ...]
"""Whether each of some answers to one question was right; None where nobody can say: the run or its judge failed."""


class Classified(BaseModel):
    """What a question is, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: Label
    reason: str


def majority(votes: Votes) -> bool | None:
    """Whether more than half of the answers were right; None where those that are missing could decide it."""
    right, missing = votes.count(True), votes.count(None)
    if 2 * right > len(votes):
        return True
    return None if 2 * (right + missing) > len(votes) else False


def always(votes: Votes) -> bool | None:
    """Whether all answers were right, and there are some; None where those that are missing could decide it."""
    if not votes or False in votes:
        return False
    return None if None in votes else True


def classify_votes(votes: Mapping[Round, Votes]) -> Classified | Round:
    """The class of a question (the definitions of arXiv 2602.04094), or the round that has to be asked next.

    A round is asked for only where it can change the class: a question that the student answers from the initial
    frames costs the teacher no more than a look at its words.

    Args:
        votes: The rounds so far.
    """
    for name, decide, label, reason in _RULES:
        if name not in votes:
            return name
        right = decide(votes[name])
        if right is None:
            who, what = name.split("-")
            return Classified(label="open", reason=f"answers of the {who} ({what}) are missing: their runs failed")
        if right:
            return Classified(label=label, reason=reason)
    return Classified(label="dropped", reason="nobody is right, whatever is shown")


_RULES: tuple[tuple[Round, Callable[[Votes], bool | None], Label, str], ...] = (
    ("student-blind", always, "dropped", "the student needs no frame to be right"),
    ("teacher-blind", always, "dropped", "the teacher needs no frame to be right"),
    ("student-initial", majority, "Direct", "the initial frames suffice for the student"),
    ("teacher-initial", majority, "Adaptive", "the initial frames suffice for the teacher alone"),
    ("teacher-more", majority, "Active", "the teacher needs more of the video"),
    ("student-more", majority, "Active", "the student needs more of the video, and the teacher fails"),
)
"""A question is what the first of these rounds says whose answers are right."""
