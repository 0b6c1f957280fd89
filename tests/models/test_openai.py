"""What goes over the wire to a server, and what comes back."""

from __future__ import annotations

import base64
import gc
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from videobrain.errors import AuthenticationError, ConfigurationError, InvalidReplyError, UnknownModelError
from videobrain.models import (
    ChatReply,
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
from videobrain.models.messages import Part
from videobrain.models.profiles import profile_for
from videobrain.models.wire import ImageParts, request_body
from videobrain.settings import Settings
from videobrain.testing import FakeServer, Fault
from videobrain.video.frame import EncodedFrame, Frame

pytestmark = pytest.mark.anyio


def user(*parts: str | EncodedFrame) -> Message:
    made: list[Part] = [TextPart(text=part) if isinstance(part, str) else ImagePart(frame=part) for part in parts]
    return Message(role="user", parts=tuple(made))


def ask(*messages: Message, **options: Any) -> ChatRequest:
    return ChatRequest(messages=messages or (user("Who scores?"),), **options)


def noise_frame(index: int, *, height: int = 32, width: int = 48) -> EncodedFrame:
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    return EncodedFrame.encode(Frame(index, index / 25, pixels))


async def test_a_question_with_frames_goes_out_as_chat_completion() -> None:
    frame = noise_frame(7)
    with FakeServer(["<answer>B</answer>"]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        reply = await model.complete(
            ask(
                Message(role="system", parts=(TextPart(text="Answer."),)),
                user("frame 7:", frame, "Who?"),
                temperature=0.5,
                seed=3,
                max_output_tokens=99,
            )
        )
        await model.aclose()
        [body] = server.requests
    assert reply.text == "<answer>B</answer>"
    assert reply.finish_reason == "stop"
    assert (reply.input_tokens, reply.output_tokens, reply.model) == (10, 1, "fake-model")
    assert 0 < reply.seconds < 10
    assert body["messages"][0] == {"role": "system", "content": "Answer."}
    label, image, question = body["messages"][1]["content"]
    assert (label, question) == ({"type": "text", "text": "frame 7:"}, {"type": "text", "text": "Who?"})
    assert set(image) == {"type", "image_url"}
    prefix, _, data = image["image_url"]["url"].partition(",")
    assert prefix == "data:image/jpeg;base64"
    assert base64.b64decode(data) == frame.jpeg
    assert {name: body[name] for name in ("model", "temperature", "seed", "max_tokens")} == {
        "model": "fake-model",
        "temperature": 0.5,
        "seed": 3,
        "max_tokens": 99,
    }
    assert "structured_outputs" not in body
    assert "tools" not in body


async def test_image_uuids_are_the_digests() -> None:
    frame = noise_frame(1)
    with FakeServer(["ok"]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url, settings=Settings(image_uuids=True))
        await model.complete(ask(user(frame)))
        await model.aclose()
        assert server.requests[0]["messages"][0]["content"][0]["uuid"] == frame.digest


async def test_capacity_discovers_the_one_model_its_context_and_that_it_is_vllm() -> None:
    with FakeServer(["ok"], models=["Qwen/Qwen3-VL-8B-Instruct"], max_model_len=4096) as server:
        model = OpenAIModel(None, base_url=server.base_url)
        assert not model.profile.constrains
        capacity = await model.capacity()
        assert (capacity.model, capacity.max_model_len) == ("Qwen/Qwen3-VL-8B-Instruct", 4096)
        assert model.name == "openai:Qwen/Qwen3-VL-8B-Instruct"
        assert model.profile.constrains
        assert model.profile.name == "qwen3-vl"
        await model.capacity()
        await model.complete(ask())
        await model.aclose()
        assert [request.path for request in server.all_requests] == ["/v1/models", "/v1/chat/completions"]


async def test_an_alias_takes_the_profile_of_what_it_stands_for() -> None:
    with FakeServer(models=["default"]) as server:
        listing = server._listing

        def with_root() -> Any:
            fault = listing()
            data = json.loads(fault.body)
            data["data"][0]["root"] = "/models/Qwen2.5-VL-7B-Instruct"
            return type(fault).status(200, data)

        server._listing = with_root  # type: ignore[method-assign]
        model = OpenAIModel("default", base_url=server.base_url)
        await model.capacity()
        await model.aclose()
    assert model.profile.name == "qwen2-vl"
    assert model.profile.image_patch == 28


async def test_several_models_must_be_named_and_are_listed() -> None:
    with FakeServer(models=["one", "two"]) as server:
        model = OpenAIModel(None, base_url=server.base_url)
        with pytest.raises(ConfigurationError, match=r"openai:one, openai:two.*--model"):
            await model.capacity()
        await model.aclose()


async def test_a_model_that_vllm_does_not_serve_is_known_before_any_frame_is_sent() -> None:
    with FakeServer(models=["one", "two"]) as server:
        model = OpenAIModel("three", base_url=server.base_url)
        with pytest.raises(UnknownModelError, match=r"three.*openai:one, openai:two"):
            await model.complete(ask())
        await model.aclose()
        assert server.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(400),
        Fault.status(403, {"error": {"message": "This key may not list models."}}),
        Fault.status(404, {"detail": "Not Found"}),
        Fault.status(405),
        Fault.garbage(),
        Fault.empty(),
    ],
    ids=lambda fault: f"{fault.code} {len(fault.body)}",
)
async def test_a_server_that_lists_no_models_is_asked_all_the_same(fault: Fault) -> None:
    with FakeServer(["ok"], model_faults=[fault] * 2) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        capacity = await model.capacity()
        assert (capacity.model, capacity.max_model_len) == ("fake-model", None)
        assert len(server.all_requests) == 1
        assert (await model.complete(ask())).text == "ok"
        assert not model.profile.constrains
        await model.aclose()


@pytest.mark.parametrize(
    ("model", "fault", "error"),
    [
        ("fake-model", Fault.unauthorized(), AuthenticationError),
        (None, Fault.status(403), AuthenticationError),
        (None, Fault.garbage(), InvalidReplyError),
    ],
)
async def test_a_list_that_is_needed_or_a_key_that_is_wrong_is_told(
    model: str | None, fault: Fault, error: type[Exception]
) -> None:
    with FakeServer(model_faults=[fault]) as server:
        asked = OpenAIModel(model, base_url=server.base_url, settings=Settings(retries=0))
        with pytest.raises(error):
            await asked.capacity()
        await asked.aclose()


async def test_a_pattern_becomes_vllms_structured_outputs() -> None:
    with FakeServer(["<answer>A</answer>"]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        await model.complete(ask(pattern="<answer>[A-D]</answer>"))
        await model.aclose()
        assert server.requests[0]["structured_outputs"] == {"regex": "<answer>[A-D]</answer>"}


async def test_a_pattern_is_refused_where_the_server_would_ignore_it() -> None:
    with FakeServer(owned_by="library") as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        with pytest.raises(ConfigurationError, match="constrain_replies"):
            await model.complete(ask(pattern="a"))
        await model.aclose()


TOOL = ToolSchema(
    name="uniform_sample",
    description="Look evenly.",
    parameters={"type": "object", "properties": {"start_frame": {"type": "integer"}}, "required": []},
)


@pytest.mark.parametrize("stream", [False, True])
async def test_native_tools_go_out_and_come_back(stream: bool) -> None:
    calls = (
        NativeToolCall(id="a", name="uniform_sample", arguments='{"start_frame": 0, "end_frame": 10}'),
        NativeToolCall(id="b", name="clip_sample", arguments='{"prompt": "a goal"}'),
    )
    with FakeServer([ChatReply(text="", tool_calls=calls, finish_reason="tool_calls")]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url, settings=Settings(stream_replies=stream))
        history = (
            user("Who?"),
            Message(role="assistant", parts=(), tool_calls=calls[:1]),
            Message(role="tool", parts=(TextPart(text="8 frames."),), tool_call_id="a"),
        )
        reply = await model.complete(ask(*history, tools=(TOOL,)))
        await model.aclose()
        [body] = server.requests
    assert reply.tool_calls == calls
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")
    assert body["tools"][0]["type"] == "function"
    assert body["tools"][0]["function"] == {**TOOL.model_dump(), "strict": True}
    assert body["messages"][1]["content"] is None
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == "uniform_sample"
    assert body["messages"][2] == {"role": "tool", "content": "8 frames.", "tool_call_id": "a"}


async def test_strict_is_left_out_where_openai_would_refuse_it() -> None:
    with FakeServer(["ok", "ok"], owned_by="system") as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        closed = {**TOOL.parameters, "additionalProperties": False, "required": ["start_frame"]}
        await model.complete(ask(tools=(TOOL, TOOL.model_copy(update={"parameters": closed}))))
        await model.complete(ask())
        await model.aclose()
        loose, strict = server.requests[0]["tools"]
    assert "strict" not in loose["function"]
    assert strict["function"]["strict"] is True


async def test_streamed_text_becomes_deltas_and_usage_is_kept() -> None:
    events: list[ModelEvent] = []
    scripted = ChatReply(
        text="naïve \u2028 <answer>B</answer>",
        reasoning="Hm.",
        input_tokens=1200,
        cached_tokens=1000,
        output_tokens=5,
    )
    with FakeServer([scripted, "again"]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url, settings=Settings(stream_replies=True))
        reply = await model.complete(ask(), on_event=events.append)
        await model.complete(ask())
        await model.aclose()
        assert server.requests[0]["stream_options"] == {"include_usage": True}
        assert server.connections_made == 1
    assert reply.model_copy(update={"seconds": 0.0}) == scripted.model_copy(update={"model": "fake-model"})
    assert all(isinstance(event, TextDelta) for event in events)
    assert len(events) > 2
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == scripted.text


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_kept_apart_under_either_name(field: str) -> None:
    message = {"role": "assistant", "content": "B", field: "Let me think."}
    answer = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with FakeServer([Fault.status(200, answer)]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        reply = await model.complete(ask())
        await model.aclose()
    assert (reply.text, reply.reasoning) == ("B", "Let me think.")
    assert (reply.input_tokens, reply.output_tokens) == (0, 0)


async def test_all_requests_share_one_pool_which_aclose_closes_and_a_later_request_opens_again() -> None:
    with FakeServer(lambda body: "ok") as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        for _ in range(5):
            await model.complete(ask())
        assert server.connections_made == 1
        await model.aclose()
        await model.aclose()
        deadline = time.monotonic() + 2
        while server.open_connections and time.monotonic() < deadline:
            time.sleep(0.005)  # noqa: ASYNC251  (the server runs in threads)
        assert server.open_connections == 0
        await model.complete(ask())
        assert server.connections_made == 2
        await model.aclose()


def test_parameters_follow_the_profile() -> None:
    request = ask(temperature=0.0, seed=1)
    body = request_body(
        request, model="o3", profile=profile_for("o3"), image=ImageParts(max_bytes=0, uuids=False), strict_tools=False
    )
    assert "temperature" not in body
    assert "seed" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == request.max_output_tokens


def test_each_frame_is_base64_encoded_once_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [noise_frame(index) for index in range(4)]
    url_bytes = len(base64.b64encode(frames[0].jpeg)) + 100
    images = ImageParts(max_bytes=3 * url_bytes, uuids=False)
    first = images(frames[0])
    assert images(frames[0].model_copy()) is first
    images(frames[1])
    images(frames[2])
    assert images(frames[0]) is first
    images(frames[3])  # drops the least recently used one, which is frame 1
    assert images(frames[0]) is first
    assert images._bytes <= 3 * url_bytes
    assert frames[1].digest not in images._parts
    nothing = ImageParts(max_bytes=0, uuids=False)
    assert nothing(frames[0]) == first
    assert nothing._bytes == 0


def test_a_frame_without_pixels_is_refused() -> None:
    frame = noise_frame(5).model_copy(update={"jpeg": b""})
    with pytest.raises(ConfigurationError, match="Frame 5"):
        ImageParts(max_bytes=1000, uuids=False)(frame)


def test_the_cost_of_a_turn_at_56_frames_is_small() -> None:
    rng = np.random.default_rng(0)
    frames = [
        EncodedFrame(
            frame_index=k, timestamp_seconds=k, width=640, height=360, digest=f"{k:064x}", jpeg=rng.bytes(60_000)
        )
        for k in range(56)
    ]
    request = ask(*(user(*(part for frame in frames[k : k + 8] for part in ("frame", frame))) for k in range(0, 56, 8)))
    images = ImageParts(max_bytes=2**27, uuids=True)
    profile = profile_for("Qwen/Qwen3-VL-8B-Instruct")

    def turn() -> float:
        began = time.thread_time()
        request_body(request, model="m", profile=profile, image=images, strict_tools=True)
        return time.thread_time() - began

    gc.collect()
    turn()
    assert min(turn() for _ in range(5)) < 0.005


def test_nothing_heavy_is_imported_before_the_first_request() -> None:
    code = (
        "import sys; from videobrain.models import OpenAIModel; OpenAIModel('m', base_url='http://127.0.0.1:1/v1');"
        "print([name for name in ('openai', 'torch', 'transformers', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.anyio
async def test_tools_that_may_not_be_called_any_more_stay_in_the_request() -> None:
    tool = ToolSchema(name="look", description="Look.", parameters={"type": "object", "properties": {}})
    message = Message(role="user", parts=(TextPart(text="What?"),))
    with FakeServer(["yes", "yes"]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url, api_key="none")
        for may_call in (True, False):
            await model.complete(ChatRequest(messages=(message,), tools=(tool,), may_call=may_call))
        await model.aclose()
    first, last = server.requests
    assert first["tools"] == last["tools"]
    assert ("tool_choice" in first, last["tool_choice"]) == (False, "none")
