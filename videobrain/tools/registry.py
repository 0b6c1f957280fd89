"""The tools a run offers: the built-in ones, and those that other packages bring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any

from videobrain.errors import ConfigurationError
from videobrain.tools.sampling import clip_sample, uniform_sample
from videobrain.tools.subtitles import search_subtitles
from videobrain.tools.tool import Tool

ENTRY_POINT_GROUP = "videobrain.tools"


def default_tools() -> list[Tool[Any]]:
    """The tools of the paper: `uniform_sample` and `clip_sample`."""
    return [uniform_sample, clip_sample]


def built_in_tools() -> list[Tool[Any]]:
    """Every tool of this package: the default ones, and what a question with subtitles has beside them."""
    return [*default_tools(), search_subtitles]


def tools_for(tools: Sequence[Tool[Any]], *, named: bool, subtitles: bool) -> list[Tool[Any]]:
    """What one question is offered of the tools of an application.

    Args:
        tools: The application's tools.
        named: The application has chosen them by itself. What it left out is then not put beside them.
        subtitles: Whether the question has subtitles; where it has none, there is nothing to search in.
    """
    if subtitles:
        return [*tools] if named else [*tools, search_subtitles]
    return [tool for tool in tools if tool is not search_subtitles]


def may_search(names: Iterable[str]) -> bool:
    """Whether one of these tools may search the frame index: `clip_sample` does, and one of somebody's own may."""
    return not {*names} <= {uniform_sample.name, search_subtitles.name}


def find_tool(name: str) -> Tool[Any]:
    """A tool by name: a built-in one, or one of the entry-point group ``videobrain.tools``.

    Raises:
        ConfigurationError: There is none of this name, or the entry point gives something else.
    """
    for built_in in built_in_tools():
        if built_in.name == name:
            return built_in
    points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in points:
        known = ", ".join(sorted({*points, *(t.name for t in built_in_tools())}))
        raise ConfigurationError(f"There is no tool {name!r}.", hint=f"Known tools: {known}.")
    try:
        loaded = points[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The tool {name!r} cannot be loaded from {points[name].value!r}: {error}.",
            hint="Reinstall the package that brings it.",
        ) from error
    if not isinstance(loaded, Tool):
        raise ConfigurationError(
            f"The entry point {points[name].value!r} of tool {name!r} gives {type(loaded).__name__}, not a Tool.",
            hint="Decorate the function with @videobrain.tool.",
        )
    return loaded


def resolve_tools(tools: Sequence[Tool[Any] | str] | None) -> list[Tool[Any]]:
    """The tools of a run; names are looked up, None means the default ones.

    Raises:
        ConfigurationError: An unknown name, or two tools of one name.
    """
    if tools is None:
        return default_tools()
    resolved = [find_tool(item) if isinstance(item, str) else item for item in tools]
    for item in resolved:
        if not isinstance(item, Tool):
            raise ConfigurationError(f"{item!r} is not a tool.", hint="Decorate the function with @videobrain.tool.")
    twice = [name for name, count in Counter(item.name for item in resolved).items() if count > 1]
    if twice:
        raise ConfigurationError(f"Two tools have the name {twice[0]!r}.", hint="Give one another name: @tool(name=…).")
    return resolved
