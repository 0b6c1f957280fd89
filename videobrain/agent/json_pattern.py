"""A JSON schema as a regular expression, for constrained decoding on any backend.

Covers what typed functions and pydantic models without recursion give: objects (all properties required or not, in
order), strings, numbers, booleans, null, enumerations, arrays, unions and references. The pattern describes compact
JSON with one blank after colons and commas.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from videobrain.errors import ConfigurationError

_MAX_ITEMS = 8
_INTEGER = r"(?:0|-?[1-9][0-9]{0,8})"
_NUMBER = rf"{_INTEGER}(?:\.[0-9]{{1,6}})?"


def json_pattern(schema: Mapping[str, Any], *, characters: int | None = None) -> str:
    """A regular expression whose matches are JSON for `schema`: its types, names and lengths.

    Bounds of numbers beside those of integers from 0 or 1, formats and patterns of strings are left to validation.

    Args:
        schema: JSON schema, as pydantic writes it.
        characters: Bound on the length of a string, beside its own.

    Raises:
        ConfigurationError: The schema is recursive or uses a keyword that a regular expression cannot express.
    """
    return _pattern(schema, schema.get("$defs", {}), characters, ())


def _pattern(schema: Mapping[str, Any], defs: Mapping[str, Any], characters: int | None, path: tuple[str, ...]) -> str:
    if reference := schema.get("$ref"):
        name = str(reference).rsplit("/", 1)[-1]
        if name in path or name not in defs:
            raise ConfigurationError(
                f"The JSON schema cannot be written as a regular expression: {name} is recursive or undefined.",
                hint="Use a type without recursion, or turn constrain_replies off.",
            )
        return _pattern(defs[name], defs, characters, (*path, name))
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return _one_of(_literal(value) for value in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _one_of(_pattern(branch, defs, characters, path) for branch in schema[union])
    match schema.get("type"):
        case "object":
            return _object(schema, defs, characters, path)
        case "array":
            return _array(schema, defs, characters, path)
        case "string":
            bounds = [bound for bound in (schema.get("maxLength"), characters) if bound is not None]
            return _string(int(schema.get("minLength", 1)), min(map(int, bounds), default=None))
        case "integer":
            return _integer(*_integer_bounds(schema))
        case "number":
            return _NUMBER
        case "boolean":
            return "(?:true|false)"
        case "null":
            return "null"
        case other:
            raise ConfigurationError(
                f"The JSON schema cannot be written as a regular expression: type {other!r}.",
                hint="Annotate the value more narrowly, or turn constrain_replies off.",
            )


def _object(schema: Mapping[str, Any], defs: Mapping[str, Any], characters: int | None, path: tuple[str, ...]) -> str:
    # Optional properties are written too: a model held to the grammar loses nothing by stating a default.
    members = [
        rf"{_literal(name)}: {_pattern(value, defs, characters, path)}"
        for name, value in schema.get("properties", {}).items()
    ]
    return r"\{" + ", ".join(members) + r"\}"


def _array(schema: Mapping[str, Any], defs: Mapping[str, Any], characters: int | None, path: tuple[str, ...]) -> str:
    if "prefixItems" in schema:
        return r"\[" + ", ".join(_pattern(item, defs, characters, path) for item in schema["prefixItems"]) + r"\]"
    item = _pattern(schema.get("items", {"type": "string"}), defs, characters, path)
    least = int(schema.get("minItems", 0))
    most = max(least, min(int(schema.get("maxItems", _MAX_ITEMS)), _MAX_ITEMS))
    if most == 0:
        return r"\[\]"
    filled = rf"{item}(?:, {item}){{{max(least - 1, 0)},{most - 1}}}"
    return rf"\[{filled}\]" if least else rf"\[(?:{filled})?\]"


def _integer_bounds(schema: Mapping[str, Any]) -> tuple[int | None, int | None]:
    least = [math.ceil(schema["minimum"])] if "minimum" in schema else []
    least += [math.floor(schema["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in schema else []
    most = [math.floor(schema["maximum"])] if "maximum" in schema else []
    most += [math.ceil(schema["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in schema else []
    return max(least, default=None), min(most, default=None)


def _integer(least: int | None, most: int | None) -> str:
    """Integers; the bounds 0 and 1 below and any bound above are kept where both fit, others are left to validation."""
    if least is None or least < 0 or (most is not None and most < least):
        return _INTEGER
    zero = ["0"] if least == 0 else []
    if most is None:
        return _one_of([*zero, "[1-9][0-9]{0,8}"])
    digits = str(most)
    branches = [*zero]
    if len(digits) > 1:
        branches.append(f"[1-9][0-9]{{0,{len(digits) - 2}}}")
    for position, digit in enumerate(digits):  # same length, first smaller digit at `position`
        lowest = 1 if position == 0 else 0
        if int(digit) > lowest:
            rest = len(digits) - position - 1
            branches.append(f"{digits[:position]}[{lowest}-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    if most > 0:
        branches.append(digits)
    return _one_of(branches)


def up_to(most: int | None, *, least: int = 0, besides: int = 0) -> str:
    """A quantifier for so many characters, `besides` some that stand there already."""
    least = max(0, least - besides)
    if most is None:
        return f"{{{least},}}" if least else "*"
    return f"{{{least},{max(least, most - besides)}}}"


def _string(shortest: int, longest: int | None) -> str:
    # No quotes, backslashes, tags or control characters: what is left needs no escapes. Nor is a text only blanks.
    plain = r'"\\<>\x00-\x1f\x7f'
    if shortest == 0:
        return rf'"[^{plain}]{up_to(longest)}"'
    return rf'"[^\s{plain}][^{plain}]{up_to(longest, least=shortest, besides=1)}"'


def _literal(value: Any) -> str:
    return re.escape(json.dumps(value, ensure_ascii=False)).replace(r"\ ", " ")


def _one_of(patterns: Any) -> str:
    return f"(?:{'|'.join(patterns)})"
