"""Models behind any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import anyio.to_thread

from videobrain.errors import (
    ConfigurationError,
    ModelError,
    ModelServerError,
    ModelTimeoutError,
    RequestRejectedError,
)
from videobrain.models.endpoint import Endpoint, Refusal
from videobrain.models.failures import ServerWords, adapted_profile, from_response, read_error_body
from videobrain.models.messages import ChatReply, ChatRequest, ModelEvent, RequestRetried, TextDelta
from videobrain.models.profiles import DEFAULT_PROFILE, profile_for
from videobrain.models.protocol import ModelCapacity, ModelProfile
from videobrain.models.retry import PassingFailure, RetryPolicy, with_retries
from videobrain.models.served import LOOK_SECONDS, Served, agreed, ask_served
from videobrain.models.servers import (
    Route,
    Server,
    Servers,
    ServerState,
    addresses,
    affinity_key,
    speak_for_all,
)
from videobrain.models.turns import Turns
from videobrain.models.wire import BROKEN_OFF, Completion, ImageParts, ReplyBuilder, chunks, request_body
from videobrain.settings import Settings

_LOGGER = logging.getLogger(__name__)

_CHAT = "/chat/completions"
_IMAGE_BYTES = 128 * 2**20
_OnEvent = Callable[[ModelEvent], None]


class OpenAIModel:
    """A `ChatModel` on an OpenAI-compatible server: vLLM, OpenAI, and most others.

    `profile` is refined by `capacity`: a server that turns out to be vLLM can constrain replies, and an alias shows
    which model it stands for. It changes once more where the server refuses a parameter (such as a temperature),
    which is then left out. It may be used from several event loops, one after the other or at once; each has a pool of
    connections, until `aclose`.

    A streamed reply that breaks off is asked for again from its beginning: after a `RequestRetried` event the text
    deltas before it are void.

    Several servers of one model share the requests. Those about one video go to the same server, which then has its
    prefixes and images; one that is much busier than the others, or fails, yields to the next.

    Args:
        model: Name under which the server serves the model; None takes the one model that it serves.
        base_url: The server, such as ``http://localhost:8000/v1``, or several: a list, or a text with commas between
            them. By default ``OPENAI_BASE_URL``, else OpenAI's own.
        api_key: By default ``OPENAI_API_KEY``. It shows in no error, log or `repr`. All servers get the same.
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
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        settings: Settings | None = None,
        profile: ModelProfile | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        settings = settings or Settings()
        self._model = model or None
        self._retry = retry or RetryPolicy(retries=settings.retries, seconds=settings.retry_seconds)
        urls = addresses(base_url)
        seconds, several = settings.request_timeout_seconds, len(urls) > 1
        endpoints = [Endpoint(url, api_key, request_seconds=seconds, one_of_several=several) for url in urls]
        self._servers = Servers(endpoints, clock=self._retry.clock)
        if endpoints[0].base_url is None:
            if self._model is None:
                raise ConfigurationError("No model is named.", hint="Name one with --model, such as openai:NAME.")
            if not endpoints[0].has_key:
                raise ConfigurationError(
                    f"No server is named for the model {self._model!r}.",
                    hint="Set OPENAI_BASE_URL (or --base-url) to its address, or OPENAI_API_KEY for OpenAI's own.",
                )
        self._profile_given = profile is not None
        self._profile = profile or (profile_for(self._model) if self._model else DEFAULT_PROFILE)
        self._streams = settings.stream_replies
        self._image = ImageParts(max_bytes=min(_IMAGE_BYTES, settings.frame_cache_bytes), uuids=settings.image_uuids)
        self._refused_field = ""
        self._served: Served | None = None
        self._told_by = ""
        self._capacity: ModelCapacity | None = None
        self._capacity_lock = Turns()

    def __repr__(self) -> str:
        shown = self._servers.addresses
        return f"OpenAIModel({self._model!r}, base_url={shown if len(shown) > 1 else shown[0]!r})"

    @property
    def name(self) -> str:
        """Model string: ``openai:NAME``."""
        return f"openai:{self._model or ''}"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do, as far as it is known by now."""
        return self._profile

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """What is known of each server by now."""
        return self._servers.states

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """Ask the server which models it serves and how long a context they have.

        Of several servers one has to reply. The others are looked at again when it is their turn.

        Raises:
            ConfigurationError: No model was named and the server does not serve exactly one, or several servers do not
                serve the same model.
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
        route = self._servers.route(affinity_key(request))

        def note(event: ModelEvent) -> None:
            nonlocal before
            if isinstance(event, RequestRetried):
                before = f" Before that: {event.reason}"
            if on_event is not None:
                on_event(event)

        with anyio.move_on_after(request.timeout_seconds):
            return await self._complete(request, route, note)
        raise ModelTimeoutError(
            f"{route} did not reply within {request.timeout_seconds:.3g} s, all that was left of the run." + before,
            hint="Allow the run more time (Limits(seconds=…)).",
        )

    async def aclose(self) -> None:
        """Close all connections. A later request opens them again."""
        self._capacity = None
        self._image.clear()
        for server in self._servers:
            await server.endpoint.aclose()

    async def _complete(self, request: ChatRequest, route: Route, on_event: _OnEvent) -> ChatReply:
        started = time.monotonic()
        await self._known_capacity(request.timeout_seconds, on_event)
        if request.pattern is not None and not self._profile.constrains:
            raise ConfigurationError(
                f"{self._servers} is not known to constrain replies to a grammar, as vLLM does.",
                hint="Use constrain_replies=False, or a profile with constrains=True.",
            )
        spent = time.monotonic() - started
        reply = await with_retries(
            lambda: self._try(request, route, on_event),
            self._retry,
            seconds_left=None if request.timeout_seconds is None else request.timeout_seconds - spent,
            on_retry=on_event,
        )
        return reply.model_copy(update={"seconds": time.monotonic() - started})

    async def _try(self, request: ChatRequest, route: Route, on_event: _OnEvent) -> ChatReply:
        with route.server() as server:
            if server.failures:
                await self._look_again(server)
            return await self._adapting(request, server.endpoint, on_event)

    async def _adapting(self, request: ChatRequest, endpoint: Endpoint, on_event: _OnEvent) -> ChatReply:
        """One try, sent again at once without each parameter that the server says it does not support."""
        while True:
            profile = self._profile
            try:
                return await self._send(request, profile, endpoint, on_event)
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

    async def _send(
        self, request: ChatRequest, profile: ModelProfile, endpoint: Endpoint, on_event: _OnEvent
    ) -> ChatReply:
        model, is_vllm = self._model or "", self._served is not None and self._served.is_vllm
        body = request_body(request, model=model, profile=profile, image=self._image, strict_tools=is_vllm)
        built, refusal = ReplyBuilder(), self._refusal_of(endpoint)

        async def read(pieces: AsyncIterator[bytes]) -> None:
            async with aclosing(chunks(pieces)) as parts:
                async for chunk in parts:
                    if chunk.error is not None:
                        raise _refusal_in_stream(chunk.error, endpoint, refusal)
                    text = built.add_chunk(chunk)
                    if text:
                        on_event(TextDelta(text=text))

        if self._streams:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            await endpoint.stream(_CHAT, body, refusal, read)
            if built.finish_reason is None:
                raise endpoint.garbage(f"{endpoint.called}'s stream ended before the reply did")
        else:
            answer = await endpoint.post(_CHAT, body, refusal)
            built.add_completion(endpoint.parsed(Completion, answer, "chat completion"))
        if built.finish_reason in BROKEN_OFF:
            raise endpoint.garbage(f"{endpoint.called} broke the reply off ({built.finish_reason})")
        return built.reply(model=model, seconds=0.0)

    def _refusal_of(self, endpoint: Endpoint) -> Refusal:
        def refusal(status: int, words: ServerWords, headers: Mapping[str, str]) -> Exception:
            names = self._served.names if self._served else None
            return from_response(status, words, headers, model=self._model or "", served=names, server=endpoint.called)

        return refusal

    async def _known_capacity(self, seconds_left: float | None, on_event: _OnEvent | None) -> ModelCapacity:
        async with self._capacity_lock:
            if self._capacity is None:
                self._capacity = await self._ask_capacity(seconds_left, on_event)
            return self._capacity

    async def _ask_capacity(self, seconds_left: float | None, on_event: _OnEvent | None) -> ModelCapacity:
        said = await with_retries(self._look_at_all, self._retry, seconds_left=seconds_left, on_retry=on_event)
        urls = sorted(self._servers.addresses)
        if not said:  # all that is lost is the length of the context
            return ModelCapacity(model=self._model or "", address=", ".join(urls), servers=len(urls))
        served = self._served = agreed(said)
        self._told_by = next(iter(said))
        self._model = served.model
        await self._refine_profile(served)
        return ModelCapacity(
            model=served.model,
            max_model_len=served.max_model_len,
            root=served.root,
            address=None if self._servers.several and served.root else ", ".join(urls),
            servers=len(urls),
        )

    async def _look_at_all(self) -> dict[str, Served]:
        """What each server says that it serves; one of them has to reply."""
        found: dict[Server, Served | None] = {}
        failures: list[PassingFailure] = []
        errors: list[ModelError | ConfigurationError] = []

        async def look(server: Server) -> None:
            sent_at = self._servers.now()
            try:
                found[server] = await self._look(server.endpoint)
            except PassingFailure as failure:
                self._servers.failed(server, failure, sent_at=sent_at)
                failures.append(failure)
            except (ModelError, ConfigurationError) as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for server in self._servers:
                group.start_soon(look, server)
        if errors:
            raise errors[0]
        if len(failures) == len(self._servers):
            speak_for_all(failures[-1], failures)
            raise failures[-1]
        for failure in failures:
            _LOGGER.warning("%s The other servers are asked meanwhile.", failure.message)
        # In the order of the addresses, whoever was faster.
        both = ((server.endpoint.called, found.get(server)) for server in self._servers)
        return {called: served for called, served in both if served is not None}

    async def _look(self, endpoint: Endpoint) -> Served | None:
        seconds = LOOK_SECONDS if self._servers.several else None
        return await ask_served(endpoint, self._refusal_of(endpoint), model=self._model, seconds=seconds)

    async def _look_again(self, server: Server) -> None:
        """See that a server that failed is back, and serves what it did: it may be another one by now."""
        wrong = ""
        try:
            served = await self._look(server.endpoint)
            known = self._served
            if served is not None and known is not None:
                agreed({self._told_by: known, f"{server.endpoint.called} now": served})
                if (served.max_model_len or math.inf) < (known.max_model_len or 0):
                    wrong = f"{server.endpoint.called} now has a context of only {served.max_model_len} tokens."
        except (ModelError, ConfigurationError) as error:
            wrong = error.message
        if wrong:
            _LOGGER.warning("%s", wrong)
            raise PassingFailure(ModelServerError, wrong)

    async def _refine_profile(self, served: Served) -> None:
        if not self._profile_given:
            self._profile = await anyio.to_thread.run_sync(_profile_of_served, served.model, served.root)
        if served.is_vllm:
            self._profile = self._profile.model_copy(update={"constrains": True})


def _refusal_in_stream(error: Any, endpoint: Endpoint, refusal: Refusal) -> Exception:
    """What vLLM reports after the first token, as a chunk that holds an error."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    return refusal(status, endpoint.scrub(read_error_body(json.dumps({"error": error}))), {})


def _profile_of_served(name: str, root: str | None) -> ModelProfile:
    """By the name that is served, else by what vLLM says that it is an alias of; either may be a directory here."""
    profile = profile_for(name)
    return profile_for(root) if profile is DEFAULT_PROFILE and root else profile
