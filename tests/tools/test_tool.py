"""Making tools of typed functions, and running them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import pytest
from pydantic import AfterValidator, AnyUrl, BaseModel, Field, FilePath, HttpUrl

from videobrain.errors import ToolDefinitionError
from videobrain.tools import Tool, ToolError, ToolResult, ToolRetry, tool
from videobrain.tools import ToolContext as Context

if TYPE_CHECKING:
    from videobrain.tools import ToolContext


class Box(BaseModel):
    left: int
    top: int = 0


class Place(BaseModel):
    where: Path


@dataclass
class Site:
    addresses: list[HttpUrl]


def even(number: int) -> int:
    if number % 2:
        raise ValueError("must be even")
    return number


CONTEXT: Any = object()  # what the tools here do not look at


@tool
async def zoom(
    ctx: ToolContext, at_seconds: float, box: Box, side: Literal["left", "right"] = "left", note: str | None = None
) -> ToolResult:
    """Look closer.

    The picture is enlarged.

    Args:
        ctx: Not for the model.
        at_seconds: When to look.
        box: Where to look.
        side: Which half.
    """
    assert ctx is CONTEXT
    return ToolResult(f"{at_seconds} {box!r} {side} {note}")


async def run(made: Tool[Any], timeout_seconds: float = 5, /, **arguments: Any) -> ToolResult:
    return await made.run(CONTEXT, arguments, timeout_seconds=timeout_seconds)


def test_the_model_is_told_what_hints_and_docstring_say() -> None:
    assert zoom.name == "zoom"
    assert zoom.spec.description == "Look closer.\n\nThe picture is enlarged."
    schema = zoom.spec.parameters
    assert list(schema["properties"]) == ["at_seconds", "box", "side", "note"]
    assert schema["properties"]["at_seconds"] == {"type": "number", "description": "When to look."}
    assert schema["properties"]["side"]["enum"] == ["left", "right"]
    assert schema["properties"]["side"]["default"] == "left"
    assert schema["required"] == ["at_seconds", "box"]
    assert schema["additionalProperties"] is False
    assert "title" not in str(schema)
    assert "ctx" not in str(schema)


@pytest.mark.anyio
async def test_arguments_arrive_as_the_types_that_were_asked_for() -> None:
    result = await run(zoom, at_seconds=3, box={"left": 1})
    assert result.text == "3.0 Box(left=1, top=0) left None"


@pytest.mark.anyio
async def test_a_tool_can_still_be_called_as_the_function_that_it_is() -> None:
    result = await zoom(CONTEXT, 1.0, Box(left=2), note="x")  # type: ignore[misc]
    assert result.text == "1.0 Box(left=2, top=0) left x"


@pytest.mark.anyio
async def test_names_that_pydantic_uses_itself_are_free() -> None:
    @tool
    async def odd(json: str, schema: int, copy: bool, model_dump: str, _hidden: int = 3) -> str:
        """Take odd names."""
        return f"{json} {schema} {copy} {model_dump} {_hidden}"

    assert list(odd.spec.parameters["properties"]) == ["json", "schema", "copy", "model_dump", "_hidden"]
    assert (await run(odd, json="a", schema=1, copy=True, model_dump="b")).text == "a 1 True b 3"


def test_options_of_the_decorator() -> None:
    @tool(name="peek", timeout_seconds=3, repeats="allow", max_frames=2)
    def look(ctx: Context) -> str:
        """Look."""
        return ""

    assert (look.name, look.timeout_seconds, look.spec.repeats, look.spec.max_frames) == ("peek", 3, "allow", 2)
    assert look.spec.parameters["properties"] == {}
    assert look.spec.frames_per_call(20) == 2
    assert zoom.spec.frames_per_call(20) == 20


# Definitions that cannot be tools ------------------------------------------------------------------------------------


def mistakes(function: Callable[..., Any], **options: Any) -> tuple[str, ...]:
    with pytest.raises(ToolDefinitionError) as caught:
        tool(**options)(function)
    assert all(f"\n  - {mistake}" in caught.value.message for mistake in caught.value.mistakes)
    return caught.value.mistakes


def bounds_in_seconds(start_seconds: float, end_frame: int) -> str:
    """Look."""
    return ""


def test_a_rule_of_repeated_calls_names_what_it_compares() -> None:
    (wrong,) = mistakes(bounds_in_seconds, repeats="interval")
    assert wrong == "repeats='interval' compares start_frame, and there is no such parameter"
    assert "'prompt' compares prompt" in mistakes(bounds_in_seconds, repeats="prompt")[0]


def test_bounds_that_are_left_to_the_tool_are_compared_too() -> None:
    @tool(repeats="interval")
    def look(start_frame: int = 0, end_frame: int | None = None) -> str:
        """Look."""
        return ""

    repeated = look.spec.repeated
    assert repeated({"start_frame": 0, "end_frame": None}, [{"start_frame": 1, "end_frame": None}])
    assert not repeated({"start_frame": 0, "end_frame": 9}, [{"start_frame": 0, "end_frame": None}])
    assert not repeated({"start_frame": 0, "end_frame": 9}, [{"start_frame": 0, "end_frame": 11}])


def no_docstring(a: int) -> str:
    return ""


def no_hint(a) -> str:  # type: ignore[no-untyped-def]
    """Look."""
    return ""


def unknown_hint(a: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Look."""
    return ""


def many(*places: int) -> str:
    """Look."""
    return ""


def keywords(**places: int) -> str:
    """Look."""
    return ""


def by_position(a: int, /) -> str:
    """Look."""
    return ""


def two_contexts(one: Context, two: Context) -> str:
    """Look."""
    return ""


def not_json(a: Callable[[], int]) -> str:
    """Look."""
    return ""


def described_wrongly(a: int) -> str:
    """Look.

    Args:
        b: What is not there.
    """
    return ""


def gives_nothing(a: int) -> None:
    """Look."""


def gives_a_list(a: int) -> list[str]:
    """Look."""
    return []


def gives_perhaps(a: int) -> str | None:
    """Look."""
    return None


def gives_many(a: int) -> AsyncIterator[str]:
    """Look."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "options", "mistake"),
    [
        (no_docstring, {}, "no docstring"),
        (no_hint, {}, "a has no type hint"),
        (unknown_hint, {}, "type hints cannot be resolved: name 'Nowhere' is not defined"),
        (many, {}, "takes any number of arguments"),
        (keywords, {}, "takes any number of arguments"),
        (by_position, {}, "a is positional-only"),
        (two_contexts, {}, "two is a second ToolContext"),
        (not_json, {}, "a cannot be written as JSON"),
        (described_wrongly, {}, "the docstring describes b"),
        (gives_nothing, {}, "it returns"),
        (gives_a_list, {}, "it returns list[str]"),
        (gives_perhaps, {}, "it returns"),
        (gives_many, {}, "it returns"),
        (zoom.function, {"name": "zoom in"}, "'zoom in' is not a plain identifier"),
        (zoom.function, {"name": "z" * 65}, "is not a plain identifier of at most 64"),
        (zoom.function, {"timeout_seconds": 0}, "timeout_seconds must be positive"),
        (zoom.function, {"max_frames": -1}, "max_frames must not be negative"),
    ],
)
def test_each_mistake_of_a_definition_is_named(
    function: Callable[..., Any], options: dict[str, Any], mistake: str
) -> None:
    (found,) = mistakes(function, **options)
    assert mistake in found


@pytest.mark.parametrize(
    "hint",
    [
        Path,
        FilePath,
        AnyUrl,
        HttpUrl,
        os.PathLike[str],
        Path | None,
        list[Path],
        dict[str, AnyUrl],
        Annotated[Path, Field(description="x")],
        Place,
        list[Place] | None,
        Site,
    ],
    ids=str,
)
def test_a_model_never_names_a_path_or_url(hint: Any) -> None:
    def fetch(what: object) -> str:
        """Fetch something."""
        return ""

    fetch.__annotations__["what"] = hint
    (found,) = mistakes(fetch)
    assert "what is or holds a path or URL" in found


def test_all_mistakes_are_reported_at_once() -> None:
    def wrong(a, b: Path, c: Callable[[], int], *d: int) -> list[str]:  # type: ignore[no-untyped-def]
        return []

    found = mistakes(wrong, name="not good", timeout_seconds=-1)
    assert len(found) == 8
    lambdas = mistakes(lambda x: "")
    assert len(lambdas) == 3


# Running -------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_synchronous_function_runs_in_a_thread() -> None:
    @tool
    def where(ctx: Context) -> str:
        """Say where."""
        return threading.current_thread().name

    assert (await run(where)).text != threading.current_thread().name


@pytest.mark.anyio
async def test_a_slow_asynchronous_tool_is_stopped() -> None:
    stopped = anyio.Event()

    @tool
    async def slow() -> str:
        """Take long."""
        try:
            await anyio.sleep(30)
        finally:
            stopped.set()
        return ""

    with pytest.raises(ToolError, match=r"slow took longer than 0\.05 seconds and was stopped"):
        await run(slow, 0.05)
    assert stopped.is_set()


@pytest.mark.anyio
async def test_a_slow_synchronous_tool_is_abandoned_and_that_is_said() -> None:
    release = threading.Event()

    @tool(timeout_seconds=0.05)
    def slow() -> str:
        """Take long."""
        release.wait(10)
        return ""

    began = time.monotonic()
    try:
        with pytest.raises(ToolError, match="abandoned in its thread"):
            await run(slow, 30)  # its own time-out counts
        assert time.monotonic() - began < 5
    finally:
        release.set()


@pytest.mark.anyio
async def test_a_cancelled_call_does_not_wait_for_its_thread() -> None:
    release = threading.Event()

    @tool
    def slow() -> str:
        """Take long."""
        release.wait(10)
        return ""

    try:
        with anyio.move_on_after(0.05) as scope:
            await run(slow, 30)
        assert scope.cancelled_caught
    finally:
        release.set()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error", [ToolRetry("no"), ToolError("broken", withdraw=True), KeyError("bug"), TimeoutError()]
)
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_what_a_tool_raises_comes_out_as_it_is(error: Exception, asynchronous: bool) -> None:
    def sync() -> str:
        """Fail."""
        raise error

    async def unsync() -> str:
        """Fail."""
        raise error

    with pytest.raises(type(error)) as caught:
        await run(tool(unsync) if asynchronous else tool(sync))
    assert caught.value is error


@pytest.mark.anyio
async def test_arguments_that_the_types_refuse_are_sent_back() -> None:
    @tool
    async def halve(number: Annotated[int, AfterValidator(even)]) -> str:
        """Halve a number."""
        return str(number // 2)

    assert (await run(halve, number=4)).text == "2"
    with pytest.raises(ToolRetry, match="number: must be even"):
        await run(halve, number=3)
    with pytest.raises(ToolRetry, match="more: Extra inputs are not permitted"):
        await run(halve, number=4, more=1)


@pytest.mark.anyio
async def test_another_result_than_promised_is_a_bug() -> None:
    @tool
    async def wrong() -> str:
        """Give something else."""
        return 3  # type: ignore[return-value]

    with pytest.raises(TypeError, match="tool wrong returned int"):
        await run(wrong)
