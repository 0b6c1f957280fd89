"""One model object in several event loops: one after the other, and at once in two threads."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from videobrain.blocking import LoopThread
from videobrain.models import ChatModel, ChatRequest, Message, OpenAIModel, TextPart
from videobrain.models.turns import Turns
from videobrain.models.vllm import ManagedVLLM
from videobrain.settings import Settings
from videobrain.testing import FakeServer, Fault

pytestmark = pytest.mark.timeout(30)

REQUEST = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Who scores?"),)),), max_output_tokens=16)


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 3
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


async def text(model: ChatModel) -> str:
    return (await model.complete(REQUEST)).text


# A loop that ends takes its connections with it unclosed, of which Python warns.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("stream", [False, True])
def test_a_model_survives_its_event_loop(stream: bool) -> None:
    async def many(model: OpenAIModel) -> list[str]:
        return await asyncio.gather(*(text(model) for _ in range(5)))

    with FakeServer(lambda body: "ok") as server:
        model = OpenAIModel("fake-model", base_url=server.base_url, settings=Settings(stream_replies=stream))
        for _ in range(3):
            assert asyncio.run(many(model)) == ["ok"] * 5
        assert sum(request.path == "/v1/models" for request in server.all_requests) == 1
        asyncio.run(model.aclose())
        gc.collect()
        assert eventually(lambda: server.open_connections == 0)


def test_an_event_loop_that_ended_in_the_middle_of_a_question_holds_up_no_other() -> None:
    with FakeServer(["ok"], model_faults=[Fault.hang()]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)

        async def broken_off() -> None:
            asking = [asyncio.create_task(text(model)) for _ in range(3)]
            await asyncio.sleep(0.2)
            assert not any(task.done() for task in asking)

        async def again() -> str:
            try:
                return await text(model)
            finally:
                await model.aclose()

        asyncio.run(broken_off())
        assert asyncio.run(again()) == "ok"


def test_two_event_loops_at_once() -> None:
    with FakeServer(lambda body: "ok", model_faults=[Fault.status(200, {"data": []}).after(0.3)]) as server:
        model = OpenAIModel("fake-model", base_url=server.base_url)
        beside = LoopThread()
        other: list[str] = []
        thread = threading.Thread(target=lambda: other.append(beside.run(text(model))))

        async def here() -> None:
            thread.start()
            assert await text(model) == "ok"
            await anyio.to_thread.run_sync(thread.join)
            assert other == ["ok"]
            assert server.open_connections == 2
            await model.aclose()

        asyncio.run(here())
        assert eventually(lambda: server.open_connections == 0)
        beside.close()
        assert sum(request.path == "/v1/models" for request in server.all_requests) == 1


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_managed_server_outlives_the_event_loop_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_PIDS", str(tmp_path / "pids.json"))
    command = f"{sys.executable} {Path(__file__).with_name('fake_vllm.py')} good"
    model = ManagedVLLM("m", settings=Settings(vllm_command=command, cache_dir=tmp_path))
    try:
        assert asyncio.run(text(model)) == "<answer>A</answer>"
        assert asyncio.run(text(model)) == "<answer>A</answer>"
        assert len(list((tmp_path / "logs").glob("vllm-*.log"))) == 1
    finally:
        asyncio.run(model.aclose())
    gc.collect()


@pytest.mark.anyio
async def test_turns_are_taken_in_order_and_given_up_by_who_is_cancelled() -> None:
    turns = Turns()
    order: list[int] = []
    impatient = anyio.CancelScope()

    async def take(number: int) -> None:
        with impatient if number == 1 else anyio.CancelScope():
            async with turns:
                order.append(number)
                await anyio.sleep(0.03)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(take, number)
        await anyio.sleep(0.01)
        impatient.cancel()
    assert order == [0, 2, 3]
    async with turns:
        pass
