"""The cache of replies: what is asked twice, what never is, and that nobody can tell the difference otherwise."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.report.traces import frame
from videobrain import ConfigurationError, ModelProfile, Settings, VideoBrain
from videobrain.errors import ModelError, ModelServerError, ModelTimeoutError, RequestRejectedError
from videobrain.models import (
    CachedModel,
    ChatModel,
    ChatReply,
    ChatRequest,
    ImagePart,
    Message,
    ModelCapacity,
    ModelEvent,
    NativeToolCall,
    OpenAIModel,
    RequestRetried,
    TextDelta,
    TextPart,
    ToolSchema,
    resolve_model,
)
from videobrain.models.retry import RetryPolicy
from videobrain.report import render_report
from videobrain.testing import FakeServer, Fault, ScriptedModel, make_video
from videobrain.testing.faults import error_body

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]
QUICK = RetryPolicy(retries=3, seconds=10.0, base_seconds=0.001)


def ask(text: str = "Who scores?", **fields: Any) -> ChatRequest:
    parts = (TextPart(text=text), ImagePart(frame=frame(3)))
    return ChatRequest(**{"messages": (Message(role="user", parts=parts),), "temperature": 0.0, **fields})


def cached(model: ChatModel, directory: Path, **arguments: Any) -> CachedModel:
    return CachedModel(model, directory / "replies.sqlite", **arguments)


def on_server(server: FakeServer, directory: Path, **settings: Any) -> CachedModel:
    settings = {"retries": 3, "retry_seconds": 5.0, **settings}
    model = OpenAIModel("fake-model", base_url=server.base_url, settings=Settings(**settings), retry=QUICK)
    return cached(model, directory)


class GatedModel:
    """Replies when it is let."""

    name = "gated"
    profile = ModelProfile()

    def __init__(self, *steps: str | Exception) -> None:
        self.gate = anyio.Event()
        self.steps = list(steps)
        self.requests: list[ChatRequest] = []

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        return ModelCapacity(model=self.name)

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        self.requests.append(request)
        assert on_event is not None
        on_event(TextDelta(text="A"))
        with anyio.move_on_after(request.timeout_seconds):
            await self.gate.wait()
            step = self.steps.pop(0)
            if isinstance(step, Exception):
                raise step
            on_event(TextDelta(text=step[1:]))
            return ChatReply(text=step, input_tokens=7)
        raise ModelTimeoutError("It took too long.")

    async def aclose(self) -> None:
        pass


# --- A whole question ------------------------------------------------------------------------------------------------

LOOK = (
    '<thinking>Look.</thinking><tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 20}}'
    "</tool_call>"
)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_question_asked_again_has_the_same_answer_without_a_request(tmp_path: Path, stream: bool) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=2)
    script = [LOOK, "neither call nor answer", Fault.status(503), "<thinking>Yes.</thinking><answer>red</answer>"]
    answers, deltas = [], []
    with FakeServer(script) as server:
        for _ in range(2):
            settings = Settings(
                cache_dir=tmp_path / "cache", reply_cache=True, stream_replies=stream, warm_index=False, retry_seconds=5
            )
            said: list[str] = []
            async with (
                VideoBrain("openai:fake-model", base_url=server.base_url, settings=settings) as brain,
                brain.stream(video, "Which colour?") as events,
            ):
                async for event in events:
                    if event.kind == "reply_delta":
                        said.append(event.text)
                    if event.kind == "finished":
                        answers.append(event.answer)
            deltas.append("".join(said))
        assert len(server.requests) == 4
    first, second = answers
    assert (first.text, first.usage.turns, first.usage.corrections, first.usage.input_tokens) == ("red", 2, 1, 30)
    assert (first.usage.cached_replies, second.usage.cached_replies) == (0, 3)
    aside = {"usage": {"seconds", "cached_replies"}}
    assert first.model_dump(exclude=aside) == second.model_dump(exclude=aside)
    marks = [render_report(answer.trace).count("from the cache of replies") for answer in answers]
    assert marks == [0, 3]
    assert deltas[0] == deltas[1]
    assert bool(deltas[0]) is stream


@pytest.mark.anyio
async def test_a_strategy_that_asks_by_itself_counts_cached_replies_too(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=1)
    settings = Settings(cache_dir=tmp_path / "cache", warm_index=False)

    class Once:
        name = "once"

        async def run(self, run: Any) -> Any:
            from videobrain.agent import Conclusion

            await run.plan(initial_frames=1, tools=())
            return Conclusion((await run.complete([Message(role="user", parts=(TextPart(text="?"),))])).text)

    answers = []
    async with ScriptedModel(["red"]) as model:
        for _ in range(2):
            answers.append(
                await VideoBrain(cached(model, tmp_path), strategy=Once(), settings=settings).ask(video, "?")
            )
    assert [answer.text for answer in answers] == ["red", "red"]
    assert [answer.usage.cached_replies for answer in answers] == [0, 1]


@pytest.mark.parametrize("on", [True, False])
def test_the_switch(tmp_path: Path, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOBRAIN_REPLY_CACHE", str(on).lower())
    monkeypatch.setenv("VIDEOBRAIN_CACHE_DIR", str(tmp_path))
    model = resolve_model("openai:m", base_url="http://localhost:1/v1")
    assert isinstance(model, CachedModel) is on
    assert model.name == "openai:m"
    own = ScriptedModel([])
    assert resolve_model(own) is own  # closed by its maker, so left as it is
    assert isinstance(own, ChatModel)
    assert isinstance(model, ChatModel)


# --- What is kept ----------------------------------------------------------------------------------------------------

FIXED = ModelProfile(sends_temperature=False, sends_seed=False)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "profile", "kept"),
    [
        ({"temperature": 0.0}, None, True),
        ({"temperature": 0.7, "seed": 1}, None, True),
        ({"temperature": None, "seed": 0}, None, True),
        ({"temperature": 0.7}, None, False),
        ({"temperature": None}, None, False),
        ({"temperature": 0.0, "seed": 1}, FIXED, False),
        ({"temperature": 0.0}, ModelProfile(sends_seed=False), True),
    ],
)
async def test_only_deterministic_requests_are_kept(
    tmp_path: Path, fields: dict[str, Any], profile: ModelProfile | None, kept: bool
) -> None:
    async with ScriptedModel(["A"] if kept else ["A", "B"], profile=profile) as model:
        for expected in ("A", "A" if kept else "B"):
            assert (await cached(model, tmp_path).complete(ask(**fields))).text == expected


@pytest.mark.anyio
async def test_a_server_that_takes_no_temperature_is_found_out_in_time(tmp_path: Path) -> None:
    refused = Fault.status(400, error_body("Unsupported value: 'temperature' does not support 0.0.", 400))
    with FakeServer([refused, "A", refused, "B"]) as server:
        for expected in ("A", "B"):
            model = on_server(server, tmp_path)
            assert (await model.complete(ask())).text == expected
            await model.aclose()


@pytest.mark.anyio
async def test_a_kept_reply_is_whole(tmp_path: Path) -> None:
    call = NativeToolCall(id="c1", name="look", arguments="{}")
    reply = ChatReply(
        text="",
        reasoning="Hm",
        tool_calls=(call,),
        finish_reason="tool_calls",
        input_tokens=9,
        output_tokens=8,
        cached_tokens=7,
        model="m",
        seconds=5.0,
    )
    async with ScriptedModel([reply]) as model:
        first = await cached(model, tmp_path).complete(ask())
        second = await cached(model, tmp_path).complete(ask())
    assert first == reply
    assert second.from_cache
    assert second.seconds < 5
    assert second.model_copy(update={"from_cache": False, "seconds": 5.0}) == reply


@pytest.mark.anyio
@pytest.mark.parametrize(
    "bad",
    [
        ChatReply(text="  \n"),
        ChatReply(text="", reasoning="Hm"),
        ChatReply(text="cut o", finish_reason="length"),
        ChatReply(text="no", finish_reason="content_filter"),
        ModelServerError("down"),
        RequestRejectedError("no", status=400),
    ],
    ids=repr,
)
async def test_empty_and_cut_off_replies_and_errors_are_never_kept(tmp_path: Path, bad: ChatReply | ModelError) -> None:
    async with ScriptedModel([bad, "good"]) as model:
        if isinstance(bad, ModelError):
            with pytest.raises(type(bad)) as caught:
                await cached(model, tmp_path).complete(ask())
            assert caught.value is bad
        else:
            assert await cached(model, tmp_path).complete(ask()) == bad
        for _ in range(2):
            assert (await cached(model, tmp_path).complete(ask())).text == "good"


TOOL = ToolSchema(name="look", description="Looks.", parameters={})
OTHER = {
    "text": {"text": "Who wins?"},
    "role": {"messages": (Message(role="system", parts=ask().messages[0].parts),)},
    "frame": {"messages": (Message(role="user", parts=(TextPart(text="Who scores?"), ImagePart(frame=frame(4)))),)},
    "order": {"messages": (Message(role="user", parts=ask().messages[0].parts[::-1]),)},
    "earlier messages": {"messages": (Message(role="system", parts=(TextPart(text="Be short."),)), *ask().messages)},
    "pattern": {"pattern": "[AB]"},
    "tools": {"tools": (TOOL,)},
    "description": {"tools": (TOOL.model_copy(update={"description": "Looks well."}),)},
    "whether it may call": {"tools": (TOOL,), "may_call": False},
    "tokens": {"max_output_tokens": 99},
    "seed": {"seed": 1},
    "temperature": {"temperature": 1.0, "seed": 1},
}


@pytest.mark.anyio
async def test_a_reply_depends_on_all_of_the_request_but_its_time_out(tmp_path: Path) -> None:
    script = ["first", *OTHER]
    async with ScriptedModel(script) as model:
        assert (await cached(model, tmp_path).complete(ask())).text == "first"
        for name, fields in OTHER.items():
            assert (await cached(model, tmp_path).complete(ask(**fields))).text == name
    async with ScriptedModel([]) as model:
        for name, fields in OTHER.items():
            again = ask(**fields, timeout_seconds=60.0)
            assert (await cached(model, tmp_path).complete(again)).text == name
        bare = frame(3).model_copy(update={"jpeg": b""})  # of a loaded trace: the digest tells it
        parts = (TextPart(text="Who scores?"), ImagePart(frame=bare))
        reply = await cached(model, tmp_path).complete(ask(messages=(Message(role="user", parts=parts),)))
        assert reply.text == "first"


class Named:
    """A model that says of itself what it is told to."""

    profile = ModelProfile()

    def __init__(self, name: str = "m", model: str = "m", root: str | None = None, address: str | None = None) -> None:
        self.name = name
        self.told = ModelCapacity(model=model, root=root, address=address)
        self.requests = 0

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        return self.told

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        self.requests += 1
        return ChatReply(text="ok")

    async def aclose(self) -> None:
        pass


async def asks(model: Named, directory: Path, **arguments: Any) -> bool:
    """Whether the model is asked."""
    wrapped = cached(model, directory, **arguments)
    await wrapped.complete(ask())
    await wrapped.aclose()
    return model.requests > 0


@pytest.mark.anyio
async def test_a_reply_depends_on_which_model_is_served(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"old")
    for model in (
        Named(),
        Named(name="other"),
        Named(model="other"),
        Named(root="other"),
        Named(address="http://one/v1"),
        Named(address="http://two/v1"),
        Named(model=str(weights)),
    ):
        assert await asks(model, tmp_path)
    assert not await asks(Named(model=str(weights)), tmp_path)
    (weights / "model.safetensors").write_bytes(b"new!")  # trained further, under the same name
    assert await asks(Named(model=str(weights)), tmp_path)
    assert await asks(Named(root=str(weights)), tmp_path)
    assert await asks(Named(address="http://one/v1"), tmp_path, identity="the cluster's")
    assert not await asks(Named(address="http://three/v1"), tmp_path, identity="the cluster's")


@pytest.mark.anyio
async def test_a_server_says_where_it_is_and_what_its_name_stands_for(tmp_path: Path) -> None:
    with FakeServer(lambda body: "ok", api_key="secret") as server:
        model = OpenAIModel("fake-model", base_url=server.base_url, api_key="secret")
        capacity = await cached(model, tmp_path).capacity()
        await model.aclose()
        assert (capacity.root, capacity.address) == ("fake-model", server.base_url)


@pytest.mark.anyio
async def test_clear_forgets_everything(tmp_path: Path) -> None:
    async with ScriptedModel(["A", "B", "C"]) as model:
        wrapped = cached(model, tmp_path)
        await wrapped.complete(ask("1"))
        await wrapped.complete(ask("2"))
        assert await wrapped.clear() == 2
        assert (await wrapped.complete(ask("1"))).text == "C"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be deleted"):
        await CachedModel(model, tmp_path / "file" / "replies.sqlite").clear()


# --- The endpoint's faults -------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault",
    [Fault.rate_limit(0), Fault.disconnect("mid_body"), Fault.garbage(), Fault.status(200, b'{"choices": [')],
    ids=["429", "disconnect", "no JSON", "half JSON"],
)
async def test_what_heals_is_seen_and_its_reply_is_kept(tmp_path: Path, fault: Fault) -> None:
    events: list[ModelEvent] = []
    with FakeServer([fault, "A"]) as server:
        model = on_server(server, tmp_path)
        first = await model.complete(ask(), on_event=events.append)
        second = await model.complete(ask(), on_event=events.append)
        await model.aclose()
    assert [first.text, second.text] == ["A", "A"]
    assert [first.from_cache, second.from_cache] == [False, True]
    assert [type(event) for event in events] == [RequestRetried]


@pytest.mark.anyio
async def test_what_does_not_heal_is_asked_for_again(tmp_path: Path) -> None:
    with FakeServer([Fault.disconnect()] * 4 + ["A"]) as server:
        model = on_server(server, tmp_path)
        with pytest.raises(ModelError, match=r"Tried 4 times"):
            await model.complete(ask())
        assert (await model.complete(ask())).text == "A"
        await model.aclose()


# --- In flight -------------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await anyio.sleep(0.005)


async def settle() -> None:
    """Lets the tasks that wait for a flight join it."""
    for _ in range(20):
        await anyio.sleep(0.002)


@pytest.mark.anyio
async def test_the_same_request_of_many_tasks_is_asked_once(tmp_path: Path) -> None:
    inner = GatedModel("ABC")
    model = cached(inner, tmp_path)
    replies: list[ChatReply] = []
    deltas: dict[int, str] = {}

    async def one(number: int) -> None:
        def note(event: ModelEvent) -> None:
            assert isinstance(event, TextDelta)
            deltas[number] = deltas.get(number, "") + event.text

        replies.append(await model.complete(ask(), on_event=note))

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(one, number)
        await until(lambda: len(deltas) == 8)
        inner.gate.set()
    assert len(inner.requests) == 1
    assert [reply.text for reply in replies] == ["ABC"] * 8
    assert sorted(reply.from_cache for reply in replies) == [False] + [True] * 7
    assert set(deltas.values()) == {"ABC"}


@pytest.mark.anyio
async def test_an_error_of_a_shared_request_is_everybodys_and_everybody_has_an_own_one(tmp_path: Path) -> None:
    inner = GatedModel(ModelServerError("down", hint="wait", status=503, server_message="busy"))
    model = cached(inner, tmp_path)
    errors: list[ModelError] = []

    async def one() -> None:
        try:
            await model.complete(ask(), on_event=lambda event: None)
        except ModelError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
        await until(lambda: len(inner.requests) == 1)
        await settle()
        inner.gate.set()
    assert len({id(error) for error in errors}) == 3
    assert {(type(error), str(error), error.status, error.server_message) for error in errors} == {
        (ModelServerError, "down wait", 503, "busy")
    }
    assert len(inner.requests) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["cancelled", "out of time"])
async def test_where_the_asking_task_ends_early_another_one_asks(tmp_path: Path, end: str) -> None:
    inner = GatedModel("ABC")
    model = cached(inner, tmp_path)
    events: list[ModelEvent] = []
    await model.capacity()

    async def leader() -> None:
        if end == "cancelled":
            await model.complete(ask())
        with pytest.raises(ModelTimeoutError):
            await model.complete(ask(timeout_seconds=2.0))

    first = asyncio.create_task(leader())
    await until(lambda: len(inner.requests) == 1)
    second = asyncio.create_task(model.complete(ask(timeout_seconds=30), on_event=events.append))
    await until(lambda: len(events) == 1)
    if end == "cancelled":
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    else:
        await first
    await until(lambda: len(inner.requests) == 2)
    inner.gate.set()
    reply = await second
    assert (reply.text, reply.from_cache) == ("ABC", False)
    assert [event.kind for event in events] == ["text_delta", "request_retried", "text_delta", "text_delta"]
    assert 0 < (inner.requests[1].timeout_seconds or 0) < 30


@pytest.mark.anyio
async def test_who_waits_keeps_an_own_time_limit_and_can_be_cancelled(tmp_path: Path) -> None:
    inner = GatedModel("ABC")
    model = cached(inner, tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(model.complete, ask())
        await until(lambda: len(inner.requests) == 1)
        with pytest.raises(ModelTimeoutError, match=r"gated did not reply within 0\.1 s"):
            await model.complete(ask(timeout_seconds=0.1))
        with anyio.move_on_after(0.1) as scope:
            await model.complete(ask())
        assert scope.cancelled_caught
        inner.gate.set()
    assert len(inner.requests) == 1


def test_one_model_in_several_event_loops(tmp_path: Path) -> None:
    model = cached(Named(), tmp_path)

    async def once() -> bool:
        return (await model.complete(ask())).from_cache

    assert [asyncio.run(once()) for _ in range(3)] == [False, True, True]
    asyncio.run(model.aclose())


# --- Closing, and other processes ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_closing_frees_the_file_and_the_model_and_can_be_taken_back(tmp_path: Path) -> None:
    with FakeServer(["A"]) as server:
        model = on_server(server, tmp_path)
        await model.complete(ask())
        for _ in range(2):
            await model.aclose()
            await until(lambda: server.open_connections == 0)
            assert not any(str(tmp_path) in name for name in open_files())
        assert (await model.complete(ask())).from_cache
        await model.aclose()
    closing = cached(ScriptedModel(["unused"]), tmp_path)
    with pytest.raises(AssertionError, match="unused"):
        await closing.aclose()  # the model's own complaint comes through


def open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return found


@pytest.mark.anyio
async def test_another_process_is_given_the_same_reply(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from videobrain.models import CachedModel, OpenAIModel
from tests.models.test_cached import ask

async def main():
    model = CachedModel(OpenAIModel("fake-model", base_url=sys.argv[1]), Path(sys.argv[2]))
    reply = await model.complete(ask())
    print(reply.text, reply.from_cache)
    await model.aclose()

asyncio.run(main())
"""
    with FakeServer(["A"]) as server:
        arguments = [sys.executable, "-c", code, server.base_url, str(tmp_path / "replies.sqlite")]
        said = [(await anyio.run_process(arguments, cwd=ROOT)).stdout.split() for _ in range(2)]
    assert said == [[b"A", b"False"], [b"A", b"True"]]


@pytest.mark.anyio
async def test_a_disk_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        async with ScriptedModel(["A", "B"]) as model:
            wrapped = CachedModel(model, tmp_path / "file" / "replies.sqlite")
            assert [(await wrapped.complete(ask())).text for _ in range(2)] == ["A", "B"]
    [record] = caplog.records
    assert "cannot be used" in record.getMessage()
