"""Answers that are spans of time: how they are read, what is wrong with them, and how an Episode asks for them."""

from __future__ import annotations

import json
import re
from string import Formatter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.agent.episodes import asked, call, config, ended, found, frames, native, say, started, uniform
from videobrain.agent import AskModel, Episode, prompt_profile, reply_pattern
from videobrain.agent.prompts import COMPACT, DEFAULT
from videobrain.agent.spans import SpanAnswer, SpanForm, read_span_answer, spans_pattern, written_spans
from videobrain.limits import Limits
from videobrain.models import ChatReply
from videobrain.result import Span

FORM = SpanForm(max_spans=3, duration_seconds=40.0, frame_count=1000)
few = settings(deadline=None, derandomize=True, max_examples=60)


def answer(text: str) -> str:
    return f"<thinking>t</thinking>\n<answer>{text}</answer>"


def grounding(*, max_spans: int = 3, prompts: str = "default", **changes: Any) -> Episode:
    return started(
        question="the door opens",
        max_spans=max_spans,
        prompts=prompt_profile(prompts, max_spans=max_spans),
        **changes,
    )


# Reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("[[5, 9]]", [(5, 9)]),
        ("[[12.5, 20.0], [3, 4]]", [(12.5, 20), (3, 4)]),  # the surest first, not in time order
        ("[5, 9]", [(5, 9)]),
        ("[]", []),
        ("It is not to be seen: []", []),
        ("```json\n[[5, 9]]\n```", [(5, 9)]),
        ('{"spans": [[5, 9], [12, 15.5]]}', [(5, 9), (12, 15.5)]),
        ('[{"start": 5, "end": 9}, {"start": 12, "end": 15}]', [(5, 9), (12, 15)]),
        ('[["0:05", "0:09"]]', [(5, 9)]),
        ('{"start": "00:05", "end": "00:09"}', [(5, 9)]),
        ("from 5 to 9", [(5, 9)]),
        ("5.0 - 9.5 seconds", [(5, 9.5)]),
        ("It happens from 5 s to 9 s, and again from 12 s to 15 s.", [(5, 9), (12, 15)]),
        ("between 5 and 9 seconds", [(5, 9)]),
        ("0:05 to 0:09", [(5, 9)]),
        ("Frames 10 and 30 show it: from 0:05 to 0:09", [(5, 9)]),
        ("3-4 people come in from 12 s to 15 s.", [(12, 15)]),
        ("[[5, 9], [5, 9]]", [(5, 9)]),
        ("[[5, 9], [7, 12]]", [(5, 9), (7, 12)]),  # alternatives may overlap
        ("[[38, 40.5]]", [(38, 40)]),
    ],
)
def test_what_is_read(text: str, spans: list[tuple[float, float]]) -> None:
    assert read_span_answer(text, FORM) == SpanAnswer(tuple(Span(*span) for span in spans))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("In the kitchen.", "no span of time can be read in the answer; write [[START, END]] in seconds"),
        ("at 0:12", "no span of time can be read"),
        ("[[5], [9]]", "no span of time can be read"),
        ("[[NaN, 5]]", "no span of time can be read"),
        (f"[[0, 1{'0' * 400}]]", "no span of time can be read"),
        ("[[5, 1e999]]", "no span of time can be read"),
        ("[[true, 5]]", "no span of time can be read"),
        ("frames 10 to 30", "the answer is in frame numbers; give seconds"),
        ("Frames 10-20 and frames 25-30", "the answer is in frame numbers; give seconds"),
        ("3-4 people come in from 12 to 15", "which numbers of the answer are times is unclear"),
        ("[[9, 5]]", "the span 9 to 5 ends before it begins"),
        ("from 9 to 5 seconds", "the span 9 to 5 ends before it begins"),
        ("[[5, 5]]", "the span 5 to 5 has no length"),
        ("[[40, 41.25]]", "the span 40 to 41.25 lies outside of the video, which lasts 40 seconds"),
        ("[[-9, -5]]", "the span -9 to -5 lies outside of the video, which lasts 40 seconds"),
        ("[[500, 750]]", "the span 500 to 750 lies outside of the video, which lasts 40 seconds; give seconds, not fr"),
        ("[[9, 5], [5, 5], [1, 2]]", "the span 9 to 5 ends before it begins; the span 5 to 5 has no length"),
        ("[[1e300, 2e300]]", "the span 1e+300 to 2e+300 lies outside of the video"),
    ],
)
def test_what_is_wrong(text: str, problem: str) -> None:
    read = read_span_answer(text, FORM)
    assert read.problem.startswith(problem)
    assert read.problem.count("the span") <= 3


def test_what_can_be_used_beside_what_is_wrong_is_kept() -> None:
    assert read_span_answer("[[9, 5], [1, 2], [50, 60]]", FORM).spans == ((1, 2),)


def test_what_is_cut_or_left_out_is_said() -> None:
    read = read_span_answer("[[-2, 3], [30, 55], [1, 2], [5, 6], [39, 40.9]]", FORM)
    assert read.spans == ((0, 3), (30, 40), (1, 2))
    assert not read.problem
    assert read.notes == (
        "The span -2 to 3 was cut to the video.",
        "The span 30 to 55 was cut to the video.",
        "Of 5 spans the first 3 are kept: no more were asked for.",
    )


@few
@given(st.text(st.sampled_from('0123456789.:-– tosendrfbwa[](){},<>"\n') | st.characters(), max_size=60))  # noqa: RUF001
def test_what_is_read_of_anything_lies_in_the_video(text: str) -> None:
    read = read_span_answer(text, FORM)
    assert len(read.spans) <= FORM.max_spans
    assert len(set(read.spans)) == len(read.spans)
    assert all(0 <= start < end <= FORM.duration_seconds for start, end in read.spans)


times = st.integers(0, 3999).map(lambda hundredths: hundredths / 100)
pairs = st.lists(st.tuples(times, times).filter(lambda p: p[0] < p[1]), min_size=1, max_size=3, unique=True)


@few
@given(pairs, st.sampled_from(["json", "object", "units", "clock", "brackets"]))
def test_spans_are_read_alike_in_every_form(spans: list[tuple[float, float]], form: str) -> None:
    def clock(seconds: float) -> str:
        return f"{int(seconds) // 60:02d}:{seconds % 60:05.2f}"

    texts = {
        "json": json.dumps(spans),
        "object": json.dumps({"spans": [list(span) for span in spans]}, indent=1),
        "units": ", then ".join(f"from {start:.2f}s to {end:.2f} seconds" for start, end in spans),
        "clock": "; ".join(f"{clock(start)} - {clock(end)}" for start, end in spans),
        "brackets": " ".join(f"({start}, {end})" for start, end in spans),
    }
    read = read_span_answer(texts[form], FORM)
    assert not read.problem
    assert [span == pytest.approx(said) for span, said in zip(read.spans, spans, strict=True)] == [True] * len(spans)


def test_written_spans_stay_as_they_are() -> None:
    assert written_spans("from 9 until 5 seconds").spans == ((9, 5),)
    assert not written_spans("3-4 people come in from 12 to 15").sure
    assert written_spans("nothing") == ((), True)


# The grammar ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [FORM, SpanForm(1, 0.04, 1), SpanForm(100, 7384.2, 184605)], ids=str)
def test_a_constrained_answer_is_in_form(form: SpanForm) -> None:
    pattern = spans_pattern(form)

    @few
    @given(st.from_regex(pattern, fullmatch=True, alphabet="0123456789.[], "))
    def check(text: str) -> None:
        value = json.loads(text)
        assert len(value) <= form.max_spans
        assert all(0 <= time < form.duration_seconds + 1 for span in value for time in span)
        problem = read_span_answer(text, form).problem
        assert not re.search("no span|unclear", problem)

    check()
    assert re.fullmatch(pattern, "[]")
    assert not re.fullmatch(pattern, "[[1, 2], ]")


def test_the_reply_pattern_takes_the_answers_pattern() -> None:
    pattern = reply_pattern((), answer_pattern=spans_pattern(FORM))
    assert re.fullmatch(pattern, "<thinking>x</thinking>\n<answer>[[3.5, 9], [12, 39.99]]</answer>")
    assert not re.fullmatch(pattern, "<thinking>x</thinking>\n<answer>[[3.5, 90]]</answer>")
    assert not re.fullmatch(pattern, "<thinking>x</thinking>\n<answer>in the kitchen</answer>")
    llguidance = pytest.importorskip("llguidance")
    grammar = llguidance.LLMatcher.grammar_from_regex(pattern)
    assert llguidance.LLMatcher.validate_grammar(grammar) == ""


# The words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [DEFAULT, COMPACT], ids=lambda profile: profile.name)
def test_the_words_for_spans_take_the_fields_of_the_profile(profile: Any) -> None:
    other = prompt_profile(profile.name, max_spans=4)
    assert other.name == f"{profile.name}-spans"
    assert "at most 4" in other.answer_open
    assert "[[START, END], ...]" in other.answer_open
    changed = {
        name
        for name in type(profile).model_fields
        if getattr(profile, name) != getattr(other, name) and name not in ("name", "answer_open")
    }
    assert {"system", "system_without_tools"} <= changed

    def fields(text: str) -> set[str]:
        return {field for _, field, _, _ in Formatter().parse(text) if field is not None}

    for name in changed - {"frame_label"}:
        assert fields(getattr(other, name)) == fields(getattr(profile, name)), name
    assert fields(other.frame_label) == {"frame_index", "timestamp"}  # who is asked for times is told times
    assert prompt_profile(profile.name) is profile


@pytest.mark.parametrize("prompts", ["default", "compact"])
def test_the_model_is_asked_for_seconds_and_told_seconds(prompts: str) -> None:
    episode = grounding(prompts=prompts, max_spans=2)
    system, user = (message.text for message in episode.messages)
    assert "when something happens" in system
    assert "the door opens" in user
    assert "at most 2" in user
    assert "500 (20.00 s): " in user
    assert "A few words" not in user


def test_a_question_says_nothing_of_spans() -> None:
    dumped = config().model_dump_json()
    assert "spans" not in dumped
    assert config().model_dump() == json.loads(dumped) | {"options": None, "tools": config().model_dump()["tools"]}
    grounded = config(max_spans=2, prompts=prompt_profile("default", max_spans=2))
    assert type(grounded).model_validate_json(grounded.model_dump_json()) == grounded
    assert grounded.model_dump()["max_spans"] == 2


@pytest.mark.parametrize("also", [{"options": ("a", "b")}, {"output_schema": {"type": "string"}}])
def test_an_answer_has_one_form(also: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="one of them"):
        config(max_spans=2, **also)


# An Episode ----------------------------------------------------------------------------------------------------------


def test_an_episode_looks_and_answers_in_spans() -> None:
    episode = grounding()
    say(episode, uniform())
    asked(episode.observe(found(10, 20)))
    conclusion = ended(say(episode, answer("[[0.4, 0.8], [30, 31]]"))).conclusion
    assert conclusion.spans == ((0.4, 0.8), (30, 31))
    assert conclusion.text == "[[0.4, 0.8], [30, 31]]"
    assert conclusion.stop_reason == "answered"
    assert conclusion.choice is None
    assert episode.violations() == []


def test_what_cannot_be_used_is_corrected_in_the_conversation() -> None:
    episode = grounding()
    for text, problem in (
        ("It opens twice.", "no span of time can be read"),
        ("[[500, 750]]", "give seconds, not frame numbers"),
        ("[[20, 10]]", "the span 20 to 10 ends before it begins"),
    ):
        step = asked(say(episode, answer(text)))
        assert step.correction is not None
        assert problem in step.correction
        assert step.correction in episode.messages[-1].text
        assert episode.turns_left == Limits().turns
    conclusion = ended(say(episode, answer("from 10 to 20 seconds"))).conclusion
    assert conclusion.spans == ((10, 20),)
    assert episode.usage.corrections == 3


def test_where_no_correction_is_left_what_can_be_used_is_kept() -> None:
    episode = grounding(limits={"corrections": 0})
    conclusion = ended(say(episode, answer("[[20, 10], [30, 45], [1, 2]]"))).conclusion
    assert conclusion.stop_reason == "corrections"
    assert conclusion.spans == ((30, 40), (1, 2))
    assert conclusion.warnings == (
        "The answer stands in an ill-formed reply: the span 20 to 10 ends before it begins.",
        "The span 30 to 45 was cut to the video.",
        "The run ended: the limit of corrections was reached.",
    )
    nothing = ended(say(grounding(limits={"corrections": 0}), answer("in the kitchen"))).conclusion
    assert nothing.spans == ()
    assert nothing.text == "in the kitchen"


def test_a_good_answer_without_thinking_keeps_its_spans_at_the_end_of_corrections() -> None:
    conclusion = ended(say(grounding(limits={"corrections": 0}), "<answer>[[1, 2]]</answer>")).conclusion
    assert conclusion.stop_reason == "corrections"
    assert conclusion.spans == ((1, 2),)


def test_the_last_turn_asks_for_spans_without_tools() -> None:
    episode = grounding(limits={"turns": 2})
    say(episode, uniform())
    step = asked(episode.observe(found(10)))
    assert step.last
    assert asked(say(episode, call("uniform_sample", start_frame=5, end_frame=50))).correction
    assert ended(say(episode, answer("[]"))).conclusion.spans == ()


def test_an_answer_that_comes_too_early_is_sent_back() -> None:
    episode = grounding(min_calls=1)
    assert asked(say(episode, answer("[[1, 2]]"))).correction == (
        "it is too early to answer; look further with a tool first"
    )


def test_native_calling_takes_plain_content_as_the_answer() -> None:
    episode = grounding(calling="native")
    episode.reply(native(("uniform_sample", '{"start_frame": 0, "end_frame": 100}')))
    episode.observe(found(10))
    assert ended(say(episode, "The door opens from 0:10 to 0:12.")).conclusion.spans == ((10, 12),)


def test_without_tools_and_frames_a_guess_is_asked_for() -> None:
    episode = grounding(tools=(), initial=())
    assert "Shown here: 0 of them" in episode.messages[1].text
    assert ended(say(episode, answer("[[0, 40]]"))).conclusion.spans == ((0, 40),)


def test_a_constrained_run_is_held_to_spans() -> None:
    episode = Episode(
        config(max_spans=2, prompts=prompt_profile("default", max_spans=2), constrain=True, limits={"turns": 1})
    )
    step = episode.start(frames(0))
    assert isinstance(step, AskModel)
    assert step.pattern is not None
    assert re.fullmatch(step.pattern, "<thinking>x</thinking>\n<answer>[[1.5, 2]]</answer>")
    assert not re.fullmatch(step.pattern, "<thinking>x</thinking>\n<answer>[[1.5, 2], [3, 4], [5, 6]]</answer>")
    assert isinstance(episode.reply(ChatReply(text=answer("[[1.5, 2]]"))), type(ended(episode.abort("seconds"))))
