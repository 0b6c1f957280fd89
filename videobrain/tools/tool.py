"""Turning a typed function into a tool."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Any, Generic, ParamSpec, Union, get_args, get_origin, get_type_hints, overload

import anyio
import anyio.to_thread
import docstring_parser
from pydantic import BaseModel, Field, PydanticUserError, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema

from videobrain.errors import ToolDefinitionError
from videobrain.text import misfits
from videobrain.tools.context import ToolContext
from videobrain.tools.spec import RepeatRule, ToolError, ToolResult, ToolRetry, ToolSpec

P = ParamSpec("P")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")
_FIELD = "argument_"
"""Stands before each parameter's name in the model of its arguments, whose own names are then free: `copy`, `json`."""
_PLACES = {"path", "file-path", "directory-path", "uri", "multi-host-uri"}
"""Formats by which pydantic's JSON schemas mark paths and URLs."""


@dataclass(frozen=True, slots=True)
class Tool(Generic[P]):
    """Something the model may do: a function, what the model is told of it, and how its arguments are read.

    Made by `tool`. Calling it calls the function itself, so that it can be tested like any other.
    """

    spec: ToolSpec
    function: Callable[P, Awaitable[ToolResult | str] | ToolResult | str]
    arguments: type[BaseModel]
    context_name: str | None
    timeout_seconds: float | None

    @property
    def name(self) -> str:
        """The name under which the model calls it."""
        return self.spec.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[ToolResult | str] | ToolResult | str:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    async def run(self, context: ToolContext, arguments: Mapping[str, Any], *, timeout_seconds: float) -> ToolResult:
        """Run one call of the model, within the tool's own time-out or `timeout_seconds`.

        A synchronous function runs in a worker thread. One that overruns its time-out is abandoned there, since
        Python cannot stop it.

        Raises:
            ToolRetry: The arguments cannot be used.
            ToolError: The call failed or overran its time-out.
        """
        try:
            values = self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolRetry(f"The arguments of {self.name} cannot be used: {misfits(error)}.") from error
        named: dict[str, Any] = {
            field.removeprefix(_FIELD): getattr(values, field) for field in self.arguments.model_fields
        }
        if self.context_name is not None:
            named[self.context_name] = context
        seconds = self.timeout_seconds or timeout_seconds
        result: object = None
        function: Callable[..., Any] = self.function
        asynchronous = inspect.iscoroutinefunction(function)
        with anyio.move_on_after(seconds) as scope:
            if asynchronous:
                result = await function(**named)
            else:
                result = await anyio.to_thread.run_sync(partial(function, **named), abandon_on_cancel=True)
        if scope.cancelled_caught:
            ending = "stopped" if asynchronous else "abandoned in its thread"
            message = f"{self.name} took longer than {seconds:g} seconds and was {ending}."
            raise ToolError(message, overran=True)
        if isinstance(result, str):
            return ToolResult(text=result)
        if not isinstance(result, ToolResult):
            raise TypeError(f"tool {self.name} returned {type(result).__name__}; it must return ToolResult or str")
        return result


@overload
def tool(function: Callable[P, Any], /) -> Tool[P]: ...
@overload
def tool(
    *,
    name: str | None = None,
    timeout_seconds: float | None = None,
    repeats: RepeatRule = "arguments",
    max_frames: int | None = None,
) -> Callable[[Callable[P, Any]], Tool[P]]: ...
def tool(
    function: Callable[P, Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout_seconds: float | None = None,
    repeats: RepeatRule = "arguments",
    max_frames: int | None = None,
) -> Tool[P] | Callable[[Callable[P, Any]], Tool[P]]:
    """Make a tool of a typed function, async or not.

    The model is told the function's name, its docstring's text, and for each parameter its type, default and
    description (Google-style ``Args:``). A parameter annotated `ToolContext` is filled in and hidden from the model.

    Args:
        function: The function.
        name: Another name for the model than the function's.
        timeout_seconds: Time one call may take, instead of ``Settings.tool_timeout_seconds``.
        repeats: What counts as a repeated call, which the model is asked to vary.
        max_frames: Frames that one call gives at the most; helps to plan the frame size for small contexts.

    Raises:
        ToolDefinitionError: The function cannot be a tool; lists every mistake.
    """
    if function is None:
        return lambda f: _define(f, name, timeout_seconds, repeats, max_frames)
    return _define(function, name, timeout_seconds, repeats, max_frames)


_COMPARED: Mapping[RepeatRule, Sequence[str]] = {"interval": ("start_frame", "end_frame"), "prompt": ("prompt",)}
"""Parameters that a rule of repeated calls looks at."""


def _define(
    function: Callable[P, Any],
    name: str | None,
    timeout_seconds: float | None,
    repeats: RepeatRule,
    max_frames: int | None,
) -> Tool[P]:
    mistakes: list[str] = []
    name = name or str(getattr(function, "__name__", ""))
    if not _NAME.fullmatch(name):
        mistakes.append(f"the name {name!r} is not a plain identifier of at most 64 characters; give name=")
    if timeout_seconds is not None and timeout_seconds <= 0:
        mistakes.append(f"timeout_seconds must be positive, not {timeout_seconds}")
    if max_frames is not None and max_frames < 0:
        mistakes.append(f"max_frames must not be negative, but is {max_frames}")
    docstring = docstring_parser.parse(inspect.getdoc(function) or "")
    description = "\n\n".join(part for part in (docstring.short_description, docstring.long_description) if part)
    if not description:
        mistakes.append("it has no docstring; the model is told what the tool does from it")
    described = {parameter.arg_name: parameter.description or "" for parameter in docstring.params}
    try:
        known = {"ToolContext": ToolContext, "ToolResult": ToolResult}
        hints = get_type_hints(function, localns=known, include_extras=True)
    except (NameError, TypeError) as error:
        hints = {}
        mistakes.append(f"its type hints cannot be resolved: {error}")
    context_name, fields = _parameters(function, hints, described, mistakes)
    if absent := [parameter for parameter in _COMPARED.get(repeats, ()) if _FIELD + parameter not in fields]:
        mistakes.append(f"repeats={repeats!r} compares {' and '.join(absent)}, and there is no such parameter")
    returns = hints.get("return", ToolResult)
    union = get_origin(returns) in (Union, UnionType)
    if not set(get_args(returns) if union else (returns,)) <= {ToolResult, str}:
        mistakes.append(f"it returns {returns}; a tool returns ToolResult or str")
    if mistakes:
        listed = "".join(f"\n  - {mistake}" for mistake in mistakes)
        raise ToolDefinitionError(
            f"{getattr(function, '__qualname__', function)!s} cannot be a tool:{listed}", mistakes=mistakes
        )
    arguments = create_model(name, __config__={"extra": "forbid"}, **fields)
    schema = _plain_schema(arguments)
    spec = ToolSpec(name=name, description=description, parameters=schema, repeats=repeats, max_frames=max_frames)
    return Tool(spec, function, arguments, context_name, timeout_seconds)


def _parameters(
    function: Callable[..., Any], hints: Mapping[str, Any], described: Mapping[str, str], mistakes: list[str]
) -> tuple[str | None, dict[str, Any]]:
    """The context parameter's name, and the others as fields for pydantic."""
    context_name: str | None = None
    fields: dict[str, Any] = {}
    parameters = inspect.signature(function).parameters
    for parameter in parameters.values():
        hint = hints.get(parameter.name, inspect.Parameter.empty)
        if hint is ToolContext:
            if context_name is not None:
                mistakes.append(f"{parameter.name} is a second ToolContext")
            context_name = parameter.name
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            mistakes.append(f"{parameter} takes any number of arguments; name each one")
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            mistakes.append(f"{parameter.name} is positional-only; arguments are passed by name")
        elif parameter.annotation is parameter.empty:
            mistakes.append(f"{parameter.name} has no type hint")
        elif hint is parameter.empty:
            continue  # reported with the type hints that cannot be resolved
        elif mistake := _unfit(hint):
            mistakes.append(f"{parameter.name} {mistake}")
        else:
            default = ... if parameter.default is parameter.empty else parameter.default
            description = described.get(parameter.name)
            fields[_FIELD + parameter.name] = (
                hint,
                Field(default=default, alias=parameter.name, description=description),
            )
    for documented in described.keys() - parameters.keys():
        mistakes.append(f"the docstring describes {documented}, which is no parameter")
    return context_name, fields


def _unfit(hint: Any) -> str:
    """Why a model cannot give a value of this type; empty where it can."""
    try:
        schema = TypeAdapter(hint).json_schema()
    except PydanticUserError as error:
        return f"cannot be written as JSON: {error.message.splitlines()[0]}"
    return "is or holds a path or URL; a model must never name one" if _names_a_place(schema) else ""


def _names_a_place(schema: Any) -> bool:
    if isinstance(schema, dict):
        return schema.get("format") in _PLACES or any(_names_a_place(part) for part in schema.values())
    return isinstance(schema, list) and any(_names_a_place(part) for part in schema)


class _WithoutTitles(GenerateJsonSchema):
    """Titles repeat the names and cost the model tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _plain_schema(arguments: type[BaseModel]) -> dict[str, Any]:
    schema = arguments.model_json_schema(schema_generator=_WithoutTitles)
    for titled in (schema, *schema.get("$defs", {}).values()):
        titled.pop("title", None)
    schema.setdefault("properties", {})
    return dict(json.loads(json.dumps(schema)))
