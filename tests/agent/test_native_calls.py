"""The Episode under native function calling."""

from __future__ import annotations

import json

import pytest

from tests.agent.episodes import asked, config, ended, found, frames, native, say, started, uniform
from videobrain.agent import CallTool, Episode, ToolOutcome
from videobrain.models import ChatReply

ARGUMENTS = '{"start_frame": 0, "end_frame": 100}'


def test_native_calls_are_answered_in_tool_messages_and_frames_follow_in_a_user_message() -> None:
    episode = Episode(config(calling="native"))
    step = asked(episode.start(frames(0)))
    assert [schema.name for schema in step.tools] == ["uniform_sample", "clip_sample"]
    assert step.tools[0].parameters["required"] == ["start_frame", "end_frame"]
    assert "<tool_call>" not in episode.messages[0].text
    assert isinstance(episode.reply(native(("uniform_sample", ARGUMENTS))), CallTool)
    episode.observe(found(10, 20))
    assistant, answer, follow = episode.messages[-3:]
    assert assistant.tool_calls[0].name == "uniform_sample"
    assert (answer.role, answer.tool_call_id, answer.frames) == ("tool", "id0", ())
    assert answer.text == "Result of uniform_sample: Frames."
    assert (follow.role, follow.frames) == ("user", frames(10, 20))
    assert "Replies left: 5." in follow.text
    assert ended(say(episode, "<answer>red</answer>")).conclusion.text == "red"
    assert episode.violations() == []


def test_native_results_without_frames_need_no_user_message() -> None:
    episode = started(calling="native")
    episode.reply(native(("uniform_sample", ARGUMENTS)))
    episode.observe(ToolOutcome(kind="result", text="Nothing there."))
    assert episode.messages[-1].role == "tool"
    assert "Replies left: 5." in episode.messages[-1].text


@pytest.mark.parametrize(
    "text", ["It is red.", "  It is red.\n", "<think>Look.</think>\nIt is red.", "<answer>It is red.</answer>"]
)
def test_plain_content_is_the_answer_under_native_calling(text: str) -> None:
    episode = started(calling="native")
    assert ended(say(episode, text)).conclusion.text == "It is red."
    assert episode.violations() == []


def test_plain_json_with_a_name_is_an_answer_and_no_call() -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    episode = started(calling="native", output_schema=schema)
    assert ended(say(episode, '{"name": "Ann"}')).conclusion.text == '{"name": "Ann"}'


def test_words_beside_a_native_call_are_thoughts() -> None:
    episode = started(calling="native")
    assert isinstance(episode.reply(native(("uniform_sample", ARGUMENTS), text="I look closer.")), CallTool)


def test_a_tagged_call_is_read_under_native_calling_too() -> None:
    episode = started(calling="native")
    assert isinstance(say(episode, uniform()), CallTool)
    episode.observe(found(1))
    assert episode.messages[-1].role == "user"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (native(("uniform_sample", "{")), "arguments of uniform_sample are not valid JSON"),
        (native(("uniform_sample", "[]")), '"arguments" must be a JSON object'),
        (native(("uniform_sample", '{"start_frame": NaN, "end_frame": 3}')), "not valid JSON"),
        (native(("uniform_sample", "")), "required property"),
        (native(("zoom", "{}")), "there is no tool 'zoom'"),
        (native(("", "{}")), 'no "name"'),
        (native(("uniform_sample", ARGUMENTS), ("clip_sample", "{}")), "2 tool calls"),
        (native(("uniform_sample", ARGUMENTS), text="<answer>red</answer>"), "a tool call and an answer"),
        (ChatReply(text="It is r", finish_reason="length"), "cut off"),
        (ChatReply(text=""), "it is empty"),
    ],
)
def test_every_native_call_is_answered_when_a_reply_is_corrected(reply: ChatReply, problem: str) -> None:
    episode = started(calling="native")
    step = asked(episode.reply(reply))
    assert problem in (step.correction or "")
    answers = episode.messages[3:]
    assert [m.tool_call_id for m in answers] == ([c.id for c in reply.tool_calls] or [None])
    assert {m.role for m in answers} == ({"tool"} if reply.tool_calls else {"user"})
    assert problem in episode.messages[-1].text
    assert "call exactly one tool" in episode.messages[-1].text


def test_a_native_call_beyond_a_limit_is_answered() -> None:
    episode = started(calling="native", limits={"turns": 1})
    step = asked(episode.reply(native(("uniform_sample", ARGUMENTS))))
    assert step.last
    assert [tool.name for tool in step.tools] == ["uniform_sample", "clip_sample"]  # for the prefix cache
    assert episode.messages[-1].tool_call_id == "id0"
    assert "This is the last reply" in episode.messages[-1].text
    episode = started(calling="native", limits={"frames": 2})
    step = asked(episode.reply(native(("uniform_sample", ARGUMENTS))))
    assert (step.last, step.limit) == (True, "frames")
    assert (episode.messages[-1].role, episode.messages[-1].tool_call_id) == ("tool", "id0")


def test_arguments_encoded_twice_are_read() -> None:
    episode = started(calling="native")
    assert isinstance(episode.reply(native(("uniform_sample", json.dumps(ARGUMENTS)))), CallTool)
