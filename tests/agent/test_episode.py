"""The Episode: what it says to a model, what it makes of the replies, and when it ends."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from tests.agent.episodes import (
    ANSWER,
    TOOLS,
    asked,
    clip,
    config,
    ended,
    found,
    frame,
    frames,
    say,
    started,
    uniform,
)
from videobrain.agent import AskModel, CallTool, Episode, ToolOutcome
from videobrain.agent.prompts import COMPACT
from videobrain.limits import Limits
from videobrain.models import ChatReply, Message
from videobrain.tools import ToolResult, tool

OPTIONS = ("red", "green", "blue")


def last_text(episode: Episode) -> str:
    return episode.messages[-1].text


# What a run looks like -----------------------------------------------------------------------------------------------


def test_a_run_from_question_to_answer() -> None:
    episode = Episode(config())
    step = asked(episode.start(frames(0, 500)))
    assert (step.turn, step.last, step.tools, step.pattern, step.correction) == (1, False, (), None, None)
    system, user = episode.messages
    assert (system.role, user.role) == ("system", "user")
    assert all(name in system.text for name in ("uniform_sample", "clip_sample", "<thinking>", "<tool_call>"))
    assert "Which colour?" in user.text
    assert "1000 frames at 25 frames per second and lasts 40 seconds" in user.text
    assert "Frame 0 (0.00 s): " in user.text
    assert "Frame 500 (20.00 s): " in user.text
    assert "Replies left: 6." in user.text
    assert [part.kind for part in user.parts] == ["text", "image", "text", "image", "text"]

    call = say(episode, uniform(0, 100), input_tokens=500, output_tokens=20)
    assert call == CallTool(1, "uniform_sample", {"start_frame": 0, "end_frame": 100})
    step = asked(episode.observe(found(10, 20)))
    assert step.turn == 2
    assert episode.messages[-2] == Message(role="assistant", parts=({"kind": "text", "text": uniform(0, 100)},))
    observation = episode.messages[-1]
    assert observation.role == "user"
    assert observation.text.startswith("Result of uniform_sample: Frames.")
    assert "Replies left: 5." in observation.text
    assert observation.frames == frames(10, 20)

    conclusion = ended(say(episode, ANSWER, input_tokens=700, output_tokens=10, cached_tokens=500)).conclusion
    assert (conclusion.text, conclusion.choice, conclusion.stop_reason) == ("red", None, "answered")
    assert conclusion.warnings == ()
    assert [(e.frame_index, e.source) for e in conclusion.evidence] == [
        (0, "initial"),
        (500, "initial"),
        (10, "uniform_sample"),
        (20, "uniform_sample"),
    ]
    usage = episode.usage
    assert (usage.turns, usage.corrections, usage.frames, usage.tool_calls) == (2, 0, 4, {"uniform_sample": 1})
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (1200, 30, 500)
    assert episode.violations() == []


def test_similarities_become_evidence() -> None:
    episode = started()
    say(episode, clip())
    episode.observe(ToolOutcome(kind="result", frames=frames(7, 8), similarities={7: 0.5}))
    conclusion = ended(say(episode, ANSWER)).conclusion
    assert [e.similarity for e in conclusion.evidence] == [None, None, 0.5, None]


def test_the_conversation_names_options_schema_and_form() -> None:
    chosen = started(options=OPTIONS).messages[1].text
    assert "A. red\nB. green\nC. blue\n" in chosen
    assert "one option (A, B, C)" in chosen
    structured = started(output_schema={"type": "integer"}).messages[1].text
    assert '{"type": "integer"}' in structured
    single = started(tools=()).messages
    assert "<tool_call>" not in single[0].text
    assert "left" not in single[1].text


def test_braces_in_what_users_and_models_write_are_harmless() -> None:
    episode = started(question="What is {x} {0} {?", options=("{a}", "{}"))
    assert "What is {x} {0} {?" in episode.messages[1].text
    asked(say(episode, '<thinking>{t}</thinking><tool_call>{"name": "{x}", "arguments": {}}</tool_call>'))
    assert "there is no tool '{x}'" in last_text(episode)
    say(episode, uniform())
    episode.observe(ToolOutcome(kind="error", text="{broken} {0}"))
    assert "{broken} {0}" in last_text(episode)


def test_steps_are_taken_in_order() -> None:
    episode = Episode(config())
    with pytest.raises(RuntimeError, match=r"reply\(\)"):
        say(episode, ANSWER)
    episode.start(frames(0))
    with pytest.raises(RuntimeError, match=r"observe\(\)"):
        episode.observe(found())
    say(episode, uniform())
    with pytest.raises(RuntimeError, match=r"reply\(\)"):
        say(episode, ANSWER)
    episode.observe(ToolOutcome(kind="retry", text="Not so."))
    with pytest.raises(RuntimeError, match=r"observe\(\)"):
        episode.observe(found())
    say(episode, ANSWER)
    with pytest.raises(RuntimeError, match=r"reply\(\)"):
        say(episode, ANSWER)


# Bad model output ----------------------------------------------------------------------------------------------------


def tags(body: str) -> str:
    return f"<thinking>t</thinking><tool_call>{body}</tool_call>"


BAD = [
    pytest.param({"text": tags('{"name": "uniform_sample", "arguments": {')}, "not valid JSON", id="malformed JSON"),
    pytest.param({"text": tags("")}, "the tool call is empty", id="empty call"),
    pytest.param({"text": tags('{"name": "uniform_sample"}')}, '"arguments" must be a JSON object', id="no arguments"),
    pytest.param({"text": tags('{"name": "zoom", "arguments": {}}')}, "the tools are uniform_sample, clip", id="tool"),
    pytest.param({"text": uniform("0", 9)}, "start_frame: '0' is not of type 'integer'", id="wrong type"),
    pytest.param({"text": uniform(0.5, 9)}, "start_frame: 0.5 is not of type 'integer'", id="fraction"),
    pytest.param({"text": clip(["a"])}, "prompt: ['a'] is not of type 'string'", id="wrong type of prompt"),
    pytest.param({"text": clip("  ")}, "prompt must not be empty", id="blank prompt"),
    pytest.param({"text": tags('{"name": "uniform_sample", "arguments": {}}')}, "required property", id="missing"),
    pytest.param({"text": uniform(9, 3)}, "start_frame must be smaller than end_frame", id="reversed"),
    pytest.param({"text": uniform(9.0, 3.0)}, "start_frame must be smaller than end_frame", id="reversed floats"),
    pytest.param({"text": uniform() + "\n" + clip()}, "2 tool calls; make one at a time", id="several calls"),
    pytest.param({"text": uniform() + ANSWER}, "a tool call and an answer; write one", id="call and answer"),
    pytest.param({"text": "I think it is red."}, "neither a tool call nor an answer", id="no tag"),
    pytest.param({"text": "<thinking>Hm.</thinking>"}, "neither a tool call nor an answer", id="thinking only"),
    pytest.param({"text": ""}, "it is empty", id="empty text"),
    pytest.param({"text": " \n"}, "it is empty", id="blank text"),
    pytest.param({"text": "<thinking>t</thinking><answer> </answer>"}, "the answer is empty", id="empty answer"),
    pytest.param({"text": "<answer>red</answer>"}, "the thinking is missing", id="no thinking"),
    pytest.param({"text": "<thinking> </thinking><answer>red</answer>"}, "thinking is missing", id="empty thinking"),
    pytest.param({"text": "<thinking>so", "finish_reason": "length"}, "cut off at the token limit", id="cut off"),
    pytest.param(
        {"text": "<thinking>t</thinking><answer>re", "finish_reason": "length"}, "cut off", id="cut off in the answer"
    ),
    pytest.param({"text": "", "finish_reason": "length"}, "cut off", id="cut off before any text"),
    pytest.param({"text": "", "finish_reason": "content_filter"}, "content filter", id="filtered"),
]


@pytest.mark.parametrize(("reply", "problem"), BAD)
def test_a_bad_reply_is_corrected_and_the_run_goes_on(reply: dict[str, Any], problem: str) -> None:
    episode = started()
    before = list(episode.messages)
    step = asked(episode.reply(ChatReply(**reply)))
    assert problem in (step.correction or "")
    assert (step.turn, step.last) == (1, False)  # a correction uses up no turn
    assert episode.messages[:2] == before
    assert episode.messages[2].text == reply["text"]
    assert episode.messages[3].role == "user"
    assert problem in last_text(episode)
    assert "<thinking>...</thinking>" in last_text(episode)  # it says again what the form is
    assert len(last_text(episode)) < 700
    assert (episode.usage.corrections, episode.usage.turns, episode.usage.tool_calls) == (1, 0, {})
    assert isinstance(say(episode, uniform()), CallTool)
    episode.observe(found(1))
    assert ended(say(episode, ANSWER)).conclusion.text == "red"
    assert "replies that had to be corrected: 1" in episode.violations()


@pytest.mark.parametrize(("reply", "problem"), BAD)
def test_a_model_that_never_mends_ends_the_run(reply: dict[str, Any], problem: str) -> None:
    episode = started(limits={"corrections": 2})
    asked(episode.reply(ChatReply(**reply)))
    asked(episode.reply(ChatReply(**reply)))
    conclusion = ended(episode.reply(ChatReply(**reply))).conclusion
    assert conclusion.stop_reason == "corrections"
    assert conclusion.text == ("red" if "thinking is missing" in problem else "")
    assert conclusion.warnings
    assert episode.usage.corrections == 2
    assert "replies that had to be corrected: 3" in episode.violations()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (uniform(0, 100), uniform(0, 100)),
        (uniform(10, 100), uniform(9, 101)),
        (clip("a car"), clip("A  car", 200, 300)),
    ],
)
def test_a_repeated_call_is_corrected(first: str, second: str) -> None:
    episode = started()
    say(episode, first)
    episode.observe(found(1))
    step = asked(say(episode, second))
    assert "used before" in (step.correction or "")
    assert step.turn == 2


def test_a_call_that_a_tool_sent_back_may_be_made_again() -> None:
    episode = started()
    say(episode, uniform())
    step = asked(episode.observe(ToolOutcome(kind="retry", text="The range lies outside the video.")))
    assert (step.turn, step.correction) == (1, "The range lies outside the video.")
    assert "The range lies outside the video." in last_text(episode)
    assert (episode.usage.turns, episode.usage.corrections, episode.usage.tool_calls) == (0, 1, {})
    assert isinstance(say(episode, uniform()), CallTool)


def test_retries_of_a_tool_are_bounded_too() -> None:
    episode = started(limits={"corrections": 1})
    say(episode, uniform())
    asked(episode.observe(ToolOutcome(kind="retry", text="No.")))
    say(episode, uniform())
    assert ended(episode.observe(ToolOutcome(kind="retry", text="No."))).conclusion.stop_reason == "corrections"


def test_choices_are_read_and_others_corrected() -> None:
    episode = started(options=OPTIONS)
    step = asked(say(episode, "<thinking>t</thinking><answer>E</answer>"))
    assert "one letter from A to C" in (step.correction or "")
    conclusion = ended(say(episode, "<thinking>t</thinking><answer>(b) green</answer>")).conclusion
    assert (conclusion.choice, conclusion.text) == ("B", "(b) green")


def test_where_options_are_asked_for_in_words_a_letter_may_be_one() -> None:
    episode = started(options=("E", "K", "A"), prompts=COMPACT)
    step = asked(say(episode, "<thinking>t</thinking><answer>red</answer>"))
    assert step.correction == "the answer must be one of the options, in its own words"
    assert ended(say(episode, "<thinking>t</thinking><answer>A</answer>")).conclusion.choice == "C"


def test_thinking_that_the_server_keeps_apart_is_thinking() -> None:
    answer = "<answer>red</answer>"
    assert ended(started().reply(ChatReply(text=answer, reasoning="It is red."))).conclusion.text == "red"
    asked(started().reply(ChatReply(text=answer, reasoning=" ")))


def test_the_last_of_several_answers_counts() -> None:
    episode = started(options=OPTIONS)
    text = "<thinking>t</thinking><answer>A</answer><thinking>No.</thinking><answer>B</answer>"
    assert ended(say(episode, text)).conclusion.choice == "B"


def test_an_answer_that_chooses_nothing_is_kept_as_text_at_the_end() -> None:
    episode = started(options=OPTIONS, limits={"corrections": 0})
    conclusion = ended(say(episode, "<thinking>t</thinking><answer>purple</answer>")).conclusion
    assert (conclusion.text, conclusion.choice, conclusion.stop_reason) == ("purple", None, "corrections")


def test_structured_answers_are_held_to_their_schema_and_check() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    episode = started(output_schema=schema, check_answer=lambda text: "n: too small" if '"n": 0' in text else None)

    def answer(text: str) -> Any:
        return say(episode, f"<thinking>t</thinking><answer>{text}</answer>")

    assert "not valid JSON" in (asked(answer("three")).correction or "")
    assert "n: '3' is not of type 'integer'" in (asked(answer('{"n": "3"}')).correction or "")
    assert "n: too small" in (asked(answer('{"n": 0}')).correction or "")
    assert ended(answer('{"n": 3}')).conclusion.text == '{"n": 3}'


def test_an_early_answer_waits_for_the_calls_that_are_asked_for() -> None:
    episode = started(min_calls=2, constrain=True)
    step = asked(say(episode, ANSWER))
    assert "too early" in (step.correction or "")
    assert "<answer>" not in (step.pattern or "")
    say(episode, uniform(0, 100))
    asked(episode.observe(found(1)))
    say(episode, uniform(100, 200))
    assert "<answer>" in (asked(episode.observe(found(2))).pattern or "")
    assert ended(say(episode, ANSWER)).conclusion.stop_reason == "answered"


def test_calls_asked_for_never_outlast_the_turns() -> None:
    episode = started(min_calls=5, limits={"turns": 1})
    assert ended(say(episode, ANSWER)).conclusion.stop_reason == "answered"


# Limits --------------------------------------------------------------------------------------------------------------


def test_the_last_turn_has_no_tools() -> None:
    episode = started(limits={"turns": 2}, constrain=True)
    say(episode, uniform())
    step = asked(episode.observe(found(1)))
    assert step.last
    assert step.limit is None
    assert "<tool_call>" not in (step.pattern or "")
    assert "This is the last reply" in last_text(episode)
    corrected = asked(say(episode, uniform(300, 400)))
    assert "no tool can be called any more" in (corrected.correction or "")
    assert "This is the last reply" in last_text(episode)
    assert "<tool_call>" not in last_text(episode)
    conclusion = ended(say(episode, ANSWER)).conclusion
    assert (conclusion.stop_reason, conclusion.warnings) == ("answered", ())


def test_one_turn_is_a_last_turn_from_the_start() -> None:
    episode = Episode(config(limits={"turns": 1}))
    assert asked(episode.start(frames(0))).last
    assert "This is the last reply" in last_text(episode)


def test_turns_that_run_out_raise_where_the_caller_wants_it() -> None:
    episode = started(limits={"turns": 2, "on_limit": "raise"})
    say(episode, uniform())
    assert not asked(episode.observe(found(1))).last
    assert ended(say(episode, clip())).conclusion.stop_reason == "turns"


@pytest.mark.parametrize(
    ("limits", "reply"),
    [
        ({"input_tokens": 100}, {"input_tokens": 100}),
        ({"output_tokens": 50}, {"output_tokens": 60}),
        ({"frames": 2}, {}),
    ],
)
@pytest.mark.parametrize("on_limit", ["answer", "raise"])
def test_a_limit_stops_the_call_and_gives_one_last_turn(
    limits: dict[str, Any], reply: dict[str, Any], on_limit: str
) -> None:
    (name,) = limits
    episode = started(limits={**limits, "on_limit": on_limit})
    step = say(episode, uniform(), **reply)
    if on_limit == "raise":
        assert ended(step).conclusion.stop_reason == name
        return
    assert (asked(step).last, asked(step).limit) == (True, name)
    assert f"not carried out: the limit of {name.replace('_', ' ')}" in last_text(episode)
    assert "This is the last reply" in last_text(episode)
    assert episode.usage.tool_calls == {}  # it was not carried out
    conclusion = ended(say(episode, ANSWER)).conclusion
    assert conclusion.stop_reason == "answered"
    assert any("forced the answer" in warning for warning in conclusion.warnings)


@pytest.mark.parametrize("on_limit", ["answer", "raise"])
def test_a_limit_is_checked_before_a_correction_is_sent(on_limit: str) -> None:
    episode = started(limits={"output_tokens": 50, "on_limit": on_limit})
    step = say(episode, "Hm.", output_tokens=50)
    if on_limit == "raise":
        assert ended(step).conclusion.stop_reason == "output_tokens"
    else:
        assert (asked(step).last, asked(step).limit) == (True, "output_tokens")
        assert "This is the last reply" in last_text(episode)


def test_the_context_is_a_limit() -> None:
    episode = started(context_tokens=4000, frame_tokens=100, max_output_tokens=1000)
    step = asked(say(episode, "Hm.", input_tokens=1000, output_tokens=100))
    assert step.max_output_tokens == 1000
    step = asked(say(episode, uniform(), input_tokens=3000, output_tokens=100))
    assert (step.last, step.limit) == (True, "context")
    assert 16 <= step.max_output_tokens < 900  # what is left


def test_tools_that_show_no_frames_outlast_the_limit_of_frames() -> None:
    @tool(max_frames=0, repeats="allow")
    async def note(text: str) -> ToolResult:
        """Note something."""
        return ToolResult()

    episode = started(limits={"frames": 2}, tools=(*TOOLS, note.spec))
    assert isinstance(
        say(episode, '<thinking>t</thinking>```{"name": "note", "arguments": {"text": "x"}}```'), CallTool
    )


def test_low_time_makes_the_next_turn_the_last() -> None:
    episode = started()
    step = asked(episode.reply(ChatReply(text=uniform()), time_low=True))
    assert (step.last, step.limit) == (True, "seconds")
    episode = started()
    say(episode, uniform())
    step = asked(episode.observe(found(1), time_low=True))
    assert (step.last, step.limit) == (True, "seconds")
    assert episode.messages[-1].frames == frames(1)
    episode = started()
    step = asked(episode.reply(ChatReply(text="Hm."), time_low=True))
    assert (step.last, step.limit) == (True, "seconds")
    assert "This is the last reply" in last_text(episode)
    episode = started(limits={"on_limit": "raise"})
    assert isinstance(episode.reply(ChatReply(text=uniform()), time_low=True), CallTool)


def test_the_limit_that_came_first_is_the_one_that_is_named() -> None:
    episode = started(limits={"output_tokens": 50})
    assert asked(say(episode, "Hm.", output_tokens=50)).limit == "output_tokens"
    assert asked(episode.reply(ChatReply(text="Hm."), time_low=True)).limit == "output_tokens"
    assert "The limit of output tokens forced the answer." in ended(say(episode, ANSWER)).conclusion.warnings


def test_a_run_can_be_ended_from_outside() -> None:
    episode = started()
    conclusion = episode.abort("seconds").conclusion
    assert (conclusion.text, conclusion.stop_reason) == ("", "seconds")
    assert len(conclusion.evidence) == 2
    assert episode.abort("turns").conclusion is conclusion


# Frames --------------------------------------------------------------------------------------------------------------


def test_frames_shown_before_are_named_and_not_sent_again() -> None:
    episode = started(initial=frames(0, 50))
    say(episode, uniform())
    episode.observe(found(0, 25, 50))
    assert episode.messages[-1].frames == frames(25)
    assert "Shown above already: frame 0, frame 50." in last_text(episode)
    assert episode.usage.frames == 3


def test_pictures_that_look_the_same_are_different_frames() -> None:
    still = [frame(index, digest="same") for index in (0, 50, 100)]
    episode = started(initial=still)
    assert episode.messages[-1].frames == tuple(still)
    say(episode, uniform())
    episode.observe(ToolOutcome(kind="result", frames=(frame(75, digest="same"), frame(100, digest="same"))))
    assert [f.frame_index for f in episode.messages[-1].frames] == [75]
    assert "Shown above already: frame 100." in last_text(episode)


def test_another_picture_of_a_frame_is_shown() -> None:
    episode = started(initial=frames(0))
    say(episode, uniform())
    episode.observe(ToolOutcome(kind="result", frames=(frame(0, digest="cropped"),)))
    assert [f.digest for f in episode.messages[-1].frames] == ["cropped"]


def test_a_frame_given_twice_is_shown_once() -> None:
    episode = started(initial=())
    say(episode, uniform())
    episode.observe(found(3, 3, 4))
    assert episode.messages[-1].frames == frames(3, 4)
    assert "left out" not in last_text(episode)


@pytest.mark.parametrize(
    ("limits", "reason"), [({"frames_per_call": 3}, "one call"), ({"frames": 5}, "the run")], ids=["call", "run"]
)
def test_frames_beyond_a_limit_are_left_out_and_that_is_said(limits: dict[str, int], reason: str) -> None:
    episode = started(limits=limits)
    say(episode, uniform())
    episode.observe(found(*range(10, 19)))
    assert episode.messages[-1].frames == frames(10, 14, 18)
    assert f"6 more frames were left out: {reason} may show no more." in last_text(episode)
    assert ended(say(episode, ANSWER)).conclusion.warnings[0].startswith("6 frames of uniform_sample were left out")


# Tools that fail -----------------------------------------------------------------------------------------------------


def test_a_failed_tool_is_told_and_the_run_goes_on() -> None:
    episode = started()
    say(episode, clip())
    step = asked(episode.observe(ToolOutcome(kind="error", text="The disk is full.")))
    assert (step.turn, step.last) == (2, False)
    assert "clip_sample failed: The disk is full." in last_text(episode)
    assert isinstance(say(episode, clip("a dog")), CallTool)


def test_a_withdrawn_tool_is_not_offered_any_more() -> None:
    episode = started(constrain=True)
    say(episode, clip())
    step = asked(episode.observe(ToolOutcome(kind="error", text="No encoder.", withdraw=True)))
    assert "clip_sample cannot be used any more." in last_text(episode)
    assert "clip_sample" not in (step.pattern or "")
    step = asked(say(episode, clip("a dog")))
    assert "there is no tool 'clip_sample'; the tools are uniform_sample" in (step.correction or "")
    conclusion = ended(say(episode, ANSWER)).conclusion
    assert conclusion.warnings == ("clip_sample was withdrawn: No encoder.",)


def test_without_any_tool_left_the_model_has_to_answer() -> None:
    episode = started(tools=TOOLS[1:], min_calls=3)
    say(episode, clip())
    step = asked(episode.observe(ToolOutcome(kind="error", text="No encoder.", withdraw=True)))
    assert step.last
    assert "This is the last reply" in last_text(episode)
    assert ended(say(episode, ANSWER)).conclusion.stop_reason == "answered"


# Constrained replies -------------------------------------------------------------------------------------------------


def test_the_pattern_keeps_to_the_video_and_the_options() -> None:
    episode = Episode(config(constrain=True, options=OPTIONS, frame_count=1000))
    pattern = asked(episode.start(frames(0))).pattern
    assert pattern is not None
    assert re.fullmatch(pattern, uniform(0, 1000))
    assert re.fullmatch(pattern, uniform(999, 1))
    assert not re.fullmatch(pattern, uniform(1000, 1))
    assert not re.fullmatch(pattern, uniform(0, 1001))
    assert not re.fullmatch(pattern, uniform(-1, 10))
    assert re.fullmatch(pattern, "<thinking>t</thinking>\n<answer>C</answer>")
    assert not re.fullmatch(pattern, "<thinking>t</thinking>\n<answer>D</answer>")


def test_the_pattern_has_the_words_of_options_where_those_are_asked_for() -> None:
    options = ("a red star", "A", "2 (two)")
    pattern = asked(Episode(config(constrain=True, options=options, prompts=COMPACT)).start(frames(0))).pattern
    assert pattern is not None
    for answer, fits in {**dict.fromkeys(options, True), "B": False, "2 two": False}.items():
        assert bool(re.fullmatch(pattern, f"<thinking>t</thinking>\n<answer>{answer}</answer>")) == fits


def test_native_replies_are_not_held_to_the_tagged_pattern() -> None:
    step = Episode(config(constrain=True, calling="native")).start(frames(0))
    assert isinstance(step, AskModel)
    assert step.pattern is None


def test_a_config_is_data() -> None:
    made = config(options=OPTIONS, limits=Limits(turns=3))
    assert type(made).model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValidationError):
        config(colour="red")
