"""The doubles that users get: they do what they say, and fail on what they did not expect."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest

from videobrain.errors import ModelServerError
from videobrain.models import ChatModel, ChatReply, ChatRequest, Message, ModelEvent, TextDelta, TextPart
from videobrain.testing import FakeServer, Fault, ScriptedModel, make_video, read_frame_index
from videobrain.video.frame import FrameSize, resize

REQUEST = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Who?"),)),))


# ScriptedModel


@pytest.mark.anyio
async def test_scripted_replies_come_in_order() -> None:
    reply = ChatReply(text="two", input_tokens=5)
    script = ["one", reply, lambda request: request.messages[0].text, ModelServerError("down")]
    async with ScriptedModel(script) as model:
        assert isinstance(model, ChatModel)
        assert (await model.complete(REQUEST)).text == "one"
        assert await model.complete(REQUEST) is reply
        assert (await model.complete(REQUEST)).text == "Who?"
        with pytest.raises(ModelServerError, match="down"):
            await model.complete(REQUEST)
    assert model.requests == [REQUEST] * 4
    assert (await model.capacity()).model == "scripted"
    await model.aclose()


@pytest.mark.anyio
async def test_an_unexpected_request_fails_and_stays_the_failure_that_is_seen() -> None:
    model = ScriptedModel([])
    with pytest.raises(AssertionError, match=r"request 1, its script has 0.*Who\?"):
        await model.complete(REQUEST)
    await model.aclose()


@pytest.mark.anyio
async def test_unused_steps_fail() -> None:
    model = ScriptedModel(["one", "two"])
    await model.complete(REQUEST)
    with pytest.raises(AssertionError, match="1 unused steps, the first is: 'two'"):
        model.assert_done()
    with pytest.raises(AssertionError, match="unused"):
        await model.aclose()
    with pytest.raises(AssertionError, match="unused"):
        async with model:
            pass
    with pytest.raises(ValueError, match="first"):
        async with model:
            raise ValueError("first")


@pytest.mark.anyio
async def test_scripted_text_can_stream() -> None:
    events: list[ModelEvent] = []
    await ScriptedModel(["one\ntwo"], streams=True).complete(REQUEST, on_event=events.append)
    assert events == [TextDelta(text="one\n"), TextDelta(text="two")]


# FakeServer


def post(server: FakeServer, body: dict[str, Any], path: str = "/v1/chat/completions") -> tuple[int, bytes]:
    url = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
    try:
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_an_unexpected_request_is_refused_and_fails_the_test() -> None:
    server = FakeServer()
    with server:
        status, body = post(server, {"model": "fake-model", "messages": []})
        assert status == 400
        assert b"no step" in body
        with pytest.raises(AssertionError, match="1 more requests than the 0"):
            server.assert_done()
        server._unexpected = 0
    with pytest.raises(AssertionError, match="1 more requests than the 0"), FakeServer() as server:
        post(server, {"model": "fake-model", "messages": []})


def test_unused_steps_of_a_server_fail_unless_something_failed_before() -> None:
    with pytest.raises(AssertionError, match="1 unused steps"), FakeServer(["never asked"]):
        pass
    with pytest.raises(ValueError, match="first"), FakeServer(["never asked"]):
        raise ValueError("first")


def test_refusals_in_vllms_words_use_no_step() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    with FakeServer(["ok"], max_images=1) as server:
        status, body = post(server, {"model": "other", "messages": []})
        assert (status, json.loads(body)["error"]["message"]) == (404, "The model `other` does not exist.")
        status, body = post(server, {"messages": [{"role": "user", "content": [image, image]}]})
        assert (status, json.loads(body)["error"]["param"]) == (400, "image")
        assert post(server, {}, "/v1/nothing") == (404, b'{"detail": "Not Found"}')
        status, body = post(server, {"messages": [{"role": "user", "content": [image]}]})
        assert json.loads(body)["choices"][0]["message"]["content"] == "ok"
        assert len(server.requests) == 3


def test_a_stream_is_what_vllm_sends() -> None:
    with FakeServer(["one two"]) as server:
        status, body = post(server, {"messages": [], "stream": True, "stream_options": {"include_usage": True}})
    events = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
    assert status == 200
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == "one two"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 2)


def test_a_hanging_answer_ends_with_the_server() -> None:
    with FakeServer([Fault.hang()]) as server:
        url = urlsplit(server.base_url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=5)
        connection.request("POST", "/v1/chat/completions", "{}")
        while not server.requests:
            pass
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        connection.getresponse()
    connection.close()


# make_video


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("h264", ".mkv"), ("h264", ".ts"), ("mpeg4", ".mp4")])
def test_each_frame_of_a_made_video_says_which_it_is(tmp_path: Path, codec: str, suffix: str) -> None:
    frames = decoded(make_video(tmp_path / f"a{suffix}", codec=codec, seconds=2, fps=30))
    assert len(frames) == 60
    assert [read_frame_index(pixels) for _, pixels in frames] == list(range(60))
    start = frames[0][0]
    assert [seconds - start for seconds, _ in frames] == pytest.approx([k / 30 for k in range(60)], abs=1.1e-3)
    assert [read_frame_index(resize(pixels, FrameSize(128, 72))) for _, pixels in frames] == list(range(60))


def test_scenes_have_their_colours(tmp_path: Path) -> None:
    equal = decoded(make_video(tmp_path / "equal.mp4", seconds=2, scenes=("red", "#0000ff")))
    placed = decoded(make_video(tmp_path / "placed.mp4", seconds=2, scenes=(("red", 0.0), ("lime", 0.4), ("red", 1.0))))

    def colour(pixels: np.ndarray) -> str:
        return "rgb"[int(pixels[20, 20].argmax())]

    assert "".join(colour(pixels) for _, pixels in equal) == "r" * 25 + "b" * 25
    assert "".join(colour(pixels) for _, pixels in placed) == "r" * 10 + "g" * 15 + "r" * 25


def test_timestamps_make_a_variable_frame_rate(tmp_path: Path) -> None:
    times = [1.0, 1.1, 1.5, 2.25, 2.26]
    for suffix in (".mp4", ".mkv"):
        frames = decoded(make_video(tmp_path / f"vfr{suffix}", timestamps=times))
        assert [seconds for seconds, _ in frames] == pytest.approx(times, abs=1.1e-3)
        assert [read_frame_index(pixels) for _, pixels in frames] == list(range(5))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_the_same_arguments_give_the_same_file(tmp_path: Path, suffix: str) -> None:
    made = {make_video(tmp_path / f"a{suffix}", seconds=1).read_bytes() for _ in range(5)}
    assert len(made) == 1


def test_impossible_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="increase"):
        make_video(tmp_path / "a.mp4", timestamps=[0.0, 0.0])
    with pytest.raises(ValueError, match="scene"):
        make_video(tmp_path / "a.mp4", scenes=())
