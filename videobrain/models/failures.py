"""What a server's refusal means: its status, headers and body as a typed error that names the flag which mends it.

The wordings are those of vLLM 0.31 (`vllm/renderers/params.py`, `vllm/multimodal/processing/context.py`,
`vllm/v1/engine/input_processor.py`, `vllm/entrypoints`) and of OpenAI's API. Pure functions, no I/O.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from videobrain.errors import (
    AuthenticationError,
    ContextLengthError,
    ImageLimitError,
    ModelError,
    ModelServerError,
    ModelTimeoutError,
    RateLimitError,
    RequestRejectedError,
    UnknownModelError,
)
from videobrain.models.protocol import ModelProfile
from videobrain.models.retry import PassingFailure

_CONTEXT = re.compile(
    r"maximum (?:context|model) length|context_length_exceeded|context (?:length|window)|exceeds? the model's maximum",
    re.IGNORECASE,
)
_IMAGES = re.compile(
    r"at most \d+ image|limit-mm-per-prompt|too many images|max(?:imum)?(?: number)? of images", re.IGNORECASE
)
_UNKNOWN_MODEL = re.compile(
    r"model\b.{0,300}\b(?:does not exist|not found|not exist)|model_not_found", re.I | re.DOTALL
)
_TOOL_PARSER = re.compile(r"--enable-auto-tool-choice|--tool-call-parser")
_STRUCTURED = re.compile(r"\bstructured_outputs\b")
_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|does not support|unrecognized|unknown (?:parameter|field)|extra_forbidden|"
    r"extra inputs|unexpected keyword|not permitted",
    re.IGNORECASE,
)
_LONGEST_QUOTE = 600


class ServerWords(NamedTuple):
    """What a server said in refusing.

    Attributes:
        message: For people, shortened.
        everything: Message, type, code and parameter, for finding out what is meant.
    """

    message: str
    everything: str


def read_error_body(body: str | bytes) -> ServerWords:
    """Read the many shapes of an error body: OpenAI's, vLLM's, FastAPI's, plain text, HTML, nothing."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    try:
        data: Any = json.loads(text)
    except ValueError:
        return _plain(text)
    error = data.get("error", data) if isinstance(data, dict) else data
    if isinstance(error, str):  # vLLM's 401: {"error": "Unauthorized"}
        return _plain(error)
    if not isinstance(error, dict):
        return _plain(text)
    message = error.get("message") or error.get("detail") or error.get("msg")
    if not isinstance(message, str):
        return _plain(text)
    extras = [str(error[name]) for name in ("type", "code", "param") if error.get(name) is not None]
    return ServerWords(_shorten(message), " ".join([message, *extras]))


def _plain(text: str) -> ServerWords:
    if re.match(r"\s*<", text):  # a proxy's page: its title says it best
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = title.group(1) if title else "an HTML page"
    return ServerWords(_shorten(text), text)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def retry_after_seconds(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """The delay that the server asks for: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date.

    `headers` must look names up regardless of case, or have lower-case names.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                # parsedate gives a naive time for "-0000", which means UTC too
                seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
            except (ValueError, TypeError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def from_response(
    status: int,
    words: ServerWords,
    headers: Mapping[str, str],
    *,
    model: str,
    served: Sequence[str] | None = None,
    server: str = "The server",
) -> ModelError | PassingFailure:
    """What an HTTP error means.

    Args:
        status: HTTP status, or the code inside an error that arrived in a stream.
        words: The body, without secrets.
        headers: The response's headers.
        model: Name that was asked for.
        served: Names that the server serves, where known.
        server: What it is called.

    Returns:
        A `PassingFailure` where another try may succeed, else the error for the caller.
    """
    said = f'{server} answered {status}: "{words.message}"' if words.message else f"{server} answered {status}."
    told: dict[str, Any] = {"status": status, "server_message": words.message}
    if status == 429 and _QUOTA.search(words.everything):
        return RateLimitError(said, hint="The account's quota is used up; waiting does not help.", **told)
    if status == 429:
        wait = retry_after_seconds(headers)
        return PassingFailure(RateLimitError, said, hint="Ask with less concurrency.", retry_after_seconds=wait, **told)
    if status in (408, 504):
        return PassingFailure(ModelTimeoutError, said, **told)
    if status >= 500 and status != 501:
        wait = retry_after_seconds(headers)
        return PassingFailure(
            ModelServerError, said, hint="The server's log says more.", retry_after_seconds=wait, **told
        )
    if status in (409, 425):
        return PassingFailure(ModelServerError, said, **told)
    if status in (401, 403):
        hint = "Give the server's API key in OPENAI_API_KEY, or as api_key= in Python."
        return AuthenticationError(said, hint=hint, **told)
    return _rejected(status, words, said, told, model=model, served=served)


def _rejected(
    status: int,
    words: ServerWords,
    said: str,
    told: dict[str, Any],
    *,
    model: str,
    served: Sequence[str] | None,
) -> ModelError:
    text = words.everything
    if _IMAGES.search(text):
        hint = (
            "Start the server with --limit-mm-per-prompt '{\"image\": N}' for a larger N, or show fewer frames "
            "(--max-frames, Limits(frames=…))."
        )
        return ImageLimitError(said, hint=hint, **told)
    if _CONTEXT.search(text):
        hint = (
            "Start the server with a larger --max-model-len, or show fewer frames (--max-frames, Limits(frames=…)) "
            "or allow fewer turns (--max-turns)."
        )
        return ContextLengthError(said, hint=hint, **told)
    if status in (400, 404) and _UNKNOWN_MODEL.search(text):
        return unknown_model(model, served, said=said, status=status, words=words)
    if _TOOL_PARSER.search(text):
        hint = (
            "Start the server with --enable-auto-tool-choice --tool-call-parser NAME, or use tool_calling='tags', "
            "which every server understands."
        )
        return RequestRejectedError(said, hint=hint, **told)
    if _STRUCTURED.search(text):
        hint = (
            "Ask without holding replies to the grammar (--no-constrain, VIDEOBRAIN_CONSTRAIN_REPLIES=0), or update a "
            "vLLM that is too old for it."
        )
        return RequestRejectedError(said, hint=hint, **told)
    if status in (404, 405):
        hint = "Is the base URL right? It usually ends in /v1, as in http://localhost:8000/v1."
        return RequestRejectedError(said, hint=hint, **told)
    if status == 413:
        return RequestRejectedError(said, hint="The request is too large for the server: show fewer frames.", **told)
    return RequestRejectedError(said, **told)


def unknown_model(
    model: str,
    served: Sequence[str] | None,
    *,
    said: str = "",
    status: int | None = None,
    words: ServerWords | None = None,
) -> UnknownModelError:
    """The error for a model that the server does not serve; its hint lists those that it does."""
    names = [f"openai:{name}" for name in served or ()]
    more = f", and {len(names) - 20} more" if len(names) > 20 else ""
    hint = f"It serves {', '.join(names[:20])}{more}; name one with --model." if names else "Name another with --model."
    return UnknownModelError(
        said or f"The server does not serve a model named {model!r}.",
        hint=hint,
        status=status,
        server_message=words.message if words else "",
    )


def adapted_profile(profile: ModelProfile, status: int | None, words: str) -> ModelProfile:
    """The profile without what a server just said it does not support; the same object where it said nothing such.

    Reasoning models of OpenAI refuse ``max_tokens`` and ``temperature``; older servers ``max_completion_tokens``.
    """
    if status not in (400, 422) or not _UNSUPPORTED.search(words):
        return profile
    for name in re.findall(r"\b(?:temperature|seed)\b", words):
        if getattr(profile, f"sends_{name}"):
            return profile.model_copy(update={f"sends_{name}": False})
    mentioned = re.search(r"\bmax_(?:completion_)?tokens\b", words)  # the first one named is the refused one
    if mentioned and mentioned.group() == profile.max_tokens_field:
        other = "max_tokens" if profile.max_tokens_field == "max_completion_tokens" else "max_completion_tokens"
        return profile.model_copy(update={"max_tokens_field": other})
    return profile
