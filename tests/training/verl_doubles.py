"""What verl's processes load in tests: a reward that varies, and first replies that call a tool."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from videobrain.training.rollout import Rollout

CALL = (
    "<thinking>Not enough.</thinking>\n"
    '<tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 10, "end_frame": 60}}</tool_call>'
)


def varied(rollout: Rollout) -> float:
    """A reward that a model of random weights gets more or less of, with nothing to learn from it."""
    return (rollout.usage.output_tokens % 7) / 7


def call_first() -> None:
    """Have each conversation of the rollout engine ``hf`` begin with a tool call, which random weights never give.

    Its log-probabilities are the model's own, so that they agree with the trainer's as those of sampled replies do.
    """
    import torch

    from videobrain.training.generation import BatchedGenerator
    from videobrain.training.token_model import Sampled, Sampling

    sampled = BatchedGenerator.generate

    def forced(generator: Any, prompt: Sequence[int], images: Sequence[Any], temperature: float) -> Sampled:
        tokenizer = generator._tokenizer
        reply = [*tokenizer.encode(CALL, add_special_tokens=False), tokenizer.eos_token_id]
        ids = torch.tensor([[*prompt, *reply]])
        pixels = generator._processor.image_processor(images=list(images), return_tensors="pt")
        inputs = {**pixels, "mm_token_type_ids": (ids == generator._image_id).long()}
        with generator._using, torch.inference_mode():
            logits = generator._model(input_ids=ids, **inputs).logits[0, len(prompt) - 1 : -1].float() / temperature
        chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(reply)[:, None])[:, 0]
        return Sampled(reply, chosen.tolist())

    async def generate(
        self: Any, prompt_ids: Sequence[int], images: Sequence[Any], sampling: Sampling, **options: Any
    ) -> Sampled:
        if len(images) <= 2:  # the initial frames: nothing was called yet
            return await asyncio.to_thread(forced, self, prompt_ids, images, sampling.temperature or 1.0)
        return await sampled(self, prompt_ids, images, sampling, **options)

    BatchedGenerator.generate = generate  # type: ignore[method-assign]


if "verl" in sys.modules:  # loaded by verl, through VERL_USE_EXTERNAL_MODULES
    call_first()
