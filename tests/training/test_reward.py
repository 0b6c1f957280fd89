"""Rewards: the paper's table, its rules of validity, properties, and terms of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.episodes import ANSWER, call, clip, config, found, frames, uniform
from videobrain import Answer, Usage
from videobrain.agent import AskModel, CallTool, Episode, Finish, ToolOutcome, Trace
from videobrain.agent.events import (
    EpisodeStarted,
    Event,
    Finished,
    MessageAdded,
    ReplyReceived,
    ToolFinished,
    ToolStarted,
)
from videobrain.errors import ConfigurationError, InputError, TraceError
from videobrain.evaluation.judge import Judge
from videobrain.models import ChatReply
from videobrain.result import Evidence, Span
from videobrain.testing import ScriptedModel
from videobrain.training import reward
from videobrain.training.reward import Reward, Term, behaviour, behaviour_aware
from videobrain.training.rollout import Look, Rollout, accuracy_of
from videobrain.training.sample import CLASSES, QuestionClass, TrainingSample

pytestmark = pytest.mark.anyio

SAMPLE = TrainingSample(
    key="q",
    video="/v.mp4",
    question="Which colour?",
    task="choice",
    options=("red", "blue"),
    correct_option=0,
    answer="red",
    spans=(Span(4.0, 8.0), Span(20.0, 22.0)),
)


def rollout(question_class: QuestionClass | None = "Active", **fields: Any) -> Rollout:
    """A valid one with a right answer and no tool call."""
    sample = SAMPLE if question_class is None else SAMPLE.of_class(question_class)
    facts: dict[str, Any] = {
        "sample": sample,
        "answer": "A",
        "accuracy": 1.0,
        "violations": (),
        "usage": Usage(),
        "looks": (),
        "evidence": (),
    }
    return Rollout(**{**facts, **fields})


def played(replies: Sequence[str], outcomes: Sequence[Any] = (), **changes: Any) -> Trace:
    """The trace of an Episode that is told these replies and outcomes."""
    setting = config(**changes)
    episode = Episode(setting)
    step = episode.start(frames(0, 500))
    events: list[Event] = [EpisodeStarted(config=setting)]
    told = 0
    waiting, given = list(replies), list(outcomes)
    while True:
        events += [MessageAdded(message=message) for message in episode.messages[told:]]
        told = len(episode.messages)
        match step:
            case AskModel():
                reply = ChatReply(text=waiting.pop(0))
                events.append(ReplyReceived(reply=reply))
                step = episode.reply(reply)
            case CallTool():
                outcome = given.pop(0)
                events.append(ToolStarted(turn=step.turn, tool=step.name, arguments=dict(step.arguments)))
                events.append(ToolFinished(tool=step.name, outcome=outcome, seconds=0.1))
                step = episode.observe(outcome)
            case Finish(conclusion):
                answer = Answer(
                    text=conclusion.text,
                    evidence=conclusion.evidence,
                    usage=episode.usage,
                    stop_reason=conclusion.stop_reason,
                )
                return Trace([*events, Finished(answer=answer)])


# --- The paper's reward ----------------------------------------------------------------------------------------------

TOTALS = {
    # class: right without a tool, right with one, wrong with one, wrong without
    "Direct": (1.55, 1.05, 0.05, 0.05),
    "Adaptive": (1.55, 1.55, 0.05, 0.05),
    "Active": (1.05, 1.55, 0.25, 0.05),
}


@pytest.mark.parametrize("question_class", CLASSES)
@pytest.mark.parametrize(
    ("place", "right", "tool"), [(0, True, False), (1, True, True), (2, False, True), (3, False, False)]
)
def test_the_whole_table(question_class: QuestionClass, place: int, right: bool, tool: bool) -> None:
    made = rollout(question_class, accuracy=float(right), usage=Usage(tool_calls={"clip_sample": int(tool)}))
    worth = behaviour_aware()(made)
    assert worth.total == pytest.approx(TOTALS[question_class][place])
    assert worth.terms == {
        "format": 0.05,
        "accuracy": float(right),
        "behaviour": behaviour(question_class, correct=right, used_tool=tool),
    }


def test_almost_right_counts_as_right_for_the_behaviour_from_a_threshold_on() -> None:
    assert behaviour_aware()(rollout("Direct", accuracy=0.8)).total == pytest.approx(0.05 + 0.8 + 0.5)
    assert behaviour_aware()(rollout("Direct", accuracy=0.79)).total == pytest.approx(0.05 + 0.79)
    assert behaviour_aware(correct_from=1.0)(rollout("Direct", accuracy=0.8)).total == pytest.approx(0.85)


INVALID = {
    "a tag is not closed": ["<thinking>Red.\n<answer>red</answer>"],
    "a thinking too many": ["<thinking>a</thinking><thinking>b</thinking><answer>red</answer>"],
    "no thinking": ["Red.<answer>red</answer>"],
    "an empty thinking": ["<thinking> </thinking>Red.<answer>red</answer>"],
    "an empty call": ["<thinking>a</thinking><tool_call></tool_call>", ANSWER],
    "no answer": ["<thinking>a</thinking>"] * 4,
    "no JSON": ["<thinking>a</thinking><tool_call>uniform_sample</tool_call>", ANSWER],
    "an unknown tool": [call("zoom", start_frame=0, end_frame=9), ANSWER],
    "no arguments": ['<thinking>a</thinking><tool_call>{"name": "uniform_sample"}</tool_call>', ANSWER],
    "a range of words": [uniform("start", 9), ANSWER],
    "a reversed range": [uniform(9, 3), ANSWER],
    "an empty range": [uniform(9, 9), ANSWER],
    "the same range": [uniform(0, 100), uniform(0, 100), ANSWER],
    "nearly the same range": [uniform(0, 100), uniform(1, 101), ANSWER],
    "an empty prompt": [clip(""), ANSWER],
    "the same prompt": [clip("a car"), clip("a car", 5, 50), ANSWER],
}


@pytest.mark.parametrize("replies", INVALID.values(), ids=INVALID)
def test_every_rule_of_validity_makes_the_whole_reward_nothing(replies: list[str]) -> None:
    made = Rollout.of(played(replies, [found(10, 20)]), SAMPLE.of_class("Active"), accuracy=1.0)
    assert made.violations
    worth = behaviour_aware()(made)
    assert (worth.total, set(worth.terms.values())) == (0.0, {0.0})


def test_a_valid_conversation_is_worth_its_row_of_the_table() -> None:
    trace = played([uniform(0, 100), clip("a car"), ANSWER], [found(10, 20), found(20, 30)])
    made = Rollout.of(trace, SAMPLE.of_class("Active"), accuracy=1.0)
    assert made.violations == ()
    assert made.used_tool
    assert made.looks == (
        Look("uniform_sample", {"start_frame": 0, "end_frame": 100}, Span(0.0, 4.0), (0.4, 0.8), 0),
        Look("clip_sample", {"start_frame": 0, "end_frame": 100, "prompt": "a car"}, Span(0.0, 4.0), (1.2,), 1),
    )
    assert behaviour_aware()(made).total == pytest.approx(1.55)
    assert Rollout.of(trace.without_frames(), made.sample, accuracy=1.0) == made


def test_a_call_that_the_tool_refused_is_none() -> None:
    trace = played([uniform(0, 100), ANSWER], [ToolOutcome(kind="retry", text="closed")])
    made = Rollout.of(trace, SAMPLE.of_class("Active"), accuracy=1.0)
    assert (made.looks, made.used_tool, made.valid) == ((), False, False)


def test_a_run_that_failed_is_no_rollout() -> None:
    whole = played([ANSWER])
    with pytest.raises(TraceError, match="ends without an answer"):
        Rollout.of(Trace(whole.events[:-1]), SAMPLE, accuracy=1.0)


@given(
    st.sampled_from(CLASSES),
    st.floats(0, 1),
    st.booleans(),
    st.sampled_from([(), ("a tag is not closed",)]),
)
def test_never_above_1_55_and_nothing_where_invalid(
    question_class: QuestionClass, accuracy: float, tool: bool, violations: tuple[str, ...]
) -> None:
    made = rollout(question_class, accuracy=accuracy, violations=violations, usage=Usage(tool_calls={"x": int(tool)}))
    total = behaviour_aware()(made).total
    assert total == 0.0 if violations else 0.05 <= total <= 1.55 + 1e-9


def test_a_sample_without_a_class_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"sample 'q' has no class.*train classify"):
        behaviour_aware()(rollout(None))
    assert behaviour_aware().without("behaviour")(rollout(None)).total == pytest.approx(1.05)


# --- Terms -----------------------------------------------------------------------------------------------------------


def test_terms_are_weighted_gated_and_added() -> None:
    made = rollout("Active", usage=Usage(frames=24))
    own = behaviour_aware().plus(
        Term("frames", reward.frames_shown, weight=-0.01),
        Term("bonus", lambda each: 1.0, weight=3.0, gate=lambda each: each.used_tool),
    )
    assert own(made).terms == {"format": 0.05, "accuracy": 1.0, "behaviour": 0.0, "frames": -0.24, "bonus": 0.0}
    assert own(made).total == pytest.approx(0.81)
    assert Reward(own.terms, gate=None)(replace(made, violations=("x",))).total == pytest.approx(0.76)


def test_names_of_terms() -> None:
    with pytest.raises(ConfigurationError, match="several terms 'accuracy'"):
        behaviour_aware().plus(Term("accuracy", reward.accuracy))
    with pytest.raises(ConfigurationError, match=r"no term 'speed'.*format, accuracy, behaviour"):
        behaviour_aware().without("speed")


def shown(*seconds: float) -> tuple[Evidence, ...]:
    return tuple(Evidence(frame_index=int(each * 25), timestamp_seconds=each, source="initial") for each in seconds)


def look(*new: float, interval: tuple[float, float] | None = None, again: int = 0) -> Look:
    return Look("uniform_sample", {}, Span(*interval) if interval else None, new, again)


@pytest.mark.parametrize(
    ("measure", "fields", "value"),
    [
        (reward.evidence_recall, {"evidence": shown(0.0, 4.0)}, 0.5),
        (reward.evidence_recall, {"evidence": shown(7.9, 21.0)}, 1.0),
        (reward.evidence_recall, {"evidence": shown(8.0, 22.0)}, 0.0),
        (reward.evidence_iou, {"looks": (look(interval=(0, 40)), look(interval=(4, 10)))}, 0.5),
        (reward.evidence_iou, {"looks": (look(),)}, 0.0),
        (reward.relevance, {"looks": (look(4.5, 9.0), look(5.0))}, 0.75),
        (reward.relevance, {"looks": (look(again=2), look(5.0))}, 0.5),
        (reward.relevance, {"looks": (look(), look(5.0))}, 1.0),  # what a tool says in words is no look
        (reward.relevance, {}, 0.0),
        (reward.repetition, {"looks": (look(1.0, again=3),)}, 0.75),
        (reward.repetition, {}, 0.0),
        (reward.frames_shown, {"usage": Usage(frames=16)}, 16.0),
    ],
)
def test_ready_terms(measure: reward.Measure, fields: dict[str, Any], value: float) -> None:
    assert measure(rollout(**fields)) == pytest.approx(value)


def test_terms_of_evidence_are_nothing_where_none_is_known() -> None:
    made = replace(rollout(), sample=SAMPLE.model_copy(update={"spans": ()}), looks=(look(1.0, interval=(0, 4)),))
    assert [measure(made) for measure in (reward.evidence_recall, reward.evidence_iou, reward.relevance)] == [0, 0, 0]


def test_times_of_a_clip_are_held_against_spans_of_the_whole_video() -> None:
    clip = SAMPLE.model_copy(update={"clip": Span(2.0, 30.0)})
    made = replace(rollout(), sample=clip, evidence=shown(3.0), looks=(look(3.0, 7.0, interval=(2, 6)),))
    # Second 3 of the clip is second 5 of the video, which lies in the first of two spans, from 4 to 8.
    assert (reward.evidence_recall(made), reward.relevance(made)) == (0.5, 0.5)
    assert reward.evidence_iou(made) == pytest.approx(4 / 6)


def test_spans_are_right_as_in_an_evaluation() -> None:
    spans = SAMPLE.model_copy(update={"task": "grounding", "options": None, "correct_option": None})
    made = replace(rollout("Direct", accuracy=0.6), sample=spans.of_class("Direct"))
    assert behaviour_aware()(made).total == pytest.approx(0.05 + 0.6 + 0.5)
    assert behaviour_aware(correct_from=0.7)(made).total == pytest.approx(0.65)
    assert not reward.is_correct(rollout("Direct", accuracy=0.6))


def test_a_term_that_is_no_number_is_no_reward() -> None:
    with pytest.raises(ValueError, match="'broken' is nan"):
        behaviour_aware().plus(Term("broken", lambda each: float("nan")))(rollout("Direct"))


# --- Accuracy --------------------------------------------------------------------------------------------------------


async def test_accuracy_of_choices_and_spans() -> None:
    assert await accuracy_of(SAMPLE, Answer(text="A", choice="A")) == 1.0
    assert await accuracy_of(SAMPLE, Answer(text="It is blue.")) == 0.0
    assert await accuracy_of(SAMPLE, Answer(text="")) == 0.0
    query = TrainingSample(key="g", video="/v.mp4", question="a jump", task="grounding", spans=(Span(0, 10),))
    assert await accuracy_of(query, Answer(text="", spans=(Span(5, 10), Span(0, 10)))) == 0.5
    assert await accuracy_of(query, Answer(text="")) == 0.0
    of_clip = query.model_copy(update={"clip": Span(100.0, 140.0), "spans": (Span(110, 120),)})
    assert await accuracy_of(of_clip, Answer(text="", spans=(Span(10, 20),))) == 1.0
    hidden = SAMPLE.model_copy(update={"correct_option": None})
    assert await accuracy_of(hidden, Answer(text="A", choice="A")) is None


async def test_accuracy_of_words_is_the_judges_and_a_judge_that_fails_says_nothing() -> None:
    words = TrainingSample(key="o", video="/v.mp4", question="Which colour?", task="open", answer="red")
    assert await accuracy_of(words, Answer(text="crimson")) is None
    assert await accuracy_of(words, Answer(text=" ")) == 0.0
    verdict = '{"reason": "The same.", "correct": true}'
    async with ScriptedModel([verdict]) as model:
        assert await accuracy_of(words, Answer(text="crimson"), judge=Judge(model)) == 1.0
    async with ScriptedModel(["No idea."] * 3) as model:
        assert await accuracy_of(words, Answer(text="crimson"), judge=Judge(model)) is None
