"""From samples to questions, and from answers to predictions that the metrics take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from videobrain import Answer, LimitExceeded, Limits, Settings, VideoBrain
from videobrain.agent import Conclusion, Run
from videobrain.evaluation.metrics import grounding
from videobrain.evaluation.predict import (
    evidence_question_for,
    predict,
    prediction_of,
    question_for,
)
from videobrain.evaluation.record import Record
from videobrain.evaluation.sample import Sample
from videobrain.models import ChatRequest
from videobrain.result import Span, Usage
from videobrain.testing import ScriptedModel, make_video

QUERY = Sample(key="q", video="v.mp4", question="it turns green", task="grounding", spans=(Span(2.5, 5.0),))
HIGHLIGHTS = QUERY.model_copy(update={"task": "highlights"})
CHOICE = Sample(
    key="c",
    video="v.mp4",
    question="Which colour comes second?",
    task="choice",
    options=("red", "green"),
    correct_option=1,
    spans=(Span(2.5, 5.0),),
)
OPEN = Sample(key="o", video="v.mp4", question="Which colour comes second?", task="open", answer="green")


def answer(text: str) -> str:
    return f"<thinking>t</thinking>\n<answer>{text}</answer>"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "v.mp4", seconds=10, fps=5, size=(96, 64))


def brain(script: list[Any], tmp_path: Path, **more: Any) -> VideoBrain:
    settings = Settings(cache_dir=tmp_path / "cache", warm_index=False, decoder="pyav")
    return VideoBrain(ScriptedModel(script), settings=settings, **{"strategy": "uniform-2", **more})


def record(sample: Sample, prediction: Any) -> Record:
    return Record(
        sample=sample, benchmark="b", model="scripted", strategy="uniform-2", settings="", prediction=prediction
    )


@pytest.mark.anyio
@pytest.mark.parametrize(("sample", "most"), [(QUERY, 5), (HIGHLIGHTS, 10)], ids=["grounding", "highlights"])
async def test_a_query_is_asked_for_spans_and_scored(video: Path, tmp_path: Path, sample: Sample, most: int) -> None:
    def reply(request: ChatRequest) -> str:
        text = request.messages[1].text
        assert "it turns green" in text
        assert f"at most {most}" in text
        return answer("[[7, 9], [2.5, 5]]")

    done = await predict(brain([reply], tmp_path), sample, video, evidence=True)
    assert done.prediction.spans == ((7, 9), (2.5, 5))
    assert done.prediction.span_scores == ()
    assert done.prediction.saliency == ()
    assert done.prediction.choice is None
    assert done.evidence is None
    assert done.answers == (done.answer,)
    figures = grounding([record(QUERY, done.prediction)])
    assert figures is not None
    assert (figures.recall["R1@0.5"].value, figures.recall["R5@0.5"].value) == (0, 1)


@pytest.mark.anyio
async def test_a_choice_is_asked_once_and_for_its_evidence_where_that_is_wanted(video: Path, tmp_path: Path) -> None:
    def second(request: ChatRequest) -> str:
        text = request.messages[1].text
        assert "the answer 'green' to the question: Which colour comes second?" in text
        assert "at most 5" in text
        assert "2.5" not in text  # the truth is nobody's business
        return answer("[[2.5, 5]]")

    once = await predict(brain([answer("B")], tmp_path), CHOICE, video)
    assert (once.prediction.choice, once.prediction.spans, once.evidence) == ("B", (), None)
    twice = await predict(brain([answer("B"), second], tmp_path), CHOICE, video, evidence=True)
    assert (twice.prediction.choice, twice.prediction.spans) == ("B", ((2.5, 5),))
    assert twice.prediction.text == "B"
    assert len(twice.answers) == 2
    assert (twice.usage.turns, twice.usage.frames) == (2, 4)
    figures = grounding([record(CHOICE, twice.prediction)])
    assert figures is not None
    assert figures.acc_at_iou is not None
    assert figures.acc_at_iou.value == 1


@pytest.mark.anyio
async def test_words_are_answers_too(video: Path, tmp_path: Path) -> None:
    done = await predict(brain([answer("green"), answer("[]")], tmp_path), OPEN, video, evidence=True)
    assert (done.prediction.text, done.prediction.choice, done.prediction.spans) == ("green", None, ())
    assert done.evidence is not None
    assert done.evidence.trace.events[0].question.startswith("What one has to see to find the answer 'green'")  # type: ignore[union-attr]


@pytest.mark.anyio
async def test_limits_of_either_run_leave_what_there_is(video: Path, tmp_path: Path) -> None:
    limits = Limits(corrections=0, on_limit="raise")
    first = await predict(brain([answer("B or so")], tmp_path), CHOICE, video, limits=limits)
    assert first.answer.stop_reason == "corrections"
    script = [answer("B"), answer("[[5, 2], [3, 4]]")]
    done = await predict(brain(script, tmp_path), CHOICE, video, evidence=True, limits=limits)
    assert (done.prediction.choice, done.prediction.spans) == ("B", ((3, 4),))
    assert done.evidence is not None
    assert done.evidence.stop_reason == "corrections"
    with pytest.raises(LimitExceeded):  # what is caught is what a run of its own raises
        await brain([answer("[[5, 2]]")], tmp_path).ask(video, "it turns green", max_spans=1, limits=limits)


@pytest.mark.anyio
async def test_a_strategy_that_gives_spans_with_its_answer_is_asked_once(video: Path, tmp_path: Path) -> None:
    class Both:
        name = "both"

        async def run(self, run: Run) -> Conclusion:
            return Conclusion("B", "B", spans=(Span(1.0, 2.0),))

    class Words:
        name = "words"

        async def run(self, run: Run) -> Conclusion:
            return Conclusion("From 1 s to 2 s.")

    done = await predict(brain([], tmp_path, strategy=Both()), CHOICE, video, evidence=True)
    assert (done.prediction.choice, done.prediction.spans, done.evidence) == ("B", ((1, 2),), None)
    said = await predict(brain([], tmp_path, strategy=Words()), QUERY, video)
    assert said.prediction.spans == ((1, 2),)


def test_questions_for_a_batch(video: Path) -> None:
    asked = question_for(QUERY, video, limits=Limits(turns=2))
    assert (asked.key, asked.max_spans, asked.options, asked.limits) == ("q", 5, None, Limits(turns=2))
    assert question_for(CHOICE, video).options == ("red", "green")
    assert question_for(OPEN, video).max_spans is None
    unread = evidence_question_for(CHOICE, video, Answer(text="I cannot tell."))
    assert unread is not None
    assert "find the answer to the question: Which" in unread.question
    assert evidence_question_for(QUERY, video, Answer(text="[]")) is None


def test_a_letter_in_words_is_a_choice_and_words_of_a_failed_query_are_no_spans() -> None:
    assert prediction_of(CHOICE, Answer(text="It is green.")).choice == "B"
    assert prediction_of(QUERY, Answer(text="5 to 9", stop_reason="corrections")).spans == ()


def test_usage_adds_up() -> None:
    one = Usage(turns=1, frames=3, tool_calls={"a": 1, "b": 2}, seconds=0.5)
    other = Usage(turns=2, input_tokens=7, tool_calls={"b": 1}, seconds=1.5)
    assert one + other == Usage(turns=3, frames=3, input_tokens=7, tool_calls={"a": 1, "b": 3}, seconds=2.0)
