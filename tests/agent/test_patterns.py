"""The grammar as regular expressions: what they generate is in form, and what is in form they take."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from tests.agent.episodes import TOOLS
from videobrain.agent import parse_reply, reply_pattern, violations
from videobrain.agent.json_pattern import json_pattern
from videobrain.errors import ConfigurationError
from videobrain.tools import ToolResult, tool

few = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class Side(Enum):
    LEFT = "left"
    RIGHT = 'the "right" + (far)'


class Sighting(BaseModel):
    where: Side
    certain: bool = True
    count: int = Field(default=1, ge=0, le=120)
    note: str | None = None


class Report(BaseModel):
    title: str = Field(max_length=30)
    sightings: list[Sighting] = Field(min_length=1, max_length=3)
    pair: tuple[int, float]
    kind: Literal["a", "b", 3]


TYPES = [int, float, bool, str, list[str], dict[str, int], tuple[str, int], Side, Sighting, Report, Sighting | None]


@tool
async def look(side: Side, boxes: list[tuple[int, int]], zoom: float = 1.0, label: str = "") -> ToolResult:
    """Look somewhere."""
    return ToolResult()


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_what_a_pattern_generates_validates(kind: Any) -> None:
    adapter = TypeAdapter(kind)
    schema = adapter.json_schema()

    @few
    @given(st.from_regex(json_pattern(schema, characters=12), fullmatch=True))
    def check(text: str) -> None:
        adapter.validate_json(text)
        jsonschema.validate(json.loads(text), schema)

    check()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "-12"),
        (float, "0.25"),
        (str, '"two words"'),
        (list[str], "[]"),
        (list[str], '["a", "b"]'),
        (Side, '"the \\"right\\" + (far)"'),
        (Sighting, '{"where": "left", "certain": false, "count": 7, "note": null}'),
        (tuple[str, int], '["a", 1]'),
    ],
)
def test_a_pattern_takes_typical_json(kind: Any, text: str) -> None:
    assert re.fullmatch(json_pattern(TypeAdapter(kind).json_schema()), text)


@pytest.mark.parametrize(
    "bounds", [(0, 0), (0, 9), (0, 10), (1, 10), (0, 99), (1, 100), (0, 737), (1, 1000), (0, 40909)]
)
def test_bounds_of_integers_are_kept_exactly(bounds: tuple[int, int]) -> None:
    least, most = bounds
    pattern = re.compile(json_pattern({"type": "integer", "minimum": least, "maximum": most}))
    near = {*range(-2, 1200), *range(most - 1200, most + 1200), *(10**k + d for k in range(10) for d in (-1, 0, 1))}
    wrong = [n for n in near if bool(pattern.fullmatch(str(n))) is not (least <= n <= most)]
    assert wrong == []
    assert not pattern.fullmatch("00")


def test_bounds_of_other_kinds() -> None:
    positive = re.compile(json_pattern(TypeAdapter(Annotated[int, Field(gt=0)]).json_schema()))
    assert positive.fullmatch("1")
    assert not positive.fullmatch("0")
    assert not positive.fullmatch("-1")
    below = re.compile(json_pattern({"type": "integer", "minimum": 0, "exclusiveMaximum": 10.0}))
    assert below.fullmatch("9")
    assert not below.fullmatch("10")
    assert re.fullmatch(json_pattern({"type": "integer", "minimum": -5, "maximum": 5}), "-3")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["string", "null"]},
        {"$ref": "#/$defs/Nowhere"},
        {"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}},
    ],
)
def test_what_cannot_be_a_pattern_is_said(schema: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="regular expression"):
        json_pattern(schema)


PATTERNS = {
    "tools": reply_pattern(TOOLS, text_characters=40),
    "choice": reply_pattern(TOOLS, options=4, text_characters=40),
    "no answer yet": reply_pattern(TOOLS, may_answer=False, text_characters=40),
    "last": reply_pattern((), text_characters=40),
    "structured": reply_pattern((), output_schema=Report.model_json_schema(), text_characters=20),
    "own tool": reply_pattern((look.spec,), text_characters=20),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_what_a_reply_pattern_generates_is_in_form(name: str) -> None:
    specs = {spec.name: spec for spec in (*TOOLS, look.spec)}

    @few
    @given(st.from_regex(PATTERNS[name], fullmatch=True))
    def check(text: str) -> None:
        parsed = parse_reply(text)
        assert not parsed.unclosed
        assert len(parsed.thinking) == 1
        assert parsed.thinking[0]
        assert len(parsed.calls) + len(parsed.answers) == 1
        for call in parsed.calls:
            assert not call.problem
            assert call.arguments is not None
            # The one thing that no regular expression can say: that the range is not reversed.
            problems = specs[call.name].problems(call.arguments)
            assert [problem for problem in problems if "must be smaller" not in problem] == []
        for answer in parsed.answers:
            assert violations([text], TOOLS) == []
            if name == "choice":
                assert answer in "ABCD"
            if name == "structured":
                Report.model_validate_json(answer)
        if name == "no answer yet":
            assert not parsed.answers

    check()


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("tools", "<thinking>I see a red car, left.</thinking>\n<answer>a red car</answer>"),
        (
            "tools",
            '<thinking>More.</thinking>\n<tool_call>{"name": "uniform_sample", '
            '"arguments": {"start_frame": 0, "end_frame": 250}}</tool_call>',
        ),
        (
            "tools",
            '<thinking>More.</thinking>\n<tool_call>{"name": "clip_sample", '
            '"arguments": {"start_frame": 0, "end_frame": 250, "prompt": "a red car"}}</tool_call>',
        ),
        ("choice", "<thinking>It is C.</thinking>\n<answer>C</answer>"),
        ("last", "<thinking>Näher: 2 Autos …</thinking>\n<answer>2 Autos</answer>"),
    ],
)
def test_a_reply_in_form_is_taken(name: str, reply: str) -> None:
    assert re.fullmatch(PATTERNS[name], reply)


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("tools", "<answer>a red car</answer>"),
        ("tools", "<thinking></thinking>\n<answer>a red car</answer>"),
        ("tools", "<thinking>x</thinking>\n<answer> </answer>"),
        ("tools", f"<thinking>{'x' * 41}</thinking>\n<answer>a</answer>"),
        ("choice", "<thinking>x</thinking>\n<answer>E</answer>"),
        ("no answer yet", "<thinking>x</thinking>\n<answer>a red car</answer>"),
        (
            "last",
            '<thinking>x</thinking>\n<tool_call>{"name": "uniform_sample", '
            '"arguments": {"start_frame": 0, "end_frame": 250}}</tool_call>',
        ),
        (
            "tools",
            '<thinking>x</thinking>\n<tool_call>{"name": "clip_sample", '
            '"arguments": {"start_frame": 0, "end_frame": 250, "prompt": "  "}}</tool_call>',
        ),
    ],
)
def test_a_reply_out_of_form_is_not_taken(name: str, reply: str) -> None:
    assert not re.fullmatch(PATTERNS[name], reply)


@pytest.mark.parametrize("name", PATTERNS)
def test_llguidance_takes_the_patterns(name: str) -> None:
    llguidance = pytest.importorskip("llguidance")
    grammar = llguidance.LLMatcher.grammar_from_regex(PATTERNS[name])
    assert llguidance.LLMatcher.validate_grammar(grammar) == ""
