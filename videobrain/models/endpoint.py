"""One OpenAI-compatible endpoint: address, key, connections of each event loop, and what goes wrong as our errors."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from pydantic import BaseModel, ValidationError

from videobrain.errors import ConfigurationError, InvalidReplyError, ModelConnectionError, ModelTimeoutError
from videobrain.models.failures import ServerWords, read_error_body
from videobrain.models.retry import PassingFailure

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

OPENAI_URL = "https://api.openai.com/v1"
_CONNECT_SECONDS = 10.0
_NO_KEY = "none"  # the openai package insists on a key; servers without authentication ignore it
_URL_HINT = "Is the base URL right? It usually ends in /v1, as in http://localhost:8000/v1."

Refusal = Callable[[int, ServerWords, Mapping[str, str]], Exception]
"""Makes an error of an HTTP error's status, words (without secrets) and headers."""


class Endpoint:
    """Sends requests through the openai package, without its retries.

    Args:
        base_url: Its address; None: OpenAI's own.
        api_key: By default ``OPENAI_API_KEY``.
        request_seconds: Time that one request may take.
        one_of_several: Whether errors have to tell it from others.

    Raises:
        ConfigurationError: The address or the key cannot be one.
    """

    def __init__(
        self, base_url: str | None, api_key: str | None, *, request_seconds: float, one_of_several: bool = False
    ) -> None:
        self.base_url = _checked_url(base_url or None)
        self._api_key = _checked_key(api_key or os.environ.get("OPENAI_API_KEY") or None)
        self.has_key = self._api_key is not None
        self._request_seconds = request_seconds
        self._one_of_several = one_of_several
        self._lock = threading.Lock()
        self._clients: dict[asyncio.AbstractEventLoop, AsyncOpenAI] = {}

    @property
    def shown_url(self) -> str:
        """The address for people, without the query, which may hold a secret."""
        parts = urlsplit(self.base_url or OPENAI_URL)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def called(self) -> str:
        """What errors about its answers call it."""
        return f"The server {self.shown_url}" if self._one_of_several else "The server"

    def __repr__(self) -> str:
        return f"Endpoint({self.shown_url!r})"

    def __str__(self) -> str:
        return f"The model server {self.shown_url}"

    async def get(self, path: str, refusal: Refusal) -> bytes:
        """The body of a GET request."""
        client = await self._open()

        async def send() -> bytes:
            response = await client.get(path, cast_to=_transport().Response)
            return bytes(response.content)

        return await self._guarded(send, refusal)

    async def post(self, path: str, body: Mapping[str, Any], refusal: Refusal) -> bytes:
        """The body of the answer to a POST request."""
        client = await self._open()

        # client.post, not chat.completions.create: that walks all messages once more to transform them, which takes
        # as long as everything else together (10 ms of the event loop at 56 frames).
        async def send() -> bytes:
            response = await client.post(path, cast_to=_transport().Response, body=body)
            return bytes(response.content)

        return await self._guarded(send, refusal)

    async def stream(
        self,
        path: str,
        body: Mapping[str, Any],
        refusal: Refusal,
        read: Callable[[AsyncIterator[bytes]], Awaitable[T]],
    ) -> T:
        """What `read` makes of the answer to a POST request while it comes in."""
        client = await self._open()

        @asynccontextmanager
        async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
            import openai

            stream = await client.post(
                path, cast_to=object, body=body, stream=True, stream_cls=openai.AsyncStream[object]
            )
            async with stream:
                yield stream.response.aiter_bytes()

        async def send() -> T:
            async with opened() as pieces:
                return await read(pieces)

        return await self._guarded(send, refusal)

    async def aclose(self) -> None:
        """Close all connections; a later request opens them again."""
        clients, self._clients = self._clients, {}
        here = clients.pop(asyncio.get_running_loop(), None)
        for loop, client in clients.items():
            if loop.is_running():  # in another thread
                asyncio.run_coroutine_threadsafe(client.close(), loop)
        if here is not None:
            with anyio.CancelScope(shield=True):
                await here.close()

    def scrub(self, words: ServerWords) -> ServerWords:
        """The words without our API key: servers and proxies quote what they were sent."""
        return ServerWords(self._scrubbed(words.message), self._scrubbed(words.everything))

    def garbage(self, message: str, body: bytes = b"") -> PassingFailure:
        """The failure of an answer that is not what was asked for."""
        begins = self.scrub(read_error_body(body)).message[:200]
        said = f'{message}; it begins "{begins}".' if begins else f"{message}{'' if body else ' (nothing came)'}."
        return PassingFailure(InvalidReplyError, said, hint=_URL_HINT)

    def parsed(self, kind: type[M], answer: bytes, what: str) -> M:
        """The answer to a request, read.

        Raises:
            PassingFailure: It is something else.
        """
        try:
            return kind.model_validate_json(answer)
        except ValidationError:
            failure = self.garbage(f"{self.called}'s answer is no {what}", answer)
        raise failure

    async def _guarded(self, send: Callable[[], Awaitable[T]], refusal: Refusal) -> T:
        """Await one request within its time-out; whatever goes wrong becomes one of our errors.

        They are raised after the except clauses, not inside: the openai package's exceptions hold the request with the
        API key in its headers, and must not come along as context.
        """
        import openai

        transport = _transport()
        seconds = self._request_seconds
        failure: Exception
        try:
            with anyio.fail_after(seconds):
                return await send()
        except openai.APIStatusError as error:
            words = self.scrub(read_error_body(error.response.content))
            failure = refusal(error.status_code, words, dict(error.response.headers))
        except (openai.APITimeoutError, transport.TimeoutException, TimeoutError):
            failure = PassingFailure(
                ModelTimeoutError,
                f"{self} did not reply within {seconds:g} s.",
                hint="A larger request_timeout_seconds (VIDEOBRAIN_REQUEST_TIMEOUT_SECONDS) waits longer.",
            )
        except (openai.APIConnectionError, transport.HTTPError) as error:
            cause = self._scrubbed(_root_cause(error)).rstrip(".")
            failure = PassingFailure(
                ModelConnectionError,
                f"{self} cannot be reached or broke the connection off: {cause}.",
                hint="Is the server running, and is its address right (OPENAI_BASE_URL, --base-url)?",
            )
        raise failure

    async def _open(self) -> AsyncOpenAI:
        loop = asyncio.get_running_loop()
        if loop in self._clients:
            return self._clients[loop]
        # Importing openai takes a good part of a second, and the system's certificates are read from disk.
        return await anyio.to_thread.run_sync(self._client_of, loop)

    def _client_of(self, loop: asyncio.AbstractEventLoop) -> AsyncOpenAI:
        with self._lock:
            if loop not in self._clients:
                for ended in [other for other in self._clients if other.is_closed()]:
                    self._clients.pop(ended, None)  # nobody can close its connections but the garbage collector
                self._clients[loop] = self._make_client()
            return self._clients[loop]

    def _make_client(self) -> AsyncOpenAI:
        import openai

        return openai.AsyncOpenAI(
            base_url=self.base_url or OPENAI_URL,
            api_key=self._api_key or _NO_KEY,
            max_retries=0,  # ours are visible and bounded in time
            timeout=openai.Timeout(self._request_seconds, connect=min(_CONNECT_SECONDS, self._request_seconds)),
            # Unlike openai's own choice, this one when forgotten starts no task, which would fail in another loop.
            http_client=openai.DefaultAsyncHttpxClient(),
        )

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._api_key, "***") if self._api_key else text


def _transport() -> Any:
    """The package that openai is built on: httpx2 since version 3, httpx before."""
    import openai

    # The class itself claims to be of openai, which renames what it re-exports.
    return importlib.import_module(openai.Timeout.__init__.__module__.partition(".")[0])


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("The base URL is no http(s) address.", hint="Write it as http://localhost:8000/v1.")
    if "@" in parts.netloc:  # the transport logs whole addresses
        raise ConfigurationError("The base URL holds a user name or a password.", hint="Give the secret as API key.")
    return url


def _checked_key(key: str | None) -> str | None:
    key = key.strip() if key else None
    if key and not (key.isascii() and key.isprintable()):
        # The transport would refuse it too, in words that quote it.
        raise ConfigurationError("The API key holds characters that cannot stand in an HTTP header.")
    return key or None
