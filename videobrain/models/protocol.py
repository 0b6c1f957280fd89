"""The seam between videobrain and whatever thinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from videobrain.models.messages import ChatReply, ChatRequest, ModelEvent


class ModelProfile(BaseModel):
    """What a model can do and what its images cost, as data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "default"
    image_patch: int = 32
    """Side in pixels of the square that becomes one image token (patch size x merge size)."""
    image_min_tokens: int = 4
    image_max_tokens: int = 16384
    image_extra_tokens: int = 2
    """Tokens around each image (start and end markers)."""
    max_images: int | None = None
    """Images one request may hold, where known."""
    native_tools: bool = True
    """The model can call functions natively."""
    sends_temperature: bool = True
    """The model accepts `temperature`."""
    sends_seed: bool = True
    """The model accepts `seed`."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    constrains: bool = False
    """The endpoint can hold a reply to a regular expression."""
    constrain_replies: bool = False
    """Replies are held to the grammar unless the user chose otherwise: for a model too small to keep to it alone."""
    prompts: str = "default"
    """Name of the prompt profile that the model is asked with."""
    encoder: str | None = None
    """Frame encoder that belongs to the model, used where the user chose none; see `Settings.encoder`."""
    knows: Literal["synthetic world"] | None = None
    """The only kind of videos that the model was trained on; answers about others warn that they are guesses."""

    def image_tokens(self, width: int, height: int) -> int:
        """Prompt tokens of one image of `width` x `height` pixels."""
        patches = max(1, round(width / self.image_patch)) * max(1, round(height / self.image_patch))
        return min(max(patches, self.image_min_tokens), self.image_max_tokens) + self.image_extra_tokens


class ModelCapacity(BaseModel):
    """What a running model says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Name under which the model is asked."""
    max_model_len: int | None = None
    """Context in tokens, prompt and reply together; None where the server does not say."""
    root: str | None = None
    """What the name stands for, such as the directory of the weights, where a server says so."""
    address: str | None = None
    """Where the model is served, without secrets. None in this process, for a server of our own, and for several
    servers that say what the name stands for: which of them replies makes no difference."""
    servers: int = 1
    """How many servers share the requests."""


@runtime_checkable
class ChatModel(Protocol):
    """A vision-language model that continues a conversation.

    Implementations are safe for concurrent calls, raise only `videobrain.errors.ModelError` (or a configuration
    error), and can be cancelled at any await. Users plug in their own.
    """

    @property
    def name(self) -> str:
        """Model string or another name for logs and traces; holds no secret."""

    @property
    def profile(self) -> ModelProfile:
        """What the model can do."""

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """Start or reach the model and say what it takes. Called once before the first request of each run; cached.

        Args:
            on_event: Called on the event loop for retries.
        """

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        """Continue the conversation.

        Args:
            request: The conversation and how to sample.
            on_event: Called on the event loop for retries and, where the model streams, for text deltas.

        Raises:
            ModelError: After all tries, or at once where no retry can heal.
        """

    async def aclose(self) -> None:
        """Free everything; idempotent."""
