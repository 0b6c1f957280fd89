"""The conversation as values: messages, requests, replies. No I/O."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from videobrain.text import Text
from videobrain.video.frame import EncodedFrame


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Value):
    """A piece of text."""

    kind: Literal["text"] = "text"
    text: Text


class ImagePart(_Value):
    """A frame."""

    kind: Literal["image"] = "image"
    frame: EncodedFrame


Part = Annotated[TextPart | ImagePart, Field(discriminator="kind")]


class NativeToolCall(_Value):
    """A call made through a server's function calling, as the server gave it."""

    id: str
    name: str
    arguments: Text
    """JSON text as the model wrote it; it may be malformed."""


class ToolSchema(_Value):
    """A tool as the model is told of it."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of the arguments object."""


class Message(_Value):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...]
    tool_calls: tuple[NativeToolCall, ...] = ()
    """Calls of an assistant message (native function calling only)."""
    tool_call_id: str | None = None
    """The call that a tool message answers (native function calling only)."""

    @property
    def text(self) -> str:
        """All text of the message, images left out."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def frames(self) -> tuple[EncodedFrame, ...]:
        """All frames of the message, in order."""
        return tuple(part.frame for part in self.parts if isinstance(part, ImagePart))


class ChatRequest(_Value):
    """What a model is asked for: the next message of a conversation."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...] = ()
    """Tools for native function calling; empty under the tagged protocol, where the prompt names them."""
    may_call: bool = True
    """Whether the model may call them now. Tools that may not be called stay in the request all the same: chat
    templates put them first, and a prompt that begins otherwise misses the server's prefix cache."""
    pattern: str | None = None
    """Regular expression that the whole reply must match (constrained decoding); needs `ModelProfile.constrains`."""
    max_output_tokens: int = 2048
    temperature: float | None = None
    seed: int | None = None
    timeout_seconds: float | None = None
    """What is left of the run; all tries of the request together take no longer."""


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatReply(_Value):
    """What a model replied."""

    text: Text
    """The visible text; empty where the model only called a tool natively."""
    reasoning: Text = ""
    """Thinking that the server keeps apart from the text."""
    tool_calls: tuple[NativeToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the server took from its prefix cache."""
    model: str = ""
    """The model's name as the server gave it."""
    seconds: float = 0.0
    """Wall-clock time of the request with all its tries."""
    from_cache: bool = False
    """Nothing was asked for it: it is a reply to the same request from before (`CachedModel`). Its tokens are those of
    that request, its seconds those of the look-up."""


class TextDelta(_Value):
    """A piece of a reply as it is generated."""

    kind: Literal["text_delta"] = "text_delta"
    text: str


class RequestRetried(_Value):
    """A request failed for a passing reason and will be sent again."""

    kind: Literal["request_retried"] = "request_retried"
    attempt: int
    """The try that failed, from 1."""
    delay_seconds: float
    reason: str
    error: str = ""
    """Name of the error's type that this would have become, such as ``RateLimitError``; empty where there is none."""


ModelEvent = TextDelta | RequestRetried
