"""What a `VideoBrain` is made of, as plain data from which another process makes its like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, JsonValue

from videobrain.agent import Strategy, resolve_strategy
from videobrain.errors import ConfigurationError
from videobrain.limits import Limits
from videobrain.models.resolve import is_configured
from videobrain.models.servers import addresses
from videobrain.settings import Settings
from videobrain.tools import Tool
from videobrain.tools.registry import find_tool

if TYPE_CHECKING:
    from videobrain.brain import VideoBrain


class Recipe(BaseModel):
    """The arguments of a `VideoBrain`, all of them values of JSON. API keys are never among them."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str | None
    base_url: str | None
    """Several have commas between them."""
    tools: tuple[str, ...] | None
    encoder: str | None
    strategy: str
    limits: Limits
    settings: dict[str, JsonValue]
    """Those that were set, by argument or environment. What they leave open is for the other process to say."""

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `VideoBrain`."""
        given = {name: getattr(self, name) for name in ("model", "base_url", "tools", "encoder", "strategy", "limits")}
        return {**given, "settings": Settings(**self.settings)}  # type: ignore[arg-type]


def recipe_of(brain: VideoBrain) -> Recipe:
    """The recipe of a `VideoBrain` that is made of names and numbers alone.

    Raises:
        ConfigurationError: It has a model, an encoder, a tool or a strategy that is an object of this process, an API
            key was given as an argument, or no model is named.
    """
    model, encoder, settings = brain._model, brain._encoder, brain.settings  # both modules know how it is made
    if not isinstance(model, str | None):
        raise _object("model", model.name, "Name it by a string, such as openai:NAME.")
    if not isinstance(encoder, str | None):
        raise _object("encoder", encoder.name, "Name an open_clip model.")
    if brain._api_key is not None:
        raise ConfigurationError(
            "An API key that is given as an argument is not sent to other processes.",
            hint="Set OPENAI_API_KEY in their environment.",
        )
    if not is_configured(model, base_url=brain._base_url, settings=settings):
        raise ConfigurationError(
            "No model is named for the other processes.", hint="Name one with --model, such as openai:NAME or tiny."
        )
    return Recipe(
        model=model,
        base_url=_addresses(brain._base_url, (model or settings.model or "").strip()),
        tools=tuple(_name_of_tool(tool) for tool in brain.tools) if brain._tools_named else None,
        encoder=encoder,
        strategy=_name_of_strategy(brain.strategy),
        limits=brain.limits,
        settings=settings.model_dump(mode="json", exclude_unset=True),
    )


def _addresses(base_url: str | Sequence[str] | None, spec: str) -> str | None:
    """The servers that are meant here: those that the environment names too, for a model that is on one."""
    if not base_url and spec and not spec.startswith("openai:"):
        return None
    return ",".join(url for url in addresses(base_url) if url) or None


def _name_of_tool(tool: Tool[Any]) -> str:
    try:
        known = find_tool(tool.name) is tool
    except ConfigurationError:
        known = False
    if not known:
        raise _object("tool", tool.name, "Give it a name by an entry point of the group videobrain.tools.")
    return tool.name


def _name_of_strategy(strategy: Strategy) -> str:
    try:
        known = resolve_strategy(strategy.name) == strategy
    except ConfigurationError:
        known = False
    if not known:
        raise _object("strategy", strategy.name, "Strategies that have a name are videobrain, uniform-N and blind.")
    return strategy.name


def _object(kind: str, name: str, hint: str) -> ConfigurationError:
    return ConfigurationError(
        f"The {kind} {name!r} is an object of this process and cannot be sent to others.", hint=hint
    )
