"""From a model string to a model."""

from __future__ import annotations

import os

from videobrain.errors import ConfigurationError
from videobrain.models.openai import OpenAIModel
from videobrain.models.protocol import ChatModel
from videobrain.settings import Settings

_FORMS = "openai:NAME (any OpenAI-compatible server), vllm:ID_OR_DIR (starts vLLM) or local:ID_OR_DIR (in this process)"


def resolve_model(
    spec: str | ChatModel | None = None,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    settings: Settings | None = None,
) -> ChatModel:
    """The model that is meant. Nothing is started or asked yet.

    With no `spec`: ``VIDEOBRAIN_MODEL``; else the one model of the server at `base_url` or ``OPENAI_BASE_URL``. A lone
    ``OPENAI_API_KEY`` chooses nothing, since nobody's video goes to a paid service that nobody named.

    Args:
        spec: ``openai:NAME``, ``vllm:ID_OR_DIR``, ``local:ID_OR_DIR``, or a model, which is returned as it is.
        base_url: Server of ``openai:`` models.
        api_key: Its API key.
        settings: By default those of the environment.

    Raises:
        ConfigurationError: No model is configured, or the string is none.
    """
    if spec is not None and not isinstance(spec, str):
        return spec
    settings = settings or Settings()
    spec = (spec or settings.model or "").strip()
    if not spec:
        return _unnamed(base_url, api_key, settings)
    kind, colon, name = spec.partition(":")
    name = name.strip()
    if kind == "openai" and colon:
        return OpenAIModel(name or None, base_url=base_url, api_key=api_key, settings=settings)
    if kind not in ("vllm", "local") or not name:
        # A bare name might mean any of the three, and a wrong guess would send a video somewhere.
        suggestion = f" Perhaps openai:{spec}?" if not colon else ""
        raise ConfigurationError(f"{spec!r} is no model string.{suggestion}", hint=f"Write {_FORMS}.")
    if base_url:
        raise ConfigurationError(
            f"{spec!r} runs on this machine and takes no base URL.",
            hint=f"Write openai:{name} for a model on a server.",
        )
    if kind == "vllm":
        from videobrain.models.vllm import ManagedVLLM

        return ManagedVLLM(name, settings=settings)
    from videobrain.models.local import LocalModel

    return LocalModel(name, settings=settings)


def _unnamed(base_url: str | None, api_key: str | None, settings: Settings) -> ChatModel:
    if base_url or os.environ.get("OPENAI_BASE_URL"):
        return OpenAIModel(None, base_url=base_url, api_key=api_key, settings=settings)
    if api_key or os.environ.get("OPENAI_API_KEY"):
        raise ConfigurationError(
            "No model is named. An API key alone sends no video anywhere.",
            hint="Name the model with --model (or VIDEOBRAIN_MODEL), such as openai:NAME.",
        )
    raise ConfigurationError(
        "No model is configured.",
        hint=f"Set OPENAI_BASE_URL to a server's address, or name a model with --model or VIDEOBRAIN_MODEL: {_FORMS}.",
    )
