"""Reading replies tolerantly, and holding trajectories against the rules strictly."""

from __future__ import annotations

import time
from typing import Any

import pytest

from videobrain.agent import parse_reply, violations
from videobrain.agent.grammar import CallText, read_call
from videobrain.tools import clip_sample, uniform_sample

TOOLS = (uniform_sample.spec, clip_sample.spec)
CALL = '{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 100}}'
ARGUMENTS = {"start_frame": 0, "end_frame": 100}
READ = CallText("uniform_sample", ARGUMENTS)


@pytest.mark.parametrize(
    ("text", "thinking", "calls", "answers"),
    [
        pytest.param("<thinking>t</thinking><answer>B</answer>", ("t",), (), ("B",), id="answer"),
        pytest.param(f"<thinking>t</thinking>\n<tool_call>{CALL}</tool_call>", ("t",), (READ,), (), id="call"),
        pytest.param("<think>t</think><answer>B</answer>", ("t",), (), ("B",), id="think"),
        pytest.param("<Thinking> t </THINKING> <Answer > B </answer>", ("t",), (), ("B",), id="capitals and blanks"),
        pytest.param("<think>t</thinking><answer>B</answer>", ("t",), (), ("B",), id="mixed names of thinking"),
        pytest.param("t\n</think>\n<answer>B</answer>", ("t",), (), ("B",), id="opened in the prompt"),
        pytest.param("<thinking>t\n<answer>B</answer>", ("t",), (), ("B",), id="thinking not closed"),
        pytest.param(f"<thinking>t<tool_call>{CALL}</tool_call>", ("t",), (READ,), (), id="thinking not closed, call"),
        pytest.param("<thinking>t</thinking><answer>B", ("t",), (), ("B",), id="answer not closed"),
        pytest.param(f"<thinking>t</thinking><tool_call>{CALL}", ("t",), (READ,), (), id="call not closed"),
        pytest.param(
            f"<thinking>Not <answer>A</answer> yet.</thinking><tool_call>{CALL}</tool_call>",
            ("Not <answer>A</answer> yet.",),
            (READ,),
            (),
            id="an answer quoted in a thought",
        ),
        pytest.param(
            "<thinking>I write <tool_call> or <answer> next.</thinking><answer>B</answer>",
            ("I write <tool_call> or <answer> next.",),
            (),
            ("B",),
            id="tags quoted in a thought",
        ),
        pytest.param(f"t\n```json\n{CALL}\n```", (), (READ,), (), id="fenced call"),
        pytest.param(f"t\n```\n{CALL}\n```", (), (READ,), (), id="fence without language"),
        pytest.param(f"<think>t</think>\n{CALL}", ("t",), (READ,), (), id="bare call"),
        pytest.param(f"<tool_call>\n```json\n{CALL}\n```\n</tool_call>", (), (READ,), (), id="fence in tags"),
        pytest.param("<answer>A</answer><answer>B</answer>", (), (), ("A", "B"), id="two answers"),
        pytest.param("<thinking></thinking><answer></answer>", ("",), (), ("",), id="empty"),
        pytest.param("<answer>a < b and <b>c</b></answer>", (), (), ("a < b and <b>c</b>",), id="other tags"),
        pytest.param("nothing of the kind", (), (), (), id="prose"),
        pytest.param('{"name": "Ann", "age": 3}', (), (), (), id="JSON that is no call"),
        pytest.param("", (), (), (), id="nothing"),
    ],
)
def test_replies_are_read_tolerantly(
    text: str, thinking: tuple[str, ...], calls: tuple[CallText, ...], answers: tuple[str, ...]
) -> None:
    parsed = parse_reply(text)
    assert (parsed.thinking, parsed.calls, parsed.answers) == (thinking, calls, answers)


@pytest.mark.parametrize(
    ("text", "unclosed"),
    [
        ("<thinking>t</thinking><answer>B</answer>", False),
        ("<thinking>t</thinking><answer>B", True),
        ("<thinking>t", True),
        ("<thinking>t</thinking>", False),
        ("", False),
    ],
)
def test_a_tag_left_open_is_noticed(text: str, unclosed: bool) -> None:
    assert parse_reply(text).unclosed is unclosed


def test_text_outside_of_tags_is_kept() -> None:
    assert parse_reply("Well.\n<answer>B</answer> That is it.").outside == "Well.\n That is it."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("```json\n\n```", "empty"),
        ("uniform_sample(0, 100)", "not valid JSON"),
        (CALL[:-1], "not valid JSON"),
        (CALL + CALL, "not valid JSON"),
        (CALL.replace("100", "NaN"), "not valid JSON"),
        (CALL.replace("100", '"\\ud800"'), "not valid JSON"),
        (CALL.replace("100", "[" * 5000 + "]" * 5000), "not valid JSON"),
        (CALL.replace("100", "[" * 500 + "]" * 500), "not valid JSON"),
        (CALL.replace("100", "1" * 5000), "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"arguments": {}}', 'no "name"'),
        ('{"name": "", "arguments": {}}', 'no "name"'),
        ('{"name": 3, "arguments": {}}', 'no "name"'),
        ('{"name": "uniform_sample"}', '"arguments" must be a JSON object'),
        ('{"name": "uniform_sample", "arguments": [0, 100]}', '"arguments" must be a JSON object'),
        ('{"name": "uniform_sample", "arguments": "0, 100"}', '"arguments" is not valid JSON'),
    ],
)
def test_a_call_that_is_none_says_why(text: str, problem: str) -> None:
    call = read_call(text)
    assert problem in call.problem
    assert call.arguments is None


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f"```json\n{CALL}\n```",
        CALL.replace("arguments", "parameters"),
        '{"name": "uniform_sample", "arguments": "{\\"start_frame\\": 0, \\"end_frame\\": 100}"}',
    ],
)
def test_calls_are_read_in_the_forms_that_models_write(text: str) -> None:
    assert read_call(text) == READ


@pytest.mark.parametrize(
    "text",
    [
        "```" + " " * 20_000,
        "``` " * 5_000,
        "```a" * 5_000,
        "```" + "a" * 20_000,
        "<" * 20_000,
        "<thinking>" * 5_000,
        "<thinking><answer>" * 3_000,
        "</thinking>" * 5_000,
        "<answer>" + "<thinking>" * 3_000 + "</answer>",
        "<  " * 10_000,
        "{" * 20_000,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_no_reply_takes_long_to_read(text: str) -> None:
    began = time.process_time()
    parse_reply(text)
    violations([text], TOOLS)
    assert time.process_time() - began < 0.5


# The rules of the paper ----------------------------------------------------------------------------------------------


def call(name: str = "uniform_sample", **arguments: Any) -> str:
    import json

    return f"<thinking>t</thinking><tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def uniform(start: object = 0, end: object = 100) -> str:
    return call(start_frame=start, end_frame=end)


def clip(prompt: object = "a car", start: object = 0, end: object = 100) -> str:
    return call("clip_sample", start_frame=start, end_frame=end, prompt=prompt)


ANSWER = "<thinking>t</thinking><answer>B</answer>"


@pytest.mark.parametrize(
    "replies",
    [
        [ANSWER],
        [uniform(), ANSWER],
        [uniform(), clip(), uniform(2, 98), clip("a dog"), uniform(0, 102), ANSWER],
        [uniform(0, 100), uniform(0, 102), ANSWER],  # one end alone may stay
        [uniform(0, 100), uniform(2, 101), ANSWER],
        [clip("a car"), clip("a red car"), ANSWER],
        [ANSWER, ANSWER],  # the last one counts
    ],
)
def test_valid_trajectories(replies: list[str]) -> None:
    assert violations(replies, TOOLS) == []


@pytest.mark.parametrize(
    ("replies", "broken"),
    [
        pytest.param(["<thinking>t</thinking><answer>B"], "<answer> tags do not balance", id="1 answer"),
        pytest.param(["<thinking>t<answer>B</answer>"], "<thinking> tags do not balance", id="1 thinking"),
        pytest.param([uniform() + "</tool_call>", ANSWER], "<tool_call> tags do not balance", id="1 call"),
        pytest.param(["<answer>B</answer>"], "one thinking for each", id="2 none"),
        pytest.param(["<think>t</think><answer>B</answer>"], "one thinking for each", id="2 think"),
        pytest.param(["<thinking>t</thinking>" + ANSWER], "one thinking for each", id="2 two"),
        pytest.param(["<thinking> </thinking><answer>B</answer>"], "an empty thinking", id="3 thinking"),
        pytest.param(["<thinking>t</thinking><tool_call>\n</tool_call>", ANSWER], "an empty tool_call", id="3 call"),
        pytest.param(["<thinking>t</thinking><answer> </answer>"], "an empty answer", id="3 answer"),
        pytest.param([uniform()], "there is no answer", id="4"),
        pytest.param([], "there is no answer", id="4 nothing"),
        pytest.param(["<thinking>t</thinking><tool_call>{]</tool_call>", ANSWER], "not valid JSON", id="5 JSON"),
        pytest.param(["<thinking>t</thinking><tool_call>[]</tool_call>", ANSWER], "not an object", id="5 list"),
        pytest.param([call("look"), ANSWER], "unknown tool 'look'", id="5 unknown"),
        pytest.param([uniform().replace("arguments", "parameters"), ANSWER], "arguments object", id="5 arguments"),
        pytest.param([call(start_frame=1), ANSWER], "'end_frame' is a required property", id="5 missing"),
        pytest.param([call(start_frame=1, end_frame=9, n=4), ANSWER], "'n' was unexpected", id="5 too many"),
        pytest.param([uniform("0", 100), ANSWER], "not of type 'integer'", id="6 text"),
        pytest.param([uniform(0.5, 100), ANSWER], "not of type 'integer'", id="6 fraction"),
        pytest.param([uniform(True, 100), ANSWER], "not of type 'integer'", id="6 boolean"),
        pytest.param([uniform(100, 100), ANSWER], "100 is not smaller than 100", id="6 equal"),
        pytest.param([uniform(100, 0), ANSWER], "100 is not smaller than 0", id="6 reversed"),
        pytest.param([uniform(100.0, 50.0), ANSWER], "100.0 is not smaller than 50.0", id="6 reversed, whole floats"),
        pytest.param([clip("a car", 100, 0), ANSWER], "100 is not smaller than 0", id="6 clip"),
        pytest.param([uniform(), uniform(), ANSWER], "a repeated call of uniform_sample", id="7 equal"),
        pytest.param([uniform(5, 100), uniform(6, 99), ANSWER], "a repeated call of uniform_sample", id="7 within 1"),
        pytest.param([uniform(), clip(), uniform(1, 101), ANSWER], "a repeated call of uniform_sample", id="7 earlier"),
        pytest.param([clip(" "), ANSWER], "prompt must not be empty", id="8 blank"),
        pytest.param([clip(""), ANSWER], "prompt must not be empty", id="8 empty"),
        pytest.param([clip(), clip("a car", 50, 80), ANSWER], "a repeated call of clip_sample", id="8 used before"),
        pytest.param([clip(), clip(" A  Car "), ANSWER], "a repeated call of clip_sample", id="8 hardly changed"),
    ],
)
def test_each_broken_rule_is_named(replies: list[str], broken: str) -> None:
    found = violations(replies, TOOLS)
    assert len(found) >= 1
    assert any(broken in sentence for sentence in found), found


def test_native_calling_needs_no_visible_thinking() -> None:
    assert violations(["<answer>B</answer>"], TOOLS, thinking=False) == []
