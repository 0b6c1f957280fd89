"""What each figure is, by small tables whose values can be worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.evaluation.records import record
from videobrain.evaluation import metrics
from videobrain.evaluation.metrics import (
    accuracy,
    accuracy_by_slice,
    accuracy_difference,
    best_match,
    cgbench,
    covered_seconds,
    efficiency,
    found_by,
    grounding,
    localised,
    macro_accuracy,
    merged,
    nextgqa,
    outcome,
    overlap,
    overlap_of,
    own_figures,
    qvhighlights,
    slices,
    temporal_search,
)
from videobrain.evaluation.metrics.grounding import taken_for
from videobrain.result import Span, Usage


def test_names_are_sorted_and_there() -> None:
    assert sorted(metrics.__all__) == list(metrics.__all__)
    assert all(getattr(metrics, name) is not None for name in metrics.__all__)


# Outcomes ------------------------------------------------------------------------------------------------------------

OPEN = {"task": "open", "answer": "red", "text": "It is red."}
SPANS = {"task": "grounding", "truth": [(0, 10), (20, 30)]}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"choice": "B"}, "correct"),
        ({"choice": "A"}, "incorrect"),
        ({"choice": None, "text": "B or C"}, "unanswered"),
        ({"error": "ModelTimeoutError"}, "error"),
        ({"choice": "B", "correct_option": None}, None),
        ({"choice": None, "correct_option": None}, "unanswered"),
        ({**OPEN}, None),
        ({**OPEN, "text": " \n"}, "unanswered"),
        ({**OPEN, "error": "ModelTimeoutError"}, "error"),
        ({**SPANS, "spans": [(0, 5)]}, "correct"),
        ({**SPANS, "spans": [(0, 4.9)]}, "incorrect"),
        ({**SPANS, "spans": [(21, 30)]}, "correct"),
        ({**SPANS, "spans": [(50, 60), (0, 10)]}, "incorrect"),
        ({**SPANS}, "unanswered"),
        ({**SPANS, "truth": (), "spans": [(0, 5)]}, None),
        ({**SPANS, "error": "x"}, "error"),
        ({**SPANS, "task": "highlights", "saliency": [1]}, None),
    ],
)
def test_an_outcome_is_one_of_four_or_unknown(said: dict[str, Any], expected: str | None) -> None:
    assert outcome(record(**said)) == expected


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [({"q": 1.0}, "correct"), ({"q": 0.8}, "correct"), ({"q": 0.79}, "incorrect"), ({"q": 0}, "incorrect"), ({}, None)],
)
def test_a_missing_verdict_is_missing_and_not_zero(verdicts: dict[str, float], expected: str | None) -> None:
    one = record(**OPEN)
    assert outcome(one, verdicts=verdicts) == expected
    found = accuracy([one], verdicts=verdicts)
    assert (found.accuracy is None) == (expected is None)
    assert found.unscored == found.missing_verdicts == (expected is None)


def test_a_record_has_a_prediction_or_an_error() -> None:
    done, failed = record(choice="B"), record(error="x")
    for wrong in ({**done.model_dump(), "error": "x"}, {**failed.model_dump(), "error": None}):
        with pytest.raises(ValidationError, match="a prediction or an error"):
            type(done).model_validate(wrong)
    with pytest.raises(ValidationError, match="1 scores of 2 spans"):
        record(spans=[(0, 1), (2, 3)], span_scores=[0.5])
    with pytest.raises(ValidationError, match="finite"):
        record(saliency=[float("nan")])


# Accuracy ------------------------------------------------------------------------------------------------------------


def mixed() -> list[Any]:
    return [
        record("a", choice="B", usage=Usage(frames=10, tool_calls={"zoom": 2}), video="v", slices={"type": "count"}),
        record("b", choice="C", usage=Usage(frames=20), video="v", slices={"type": "count"}),
        record("c", text="hm", usage=Usage(frames=30), video="v", slices={"type": "order"}),
        record("d", error="x", usage=Usage(frames=99), video="w", slices={"type": "order"}),
        record("e", choice="B", correct_option=None, video="w"),
        record("f", error="x", correct_option=None, video="w"),
    ]


def test_errors_and_unanswered_are_not_correct_and_stand_apart() -> None:
    found = accuracy(mixed())
    counts = found.questions, found.correct, found.incorrect, found.unanswered, found.errors, found.unscored
    assert counts == (6, 1, 1, 1, 2, 1)
    assert found.accuracy is not None
    assert found.accuracy.value == 1 / 4
    assert found.error_rate == pytest.approx(2 / 6)
    assert str(found) == f"{found.accuracy}, errors 33.3 %, 6 questions"
    assert accuracy([]).accuracy is None


def test_slices_are_those_of_the_benchmark_and_of_the_duration() -> None:
    parts = accuracy_by_slice(mixed())
    assert list(parts) == ["type"]
    assert {name: part.accuracy and part.accuracy.value for name, part in parts["type"].items()} == {
        "count": 0.5,
        "order": 0.0,
    }
    assert macro_accuracy(parts["type"]) == 0.25
    assert macro_accuracy({"none": accuracy([])}) is None
    lasting = [record(str(seconds), duration_seconds=seconds) for seconds in (4000, 1800, 1799, 600, 59.9, 60)]
    assert {name: [one.sample.key for one in part] for name, part in slices(lasting)["duration"].items()} == {
        "under 1 min": ["59.9"],
        "1 to 3 min": ["60"],
        "10 to 30 min": ["1799", "600"],
        "over 30 min": ["4000", "1800"],
    }
    for values in (["15", "60", "600", "3600"], ["short", "medium", "long"], ["a", "b"]):
        named = [record(value, duration_seconds=5, slices={"duration": value}) for value in reversed(values)]
        assert list(slices(named)["duration"]) == values


def test_two_runs_are_compared_on_the_questions_that_both_were_scored_on() -> None:
    ours = [record(key, choice="B") for key in "abcd"] + [record("open", **OPEN), record("mine", choice="A")]
    theirs = [record("a", choice="B"), record("b", choice="A"), record("c", error="x"), record("d")]
    theirs += [record("open", **OPEN), record("theirs", choice="A")]
    found = accuracy_difference(ours, theirs, our_verdicts={"open": 1})
    assert found is not None
    assert (found.value, found.questions) == (0.75, 4)
    assert found.p == 0.25  # of the 8 ways to swap b, c and d two differ as much
    judged = accuracy_difference(ours, theirs, our_verdicts={"open": 1}, their_verdicts={"open": 1})
    assert judged is not None
    assert judged.questions == 5
    assert accuracy_difference(ours, []) is None


def test_efficiency_is_the_mean_over_what_came_to_an_end() -> None:
    usage = Usage(turns=3, corrections=1, frames=8, tool_calls={"zoom": 2, "look": 1}, input_tokens=100, seconds=2)
    found = efficiency(
        [
            record("a", usage=usage),
            record("b", usage=Usage(turns=1, frames=4, cached_tokens=6, output_tokens=8, cached_replies=1)),
            record("c", error="x", usage=Usage(turns=50, frames=50, tool_calls={"zoom": 50, "lost": 1})),
        ]
    )
    assert found.model_dump() == {
        "questions": 2,
        "frames": 6,
        "turns": 2,
        "corrections": 0.5,
        "tool_calls": {"look": 0.5, "zoom": 1.0},
        "tool_use": 0.5,
        "input_tokens": 50,
        "cached_tokens": 3,
        "output_tokens": 4,
        "cached_replies": 0.5,
        "seconds": 1,
    }
    assert efficiency([record(error="x")]).frames == 0


# Overlap -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "true", "iou", "iop"),
    [
        ([(0, 10)], [(0, 10)], 1, 1),
        ([(0, 5)], [(0, 10)], 0.5, 1),
        ([(5, 20)], [(0, 10)], 0.25, 1 / 3),
        ([(0, 4), (2, 5)], [(0, 10)], 0.5, 1),
        ([(0, 4), (6, 10)], [(0, 10)], 0.8, 1),
        ([(0, 10)], [(0, 2), (2, 4), (3, 5)], 0.5, 0.5),
        ([(0, 10)], [(10, 20)], 0, 0),
        ([(5, 5)], [(0, 10)], 0, 0),
        ([(8, 2)], [(0, 10)], 0, 0),
        ([], [(0, 10)], 0, 0),
        ([(0, 10)], [], 0, 0),
        ([(2, 2), (0, 5)], [(0, 10)], 0.5, 1),
    ],
)
def test_overlap_is_that_of_merged_spans(predicted: Any, true: Any, iou: float, iop: float) -> None:
    assert overlap([Span(*span) for span in predicted], [Span(*span) for span in true]) == pytest.approx((iou, iop))


def test_merging_spans() -> None:
    spans = [Span(4, 6), Span(0, 1), Span(1, 2), Span(5, 9), Span(3, 3), Span(8, 7)]
    assert merged(spans) == ((0, 2), (4, 9))
    assert covered_seconds(spans) == 7
    assert best_match(Span(0, 4), [Span(0, 1), Span(2, 8)]) == (0.25, 0.5)
    assert best_match(Span(0, 4), []) == (0, 0)


@settings(deadline=None, derandomize=True)
@given(*[st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5)] * 2)
def test_overlap_is_what_counting_seconds_gives(predicted: Any, true: Any) -> None:
    ours, theirs = ({second for start, end in spans for second in range(start, end)} for spans in (predicted, true))
    iou = len(ours & theirs) / len(ours | theirs) if ours & theirs else 0
    iop = len(ours & theirs) / len(ours) if ours & theirs else 0
    spans = [Span(*span) for span in predicted], [Span(*span) for span in true]
    assert overlap(*spans) == pytest.approx((iou, iop))


# Grounding -----------------------------------------------------------------------------------------------------------


def test_spans_are_alternatives_or_one_answer() -> None:
    one = record(**SPANS, spans=[(0, 5), (20, 30), (5, 10)])
    assert overlap_of(one) == (0.5, 1)
    assert overlap_of(one, taken="together") == (1, 1)
    first, together = grounding([one]), grounding([one], taken="together")
    assert first is not None
    assert together is not None
    assert {name: interval.value for name, interval in first.recall.items()} == {
        "R1@0.3": 1,
        "R1@0.5": 1,
        "R1@0.7": 0,
        "R5@0.3": 1,
        "R5@0.5": 1,
        "R5@0.7": 1,
    }
    assert {name: interval.value for name, interval in together.recall.items()} == {
        "R1@0.3": 1,
        "R1@0.5": 1,
        "R1@0.7": 1,
    }


def test_only_the_first_five_alternatives_count() -> None:
    wrong = [(100 + place, 101 + place) for place in range(5)]
    found = grounding([record(**SPANS, spans=[*wrong, (0, 10)]), record("r", **SPANS, spans=[*wrong[:4], (0, 10)])])
    assert found is not None
    assert found.recall["R5@0.7"].value == 0.5


def test_answers_without_spans_and_errors_overlap_nothing() -> None:
    found = grounding([record("a", **SPANS, spans=[(0, 10)]), record("b", **SPANS), record("c", **SPANS, error="x")])
    assert found is not None
    assert (found.questions, found.without_spans, found.errors) == (3, 1, 1)
    assert found.miou.value == found.miop.value == pytest.approx(1 / 3)
    assert found.acc_at_iou is found.acc_at_gqa is None
    assert grounding([record(choice="B")]) is None


def joint() -> list[Any]:
    """Right or wrong answers, with spans that fit or that only lie within the truth."""
    return [
        record("a", choice="B", truth=[(0, 10)], spans=[(0, 9)]),
        record("b", choice="B", truth=[(0, 10)], spans=[(0, 2)]),
        record("c", choice="A", truth=[(0, 10)], spans=[(0, 10)]),
        record("d", choice="B", truth=[(0, 10)], spans=[(0, 100)]),
        record("e", choice="B", truth=[(0, 10)]),
        record("f", truth=[(0, 10)], error="x"),
        record("g", choice="B", spans=[(0, 10)]),
    ]


def test_answer_and_grounding_together() -> None:
    found = grounding(joint())
    assert found is not None
    assert found.questions == 6
    assert found.acc_at_iou is not None
    assert found.acc_at_gqa is not None
    assert found.acc_at_iou.value == pytest.approx(1 / 6)
    assert found.acc_at_gqa.value == pytest.approx(2 / 6)


def test_spans_are_scored_of_the_tasks_that_were_asked_for_some() -> None:
    spans = ((0, 10),)
    found = record("found", task="grounding", truth=spans, spans=((0, 10),))
    lost = record("lost", task="grounding", truth=spans, error="ModelError: no")
    choice = record("choice", truth=spans, choice="B")
    assert localised([found, lost, choice]) == [found, lost]
    given = record("given", truth=spans, choice="B", spans=((0, 1),))
    assert localised([given, choice]) == [given, choice]
    second = choice.model_copy(update={"evidence_trace": "traces/choice.evidence.jsonl"})
    assert localised([second]) == [second]


def test_several_spans_are_what_their_benchmark_says() -> None:
    two = record("two", truth=((0, 4), (6, 10)), spans=((0, 4), (6, 10)))
    ours, theirs = grounding([two]), grounding([two.model_copy(update={"benchmark": "cgbench"})])
    assert ours is not None
    assert theirs is not None
    assert (theirs.taken, theirs.miou.value) == ("together", 1)
    assert (ours.taken, ours.miou.value) == ("first", 1)
    half = record("half", truth=((0, 4), (6, 10)), spans=((0, 4),)).model_copy(update={"benchmark": "cgbench"})
    assert overlap_of(half, taken=taken_for([half])).iou == 0.5


def test_the_mean_of_mlvu_is_over_all_tasks_with_options() -> None:
    ones = [record(f"q{n}", choice="B" if n else "A", slices={"type": f"task {n}"}) for n in range(7)]
    words = record("words", task="open", answer="red", text="blue", slices={"type": "summary"})
    assert own_figures("mlvu", [*ones, words], verdicts={"words": 0.0}) == {"M-Avg": pytest.approx(600 / 7)}
    assert own_figures("mlvu", ones[:6]) == {}
    assert own_figures("mlvu", ones, split="test") == {}  # which has nine


def test_cgbench_is_the_mean_over_its_thresholds() -> None:
    figures = cgbench(joint())  # IoU 0.9, 0.2, 1, 0.1, 0, 0
    assert figures == pytest.approx(
        {
            "mIoU": 100 * 2.2 / 6,
            "rec@IoU": 100 * (5 + 2 + 5 + 1) / 30,
            "acc@IoU": 100 * (5 + 2 + 1) / 30,
        }
    )
    both = record(choice="B", truth=[(0, 10), (20, 30)], spans=[(0, 10), (20, 30)])
    assert cgbench([both])["mIoU"] == 100
    assert "acc@IoU" not in cgbench([record(**SPANS, spans=[(0, 10)])])


def test_nextgqa_counts_an_instant_within_the_truth_as_all_of_it() -> None:
    instant = record("a", choice="B", truth=[(0, 10)], spans=[(10, 10)])
    outside = record("b", choice="B", truth=[(0, 10)], spans=[(10.1, 10.1)])
    nothing = record("c", choice="B", truth=[(0, 10)])
    figures = nextgqa([instant, outside, nothing, record("d", choice="B")])
    assert (figures["mIoP"], figures["mIoU"], figures["Acc@GQA"]) == pytest.approx((100 / 3, 0, 100 / 3))
    usual = grounding([instant])
    assert usual is not None
    assert usual.miop.value == 0


# QVHighlights --------------------------------------------------------------------------------------------------------


def highlights(key: str = "q", **said: Any) -> Any:
    ratings = [[4, 0, 2], [2, 0, 4]]
    extra = {"relevant_clip_ids": [1, 3], "saliency_scores": ratings}
    about = {"task": "highlights", "duration_seconds": 9, "truth": [(0, 10), (20, 50)], "extra": extra}
    return record(key, **{**about, **said})


@pytest.mark.parametrize(
    ("spans", "scores", "expected"),
    [
        # of two true windows both are found at once: AP 1
        ([(0, 10), (20, 50)], [], 100),
        # one in the first place, a second hit on the same one does not count
        ([(0, 10), (0, 10)], [], 50),
        # wrong, right, right: precision 1/2 and 2/3, of which the envelope is 2/3
        ([(90, 99), (0, 10), (20, 50)], [], 66.67),
        # the scores put them in order, not the places
        ([(90, 99), (0, 10), (20, 50)], [0.1, 0.9, 0.8], 100),
        # the eleventh does not count
        ([(90, 99)] * 9 + [(0, 10), (20, 50)], [], 5.0),
        ([], [], 0),
    ],
)
def test_average_precision_of_windows(spans: Any, scores: Any, expected: float) -> None:
    assert qvhighlights([highlights(spans=spans, span_scores=scores)])["MR-full-mAP"] == expected


def test_lengths_keep_the_windows_of_that_length() -> None:
    figures = qvhighlights([highlights(spans=[(20, 50)]), highlights("r", truth=[(0, 10.5)])])
    assert (figures["MR-full-mAP"], figures["MR-full-R1@0.5"]) == (25, 50)
    assert (figures["MR-middle-mAP"], figures["MR-middle-R1@0.95"]) == (50, 50)
    assert (figures["MR-short-mAP"], figures["MR-short-R1@0.5"]) == (0, 0)
    assert not [name for name in figures if "long" in name or "HL" in name]


@pytest.mark.parametrize(
    ("saliency", "fair", "good", "hit"),
    [
        ([0, 9, 0, 5], 66.67, 50, 100),  # no rating of the second rater is high enough
        ([1, 1, 1, 1], 33.33, 16.67, 0),  # clips of one score are found together, the first of them is the best
        ([0, 9], 50, 41.67, 100),  # those without a score have 0
        ([0, 9, 0, 5, 99], 66.67, 50, 0),  # those behind the end are none, but the best is among them
    ],
)
def test_highlights(saliency: list[float], fair: float, good: float, hit: float) -> None:
    figures = qvhighlights([highlights(saliency=saliency)])
    assert figures["HL-min-Fair-mAP"] == fair
    assert figures["HL-min-Good-mAP"] == figures["HL-min-VeryGood-mAP"] == good
    assert {figures[f"HL-min-{rating}-Hit1"] for rating in ("Fair", "Good", "VeryGood")} == {hit}


def test_highlights_without_scores_count_nothing_and_without_a_truth_are_left_out() -> None:
    with_scores = highlights(saliency=[0, 9, 0, 5])
    both = qvhighlights([with_scores, highlights("r"), highlights("s", error="x")])
    assert (both["HL-min-Fair-Hit1"], both["HL-min-Fair-mAP"]) == (33.33, 22.22)
    assert qvhighlights([highlights(saliency=[1], extra={}, truth=())]) == {}


# Temporal search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "tolerance", "expected"),
    [
        ([1, 5, 15, 25], 0, (0.75, 1, 6 / 7)),
        ([1, 5, 15, 16], 0, (0.5, 0.5, 0.5)),
        ([10, 20], 0, (1, 1, 1)),
        ([5, 5, 15], 0, (0.5, 0.5, 0.5)),
        ([15], 0, (0, 0, 0)),
        ([15], 5, (1, 1, 1)),
        ([], 0, (0, 0, 0)),
    ],
)
def test_frames_against_the_evidence(seen: Any, tolerance: float, expected: Any) -> None:
    one = record(**SPANS, seen_seconds=seen)
    assert found_by(one, tolerance_seconds=tolerance) == pytest.approx(expected)
    every = temporal_search([one, record("r", **SPANS, error="x"), record("s")], tolerance_seconds=tolerance)
    assert every is not None
    assert every.questions == 2
    assert (every.precision.value, every.recall.value, every.f1.value) == pytest.approx([v / 2 for v in expected])
    assert temporal_search([record("s")]) is None
