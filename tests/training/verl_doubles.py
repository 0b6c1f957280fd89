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
    from verl.workers.rollout.replica import TokenOutput

    from videobrain.training.verl.hf_rollout import HfServer

    sampled = HfServer.generate

    def forced(server: Any, prompt: Sequence[int], images: Sequence[Any], temperature: float) -> TokenOutput:
        generator = server._generator
        tokenizer = generator._tokenizer
        reply = [*tokenizer.encode(CALL, add_special_tokens=False), tokenizer.eos_token_id]
        ids = torch.tensor([[*prompt, *reply]])
        pixels = generator._processor.image_processor(images=list(images), return_tensors="pt")
        inputs = {**pixels, "mm_token_type_ids": (ids == generator._image_id).long()}
        with generator._using, torch.inference_mode():
            logits = generator._model(input_ids=ids, **inputs).logits[0, len(prompt) - 1 : -1].float() / temperature
        chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(reply)[:, None])[:, 0]
        steps = {"global_steps": server._steps}
        return TokenOutput(token_ids=reply, log_probs=chosen.tolist(), stop_reason="completed", extra_fields=steps)

    async def generate(
        self: Any,
        prompt_ids: Sequence[int],
        sampling_params: dict[str, Any],
        request_id: str,
        image_data: Sequence[Any] | None = None,
        **options: Any,
    ) -> TokenOutput:
        called = self._generator._tokenizer.convert_tokens_to_ids("</tool_call>")
        said = list(prompt_ids)[-200:]  # the system prompt, which names the tag too, lies before
        if image_data and said.count(called) == 0 and len(image_data) <= 2:
            temperature = float(sampling_params.get("temperature", 1.0)) or 1.0
            return await asyncio.to_thread(forced, self, prompt_ids, image_data, temperature)
        return await sampled(self, prompt_ids, sampling_params, request_id, image_data, **options)

    HfServer.generate = generate  # type: ignore[method-assign]


if "verl" in sys.modules:  # loaded by verl, through VERL_USE_EXTERNAL_MODULES
    call_first()
