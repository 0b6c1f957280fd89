"""Answers of a model server, good and bad, as bytes. The error bodies are those of vLLM 0.31."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal, Self

from videobrain.models.messages import ChatReply

Moment = Literal["before_headers", "after_headers", "mid_body"]


@dataclass(frozen=True)
class Fault:
    """An answer that `FakeServer` gives in place of a good one. Make it with one of the class methods.

    Attributes:
        code: HTTP status.
        headers: Headers.
        body: What the answer holds.
        events: What it holds where it is a stream of server-sent events.
        delay_seconds: Wait before it is sent.
        breaks: Where it breaks off, if it does.
        hangs: Whether it breaks off by silence; else the connection is closed.
    """

    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: tuple[str, ...] | None = None
    delay_seconds: float = 0.0
    breaks: Moment | None = None
    hangs: bool = False

    @classmethod
    def status(cls, code: int, body: object = None, headers: Mapping[str, str] | None = None) -> Self:
        """Any HTTP answer; `body` is text, bytes, or written as JSON. Errors have vLLM's body where none is given."""
        if body is None:
            body = error_body(HTTPStatus(code).phrase, code)
        sent = dict(headers or {})
        if isinstance(body, str):
            body = body.encode()
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        return cls(code=code, headers=sent, body=body)

    @classmethod
    def rate_limit(cls, retry_after: float | str | None = None) -> Self:
        """429; `retry_after` in seconds, or as a date."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        return cls.status(429, error_body("Too many requests", 429), headers)

    @classmethod
    def context_length(cls, *, limit: int = 4096, output_tokens: int = 512, prompt_tokens: int = 5000) -> Self:
        """The conversation is longer than the model's context."""
        message = (
            f"This model's maximum context length is {limit} tokens. However, you requested {output_tokens} output "
            f"tokens and your prompt contains {prompt_tokens} input tokens, for a total of "
            f"{output_tokens + prompt_tokens} tokens. Please reduce the length of the input prompt or the number of "
            "requested output tokens."
        )
        return cls.status(400, error_body(message, 400, kind="BadRequestError", param="input_tokens"))

    @classmethod
    def image_limit(cls, limit: int = 8) -> Self:
        """The conversation holds too many images."""
        message = f"At most {limit} image(s) may be provided in one prompt."
        message += " Set `--limit-mm-per-prompt` to increase this limit."
        return cls.status(400, error_body(message, 400, kind="BadRequestError", param="image"))

    @classmethod
    def unknown_model(cls, name: str) -> Self:
        """There is no such model."""
        message = f"The model `{name}` does not exist."
        return cls.status(404, error_body(message, 404, kind="NotFoundError", param="model"))

    @classmethod
    def unauthorized(cls) -> Self:
        """The API key is wrong or missing."""
        return cls.status(401, {"error": "Unauthorized"})

    @classmethod
    def hang(cls, at: Moment = "before_headers") -> Self:
        """Say nothing more, and keep the connection open until the client or the server ends."""
        return cls(breaks=at, hangs=True, body=_BODY)

    @classmethod
    def disconnect(cls, at: Moment = "before_headers") -> Self:
        """Close the connection."""
        return cls(breaks=at, body=_BODY)

    @classmethod
    def garbage(cls, body: str = "<html><title>It works!</title></html>") -> Self:
        """200 with something else than a completion."""
        return cls(body=body.encode(), headers={"content-type": "text/html"})

    @classmethod
    def empty(cls) -> Self:
        """200 with nothing."""
        return cls()

    @classmethod
    def cut_off(cls, text: str) -> Self:
        """A reply that ran into the limit on its tokens."""
        reply = ChatReply(text=text, finish_reason="length", input_tokens=10, output_tokens=len(text.split()))
        return replace(cls.status(200, completion(reply, "")), events=stream_events(reply, "", with_usage=True))

    def after(self, seconds: float) -> Self:
        """The same, later."""
        return replace(self, delay_seconds=seconds)

    def payload(self, *, streamed: bool) -> bytes:
        """What is sent as the body."""
        if self.events is None or not (streamed or not self.body):
            return self.body
        return "".join(f"data: {event}\n\n" for event in self.events).encode()


_BODY = b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": []}'


def error_body(message: str, code: int, *, kind: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error as vLLM writes it."""
    return {"error": {"message": message, "type": kind or HTTPStatus(code).phrase, "param": param, "code": code}}


def completion(reply: ChatReply, model: str) -> dict[str, Any]:
    """A chat completion as vLLM writes it."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "reasoning": reply.reasoning or None}
    if reply.tool_calls:
        message["tool_calls"] = _tool_calls(reply)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice],
        "usage": _usage(reply),
    }


def stream_events(reply: ChatReply, model: str, *, with_usage: bool) -> tuple[str, ...]:
    """A chat completion as server-sent events: a role, text by words, calls, the end, usage."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if reply.reasoning:
        deltas.append({"reasoning": reply.reasoning})
    deltas += [{"content": piece} for piece in _words(reply.text)]
    for index, call in enumerate(_tool_calls(reply)):
        function = call["function"]
        begun = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _words(function["arguments"])
        ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": model}
    events = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}]})
    if with_usage:
        events.append({**head, "choices": [], "usage": _usage(reply)})
    return (*(json.dumps(event) for event in events), "[DONE]")


def _words(text: str) -> list[str]:
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + ([words[-1]] if words[-1] else [])


def _tool_calls(reply: ChatReply) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in reply.tool_calls
    ]


def _usage(reply: ChatReply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }
