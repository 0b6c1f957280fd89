"""Every fault of an endpoint is recovered from, or is a typed error within its bounds; and nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import pytest

from videobrain.errors import (
    AuthenticationError,
    ConfigurationError,
    ContextLengthError,
    ImageLimitError,
    InvalidReplyError,
    ModelConnectionError,
    ModelError,
    ModelServerError,
    ModelTimeoutError,
    RateLimitError,
    RequestRejectedError,
    UnknownModelError,
)
from videobrain.models import (
    ChatRequest,
    Message,
    ModelEvent,
    ModelProfile,
    OpenAIModel,
    RequestRetried,
    TextDelta,
    TextPart,
)
from videobrain.models.failures import adapted_profile, from_response, read_error_body, retry_after_seconds
from videobrain.models.retry import PassingFailure, RetryPolicy, with_retries
from videobrain.settings import Settings
from videobrain.testing import FakeServer, Fault
from videobrain.testing.faults import error_body

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

QUICK = RetryPolicy(retries=3, seconds=10.0, base_seconds=0.001)
REQUEST = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Who scores?"),)),))


@asynccontextmanager
async def open_model(
    server: FakeServer,
    *,
    stream: bool = False,
    seconds: float = 5.0,
    retry: RetryPolicy = QUICK,
    api_key: str | None = None,
    profile: ModelProfile | None = None,
) -> AsyncIterator[OpenAIModel]:
    model = OpenAIModel(
        "fake-model",
        base_url=server.base_url,
        api_key=api_key,
        settings=Settings(stream_replies=stream, request_timeout_seconds=seconds),
        retry=retry,
        profile=profile,
    )
    try:
        yield model
    finally:
        await model.aclose()


HEALING = {
    "time-out": (Fault.hang(), "did not reply within"),
    "time-out in the body": (Fault.hang("mid_body"), "did not reply within"),
    "rate limit": (Fault.rate_limit(0), "429"),
    "500": (Fault.status(500), "500"),
    "502 with a page": (Fault.status(502, "<html><title>Bad Gateway</title></html>"), "Bad Gateway"),
    "503": (Fault.status(503), "503"),
    "504": (Fault.status(504), "504"),
    "disconnect": (Fault.disconnect(), "broke the connection off"),
    "disconnect after headers": (Fault.disconnect("after_headers"), "broke the connection off"),
    "disconnect in the body": (Fault.disconnect("mid_body"), "broke the connection off"),
    "garbage": (Fault.garbage(), "It works!|no chunks|ended before"),
    "garbage as JSON": (Fault.status(200, b'{"choices": [', {"content-type": "application/json"}), "no chat|ended"),
    "no choices": (Fault.status(200, {"object": "chat.completion", "choices": []}), "no chat|ended"),
    "not UTF-8": (Fault.status(200, b"\xff\xfe\x00", {"content-type": "application/json"}), "no chat|ended"),
    "empty": (Fault.empty(), "nothing came"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", HEALING)
async def test_passing_faults_are_tried_again_visibly(fault: str, stream: bool) -> None:
    step, reason = HEALING[fault]
    events: list[ModelEvent] = []
    with FakeServer([step, "<answer>B</answer>"]) as server:
        seconds = 0.4 if "time-out" in fault else 5.0
        async with open_model(server, stream=stream, seconds=seconds) as model:
            began = time.monotonic()
            reply = await model.complete(REQUEST, on_event=events.append)
            assert time.monotonic() - began < 5
    assert reply.text == "<answer>B</answer>"
    [retried] = [event for event in events if isinstance(event, RequestRetried)]
    assert retried.attempt == 1
    assert re.search(reason, retried.reason), retried.reason


LASTING = {
    "hang": (Fault.hang(), ModelTimeoutError),
    "rate limit": (Fault.rate_limit(), RateLimitError),
    "500": (Fault.status(500), ModelServerError),
    "disconnect": (Fault.disconnect("mid_body"), ModelConnectionError),
    "garbage": (Fault.garbage(), InvalidReplyError),
    "empty": (Fault.empty(), InvalidReplyError),
}


@pytest.mark.parametrize("fault", LASTING)
async def test_lasting_faults_become_typed_errors_after_all_tries(fault: str) -> None:
    step, kind = LASTING[fault]
    events: list[ModelEvent] = []
    with FakeServer([step] * 3) as server:
        async with open_model(server, seconds=0.2 if fault == "hang" else 5, retry=policy(retries=2)) as model:
            with pytest.raises(kind, match=r"Tried 3 times\.") as caught:
                await model.complete(REQUEST, on_event=events.append)
            assert type(caught.value) is kind
    assert [event.attempt for event in events if isinstance(event, RequestRetried)] == [1, 2]


def policy(**fields: Any) -> RetryPolicy:
    return RetryPolicy(**{"retries": 3, "seconds": 10.0, "base_seconds": 0.001, **fields})


REJECTED = {
    "context": (
        Fault.context_length(),
        ContextLengthError,
        ["maximum context length is 4096 tokens", "--max-model-len", "fewer frames"],
    ),
    "images": (Fault.image_limit(8), ImageLimitError, ["At most 8 image(s)", "--limit-mm-per-prompt '{\"image\": N}'"]),
    "model": (
        Fault.unknown_model("fake-model"),
        UnknownModelError,
        ["`fake-model` does not exist", "openai:fake-model"],
    ),
    "key": (Fault.unauthorized(), AuthenticationError, ["Unauthorized", "OPENAI_API_KEY"]),
    "403": (Fault.status(403, {"error": {"message": "No access"}}), AuthenticationError, ["No access"]),
    "quota": (
        Fault.status(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
        RateLimitError,
        ["exceeded your current quota", "waiting does not help"],
    ),
    "tool parser": (
        Fault.status(
            400,
            error_body('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', 400),
        ),
        RequestRejectedError,
        ["--enable-auto-tool-choice --tool-call-parser NAME", "tags"],
    ),
    "no grammar": (
        Fault.status(
            400,
            error_body(
                "[{'type': 'extra_forbidden', 'loc': ('body', 'structured_outputs'), "
                "'msg': 'Extra inputs are not permitted', 'input': {'regex': 'a'}}]",
                400,
            ),
        ),
        RequestRejectedError,
        ["structured_outputs", "--no-constrain", "VIDEOBRAIN_CONSTRAIN_REPLIES=0"],
    ),
    "path": (Fault.status(404, {"detail": "Not Found"}), RequestRejectedError, ["/v1"]),
    "too large": (Fault.status(413, "Request Entity Too Large"), RequestRejectedError, ["fewer frames"]),
    "other": (Fault.status(400, error_body("Bad regex", 400)), RequestRejectedError, ["Bad regex"]),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", REJECTED)
async def test_what_cannot_heal_fails_at_once_with_the_servers_words_and_the_mending_flag(
    fault: str, stream: bool
) -> None:
    step, kind, words = REJECTED[fault]
    events: list[ModelEvent] = []
    with FakeServer([step]) as server:
        async with open_model(server, stream=stream) as model:
            with pytest.raises(kind) as caught:
                await model.complete(REQUEST, on_event=events.append)
            assert type(caught.value) is kind
            assert caught.value.status == step.code
            assert caught.value.server_message
    assert events == []
    for word in words:
        assert word in str(caught.value)


async def test_the_server_itself_refuses_too_many_images_and_wrong_keys() -> None:
    with FakeServer(["ok"], api_key="right-key") as server:
        async with open_model(server, api_key="right-key") as model:
            await model.complete(REQUEST)
        async with open_model(server, api_key="wrong-key") as model:
            with pytest.raises(AuthenticationError):
                await model.capacity()


async def test_a_reply_cut_off_at_the_token_limit_is_a_reply() -> None:
    for stream in (False, True):
        with FakeServer([Fault.cut_off("<thinking>On and on")]) as server:
            async with open_model(server, stream=stream) as model:
                reply = await model.complete(REQUEST)
        assert (reply.text, reply.finish_reason) == ("<thinking>On and on", "length")


async def test_a_stream_that_breaks_off_is_begun_again() -> None:
    good = FakeServer()._good("one two three four", {"stream": True})
    assert good.events is not None
    broken = Fault(events=good.events[:3])  # ends without finish_reason
    error = Fault(
        events=(*good.events[:3], '{"error": {"message": "Engine died", "type": "E", "code": 500}}', "[DONE]")
    )
    aborted = Fault(events=(*good.events[:2], '{"choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]}'))
    events: list[ModelEvent] = []
    with FakeServer([broken, error, aborted, "the end"]) as server:
        async with open_model(server, stream=True) as model:
            reply = await model.complete(REQUEST, on_event=events.append)
    assert reply.text == "the end"
    reasons = [event.reason for event in events if isinstance(event, RequestRetried)]
    assert len(reasons) == 3
    assert "Engine died" in reasons[1]
    last_retry = max(index for index, event in enumerate(events) if isinstance(event, RequestRetried))
    assert "".join(event.text for event in events[last_retry:] if isinstance(event, TextDelta)) == "the end"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refused_parameter_is_left_out_at_once_and_for_good(stream: bool) -> None:
    no_max = Fault.status(
        400,
        {
            "error": {
                "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead.",
                "type": "invalid_request_error",
                "param": "max_tokens",
                "code": "unsupported_parameter",
            }
        },
    )
    no_heat = Fault.status(
        400,
        {
            "error": {
                "message": "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default "
                "(1) value is supported.",
                "param": "temperature",
                "code": "unsupported_value",
            }
        },
    )
    events: list[ModelEvent] = []
    with FakeServer([no_max, no_heat, "one", "two"], owned_by="openai") as server:
        async with open_model(server, stream=stream, retry=policy(retries=0)) as model:
            request = REQUEST.model_copy(update={"temperature": 0.0})
            assert (await model.complete(request, on_event=events.append)).text == "one"
            assert (await model.complete(request, on_event=events.append)).text == "two"
            assert model.profile.max_tokens_field == "max_completion_tokens"
            assert not model.profile.sends_temperature
        sent = [sorted({"max_tokens", "max_completion_tokens", "temperature"} & set(body)) for body in server.requests]
    assert sent == [
        ["max_tokens", "temperature"],
        ["max_completion_tokens", "temperature"],
        ["max_completion_tokens"],
        ["max_completion_tokens"],
    ]
    retried = [event for event in events if isinstance(event, RequestRetried)]
    assert [event.delay_seconds for event in retried] == [0.0, 0.0]


async def test_a_refused_seed_leaves_the_temperature() -> None:
    no_seed = Fault.status(400, {"error": {"message": "Unsupported parameter: 'seed'.", "param": "seed"}})
    with FakeServer([no_seed, "ok"]) as server:
        async with open_model(server) as model:
            await model.complete(REQUEST.model_copy(update={"temperature": 0.5, "seed": 1}))
        assert [(body.get("temperature"), body.get("seed")) for body in server.requests] == [(0.5, 1), (0.5, None)]


async def test_a_server_that_refuses_both_spellings_is_not_asked_for_ever() -> None:
    def refuse(body: dict[str, Any]) -> Fault:
        field = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
        return Fault.status(400, {"error": {"message": f"Unrecognized request argument supplied: {field}"}})

    with FakeServer(refuse) as server:
        async with open_model(server) as model:
            with pytest.raises(RequestRejectedError, match="Unrecognized"):
                await model.complete(REQUEST)
        assert len(server.requests) == 2


# Bounds in time


async def test_retry_after_is_honoured() -> None:
    events: list[ModelEvent] = []
    with FakeServer([Fault.rate_limit(0.3), "ok"]) as server:
        async with open_model(server) as model:
            await model.capacity()
            began = time.monotonic()
            await model.complete(REQUEST, on_event=events.append)
            assert 0.3 <= time.monotonic() - began < 2
    [event] = events
    assert isinstance(event, RequestRetried)
    assert 0.3 <= event.delay_seconds <= 0.31


async def test_a_longer_wait_than_allowed_is_not_begun() -> None:
    with FakeServer([Fault.rate_limit(3600)]) as server:
        async with open_model(server) as model:
            began = time.monotonic()
            with pytest.raises(RateLimitError, match="asks to wait 3600 s"):
                await model.complete(REQUEST)
            assert time.monotonic() - began < 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("at", ["before_headers", "after_headers", "mid_body"])
async def test_the_runs_time_cuts_a_hanging_request(at: Any, stream: bool) -> None:
    with FakeServer([Fault.hang(at)]) as server:
        async with open_model(server, seconds=60, stream=stream) as model:
            await model.capacity()
            began = time.monotonic()
            with pytest.raises(ModelTimeoutError, match=r"0\.2 s, all that was left of the run"):
                await model.complete(REQUEST.model_copy(update={"timeout_seconds": 0.2}))
            assert time.monotonic() - began < 1.5


async def test_the_runs_time_bounds_all_tries_together() -> None:
    with FakeServer(lambda body: Fault.status(503)) as server:
        async with open_model(
            server, retry=policy(retries=1000, base_seconds=0.3, longest_seconds=0.3, jitter=lambda: 1.0)
        ) as model:
            began = time.monotonic()
            with pytest.raises(ModelServerError, match="no time is left") as caught:
                await model.complete(REQUEST.model_copy(update={"timeout_seconds": 0.5}))
            assert time.monotonic() - began < 1.5
            assert caught.value.status == 503
        assert len(server.requests) == 2


async def test_a_try_that_the_runs_time_cuts_tells_of_the_failure_before_it() -> None:
    with FakeServer([Fault.status(503), Fault.hang()]) as server:
        async with open_model(server, seconds=60) as model:
            with pytest.raises(ModelTimeoutError, match=r"all that was left of the run\. Before that: .*503"):
                await model.complete(REQUEST.model_copy(update={"timeout_seconds": 0.5}))


async def test_a_server_that_trickles_is_bounded_by_the_requests_time() -> None:
    """Each byte comes within any time-out for reading; only a bound on the whole request helps."""
    stopped = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n")
        try:
            while not stopped.is_set():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(trickle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    model = OpenAIModel("m", base_url=url, settings=Settings(request_timeout_seconds=0.4), retry=policy(retries=0))
    began = time.monotonic()
    with pytest.raises(ModelTimeoutError):
        await model.capacity()
    assert time.monotonic() - began < 2
    await model.aclose()
    stopped.set()
    listening.close()
    await listening.wait_closed()


async def test_nobody_listening_is_a_connection_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    model = OpenAIModel(None, base_url=url, retry=policy(retries=1))
    with pytest.raises(ModelConnectionError, match=r"cannot be reached.*Tried 2 times\..*Is the server running"):
        await model.capacity()
    await model.aclose()


# Cancellation


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "step",
    [
        Fault.hang(),
        Fault.hang("after_headers"),
        Fault.hang("mid_body"),
        Fault.status(503, headers={"retry-after": "5"}),
        FakeServer()._good("x " * 20000, {"stream": True}),
    ],
    ids=["headers", "body", "mid body", "back-off", "streaming"],
)
async def test_cancelling_leaves_no_socket_and_no_task(step: Fault, stream: bool) -> None:
    with FakeServer(lambda body: step) as server:
        async with open_model(server, stream=stream, seconds=60) as model:
            await model.capacity()
            before = asyncio.all_tasks()
            for delay in (0.0, 0.002, 0.01, 0.05):
                with anyio.move_on_after(delay) as scope:
                    await model.complete(REQUEST)
                if delay == 0:
                    assert scope.cancelled_caught
            assert asyncio.all_tasks() == before
        await wait_until(lambda: server.open_connections == 0)
    gc.collect()  # an unclosed socket or generator would warn here, and warnings are errors


async def test_cancelling_the_first_of_two_callers_spares_the_second() -> None:
    with FakeServer(["ok"], model_faults=[Fault.hang()]) as server:
        async with open_model(server, seconds=60) as model, anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def ask_first() -> None:
                with first:
                    await model.capacity()

            group.start_soon(ask_first)
            await anyio.sleep(0.1)
            with anyio.fail_after(5):
                group.start_soon(anyio.sleep, 0)
                first.cancel()
                assert (await model.complete(REQUEST)).text == "ok"


async def test_many_requests_at_once_on_one_pool() -> None:
    with FakeServer(lambda body: Fault.status(503) if len(body["messages"]) == 2 else "ok") as server:
        async with open_model(server, retry=policy(retries=0)) as model:
            replies: list[str] = []

            async def one(number: int) -> None:
                request = REQUEST if number % 3 else REQUEST.model_copy(update={"messages": REQUEST.messages * 2})
                try:
                    replies.append((await model.complete(request)).text)
                except ModelServerError:
                    replies.append("failed")

            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(one, number)
        assert sorted(replies) == ["failed"] * 10 + ["ok"] * 20
        assert sum(request.path == "/v1/models" for request in server.all_requests) == 1


async def wait_until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(3):
        while not condition():  # noqa: ASYNC110  (the server runs in threads and has no events of this loop)
            await anyio.sleep(0.01)


# Secrets

KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "step",
    [
        Fault.status(401, {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": KEY}}),
        Fault.status(400, f"<html><title>You sent Bearer {KEY}</title></html>"),
        Fault.status(500, f"header Authorization: Bearer {KEY}"),
        Fault.garbage(f"<html><title>{KEY}</title></html>"),
        Fault.status(200, {"choices": f"{KEY}"}),
        Fault(events=('{"error": "' + KEY + '"}', "[DONE]")),
        Fault.disconnect(),
    ],
)
async def test_the_api_key_shows_nowhere(step: Fault, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    events: list[ModelEvent] = []
    with FakeServer(lambda body: step) as server:
        async with open_model(server, api_key=KEY, stream=stream, retry=policy(retries=1)) as model:
            with pytest.raises(ModelError) as caught:
                await model.complete(REQUEST, on_event=events.append)
            assert server.all_requests[-1].headers["authorization"] == f"Bearer {KEY}"
            shown = [
                repr(model),
                str(model),
                model.name,
                repr(vars(caught.value)),
                repr(caught.value),
                *map(repr, events),
            ]
    shown += [*traceback.format_exception(caught.value), caplog.text]
    error: BaseException | None = caught.value
    assert error is not None
    assert error.__cause__ is None  # the openai package's exceptions hold the request with its headers
    assert error.__context__ is None
    assert not [text for text in shown if KEY in text]


def test_a_key_that_cannot_be_sent_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenAIModel("m", base_url="http://h/v1", api_key="sk-söcret\n-key")
    assert "cret" not in str(caught.value)
    OpenAIModel("m", base_url="http://h/v1", api_key="sk-good\n")  # read from a file, with its line end


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h/v1", "http://", "http://h:x/v1", "http://me:pw@h/v1"])
def test_addresses_that_cannot_be_used_are_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base URL") as caught:
        OpenAIModel("m", base_url=url)
    assert "pw" not in str(caught.value)


# Reading refusals: pure functions


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    headers = {"retry-after": format_datetime(now + timedelta(seconds=90), usegmt=True)}
    assert retry_after_seconds(headers, now=now.timestamp()) == 90


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "a", "type": "t", "code": 400}}', "a"),
        (b'{"error": "Unauthorized"}', "Unauthorized"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"object": "error", "message": "old vLLM", "code": 400}', "old vLLM"),
        (b'{"detail": [{"loc": ["body"], "msg": "m"}]}', '{"detail": [{"loc": ["body"], "msg": "m"}]}'),
        (b"[1]", "[1]"),
        (b"null", "null"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"  <!doctype html><TITLE>502\n Bad</TITLE>", "502 Bad"),
        (b"<html>", "an HTML page"),
        (b"x" * 5000, "x" * 600 + "…"),
    ],
)
def test_error_bodies_of_all_shapes(body: bytes, message: str) -> None:
    assert read_error_body(body).message == message


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "Input length (900) exceeds model's maximum context length (512).", ContextLengthError),
        (
            400,
            "The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
            ContextLengthError,
        ),
        (400, "At most 0 image(s) may be provided in one prompt.", ImageLimitError),
        (404, "The model `gpt-9` does not exist or you do not have access to it.", UnknownModelError),
        (400, 'model "llava" not found, try pulling it first', UnknownModelError),
        (422, "3 validation errors", RequestRejectedError),
        (501, "Not implemented", RequestRejectedError),
    ],
)
def test_wordings_of_refusals(status: int, message: str, kind: type[ModelError]) -> None:
    words = read_error_body(message)
    error = from_response(status, words, {}, model="m", served=("a", "b"))
    assert type(error) is kind
    assert isinstance(error, ModelError)
    assert message in str(error)
    if kind is UnknownModelError:
        assert "openai:a, openai:b" in error.hint


def test_a_refusal_that_is_about_something_else_changes_no_profile() -> None:
    profile = ModelProfile()
    assert adapted_profile(profile, 400, "max_tokens must be at least 1, got 0.") is profile
    assert adapted_profile(profile, 500, "temperature is not supported") is profile
    assert adapted_profile(profile, 400, "image input is not supported") is profile
    no_seed = adapted_profile(profile, 400, "Unsupported parameter: 'seed'. Supported: temperature.")
    assert (no_seed.sends_seed, no_seed.sends_temperature) == (False, True)
    neither = adapted_profile(no_seed, 400, "seed and temperature are not supported")
    assert (neither.sends_seed, neither.sends_temperature) == (False, False)
    assert adapted_profile(neither, 400, "seed and temperature are not supported") is neither
    swapped = adapted_profile(profile, 422, "[{'type': 'extra_forbidden', 'loc': ('body', 'max_tokens')}]")
    assert swapped.max_tokens_field == "max_completion_tokens"


# The policy, without a server


async def test_back_off_doubles_within_full_jitter_up_to_its_bound() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def fail() -> None:
        raise PassingFailure(ModelServerError, "no")

    for jitter in (1.0, 0.25, 0.0):
        slept.clear()
        steady = RetryPolicy(
            retries=6, seconds=1e9, base_seconds=0.5, longest_seconds=5.0, sleep=sleep, jitter=lambda j=jitter: j
        )
        with pytest.raises(ModelServerError, match="Tried 7 times"):
            await with_retries(fail, steady)
        assert slept == [jitter * bound for bound in (0.5, 1.0, 2.0, 4.0, 5.0, 5.0)]


async def test_no_try_is_begun_after_the_time_is_up() -> None:
    now = [0.0]
    tries: list[float] = []

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def fail() -> None:
        tries.append(now[0])
        now[0] += 10
        raise PassingFailure(ModelTimeoutError, "slow")

    bounded = RetryPolicy(
        retries=99, seconds=35, base_seconds=1, longest_seconds=1, clock=lambda: now[0], sleep=sleep, jitter=lambda: 1.0
    )
    with pytest.raises(ModelTimeoutError, match="Tried 4 times; no time is left"):
        await with_retries(fail, bounded)
    assert tries == [0, 11, 22, 33]
    with pytest.raises(ModelTimeoutError, match="Tried once; no time is left"):
        await with_retries(fail, bounded, seconds_left=5)
