"""Ready configurations of trainings for some kinds of hardware.

From the paper (arXiv 2602.04094) are the model, the machine, the frozen vision tower and the one epoch; batch sizes and
rates are usual ones for instruction tuning of such models. Memory was reckoned and not measured: weights, gradients and
the optimiser's state, beside the logits of `max_tokens` tokens, which are most of what a long trajectory needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pydantic import JsonValue


class TrainingRecipe(NamedTuple):
    """Fields of a configuration that go together."""

    text: str
    fields: Mapping[str, JsonValue]


SFT_RECIPES: Mapping[str, TrainingRecipe] = MappingProxyType(
    {
        "paper": TrainingRecipe(
            "all weights but the vision tower's of Qwen3-VL-8B, one epoch on 8 GPUs of 80 GB or more, as in the paper",
            {
                "model": "Qwen/Qwen3-VL-8B-Instruct",
                "device": "cuda",
                "gpus": 8,
                "epochs": 1,
                "batch_size": 32,
                "learning_rate": 1e-5,
                "max_tokens": 24576,
            },
        ),
        "lora-80gb": TrainingRecipe(
            "adapters of Qwen3-VL-8B on one GPU of 80 GB",
            {
                "model": "Qwen/Qwen3-VL-8B-Instruct",
                "device": "cuda",
                "lora_rank": 64,
                "batch_size": 32,
                "learning_rate": 1e-4,
                "max_tokens": 24576,
            },
        ),
        "lora-24gb": TrainingRecipe(
            "adapters of Qwen3-VL-2B on one GPU of 24 GB, for trajectories of few or small frames",
            {
                "model": "Qwen/Qwen3-VL-2B-Instruct",
                "device": "cuda",
                "lora_rank": 32,
                "batch_size": 32,
                "learning_rate": 1e-4,
                "max_tokens": 8192,
            },
        ),
        "cpu": TrainingRecipe(
            "all weights of a tiny model on the CPU, to try the whole way; name the model",
            {
                "device": "cpu",
                "batch_size": 4,
                "learning_rate": 1e-3,
                "max_tokens": 8192,
                "gradient_checkpointing": False,
            },
        ),
    }
)
