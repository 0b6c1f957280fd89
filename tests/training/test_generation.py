"""Replies sampled in batches are those of single requests, and their log-probabilities the model's own."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from videobrain.errors import ConfigurationError
from videobrain.models import ChatRequest, ImagePart, Message, TextPart
from videobrain.models.engine import Engine, frame_image
from videobrain.training.generation import BatchedGenerator
from videobrain.training.token_model import Sampled, Sampling
from videobrain.video import EncodedFrame
from videobrain.video.frame import Frame
from videobrain.world import World


@pytest.fixture(scope="module")
def engine(tiny_random_model: Path) -> Engine:
    return Engine.load(str(tiny_random_model), offline=True, stop=threading.Event())


@pytest.fixture
def generator(engine: Engine) -> BatchedGenerator:
    return BatchedGenerator(engine._model, engine.processor, most=3)


def a_request(engine: Engine, text: str, frames: int = 0) -> tuple[list[int], list[Any]]:
    world = World(0, duration_seconds=120)
    shown = [EncodedFrame.encode(Frame(index, index / 10, world.draw(index))) for index in range(frames)]
    parts = (TextPart(text=text), *(ImagePart(frame=frame) for frame in shown))
    inputs = engine.encode(ChatRequest(messages=(Message(role="user", parts=parts),)))
    return inputs["input_ids"][0].tolist(), [frame_image(frame) for frame in shown]


def log_probs(engine: Engine, prompt: list[int], images: list[Any], reply: Sampled, temperature: float) -> list[float]:
    """What one pass over prompt and reply gives, as a trainer makes it."""
    ids = torch.tensor([[*prompt, *reply.token_ids]])
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if images:
        pixels = engine.processor.image_processor(images=images, return_tensors="pt")
        image = engine.processor.tokenizer.convert_tokens_to_ids(engine.processor.image_token)
        inputs |= {**pixels, "mm_token_type_ids": (ids == image).long()}
    with torch.inference_mode():
        logits = engine._model(**inputs).logits[0, len(prompt) - 1 : -1].float() / temperature
    return torch.log_softmax(logits, -1).gather(1, ids[0, len(prompt) :, None])[:, 0].tolist()


@pytest.mark.anyio
async def test_a_batch_of_different_requests(engine: Engine, generator: BatchedGenerator) -> None:
    requests = [
        a_request(engine, "What is it?"),
        a_request(engine, "Look at this, and say.", 2),
        a_request(engine, "On"),
    ]
    requests += [a_request(engine, "And this?", 1)]
    lengths = [5, 9, 3, 7]
    replies = await asyncio.gather(
        *(
            generator.generate(prompt, images, Sampling(length, temperature=0.7))
            for (prompt, images), length in zip(requests, lengths, strict=True)
        )
    )
    end = engine.processor.tokenizer.eos_token_id
    for (prompt, images), length, reply in zip(requests, lengths, replies, strict=True):
        assert len(reply.token_ids) == length or (len(reply.token_ids) < length and reply.token_ids[-1] == end)
        assert end not in reply.token_ids[:-1]
        assert reply.log_probs is not None
        assert list(reply.log_probs) == pytest.approx(log_probs(engine, prompt, images, reply, 0.7), abs=1e-4)


@pytest.mark.anyio
async def test_the_likeliest_tokens_are_those_of_a_single_request(engine: Engine, generator: BatchedGenerator) -> None:
    requests = [a_request(engine, "What is it?", 1), a_request(engine, "Say something much longer than that.")]
    together = await asyncio.gather(*(generator.generate(*request, Sampling(8, temperature=0)) for request in requests))
    for (prompt, images), reply in zip(requests, together, strict=True):
        alone = await generator.generate(prompt, images, Sampling(8))
        assert alone.token_ids == reply.token_ids


@pytest.mark.anyio
async def test_image_tokens_are_never_sampled(engine: Engine, generator: BatchedGenerator) -> None:
    tokenizer = engine.processor.tokenizer
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    prompt, _ = a_request(engine, "What?")
    weight = engine._model.lm_head.weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():  # all logits are those of the image token, or 0
            weight[:] = 0
            weight[image] = 1
        replies = await asyncio.gather(
            *(generator.generate(prompt, [], Sampling(20, temperature=1.0)) for _ in range(3))
        )
    finally:
        with torch.no_grad():
            weight[:] = before
    assert all(image not in reply.token_ids for reply in replies)


@pytest.mark.anyio
async def test_an_error_goes_to_those_who_asked(engine: Engine, generator: BatchedGenerator) -> None:
    prompt, images = a_request(engine, "Look.", 1)
    with pytest.raises(Exception, match=r"(?i)image"):
        await generator.generate(prompt[:-30] + prompt[-6:], images, Sampling(4, temperature=1.0))
    assert (await generator.generate(prompt, images, Sampling(4, temperature=1.0))).token_ids


@pytest.mark.anyio
async def test_who_no_longer_waits_is_left_out(engine: Engine, generator: BatchedGenerator) -> None:
    prompt, images = a_request(engine, "What?")
    first = asyncio.create_task(generator.generate(prompt, images, Sampling(4, temperature=1.0)))
    second = asyncio.create_task(generator.generate(prompt, images, Sampling(4, temperature=1.0)))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).token_ids


@pytest.mark.anyio
async def test_a_seed_settles_what_is_sampled(engine: Engine, generator: BatchedGenerator) -> None:
    state = {name: weight.clone() for name, weight in engine._model.state_dict().items()}
    prompt, images = a_request(engine, "What?")
    replies = []
    for seed in (1, 1, 2):
        generator.load(state, seed=seed)
        replies.append((await generator.generate(prompt, images, Sampling(12, temperature=1.0))).token_ids)
    assert replies[0] == replies[1] != replies[2]


def test_new_weights(engine: Engine, generator: BatchedGenerator) -> None:
    state = {name: weight.clone() for name, weight in engine._model.state_dict().items()}
    generator.load(state)
    name = next(iter(state))
    with pytest.raises(ConfigurationError, match="missing"):
        generator.load({key: weight for key, weight in state.items() if key != name})
    with pytest.raises(ConfigurationError, match=r"unknown to the rollout's model, 'base_model\.x'"):
        generator.load({**state, "base_model.x": state[name]})
