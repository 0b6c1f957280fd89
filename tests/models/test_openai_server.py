"""`OpenAIModel` against a real vLLM with a tiny random model: what the doubles claim of vLLM is so."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from environments.fixtures import VLLMServer

from videobrain.errors import AuthenticationError, ContextLengthError, RequestRejectedError, UnknownModelError
from videobrain.models import (
    ChatRequest,
    ImagePart,
    Message,
    ModelEvent,
    NativeToolCall,
    OpenAIModel,
    TextDelta,
    TextPart,
    ToolSchema,
)
from videobrain.settings import Settings
from videobrain.video.frame import EncodedFrame, Frame

pytestmark = [pytest.mark.anyio, pytest.mark.server, pytest.mark.timeout(900)]

PATTERN = r"<thinking>[a-z ]{3,20}</thinking><answer>[A-D]</answer>"


def conversation(frames: int = 3, **options: Any) -> ChatRequest:
    parts: list[TextPart | ImagePart] = [TextPart(text="Who scores?")]
    for index in range(frames):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
        parts += [TextPart(text=f"frame {index}:"), ImagePart(frame=EncodedFrame.encode(Frame(index, 0.0, pixels)))]
    return ChatRequest(
        messages=(Message(role="user", parts=tuple(parts)),), **{"max_output_tokens": 64, "temperature": 0.0, **options}
    )


@asynccontextmanager
async def connected(server: VLLMServer, **settings: Any) -> AsyncIterator[OpenAIModel]:
    model = OpenAIModel(None, base_url=server.base_url, api_key=server.api_key, settings=Settings(**settings))
    try:
        yield model
    finally:
        await model.aclose()


async def test_capacity(vllm_server: VLLMServer) -> None:
    async with connected(vllm_server) as model:
        capacity = await model.capacity()
        assert capacity.model == vllm_server.model
        assert capacity.max_model_len is not None
        assert capacity.max_model_len > 0
        assert model.profile.constrains


@pytest.mark.parametrize("stream", [False, True])
async def test_replies_are_held_to_a_pattern(vllm_server: VLLMServer, stream: bool) -> None:
    events: list[ModelEvent] = []
    async with connected(vllm_server, stream_replies=stream, image_uuids=True) as model:
        first = await model.complete(conversation(pattern=PATTERN), on_event=events.append)
        again = await model.complete(conversation(pattern=PATTERN))
    assert re.fullmatch(PATTERN, first.text)
    assert first.finish_reason == "stop"
    assert again.text == first.text
    assert first.input_tokens > 3 * 4
    assert first.output_tokens > 5
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == (first.text if stream else "")


async def test_cut_off_at_the_token_limit(vllm_server: VLLMServer) -> None:
    async with connected(vllm_server) as model:
        reply = await model.complete(conversation(pattern="a{500}", max_output_tokens=16))
    assert (reply.finish_reason, reply.output_tokens) == ("length", 16)


async def test_native_tools_and_their_answers_are_accepted(vllm_server: VLLMServer) -> None:
    schema = {"type": "object", "properties": {"start_frame": {"type": "integer"}}, "required": ["start_frame"]}
    tool = ToolSchema(name="uniform_sample", description="Look evenly.", parameters=schema)
    call = NativeToolCall(id="call_1", name="uniform_sample", arguments='{"start_frame": 0}')
    request = conversation(1, tools=(tool,))
    history = (
        *request.messages,
        Message(role="assistant", parts=(), tool_calls=(call,)),
        Message(role="tool", parts=(TextPart(text="8 frames."),), tool_call_id="call_1"),
        *request.messages,
    )
    async with connected(vllm_server) as model:
        reply = await model.complete(request.model_copy(update={"messages": history}))
    assert reply.output_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_refusals(vllm_server: VLLMServer, stream: bool) -> None:
    async with connected(vllm_server, stream_replies=stream) as model:
        capacity = await model.capacity()
        length = capacity.max_model_len or 0
        text = Message(role="user", parts=(TextPart(text="who " * (2 * length)),))
        with pytest.raises(ContextLengthError, match=f"maximum context length.*{length}.*--max-model-len"):
            await model.complete(conversation().model_copy(update={"messages": (text,)}))
        with pytest.raises(RequestRejectedError) as caught:
            await model.complete(conversation(pattern="(unclosed"))
        assert caught.value.status == 400
        assert (await model.complete(conversation(1))).output_tokens > 0
    other = OpenAIModel("other", base_url=vllm_server.base_url, api_key=vllm_server.api_key)
    with pytest.raises(UnknownModelError, match=f"openai:{re.escape(vllm_server.model)}"):
        await other.complete(conversation(1))
    await other.aclose()
    stranger = OpenAIModel(None, base_url=vllm_server.base_url, api_key="wrong")
    with pytest.raises(AuthenticationError, match="Unauthorized"):
        await stranger.capacity()
    await stranger.aclose()
