"""From a model string to a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from videobrain.errors import ConfigurationError, InputError
from videobrain.models.bundled import BUNDLED, announce, bundled_model, require_local
from videobrain.models.cached import CachedModel
from videobrain.models.openai import OpenAIModel
from videobrain.models.profiles import profile_for
from videobrain.models.protocol import ChatModel
from videobrain.settings import Settings

_FORMS = (
    "openai:NAME (any OpenAI-compatible server), vllm:ID_OR_DIR (starts vLLM), local:ID_OR_DIR (in this process) or "
    f"{BUNDLED} (the bundled model)"
)


def resolve_model(
    spec: str | ChatModel | None = None,
    *,
    base_url: str | Sequence[str] | None = None,
    api_key: str | None = None,
    settings: Settings | None = None,
) -> ChatModel:
    """The model that is meant. Nothing is started or asked yet.

    With no `spec`: ``VIDEOBRAIN_MODEL``; else the one model of the server at `base_url` or ``OPENAI_BASE_URL``; else
    the bundled model, with a warning. A lone ``OPENAI_API_KEY`` chooses nothing, since nobody's video goes to a paid
    service that nobody named. Looks at a directory that is named, so that it is work for a thread.

    Args:
        spec: ``openai:NAME``, ``vllm:ID_OR_DIR``, ``local:ID_OR_DIR``, ``tiny``, or a model, which is given back.
        base_url: Server of ``openai:`` models, or several of one model: a list, or a text with commas between them.
        api_key: Its API key.
        settings: By default those of the environment.

    Raises:
        ConfigurationError: The string names no model, there is only a key, or the model's directory cannot be used.
        MissingDependencyError: The bundled model is meant, and what runs it is not installed.
    """
    if spec is not None and not isinstance(spec, str):
        return spec
    settings = settings or Settings()
    model = _resolved((spec or settings.model or "").strip(), base_url, api_key, settings)
    return CachedModel(model, settings=settings) if settings.reply_cache else model


def _resolved(spec: str, base_url: str | Sequence[str] | None, api_key: str | None, settings: Settings) -> ChatModel:
    if not spec:
        return _unnamed(base_url, api_key, settings)
    kind, name = _parts(spec)
    if kind == "openai":
        return OpenAIModel(name or None, base_url=base_url, api_key=api_key, settings=settings)
    if base_url:
        raise ConfigurationError(
            f"{spec!r} runs on this machine and takes no base URL.",
            hint=f"Write openai:{name or spec} for a model on a server.",
        )
    if kind == BUNDLED:
        return _bundled(settings)
    if kind == "vllm":
        from videobrain.models.vllm import ManagedVLLM

        return ManagedVLLM(name, settings=settings)
    from videobrain.models.local import LocalModel

    return LocalModel(name, settings=settings)


def is_configured(spec: str | None, *, base_url: str | Sequence[str] | None = None, settings: Settings) -> bool:
    """Whether a model is chosen, or the choice is begun by a server or a key; else the bundled model is used."""
    return bool(
        (spec or settings.model or "").strip()
        or base_url
        or os.environ.get("OPENAI_BASE_URL")
        or os.environ.get("OPENAI_API_KEY")
    )


def own_encoder(spec: str) -> str | None:
    """The frame encoder that belongs to the model of a model string.

    None where there is none, and for a model on a server, which would have to be asked.

    Raises:
        ConfigurationError: The string names no model, or the model's directory cannot be used.
    """
    kind, name = _parts(spec.strip())
    if kind == "openai":
        return None
    return profile_for(str(bundled_model()) if kind == BUNDLED else name).encoder


def _parts(spec: str) -> tuple[str, str]:
    """Kind and name of a model string; the name is empty for the bundled model and for a server's only one.

    Raises:
        ConfigurationError: It is none.
    """
    if spec == BUNDLED:
        return BUNDLED, ""
    kind, colon, name = spec.partition(":")
    name = name.strip()
    if colon and (kind == "openai" or (kind in ("vllm", "local") and name)):
        return kind, str(Path(name).expanduser()) if name.startswith("~") else name
    # A bare name might mean any of the three, and a wrong guess would send a video somewhere.
    suggestion = f" Perhaps openai:{spec}?" if not colon else ""
    raise ConfigurationError(f"{spec!r} is no model string.{suggestion}", hint=f"Write {_FORMS}.")


def _bundled(settings: Settings) -> ChatModel:
    from videobrain.models.local import LocalModel

    directory = bundled_model()
    require_local()
    return LocalModel(str(directory), settings=settings, name=BUNDLED)


def _unnamed(base_url: str | Sequence[str] | None, api_key: str | None, settings: Settings) -> ChatModel:
    if base_url or os.environ.get("OPENAI_BASE_URL"):
        return OpenAIModel(None, base_url=base_url, api_key=api_key, settings=settings)
    if api_key or os.environ.get("OPENAI_API_KEY"):
        raise ConfigurationError(
            "No model is named. An API key alone sends no video anywhere.",
            hint="Name the model with --model (or VIDEOBRAIN_MODEL), such as openai:NAME.",
        )
    try:
        model = _bundled(settings)
    except InputError as error:
        error.message = f"No model is configured. {error.message}"
        raise
    announce()
    return model
