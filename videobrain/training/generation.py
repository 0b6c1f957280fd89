"""Replies that transformers samples in this process, several at a time, where there is no server for rollouts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from videobrain.errors import ConfigurationError
from videobrain.training.token_model import Sampled, Sampling

if TYPE_CHECKING:
    import torch

_GATHERING_SECONDS = 0.02
"""Time in which further requests are waited for: rollouts that begin together ask within moments of each other."""


class _Asked(NamedTuple):
    prompt_ids: Sequence[int]
    images: Sequence[Image.Image]
    max_tokens: int
    reply: asyncio.Future[Sampled]


class _Kind(NamedTuple):
    """What requests of one batch have in common."""

    temperature: float
    top_p: float
    top_k: int


class BatchedGenerator:
    """Samples the replies of many conversations with one model, in batches.

    Requests that come within moments of each other, or while a batch is under way, are sampled together. The
    log-probabilities are those that the model itself gives at the temperature, as a trainer computes them: top-p, top-k
    and the tokens that are never sampled leave them as they are.

    Args:
        model: A vision-language model of transformers of the Qwen-VL kind.
        processor: Its processor.
        most: Conversations in one batch.
    """

    def __init__(self, model: Any, processor: Any, *, most: int = 8) -> None:
        self._model = model.eval()
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._most = most
        image, video = processor.image_token, getattr(processor, "video_token", None)
        self._image_id: int = self._tokenizer.convert_tokens_to_ids(image)
        # As part of a reply they would stand for an image that is not there.
        self._never = [self._tokenizer.convert_tokens_to_ids(name) for name in (image, video) if name]
        self._waiting: dict[_Kind, list[_Asked]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._using = threading.Lock()

    async def generate(
        self,
        prompt_ids: Sequence[int],
        images: Sequence[Image.Image],
        sampling: Sampling,
        *,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> Sampled:
        """Continue a conversation.

        Args:
            prompt_ids: Its tokens; an image stands as its number of image tokens.
            images: The images, in the order of their places.
            sampling: How many tokens at the most, and the temperature; 0 or None takes the likeliest token.
            top_p: Sample among the likeliest tokens that have this much probability together.
            top_k: Sample among so many tokens; 0 among all.
        """
        reply: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
        kind = _Kind(sampling.temperature or 0.0, top_p, max(top_k, 0))
        self._waiting.setdefault(kind, []).append(_Asked(prompt_ids, images, sampling.max_tokens, reply))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await reply

    def load(self, weights: Mapping[str, torch.Tensor], *, seed: int | None = None) -> None:
        """Take new weights, all of them. Blocking; waits for the batch that is under way.

        Args:
            weights: The weights by name.
            seed: Of the sampling from now on; it goes on as it was without one.

        Raises:
            ConfigurationError: The weights are of another model.
        """
        import torch

        with self._using:
            if seed is not None:
                torch.manual_seed(seed)
            missing, unexpected = self._model.load_state_dict(weights, strict=False)
            tied = set(getattr(self._model, "all_tied_weights_keys", None) or self._model._tied_weights_keys or ())
            if unexpected or set(missing) - tied:
                names = sorted(unexpected) or sorted(set(missing) - tied)
                what = "unknown to the rollout's model" if unexpected else "missing"
                raise ConfigurationError(
                    f"Weights of the trained model are {what}, {names[0]!r} among {len(names)}.",
                    hint="Adapters have to be merged for this kind of rollout.",
                )

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHERING_SECONDS)
            kind, asked = next(iter(self._waiting.items()))
            batch, rest = asked[: self._most], asked[self._most :]
            if rest:
                self._waiting[kind] = rest
            else:
                del self._waiting[kind]
            batch = [each for each in batch if not each.reply.done()]  # who cancelled it waits no longer
            if not batch:
                continue
            try:
                replies = await asyncio.to_thread(self._generate, kind, batch)
            except Exception as error:  # noqa: BLE001 - whoever asked gets it, and the next batch may do better
                for each in batch:
                    if not each.reply.done():
                        each.reply.set_exception(error)
                continue
            for each, sampled in zip(batch, replies, strict=True):
                if not each.reply.done():
                    each.reply.set_result(sampled)

    def _generate(self, kind: _Kind, batch: Sequence[_Asked]) -> list[Sampled]:
        import torch

        with self._using, torch.inference_mode():
            inputs = self._inputs(batch)
            begin = inputs["input_ids"].shape[1]
            most = [each.max_tokens for each in batch]
            recorder = _recorder(kind.temperature or 1.0, self._never)
            # Of the model's own settings none may change what is likely: the trainer would see something else.
            sampling: dict[str, Any] = {
                "do_sample": False,
                "temperature": None,
                "top_p": None,
                "top_k": None,
                "repetition_penalty": 1.0,
            }
            if kind.temperature:
                sampling |= {
                    "do_sample": True,
                    "temperature": kind.temperature,
                    "top_p": kind.top_p,
                    "top_k": kind.top_k,
                }
            output = self._model.generate(
                **inputs,
                **sampling,
                max_new_tokens=max(most),
                pad_token_id=self._pad_id(),
                logits_processor=[recorder],
                stopping_criteria=[_each_at_its_length(begin, most)],
            )
            recorder.settle(output)
            log_probs = torch.stack(recorder.log_probs, dim=1).tolist()
        ends = set(_as_list(self._model.generation_config.eos_token_id) or [self._tokenizer.eos_token_id])
        replies = []
        for row, each in enumerate(batch):
            tokens = output[row, begin:].tolist()[: each.max_tokens]
            length = next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))
            replies.append(Sampled(tokens[:length], log_probs[row][:length]))
        return replies

    def _inputs(self, batch: Sequence[_Asked]) -> dict[str, Any]:
        """The batch as the model takes it, prompts aligned at their ends."""
        import torch

        device = self._model.device
        width = max(len(each.prompt_ids) for each in batch)
        ids = torch.full((len(batch), width), self._pad_id(), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, each in enumerate(batch):
            ids[row, width - len(each.prompt_ids) :] = torch.tensor(each.prompt_ids)
            mask[row, width - len(each.prompt_ids) :] = 1
        inputs: dict[str, Any] = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        images = [image for each in batch for image in each.images]
        if images:
            pixels = self._processor.image_processor(images=images, return_tensors="pt")
            inputs["pixel_values"] = pixels["pixel_values"].to(device, self._model.dtype)
            inputs["image_grid_thw"] = pixels["image_grid_thw"].to(device)
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == self._image_id).long()
        return inputs

    def _pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(self._tokenizer.eos_token_id if pad is None else pad)


def _recorder(temperature: float, never: Sequence[int]) -> Any:
    """Notes the log-probability of each token that is sampled, and keeps some tokens from being sampled.

    One step's distribution is kept at a time: those of all steps would be gigabytes for a large vocabulary.
    """
    import torch
    from transformers import LogitsProcessor

    class Recorder(LogitsProcessor):  # type: ignore[misc]
        def __init__(self) -> None:
            self.log_probs: list[torch.Tensor] = []
            self._last: torch.Tensor | None = None

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self.settle(input_ids)
            self._last = torch.log_softmax(scores.float() / temperature, dim=-1)
            scores = scores.clone()
            scores[:, list(never)] = -torch.inf
            return scores

        def settle(self, input_ids: torch.Tensor) -> None:
            """Look up what became of the last step."""
            if self._last is not None:
                self.log_probs.append(self._last.gather(1, input_ids[:, -1:])[:, 0])
                self._last = None

    return Recorder()


def _each_at_its_length(begin: int, most: Sequence[int]) -> Any:
    """Ends each reply of a batch at its own number of tokens."""
    import torch
    from transformers import StoppingCriteria

    class Lengths(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **options: Any) -> torch.Tensor:
            done = input_ids.shape[1] - begin
            return torch.tensor([done >= each for each in most], device=input_ids.device)

    return Lengths()


def _as_list(ids: int | Sequence[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
