"""What a reply means in a run: a call, an answer, or a problem that the model can mend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema

from videobrain.agent.choices import LETTERS, parse_choice
from videobrain.agent.grammar import CallText, ParsedReply, call_from, decode_json, parse_reply
from videobrain.agent.spans import SpanForm, read_span_answer
from videobrain.models import ChatReply
from videobrain.result import Span
from videobrain.tools import ToolSpec

CheckAnswer = Callable[[str], str | None]
"""Looks at an answer's text and says what is wrong with it, or None."""


@dataclass(frozen=True, slots=True)
class Call:
    """The model calls a tool."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """The model answers."""

    text: str
    choice: str | None = None
    spans: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()
    """What the reader of the answer should know."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The reply cannot be used as it is.

    Attributes:
        text: What is wrong, for the model.
        salvage: The answer that stands in the reply all the same; it is what there is where no correction is left.
    """

    text: str
    salvage: Answered | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a reply is held against at one point of a run."""

    tools: Mapping[str, ToolSpec]
    earlier: Mapping[str, Sequence[Mapping[str, Any]]]
    may_call: bool
    may_answer: bool
    native: bool
    options: Sequence[str] | None
    output_schema: Mapping[str, Any] | None
    check_answer: CheckAnswer | None
    spans: SpanForm | None = None
    options_in_words: bool = False


def read_reply(reply: ChatReply, rules: Rules) -> Call | Answered | Problem:
    """Decide what a reply means. Never raises, whatever the model wrote."""
    parsed = parse_reply(reply.text)
    calls = list(parsed.calls)
    for native in reply.tool_calls:
        try:
            arguments = decode_json(native.arguments or "{}")
        except ValueError:
            calls.append(CallText(name=native.name, problem=f"the arguments of {native.name} are not valid JSON"))
        else:
            calls.append(call_from({"name": native.name, "arguments": arguments}))
    answers = [answer for answer in parsed.answers if answer]
    plain = rules.native and not calls and not parsed.answers and not parsed.unclosed and bool(parsed.outside)
    if plain:
        answers = [parsed.outside]  # without a call, the content is the answer
    if reply.finish_reason == "length" and (plain or parsed.unclosed or not (calls or answers)):
        return Problem("it was cut off at the token limit; write fewer words")
    if reply.finish_reason == "content_filter":
        return Problem("it was withheld by a content filter")
    if calls and answers:
        return Problem("it holds a tool call and an answer; write one of them")
    if len(calls) > 1:
        return Problem(f"it holds {len(calls)} tool calls; make one at a time")
    meaning: Call | Answered | Problem
    if calls:
        meaning = _read_call(calls[0], rules)
    elif answers:
        meaning = _read_answer(answers[-1], rules)
    elif parsed.answers:
        return Problem("the answer is empty")
    elif not reply.text.strip():
        return Problem("it is empty")
    else:
        return Problem("it holds neither a tool call nor an answer")
    if isinstance(meaning, Problem) or rules.native or _thinks(parsed, reply):
        return meaning
    salvage = meaning if isinstance(meaning, Answered) else None
    return Problem("the thinking is missing; think inside <thinking>...</thinking> first", salvage=salvage)


def _thinks(parsed: ParsedReply, reply: ChatReply) -> bool:
    return any(parsed.thinking) or bool(reply.reasoning.strip()) or bool(parsed.outside.strip("` \n"))


def _read_call(call: CallText, rules: Rules) -> Call | Problem:
    if not rules.may_call:
        return Problem("no tool can be called any more; give your best answer")
    if call.problem or call.arguments is None:
        return Problem(call.problem)
    tool = rules.tools.get(call.name)
    if tool is None:
        return Problem(f"there is no tool {call.name[:60]!r}; the tools are {', '.join(rules.tools)}")
    if problems := tool.problems(call.arguments):
        return Problem(f"the arguments of {call.name} do not fit: {'; '.join(problems[:5])}")
    if tool.repeated(call.arguments, rules.earlier.get(call.name, ())):
        what = {"interval": "range", "prompt": "prompt"}.get(tool.repeats, "call")
        return Problem(f"this {what} was used before with {call.name}; vary it, or answer")
    return Call(call.name, call.arguments)


def _read_answer(text: str, rules: Rules) -> Answered | Problem:
    answered = Answered(text)
    if rules.options:
        choice = parse_choice(text, rules.options, in_words=rules.options_in_words)
        if choice is None:
            wanted = f"one letter from A to {LETTERS[len(rules.options) - 1]}"
            if rules.options_in_words:
                wanted = "one of the options, in its own words"
            return Problem(f"the answer must be {wanted}", salvage=answered)
        answered = Answered(text, choice)
    if rules.spans is not None:
        found = read_span_answer(text, rules.spans)
        answered = Answered(text, spans=found.spans, notes=found.notes)
        if found.problem:
            return Problem(found.problem, salvage=answered)
    wrong = _schema_problem(text, rules.output_schema) if rules.output_schema is not None else None
    if wrong := wrong or (rules.check_answer(text) if rules.check_answer else None):
        return Problem(f"the answer does not fit the schema: {wrong}")
    if not rules.may_answer:
        return Problem("it is too early to answer; look further with a tool first", salvage=answered)
    return answered


def _schema_problem(text: str, schema: Mapping[str, Any]) -> str | None:
    try:
        value = decode_json(text)
    except ValueError as error:
        return f"it is not valid JSON ({error})"
    errors = sorted(
        jsonschema.Draft202012Validator(dict(schema)).iter_errors(value), key=lambda e: [str(p) for p in e.path]
    )
    return "; ".join(f"{'.'.join(map(str, e.path)) or 'value'}: {e.message[:200]}" for e in errors[:5]) or None
