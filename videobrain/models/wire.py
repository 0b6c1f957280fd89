"""Messages and replies as they stand on the wire of chat completions. No I/O."""

from __future__ import annotations

from binascii import b2a_base64
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from videobrain.errors import ConfigurationError, InvalidReplyError
from videobrain.models.messages import (
    ChatReply,
    ChatRequest,
    FinishReason,
    ImagePart,
    Message,
    NativeToolCall,
    Part,
    TextPart,
    ToolSchema,
)
from videobrain.models.protocol import ModelProfile
from videobrain.models.retry import PassingFailure
from videobrain.video.frame import EncodedFrame


class ImageParts:
    """Frames as image parts, each base64-encoded once: later turns repeat the images of earlier ones.

    Least recently used parts go once their data URLs hold more than `max_bytes`.
    """

    def __init__(self, *, max_bytes: int, uuids: bool) -> None:
        self._max_bytes = max_bytes
        self._uuids = uuids
        self._parts: OrderedDict[str, tuple[dict[str, Any], int]] = OrderedDict()
        self._bytes = 0

    def __call__(self, frame: EncodedFrame) -> dict[str, Any]:
        """The part for a frame; callers must not change it."""
        kept = self._parts.get(frame.digest)
        if kept is not None:
            self._parts.move_to_end(frame.digest)
            return kept[0]
        if not frame.jpeg:
            raise ConfigurationError(
                f"Frame {frame.frame_index} carries no JPEG.", hint="Frames of a loaded trace need its frame store."
            )
        url = "data:image/jpeg;base64," + b2a_base64(frame.jpeg, newline=False).decode("ascii")
        part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
        if self._uuids:
            part["uuid"] = frame.digest
        self._parts[frame.digest] = (part, len(url))
        self._bytes += len(url)
        while self._bytes > self._max_bytes:
            _, (_, size) = self._parts.popitem(last=False)
            self._bytes -= size
        return part

    def clear(self) -> None:
        """Forget all parts."""
        self._parts.clear()
        self._bytes = 0


def request_body(
    request: ChatRequest,
    *,
    model: str,
    profile: ModelProfile,
    image: Callable[[EncodedFrame], dict[str, Any]],
    strict_tools: bool,
) -> dict[str, Any]:
    """The JSON body of a request; `strict_tools` asks for arguments that match any schema (vLLM).

    vLLM ignores a pattern beside a strict tool, so a pattern comes without.
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, image) for message in request.messages],
        profile.max_tokens_field: request.max_output_tokens,
    }
    if profile.sends_temperature and request.temperature is not None:
        body["temperature"] = request.temperature
    if profile.sends_seed and request.seed is not None:
        body["seed"] = request.seed
    if request.tools:
        body["tools"] = [_tool(tool, strict_tools and request.pattern is None) for tool in request.tools]
        if not request.may_call:
            body["tool_choice"] = "none"
    if request.pattern is not None:
        body["structured_outputs"] = {"regex": request.pattern}
    return body


def _message(message: Message, image: Callable[[EncodedFrame], dict[str, Any]]) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": _content(message.parts, image)}
    if message.tool_calls:
        wire["content"] = wire["content"] or None
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _content(parts: Iterable[Part], image: Callable[[EncodedFrame], dict[str, Any]]) -> str | list[dict[str, Any]]:
    parts = tuple(parts)
    if not any(isinstance(part, ImagePart) for part in parts):
        # Plain text is understood everywhere, lists of parts are not.
        return "".join(part.text for part in parts if isinstance(part, TextPart))
    return [image(part.frame) if isinstance(part, ImagePart) else {"type": "text", "text": part.text} for part in parts]


def _tool(tool: ToolSchema, strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    # Only with `strict` does vLLM hold arguments to the schema; OpenAI refuses it unless every property is required.
    if strict or _is_closed(tool.parameters):
        function["strict"] = True
    return {"type": "function", "function": function}


def _is_closed(schema: Mapping[str, Any]) -> bool:
    return schema.get("additionalProperties") is False and set(schema.get("required", ())) == set(
        schema.get("properties", {})
    )


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class _PromptDetails(_Wire):
    cached_tokens: int | None = None


class WireUsage(_Wire):
    """Token counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Function(_Wire):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(_Wire):
    index: int = 0
    id: str | None = None
    function: _Function = _Function()


class _Delta(_Wire):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[_ToolCall, ...] | None = None


class _Choice(_Wire):
    message: _Delta
    finish_reason: str | None = None


class Completion(_Wire):
    """A chat completion, as far as we read it."""

    choices: tuple[_Choice, ...] = Field(min_length=1)
    usage: WireUsage | None = None
    model: str | None = None


class _ChunkChoice(_Wire):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class Chunk(_Wire):
    """A piece of a streamed completion."""

    choices: tuple[_ChunkChoice, ...] = ()
    usage: WireUsage | None = None
    model: str | None = None
    error: Any = None


class ServedModel(_Wire):
    """One entry of ``/v1/models``; the last two fields are vLLM's."""

    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    root: str | None = None


class ModelList(_Wire):
    """The answer of ``/v1/models``."""

    data: tuple[ServedModel, ...]


_DRAIN_SECONDS = 0.1


async def chunks(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Chunk, None]:
    """The chunks of a stream of server-sent events, up to ``[DONE]``.

    Raises:
        PassingFailure: The stream holds something else.
    """
    rest = b""
    async for piece in pieces:
        # By bytes: a decoded text would also be split at the Unicode line ends that JSON strings may hold.
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]":
                # The connection can serve again only when its response was read to the end.
                with anyio.move_on_after(_DRAIN_SECONDS):
                    async for _ in pieces:
                        pass
                return
            if data:
                yield _chunk(data)


def _chunk(data: bytes) -> Chunk:
    try:
        return Chunk.model_validate_json(data)
    except ValidationError:
        failure = PassingFailure(InvalidReplyError, "The server's stream holds no chunks of a chat completion.")
    raise failure


_FINISH_REASONS: dict[str | None, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
BROKEN_OFF = frozenset({"abort", "error"})
"""Finish reasons with which vLLM says that it, not the model, ended the reply."""


class ReplyBuilder:
    """Puts a reply together from one completion or from many chunks."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._usage = WireUsage()
        self._model = ""
        self.finish_reason: str | None = None

    def add_completion(self, completion: Completion) -> None:
        """Take a whole completion."""
        choice = completion.choices[0]
        calls = tuple(
            call.model_copy(update={"index": index}) for index, call in enumerate(choice.message.tool_calls or ())
        )
        self._add_delta(choice.message.model_copy(update={"tool_calls": calls}))
        self.finish_reason = choice.finish_reason or "stop"
        self._usage = completion.usage or self._usage
        self._model = completion.model or ""

    def add_chunk(self, chunk: Chunk) -> str:
        """Take a piece of a stream; returns its text."""
        self._usage = chunk.usage or self._usage
        self._model = chunk.model or self._model
        text = ""
        for choice in chunk.choices[:1]:
            text = self._add_delta(choice.delta)
            self.finish_reason = choice.finish_reason or self.finish_reason
        return text

    def _add_delta(self, delta: _Delta) -> str:
        text = delta.content or delta.refusal or ""
        self._text.append(text)
        self._reasoning.append(delta.reasoning or delta.reasoning_content or "")
        for call in delta.tool_calls or ():
            call_id, name, arguments = self._calls.get(call.index, ("", "", []))
            arguments.append(call.function.arguments or "")
            self._calls[call.index] = (call.id or call_id, call.function.name or name, arguments)
        return text

    def reply(self, *, model: str, seconds: float) -> ChatReply:
        """The reply so far; `model` is the name where the server gave none."""
        details = self._usage.prompt_tokens_details
        return ChatReply(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(
                NativeToolCall(id=call_id or f"call_{index}", name=name, arguments="".join(arguments))
                for index, (call_id, name, arguments) in sorted(self._calls.items())
            ),
            finish_reason=_FINISH_REASONS.get(self.finish_reason, "stop"),
            input_tokens=self._usage.prompt_tokens or 0,
            output_tokens=self._usage.completion_tokens or 0,
            cached_tokens=(details.cached_tokens or 0) if details else 0,
            model=self._model or model,
            seconds=seconds,
        )
