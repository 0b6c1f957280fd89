"""Objectives of reinforcement learning that verl 0.9 knows, as what they change of its configuration."""

from __future__ import annotations

from typing import Literal, NamedTuple

Objective = Literal["grpo", "dr_grpo", "dapo", "gspo"]
Average = Literal["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]


class ObjectiveFacts(NamedTuple):
    """What an objective is made of."""

    loss: str
    """verl's name of the loss of the policy."""
    average: Average
    """How the losses of tokens become one."""
    by_deviation: bool
    """Advantages are divided by the standard deviation of their group."""
    clip_low: float
    clip_high: float
    drop_equal: bool
    """Groups whose rewards are all equal, which teach nothing, are replaced by other questions."""


OBJECTIVES: dict[Objective, ObjectiveFacts] = {
    # arXiv 2402.03300; averaged over the tokens of a batch, as verl does unless it is told otherwise
    "grpo": ObjectiveFacts("vanilla", "token-mean", True, 0.2, 0.2, False),
    # arXiv 2503.20783
    "dr_grpo": ObjectiveFacts("vanilla", "seq-mean-token-sum-norm", False, 0.2, 0.2, False),
    # arXiv 2503.14476
    "dapo": ObjectiveFacts("vanilla", "token-mean", True, 0.2, 0.28, True),
    # arXiv 2507.18071; its ratio is of whole replies, so that the clip is much narrower
    "gspo": ObjectiveFacts("gspo", "seq-mean-token-mean", True, 3e-4, 4e-4, False),
}
