"""Models behind any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from pydantic import BaseModel, ValidationError

from videobrain.errors import ConfigurationError, ModelTimeoutError, RequestRejectedError
from videobrain.models.endpoint import Endpoint
from videobrain.models.failures import ServerWords, adapted_profile, from_response, read_error_body, unknown_model
from videobrain.models.messages import ChatReply, ChatRequest, ModelEvent, RequestRetried, TextDelta
from videobrain.models.profiles import DEFAULT_PROFILE, profile_for
from videobrain.models.protocol import ModelCapacity, ModelProfile
from videobrain.models.retry import PassingFailure, RetryPolicy, with_retries
from videobrain.models.turns import Turns
from videobrain.models.wire import BROKEN_OFF, Completion, ImageParts, ModelList, ReplyBuilder, chunks, request_body
from videobrain.settings import Settings

_CHAT = "/chat/completions"
_IMAGE_BYTES = 128 * 2**20
T = TypeVar("T", bound=BaseModel)
_OnEvent = Callable[[ModelEvent], None]


class OpenAIModel:
    """A `ChatModel` on an OpenAI-compatible server: vLLM, OpenAI, and most others.

    `profile` is refined by `capacity`: a server that turns out to be vLLM can constrain replies, and an alias shows
    which model it stands for. It changes once more where the server refuses a parameter (such as a temperature),
    which is then left out. It may be used from several event loops, one after the other or at once; each has a pool of
    connections, until `aclose`.

    A streamed reply that breaks off is asked for again from its beginning: after a `RequestRetried` event the text
    deltas before it are void.

    Args:
        model: Name under which the server serves the model; None takes the one model that it serves.
        base_url: The server, such as ``http://localhost:8000/v1``; by default ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: By default ``OPENAI_API_KEY``. It shows in no error, log or `repr`.
        settings: Time-outs, retries, streaming, image uuids.
        profile: What the model can do, where its name does not tell.
        retry: How to try again; by default as `settings` says.

    Raises:
        ConfigurationError: There is no server to ask, or nobody named a model of OpenAI's own.
    """

    def __init__(
        self,
        model: str | None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        settings: Settings | None = None,
        profile: ModelProfile | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        settings = settings or Settings()
        self._model = model or None
        self._endpoint = Endpoint(base_url, api_key, request_seconds=settings.request_timeout_seconds)
        if self._endpoint.base_url is None:
            if self._model is None:
                raise ConfigurationError("No model is named.", hint="Name one with --model, such as openai:NAME.")
            if not self._endpoint.has_key:
                raise ConfigurationError(
                    f"No server is named for the model {self._model!r}.",
                    hint="Set OPENAI_BASE_URL (or --base-url) to its address, or OPENAI_API_KEY for OpenAI's own.",
                )
        self._profile_given = profile is not None
        self._profile = profile or (profile_for(self._model) if self._model else DEFAULT_PROFILE)
        self._streams = settings.stream_replies
        self._retry = retry or RetryPolicy(retries=settings.retries, seconds=settings.retry_seconds)
        self._image = ImageParts(max_bytes=min(_IMAGE_BYTES, settings.frame_cache_bytes), uuids=settings.image_uuids)
        self._refused_field = ""
        self._is_vllm = False
        self._served: tuple[str, ...] | None = None
        self._capacity: ModelCapacity | None = None
        self._capacity_lock = Turns()

    def __repr__(self) -> str:
        return f"OpenAIModel({self._model!r}, base_url={self._endpoint.shown_url!r})"

    @property
    def name(self) -> str:
        """Model string: ``openai:NAME``."""
        return f"openai:{self._model or ''}"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do, as far as it is known by now."""
        return self._profile

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """Ask the server which models it serves and how long a context they have.

        Raises:
            ConfigurationError: No model was named and the server does not serve exactly one.
            UnknownModelError: The server is vLLM and does not serve the model.
            ModelError: The server cannot be reached, or refuses.
        """
        return await self._known_capacity(None, on_event)

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        """Continue the conversation; see `ChatModel.complete`.

        Raises:
            ConfigurationError: The request wants a constrained reply and the server cannot give one.
            ModelError: After all tries, or at once where no retry can heal.
        """
        before = ""

        def note(event: ModelEvent) -> None:
            nonlocal before
            if isinstance(event, RequestRetried):
                before = f" Before that: {event.reason}"
            if on_event is not None:
                on_event(event)

        with anyio.move_on_after(request.timeout_seconds):
            return await self._complete(request, note)
        raise ModelTimeoutError(
            f"{self._endpoint} did not reply within {request.timeout_seconds:.3g} s, all that was left of the run."
            + before,
            hint="Allow the run more time (Limits(seconds=…)).",
        )

    async def aclose(self) -> None:
        """Close all connections. A later request opens them again."""
        self._capacity = None
        self._image.clear()
        await self._endpoint.aclose()

    async def _complete(self, request: ChatRequest, on_event: _OnEvent) -> ChatReply:
        started = time.monotonic()
        await self._known_capacity(request.timeout_seconds, on_event)
        if request.pattern is not None and not self._profile.constrains:
            raise ConfigurationError(
                f"{self._endpoint} is not known to constrain replies to a grammar, as vLLM does.",
                hint="Use constrain_replies=False, or a profile with constrains=True.",
            )
        spent = time.monotonic() - started
        reply = await with_retries(
            lambda: self._adapting(request, on_event),
            self._retry,
            seconds_left=None if request.timeout_seconds is None else request.timeout_seconds - spent,
            on_retry=on_event,
        )
        return reply.model_copy(update={"seconds": time.monotonic() - started})

    async def _adapting(self, request: ChatRequest, on_event: _OnEvent) -> ChatReply:
        """One try, sent again at once without each parameter that the server says it does not support."""
        while True:
            profile = self._profile
            try:
                return await self._send(request, profile, on_event)
            except RequestRejectedError as rejected:
                adapted = adapted_profile(profile, rejected.status, rejected.server_message)
                # Each parameter is adapted once, or servers that refuse either spelling would be asked for ever.
                if adapted is profile or adapted.max_tokens_field == self._refused_field:
                    raise
                reason = rejected.message
            if adapted.max_tokens_field != profile.max_tokens_field:
                self._refused_field = profile.max_tokens_field
            self._profile = adapted
            on_event(RequestRetried(attempt=1, delay_seconds=0.0, reason=reason))

    async def _send(self, request: ChatRequest, profile: ModelProfile, on_event: _OnEvent) -> ChatReply:
        model = self._model or ""
        body = request_body(request, model=model, profile=profile, image=self._image, strict_tools=self._is_vllm)
        built = ReplyBuilder()

        async def read(pieces: AsyncIterator[bytes]) -> None:
            async with aclosing(chunks(pieces)) as parts:
                async for chunk in parts:
                    if chunk.error is not None:
                        raise self._refusal_in_stream(chunk.error)
                    text = built.add_chunk(chunk)
                    if text:
                        on_event(TextDelta(text=text))

        if self._streams:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            await self._endpoint.stream(_CHAT, body, self._refusal, read)
            if built.finish_reason is None:
                raise self._endpoint.garbage("The server's stream ended before the reply did")
        else:
            answer = await self._endpoint.post(_CHAT, body, self._refusal)
            built.add_completion(self._parsed(Completion, answer, "chat completion"))
        if built.finish_reason in BROKEN_OFF:
            raise self._endpoint.garbage(f"The server broke the reply off ({built.finish_reason})")
        return built.reply(model=model, seconds=0.0)

    def _refusal(self, status: int, words: ServerWords, headers: Mapping[str, str]) -> Exception:
        return from_response(status, words, headers, model=self._model or "", served=self._served)

    def _refusal_in_stream(self, error: Any) -> Exception:
        """What vLLM reports after the first token, as a chunk that holds an error."""
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        return self._refusal(status, self._endpoint.scrub(read_error_body(json.dumps({"error": error}))), {})

    async def _known_capacity(self, seconds_left: float | None, on_event: _OnEvent | None) -> ModelCapacity:
        async with self._capacity_lock:
            if self._capacity is None:
                self._capacity = await self._ask_capacity(seconds_left, on_event)
            return self._capacity

    async def _ask_capacity(self, seconds_left: float | None, on_event: _OnEvent | None) -> ModelCapacity:
        try:
            served = await with_retries(self._list, self._retry, seconds_left=seconds_left, on_retry=on_event)
        except RequestRejectedError as error:
            # A wrong key is told at once; other refusals need not hold for replies.
            if self._model is None or error.status == 401:
                raise
            served = None
        if served is None:  # all that is lost is the length of the context
            return ModelCapacity(model=self._model or "", address=self._endpoint.shown_url)
        names = self._served = tuple(model.id for model in served.data)
        self._is_vllm = any(model.owned_by == "vllm" for model in served.data)
        if self._model is None:
            if len(names) != 1:
                listed = ", ".join(f"openai:{name}" for name in names[:20]) or "none"
                raise ConfigurationError(
                    f"{self._endpoint} serves {len(names)} models: {listed}.", hint="Name one with --model."
                )
            self._model = names[0]
        card = next((model for model in served.data if model.id == self._model), None)
        if card is None and self._is_vllm:  # other servers may serve more than they list
            raise unknown_model(self._model, names)
        await self._refine_profile(card.root if card else None)
        return ModelCapacity(
            model=self._model,
            max_model_len=card.max_model_len if card else None,
            root=card.root if card else None,
            address=self._endpoint.shown_url,
        )

    async def _list(self) -> ModelList | None:
        """The served models; None where the answer is no list and, since a model is named, none is needed."""
        answer = await self._endpoint.get("/models", self._refusal)
        try:
            return self._parsed(ModelList, answer, "list of models")
        except PassingFailure:
            if self._model is None:
                raise
            return None

    def _parsed(self, kind: type[T], answer: bytes, what: str) -> T:
        try:
            return kind.model_validate_json(answer)
        except ValidationError:
            failure = self._endpoint.garbage(f"The server's answer is no {what}", answer)
        raise failure

    async def _refine_profile(self, root: str | None) -> None:
        if not self._profile_given:
            self._profile = await anyio.to_thread.run_sync(_profile_of_served, self._model or "", root)
        if self._is_vllm:
            self._profile = self._profile.model_copy(update={"constrains": True})


def _profile_of_served(name: str, root: str | None) -> ModelProfile:
    """By the name that is served, else by what vLLM says that it is an alias of; either may be a directory here."""
    profile = profile_for(name)
    return profile_for(root) if profile is DEFAULT_PROFILE and root else profile
