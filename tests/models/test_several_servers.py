"""`OpenAIModel` on several servers of one model: two or three `FakeServer`s, of which some fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from videobrain import Settings, VideoBrain
from videobrain.doctor import examine
from videobrain.errors import (
    AuthenticationError,
    ConfigurationError,
    ModelConnectionError,
    ModelError,
    ModelTimeoutError,
    UnknownModelError,
)
from videobrain.models import (
    CachedModel,
    ChatRequest,
    ImagePart,
    Message,
    ModelEvent,
    OpenAIModel,
    RequestRetried,
    TextDelta,
    TextPart,
    resolve_model,
)
from videobrain.models.retry import RetryPolicy
from videobrain.models.server import free_port
from videobrain.testing import FakeServer, Fault, make_video
from videobrain.video.frame import EncodedFrame, Frame

pytestmark = pytest.mark.anyio

ANSWER = "<thinking>Enough.</thinking>\n<answer>A</answer>"
LOOK = (
    "<thinking>Look.</thinking>\n"
    '<tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 9}}</tool_call>'
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "VIDEOBRAIN_MODEL"):
        monkeypatch.delenv(name, raising=False)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def request(seed: int = 0, **options: Any) -> ChatRequest:
    """A conversation that begins with a frame of its own."""
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    parts = (TextPart(text="What?"), ImagePart(frame=EncodedFrame.encode(Frame(0, 0.0, pixels))))
    return ChatRequest(messages=(Message(role="user", parts=parts),), **options)


@asynccontextmanager
async def model_at(
    servers: Sequence[FakeServer | str], *, clock: Clock | None = None, retries: int = 1, **settings: Any
) -> AsyncIterator[OpenAIModel]:
    urls = [server if isinstance(server, str) else server.base_url for server in servers]
    retry = RetryPolicy(retries=retries, base_seconds=0.01, **({} if clock is None else {"clock": clock}))
    model = OpenAIModel("fake-model", base_url=urls, settings=Settings(**settings), retry=retry)
    try:
        yield model
    finally:
        await model.aclose()


def nobody() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}/v1"


async def asked_first(model: OpenAIModel, servers: Sequence[FakeServer]) -> tuple[FakeServer, FakeServer]:
    """The server of `request()`, and the other one."""
    before = [len(server.requests) for server in servers]
    await model.complete(request())
    first = next(server for server, count in zip(servers, before, strict=True) if len(server.requests) > count)
    return first, next(server for server in servers if server is not first)


def always(_: dict[str, Any]) -> str:
    return ANSWER


class Moody:
    """Answers, or fails as long as it is told to."""

    fault: Fault | None = None

    def __call__(self, _: dict[str, Any]) -> str | Fault:
        return self.fault or ANSWER


# --- Where requests go -----------------------------------------------------------------------------------------------


async def test_turns_and_questions_of_a_video_go_to_one_server(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        return ANSWER if any(message["role"] == "assistant" for message in body["messages"]) else LOOK

    films = [
        make_video(tmp_path / f"{colour}.mp4", seconds=1, fps=10, size=(64, 32), scenes=[colour])
        for colour in ("red", "green", "blue")
    ]
    settings = Settings(decoder="pyav", cache_dir=tmp_path / "cache", warm_index=False)
    with FakeServer(reply) as one, FakeServer(reply) as two:
        urls = f"{one.base_url},{two.base_url}"
        async with VideoBrain("openai:fake-model", base_url=urls, settings=settings) as brain:
            for film in films:
                before = len(one.requests), len(two.requests)
                for question in ("Which colour?", "What happens?"):
                    answer = await brain.ask(film, question)
                    assert answer.usage.turns == 2
                asked = len(one.requests) - before[0], len(two.requests) - before[1]
                assert sorted(asked) == [0, 4]


async def test_conversations_are_spread_over_the_servers() -> None:
    with FakeServer(always) as one, FakeServer(always) as two, FakeServer(always) as three:
        async with model_at([one, two, three]) as model:
            async with anyio.create_task_group() as group:
                for seed in range(60):
                    group.start_soon(model.complete, request(seed))
            assert (await model.capacity()).servers == 3
        counts = [len(server.requests) for server in (one, two, three)]
    assert sum(counts) == 60
    assert min(counts) >= 5


async def test_a_busy_server_yields() -> None:
    """30 requests about one video at once: the other server gets those that are too many for the first."""
    together, release = 30, threading.Event()

    def wait(_: dict[str, Any]) -> str:
        release.wait(60)
        return ANSWER

    with FakeServer(wait) as one, FakeServer(wait) as two:
        async with model_at([one, two]) as model:
            await model.capacity()
            async with anyio.create_task_group() as group:
                for _ in range(together):
                    group.start_soon(model.complete, request())
                while len(one.requests) + len(two.requests) < together:  # noqa: ASYNC110 - threads set no event
                    await anyio.sleep(0.01)
                under_way = sorted(state.in_flight for state in model.servers)
                release.set()
            assert sum(under_way) == together
            assert under_way[0] >= together / 5
            assert [state.in_flight for state in model.servers] == [0, 0]


# --- Servers that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(503), "ModelServerError"),
        (Fault.disconnect(), "ModelConnectionError"),
        (Fault.rate_limit(), "RateLimitError"),
        (Fault.hang(), "ModelTimeoutError"),
        (Fault.garbage(), "InvalidReplyError"),
    ],
)
async def test_what_one_server_fails_at_the_other_does_at_once(fault: Fault, error: str) -> None:
    moods = [Moody(), Moody()]
    with FakeServer(moods[0]) as one, FakeServer(moods[1]) as two:
        seconds = 1.0 if error == "ModelTimeoutError" else 60.0
        async with model_at([one, two], retries=0, request_timeout_seconds=seconds) as model:
            first, other = await asked_first(model, [one, two])
            moods[[one, two].index(first)].fault = fault
            events: list[ModelEvent] = []
            reply = await model.complete(request(), on_event=events.append)
            assert reply.text == ANSWER
            retried = [event for event in events if isinstance(event, RequestRetried)]
            assert [(event.delay_seconds, event.error) for event in retried] == [(0.0, error)]
            assert first.base_url in retried[0].reason
            await model.complete(request())
        assert len(other.requests) == 2
        assert len(first.requests) == 2, "it rests"


async def test_a_failed_server_is_looked_at_and_used_again() -> None:
    clock, moods = Clock(), [Moody(), Moody()]
    with FakeServer(moods[0]) as one, FakeServer(moods[1]) as two:
        async with model_at([one, two], clock=clock) as model:
            first, other = await asked_first(model, [one, two])
            mood = moods[[one, two].index(first)]
            mood.fault = Fault.status(503)
            await model.complete(request())
            assert [bool(state.problem) for state in model.servers] == [first is one, first is two]
            mood.fault = None
            clock.now += 2
            looked = [sent.path for sent in first.all_requests].count("/v1/models")
            await model.complete(request())
            assert [sent.path for sent in first.all_requests].count("/v1/models") == looked + 1
            await model.complete(request())
            assert [state.problem for state in model.servers] == ["", ""]
        assert (len(first.requests), len(other.requests)) == (4, 1)


async def test_a_server_that_comes_back_with_another_model_is_not_used() -> None:
    clock = Clock()
    with (
        FakeServer(always) as one,
        FakeServer(models=["other"], model_faults=[Fault.status(503)]) as two,
    ):
        async with model_at([one, two], clock=clock) as model:
            await model.capacity()
            for seed in range(12):
                clock.now += 100
                assert (await model.complete(request(seed))).text == ANSWER
            problem = model.servers[1].problem
        assert f"{two.base_url} does not serve a model named 'fake-model'" in problem
        assert (len(one.requests), len(two.requests)) == (12, 0)


async def test_a_stream_that_breaks_off_is_begun_anew_elsewhere() -> None:
    moods = [Moody(), Moody()]
    with FakeServer(moods[0]) as one, FakeServer(moods[1]) as two:
        async with model_at([one, two], retries=0, stream_replies=True) as model:
            first, _ = await asked_first(model, [one, two])
            half = Fault(events=('{"choices": [{"index": 0, "delta": {"content": "<thinking>Eno"}}]}',))
            moods[[one, two].index(first)].fault = half
            events: list[ModelEvent] = []
            await model.complete(request(), on_event=events.append)
    last = max(index for index, event in enumerate(events) if isinstance(event, RequestRetried))
    assert "".join(event.text for event in events[last:] if isinstance(event, TextDelta)) == ANSWER


async def test_all_down_is_one_error_that_names_them_all() -> None:
    urls = [nobody(), nobody(), nobody()]
    async with model_at(urls) as model:
        with pytest.raises(ModelConnectionError) as caught:
            await model.complete(request())
    assert caught.value.message.startswith("None of the 3 model servers replied. ")
    assert caught.value.message.endswith("Tried 2 times.")
    assert all(caught.value.message.count(url) == 1 for url in urls)


async def test_all_failing_after_the_first_look_is_one_error_too() -> None:
    with FakeServer(lambda _: Fault.status(503)) as one, FakeServer(lambda _: Fault.status(502)) as two:
        async with model_at([one, two]) as model:
            events: list[ModelEvent] = []
            with pytest.raises(ModelError, match="None of the 2 model servers replied") as caught:
                await model.complete(request(), on_event=events.append)
        assert all(f"The server {server.base_url} answered 50" in caught.value.message for server in (one, two))
        assert [event.delay_seconds > 0 for event in events if isinstance(event, RequestRetried)] == [
            False,  # the other server, at once
            True,  # both have failed
            False,
        ]


async def test_time_that_runs_out_names_the_server_that_was_asked() -> None:
    with FakeServer(lambda _: Fault.hang()) as one, FakeServer(lambda _: Fault.hang()) as two:
        async with model_at([one, two]) as model:
            await model.capacity()
            with pytest.raises(ModelTimeoutError) as caught:
                await model.complete(request(timeout_seconds=0.3))
        asked = one if one.requests else two
        assert asked.base_url in caught.value.message


# --- One model -------------------------------------------------------------------------------------------------------


async def test_the_shortest_context_counts() -> None:
    with FakeServer(max_model_len=8192) as one, FakeServer(max_model_len=4096) as two:
        async with model_at([one, two]) as model:
            assert (await model.capacity()).max_model_len == 4096


async def test_a_lone_model_is_found_on_all_servers() -> None:
    with FakeServer() as one, FakeServer() as two:
        model = resolve_model("openai:", base_url=f"{one.base_url},{two.base_url}")
        assert (await model.capacity()).model == "fake-model"
        assert repr(model) == f"OpenAIModel('fake-model', base_url={[one.base_url, two.base_url]!r})"
        await model.aclose()


async def test_servers_of_different_models_are_refused() -> None:
    with FakeServer(models=["a"]) as one, FakeServer(models=["b"]) as two:
        both = [one.base_url, two.base_url]
        for name, kind in ((None, ConfigurationError), ("a", UnknownModelError)):
            model = OpenAIModel(name, base_url=both)
            with pytest.raises(kind, match=two.base_url):
                await model.capacity()
            await model.aclose()


async def test_one_name_for_two_directories_is_refused() -> None:
    def listing(root: str) -> Fault:
        card = {"id": "fake-model", "owned_by": "vllm", "root": root, "max_model_len": 4096}
        return Fault.status(200, {"object": "list", "data": [card]})

    with (
        FakeServer(model_faults=[listing("/step-100")]) as one,
        FakeServer(model_faults=[listing("/step-200")]) as two,
    ):
        async with model_at([one, two]) as model:
            with pytest.raises(ConfigurationError, match=r"'/step-100' on the server .*, but for '/step-200' on"):
                await model.capacity()


async def test_a_server_that_wants_another_key_is_named() -> None:
    with FakeServer(api_key="none") as one, FakeServer(api_key="else") as two:
        async with model_at([one, two]) as model:
            with pytest.raises(AuthenticationError, match=two.base_url):
                await model.capacity()


async def test_a_server_that_is_down_at_the_start_is_told_and_done_without(caplog: pytest.LogCaptureFixture) -> None:
    with FakeServer(always) as one:
        gone = nobody()
        async with model_at([gone, one]) as model:
            capacity = await model.capacity()
            for seed in range(8):
                await model.complete(request(seed))
        assert (capacity.model, capacity.max_model_len, capacity.servers) == ("fake-model", 32768, 2)
        assert len(one.requests) == 8
        warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warned) == 1
        assert gone in warned[0]
        findings = await examine(model="openai:fake-model", base_url=f"{gone},{one.base_url}")
    found = next(finding for finding in findings if finding.subject == "model")
    assert (found.state, "at 1 of 2 servers" in found.text, gone in found.text) == ("error", True, True)


async def test_kept_replies_do_not_depend_on_the_server(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    async def ask(urls: list[str]) -> None:
        model = CachedModel(OpenAIModel("fake-model", base_url=urls), tmp_path / "replies.sqlite")
        for seed in range(8):
            reply = await model.complete(request(seed, temperature=0.0))
            asked["cache" if reply.from_cache else "server"] += 1
        await model.aclose()

    with FakeServer(always) as one:
        with FakeServer(always) as two:
            await ask([one.base_url, two.base_url])
            assert asked == {"server": 8}
        await ask([two.base_url, one.base_url])  # the second is gone
    with FakeServer(always) as three:
        await ask([nobody(), three.base_url])
    assert asked == {"server": 8, "cache": 16}
