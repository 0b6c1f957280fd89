"""`LocalModel` with a tiny random model: the whole of transformers, in seconds."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

from videobrain.errors import (
    ContextLengthError,
    MissingDependencyError,
    ModelError,
    ModelStartError,
    ModelTimeoutError,
    RequestRejectedError,
)
from videobrain.models.engine import Engine
from videobrain.models.local import LocalModel
from videobrain.models.messages import (
    ChatRequest,
    ImagePart,
    Message,
    ModelEvent,
    NativeToolCall,
    TextDelta,
    TextPart,
    ToolSchema,
)
from videobrain.models.protocol import ChatModel
from videobrain.settings import Settings
from videobrain.video.frame import EncodedFrame, Frame

pytest.importorskip("transformers")

PATTERN = (
    r"<thinking>[^<]{1,80}</thinking>"
    r"(<tool_call>\{\"start_frame\": [0-9]{1,4}\}</tool_call>|<answer>[A-D]</answer>)"
)


def frame(index: int, colour: tuple[int, int, int], width: int = 64, height: int = 48) -> EncodedFrame:
    pixels = np.full((height, width, 3), colour, np.uint8)
    return EncodedFrame.encode(Frame(index, float(index), pixels))


def ask(*frames: EncodedFrame, text: str = "what do you see?", **fields: object) -> ChatRequest:
    parts = [part for one in frames for part in (TextPart(text=f"frame {one.frame_index}"), ImagePart(frame=one))]
    message = Message(role="user", parts=(*parts, TextPart(text=text)))
    return ChatRequest(messages=(message,), **{"max_output_tokens": 24, **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(tiny_random_model: Path) -> LocalModel:
    return LocalModel(str(tiny_random_model), settings=Settings(offline=True))


@pytest.mark.anyio
async def test_says_what_it_takes(model: LocalModel, tiny_random_model: Path) -> None:
    assert isinstance(model, ChatModel)
    capacity = await model.capacity()
    assert capacity.model == str(tiny_random_model)
    assert capacity.max_model_len == 32768
    assert model.profile.constrains
    assert model.profile.native_tools
    assert (model.profile.image_patch, model.profile.image_min_tokens, model.profile.image_max_tokens) == (32, 4, 1024)


@pytest.mark.anyio
async def test_sees_images_in_their_order(model: LocalModel) -> None:
    red, blue = frame(0, (255, 0, 0)), frame(1, (0, 0, 255))
    replies = [await model.complete(ask(*frames)) for frames in ([red, blue], [blue, red], [red, blue])]
    texts = [reply.text for reply in replies]
    assert texts[0] == texts[2] != texts[1]
    assert [reply.finish_reason for reply in replies] == ["length"] * 3
    assert [reply.output_tokens for reply in replies] == [24] * 3


@pytest.mark.anyio
async def test_counts_prompt_tokens_as_the_profile_does(model: LocalModel) -> None:
    await model.capacity()
    pictures = [frame(index, (9, 9, 9), 448, 252) for index in range(3)]
    without, with_images = await model.complete(ask()), await model.complete(ask(*pictures))
    labels = await model.complete(ask(text="frame 0frame 1frame 2what do you see?"))
    assert with_images.input_tokens - labels.input_tokens == 3 * model.profile.image_tokens(448, 252)
    assert without.input_tokens < labels.input_tokens


@pytest.mark.anyio
@pytest.mark.parametrize("temperature", [None, 1.0])
async def test_constrained_replies_match_the_pattern(model: LocalModel, temperature: float | None) -> None:
    for seed in range(5):
        request = ask(
            frame(0, (50 * seed, 200, 9)), pattern=PATTERN, max_output_tokens=200, temperature=temperature, seed=seed
        )
        reply = await model.complete(request)
        assert re.fullmatch(PATTERN, reply.text), reply.text
        assert reply.finish_reason == "stop"


@pytest.mark.anyio
async def test_a_constrained_reply_can_be_cut_off(model: LocalModel) -> None:
    reply = await model.complete(ask(pattern=r"(word ){100}", max_output_tokens=16))
    assert reply.finish_reason == "length"
    assert ("word " * 100).startswith(reply.text)


@pytest.mark.anyio
async def test_a_wrong_pattern_is_rejected(model: LocalModel) -> None:
    with pytest.raises(RequestRejectedError, match="pattern"):
        await model.complete(ask(pattern="(unclosed"))


@pytest.mark.anyio
async def test_seed_decides_and_the_application_keeps_its_own_random_state(model: LocalModel) -> None:
    import torch

    before = torch.random.get_rng_state()
    texts = [(await model.complete(ask(temperature=1.0, seed=seed))).text for seed in (1, 2, 1)]
    assert texts[0] == texts[2] != texts[1]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.anyio
async def test_native_calls_are_parsed_and_the_rest_stays_text(model: LocalModel) -> None:
    tool = ToolSchema(name="look", description="Look.", parameters={"type": "object", "properties": {}})
    call = r'<tool_call>\{"name": "look", "arguments": \{"at": [0-9]\}\}</tool_call>'
    reply = await model.complete(ask(pattern=f"text {call}", tools=(tool,), max_output_tokens=60))
    assert reply.finish_reason == "tool_calls"
    assert reply.text == "text"
    assert [one.name for one in reply.tool_calls] == ["look"]
    assert re.fullmatch(r'\{"at": \d\}', reply.tool_calls[0].arguments)
    plain = await model.complete(ask(pattern=f"text {call}", max_output_tokens=60))
    assert plain.tool_calls == ()
    assert plain.text.startswith("text <tool_call>")
    bad = await model.complete(ask(pattern=r"<tool_call>\{broken\}</tool_call>", tools=(tool,), max_output_tokens=60))
    assert bad.tool_calls == ()
    assert bad.text == "<tool_call>{broken}</tool_call>"


@pytest.mark.anyio
async def test_a_conversation_with_native_calls_is_rendered(model: LocalModel) -> None:
    call = NativeToolCall(id="1", name="look", arguments='{"at": 3}')
    tool = ToolSchema(name="look", description="Look.", parameters={"type": "object", "properties": {}})
    messages = (
        Message(role="system", parts=(TextPart(text="be brief"),)),
        Message(role="user", parts=(TextPart(text="when?"),)),
        Message(role="assistant", parts=(), tool_calls=(call,)),
        Message(role="tool", parts=(TextPart(text="done"),), tool_call_id="1"),
        Message(role="user", parts=(ImagePart(frame=frame(3, (1, 2, 3))),)),
    )
    reply = await model.complete(ChatRequest(messages=messages, tools=(tool,), max_output_tokens=16))
    fewer = await model.complete(ChatRequest(messages=messages[:-1], tools=(tool,), max_output_tokens=16))
    assert reply.input_tokens > fewer.input_tokens


@pytest.mark.anyio
async def test_too_long_a_conversation_is_told_before_any_work(model: LocalModel) -> None:
    with pytest.raises(ContextLengthError, match="32768"):
        await model.complete(ask(max_output_tokens=32768))


@pytest.mark.anyio
async def test_streams_text_deltas(tiny_random_model: Path) -> None:
    model = LocalModel(str(tiny_random_model), settings=Settings(offline=True, stream_replies=True))
    events: list[ModelEvent] = []
    loop_thread = threading.get_ident()
    threads = set()

    def note(event: ModelEvent) -> None:
        events.append(event)
        threads.add(threading.get_ident())

    reply = await model.complete(ask(pattern=PATTERN, max_output_tokens=200), on_event=note)
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(deltas) > 3
    assert "".join(deltas) == reply.text
    assert threads == {loop_thread}
    await model.aclose()


@pytest.mark.anyio
async def test_concurrent_requests_wait_for_each_other(model: LocalModel) -> None:
    requests = [ask(frame(0, (60 * n, 0, 0)), temperature=1.0, seed=n, max_output_tokens=40) for n in range(4)]
    alone = [(await model.complete(request)).text for request in requests]
    together: dict[int, str] = {}

    async def run(number: int) -> None:
        together[number] = (await model.complete(requests[number])).text

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(run, number)
    assert [together[number] for number in range(4)] == alone


@pytest.mark.anyio
async def test_a_cancelled_reply_ends_soon_and_the_next_one_is_served(model: LocalModel) -> None:
    await model.capacity()
    with anyio.move_on_after(0.4) as scope:
        await model.complete(ask(max_output_tokens=30000, pattern="(a){30000}"))
    assert scope.cancelled_caught
    started = time.monotonic()
    await model.complete(ask(max_output_tokens=16))
    assert time.monotonic() - started < 2


@pytest.mark.anyio
async def test_a_prompt_of_many_frames_is_cancelled_between_layers(model: LocalModel) -> None:
    await model.capacity()
    frames = [frame(index, (index, 0, 0), 640, 360) for index in range(56)]
    with pytest.raises(ModelTimeoutError, match=r"within 0\.5 s"):
        await model.complete(ask(*frames, timeout_seconds=0.5))
    started = time.monotonic()
    await model.complete(ask(max_output_tokens=16))
    assert time.monotonic() - started < 2


@pytest.mark.anyio
async def test_a_request_has_its_time_from_its_turn_on(tiny_random_model: Path) -> None:
    settings = Settings(offline=True, request_timeout_seconds=1.5)
    model = LocalModel(str(tiny_random_model), settings=settings)
    await model.capacity()
    outcomes: list[str] = []

    async def run(tokens: int) -> None:
        try:
            await model.complete(ask(max_output_tokens=tokens, pattern=f"(a){{{tokens}}}"))
            outcomes.append("replied")
        except ModelTimeoutError as error:
            outcomes.append("late" if "REQUEST_TIMEOUT_SECONDS" in str(error) else str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(run, 30000)
        await anyio.sleep(0.2)
        for _ in range(3):
            group.start_soon(run, 16)
    assert outcomes == ["late", "replied", "replied", "replied"]
    await model.aclose()


@pytest.mark.anyio
async def test_closing_does_not_wait_for_weights_on_their_way(
    tiny_random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LocalModel(str(tiny_random_model), settings=Settings(offline=True))
    fetching, fetched = threading.Event(), threading.Event()
    load = Engine.load

    def slow(*given: Any, **named: Any) -> Engine:
        engine = load(*given, **named)
        fetching.set()
        assert fetched.wait(30)
        return engine

    monkeypatch.setattr(Engine, "load", slow)
    async with anyio.create_task_group() as group:
        group.start_soon(model.capacity)
        await anyio.to_thread.run_sync(fetching.wait)
        group.cancel_scope.cancel()
    with anyio.fail_after(3):
        await model.aclose()
    fetched.set()
    monkeypatch.undo()
    await model.aclose()
    assert model._engine is None  # what came too late was freed
    assert (await model.complete(ask(max_output_tokens=4))).output_tokens == 4
    await model.aclose()


@pytest.mark.anyio
async def test_closing_ends_running_replies_and_frees_the_weights(tiny_random_model: Path) -> None:
    model = LocalModel(str(tiny_random_model), settings=Settings(offline=True))
    await model.capacity()
    failures: list[ModelError] = []

    async def run() -> None:
        try:
            await model.complete(ask(max_output_tokens=30000, pattern="(a){30000}"))
        except ModelError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(0.3)
        with anyio.fail_after(2):
            await model.aclose()
    assert "closed" in str(failures[0])
    await model.aclose()
    assert (await model.complete(ask(max_output_tokens=16))).output_tokens == 16
    await model.aclose()


@pytest.mark.anyio
async def test_the_event_loop_runs_on_while_the_model_replies(model: LocalModel) -> None:
    await model.capacity()
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await anyio.sleep(0.005)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        await model.complete(ask(max_output_tokens=100, pattern="(a){100}"))
        group.cancel_scope.cancel()
    assert len(ticks) > 5
    assert max(after - before for before, after in itertools.pairwise(ticks)) < 0.5


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("./no/such/dir", "no model directory"),
        ("/no/such/dir", "no model directory"),
        ("nobody/no-such-model", "VIDEOBRAIN_OFFLINE"),
    ],
)
async def test_a_missing_model_is_told_quickly(source: str, says: str) -> None:
    model = LocalModel(source, settings=Settings(offline=True))
    started = time.monotonic()
    with pytest.raises(ModelStartError, match=says) as caught:
        await model.capacity()
    assert source in str(caught.value)
    assert time.monotonic() - started < 15


@pytest.mark.anyio
async def test_missing_packages_are_told(
    tiny_random_model: Path, model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await model.capacity()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingDependencyError, match=r"videobrain\[local\]"):
        await LocalModel(str(tiny_random_model), settings=Settings(offline=True)).capacity()
    fresh = LocalModel(str(tiny_random_model), settings=Settings(offline=True))
    monkeypatch.undo()
    await fresh.capacity()
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingDependencyError, match=r"videobrain\[local\]"):
        await fresh.complete(ask(pattern="a"))
    await fresh.aclose()


@pytest.mark.anyio
async def test_a_directory_that_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelStartError, match="cannot be loaded"):
        await LocalModel(str(tmp_path), settings=Settings(offline=True)).capacity()


@pytest.mark.anyio
async def test_a_text_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    with pytest.raises(ModelStartError, match="cannot be loaded"):
        await LocalModel(str(tmp_path), settings=Settings(offline=True)).capacity()


def test_the_tiny_model_has_the_same_weights_for_the_same_seed(tiny_random_model: Path, tmp_path: Path) -> None:
    from videobrain.models.tiny_random import make_tiny_random_model

    names = ["model.safetensors", "tokenizer.json", "config.json"]
    first = [(tiny_random_model / name).read_bytes() for name in names]
    assert [(make_tiny_random_model(tmp_path / "again") / name).read_bytes() for name in names] == first
    assert (make_tiny_random_model(tmp_path / "other", seed=1) / names[0]).read_bytes() != first[0]
