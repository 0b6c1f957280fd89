"""The reply grammar of VideoBrain: reading replies tolerantly, judging them strictly, constraining them.

A reply is ``<thinking>…</thinking>`` followed by one ``<tool_call>{"name": …, "arguments": {…}}</tool_call>`` or one
``<answer>…</answer>`` (arXiv 2602.04094). `parse_reply` reads what models really write; `violations` applies the
format rules of the paper to a whole trajectory; `reply_pattern` is the grammar as a regular expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videobrain.agent.json_pattern import json_pattern, up_to
from videobrain.tools.spec import ToolSpec

_TAG = re.compile(r"<(/?)\s*(thinking|think|tool_call|answer)\s*>", re.IGNORECASE)
_FENCE = re.compile(r"```[a-zA-Z_]*+\s*+(.*?)```", re.DOTALL)
_DEEPEST = 64
"""Nesting of JSON that is read; what writes traces stops at some 200."""


@dataclass(frozen=True, slots=True)
class CallText:
    """A tool call as it was read, before it is held against the tools.

    Attributes:
        name: The tool's name; empty where none could be read.
        arguments: The arguments object.
        problem: Why it is no call; empty where it is one.
    """

    name: str = ""
    arguments: Mapping[str, Any] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What was found in a reply, in the order found.

    Attributes:
        thinking: Texts of the thinking.
        calls: Tool calls.
        answers: Texts of the answers.
        unclosed: A tag was still open at the end.
        outside: Text outside of any tag.
    """

    thinking: tuple[str, ...] = ()
    calls: tuple[CallText, ...] = ()
    answers: tuple[str, ...] = ()
    unclosed: bool = False
    outside: str = ""


def parse_reply(text: str) -> ParsedReply:
    """Read a reply tolerantly.

    Accepted beside the grammar: ``<think>`` for ``<thinking>``, tags in capitals, a thinking that is not closed
    before the call or answer, a last tag that is not closed, a call as fenced or bare JSON without tags. Tags between
    ``<thinking>`` and ``</thinking>`` are quoted, not meant.
    """
    tags = list(_TAG.finditer(text))
    quoted: list[bool] = []  # for each tag: the next tag of thinking closes one
    closes = False
    for tag in reversed(tags):
        quoted.append(closes)
        if tag[2].lower().startswith("think"):
            closes = bool(tag[1])
    quoted.reverse()
    found: dict[str, list[str]] = {"thinking": [], "tool_call": [], "answer": []}
    outside: list[str] = []
    position, unclosed = 0, False
    opened: tuple[str, int] | None = None
    for tag, is_quoted in zip(tags, quoted, strict=True):
        kind = "thinking" if tag[2].lower().startswith("think") else tag[2].lower()
        closing = bool(tag[1])
        if opened is None:
            outside.append(text[position : tag.start()])
            if closing and kind == "thinking":  # the opening tag stood in the prompt, as with some chat templates
                found[kind].append("".join(outside).strip())
                outside.clear()
            elif not closing:
                opened = (kind, tag.end())
            position = tag.end()
        elif closing and kind == opened[0]:
            found[kind].append(text[opened[1] : tag.start()].strip())
            opened, position = None, tag.end()
        elif not closing and opened[0] == "thinking" and kind != "thinking" and not is_quoted:
            found["thinking"].append(text[opened[1] : tag.start()].strip())
            opened, position = (kind, tag.end()), tag.end()
        # anything else stands inside the open tag
    if opened is None:
        outside.append(text[position:])
    else:
        found[opened[0]].append(text[opened[1] :].strip())
        unclosed = True
    loose = "".join(outside).strip()
    calls = [read_call(call) for call in found["tool_call"]]
    if not calls and not found["answer"]:
        calls = _calls_without_tags(loose)
    return ParsedReply(tuple(found["thinking"]), tuple(calls), tuple(found["answer"]), unclosed, loose)


def read_call(text: str) -> CallText:
    """Read the JSON of a tool call, fenced or not."""
    fenced = _FENCE.search(text)
    body = (fenced[1] if fenced else text).strip()
    if not body:
        return CallText(problem="the tool call is empty")
    try:
        value = decode_json(body)
    except ValueError as error:
        return CallText(problem=f"the tool call is not valid JSON: {error}")
    return call_from(value)


def call_from(value: object) -> CallText:
    """Read a decoded tool call: an object with ``name`` and ``arguments``."""
    if not isinstance(value, dict):
        return CallText(problem='the tool call must be a JSON object with "name" and "arguments"')
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or not name:
        return CallText(problem='the tool call has no "name"')
    if isinstance(arguments, str):
        try:
            arguments = decode_json(arguments)
        except ValueError:
            return CallText(name=name, problem='"arguments" is not valid JSON')
    if not isinstance(arguments, dict):
        return CallText(name=name, problem='"arguments" must be a JSON object')
    return CallText(name=name, arguments=arguments)


def _calls_without_tags(text: str) -> list[CallText]:
    bodies = [match[1] for match in _FENCE.finditer(text)] or ([text] if text.startswith("{") else [])
    return [
        read_call(body) for body in bodies if '"name"' in body and ('"arguments"' in body or '"parameters"' in body)
    ]


def decode_json(text: str) -> Any:
    """Decode JSON that a model wrote.

    Raises:
        ValueError: It is not JSON, or it holds what cannot be passed on: NaN, half a surrogate pair, deep nesting.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for item in level if isinstance(item, dict | list) for child in _children(item)]
        if not level:
            break
    else:
        raise ValueError("it is nested too deeply")
    json.dumps(value, ensure_ascii=False).encode()  # fails on half a surrogate pair
    return value


def _children(item: dict[str, Any] | list[Any]) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# ---------------------------------------------------------------------------------------------------------------------


def violations(replies: Sequence[str], tools: Sequence[ToolSpec], *, thinking: bool = True) -> list[str]:
    """Hold a trajectory against the format rules of the paper, strictly.

    Args:
        replies: All replies of the model, in order, as generated.
        tools: The tools that were offered.
        thinking: Whether visible thinking is part of the form (False for native function calling).

    Returns:
        One sentence for each broken rule, empty for a valid trajectory.
    """
    text = "\n".join(replies)
    broken: list[str] = []
    for kind in ("thinking", "tool_call", "answer"):
        if text.count(f"<{kind}>") != text.count(f"</{kind}>"):
            broken.append(f"<{kind}> tags do not balance")
    sections = {kind: _bodies(text, kind) for kind in ("thinking", "tool_call", "answer")}
    if thinking and len(sections["thinking"]) != len(sections["tool_call"]) + len(sections["answer"]):
        broken.append("there is not one thinking for each tool call and answer")
    broken += [f"an empty {kind}" for kind, bodies in sections.items() if not all(bodies)]
    if not sections["answer"]:
        broken.append("there is no answer")
    known = {tool.name: tool for tool in tools}
    earlier: dict[str, list[Mapping[str, Any]]] = {}
    for body in filter(None, sections["tool_call"]):
        broken += _call_violations(body, known, earlier)
    return broken


def _bodies(text: str, kind: str) -> list[str]:
    closing = f"</{kind}>"
    return [part.split(closing, 1)[0].strip() for part in text.split(f"<{kind}>")[1:] if closing in part]


def _call_violations(
    body: str, known: Mapping[str, ToolSpec], earlier: dict[str, list[Mapping[str, Any]]]
) -> list[str]:
    try:
        value = decode_json(body)
    except ValueError:
        return ["a tool call is not valid JSON"]
    if not isinstance(value, dict) or not isinstance(value.get("arguments"), dict):
        return ["a tool call is not an object with a name and an arguments object"]
    name, arguments = value.get("name"), value["arguments"]
    if not isinstance(name, str) or name not in known:
        return [f"a call of the unknown tool {name!r}"]
    tool = known[name]
    if problems := tool.problems(arguments):
        return [f"a call of {name}: {problem}" for problem in problems]
    repeated = tool.repeated(arguments, earlier.get(name, ()))
    earlier.setdefault(name, []).append(arguments)
    return [f"a repeated call of {name}"] if repeated else []


# ---------------------------------------------------------------------------------------------------------------------


def reply_pattern(
    tools: Sequence[ToolSpec],
    *,
    options: int = 0,
    output_schema: Mapping[str, Any] | None = None,
    answer_pattern: str | None = None,
    may_answer: bool = True,
    text_characters: int | None = None,
) -> str:
    """The grammar as a regular expression for constrained decoding.

    Args:
        tools: The tools that may be called now; none on the last turn.
        options: Number of options of a multiple-choice question; the answer is then one letter.
        output_schema: JSON schema of the answer, where one is asked for.
        answer_pattern: Regular expression of the answer, where it has another form.
        may_answer: Whether an answer is allowed now.
        text_characters: Bound on the length of each text: the thinking, an open-ended answer, a string of a call. A
            bound makes a server count with every token, which takes it longer than the rest of the grammar.
    """
    text = rf"[^<>\s][^<>]{up_to(text_characters, besides=1)}"
    branches = []
    for tool in tools:
        arguments = json_pattern(tool.parameters, characters=text_characters)
        branches.append(rf'<tool_call>\{{"name": "{re.escape(tool.name)}", "arguments": {arguments}\}}</tool_call>')
    if may_answer or not branches:
        if options:
            answer = f"[A-{chr(ord('A') + options - 1)}]"
        elif answer_pattern is not None:
            answer = answer_pattern
        elif output_schema is not None:
            answer = json_pattern(output_schema, characters=text_characters)
        else:
            answer = text
        branches.append(f"<answer>{answer}</answer>")
    return rf"<thinking>{text}</thinking>\n(?:{'|'.join(branches)})"
