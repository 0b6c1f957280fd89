"""Runs against each other: known differences, what pairs and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from records import COLOURS, record

from videobrain.errors import InputError
from videobrain.evaluation.comparison import Comparison, Contrast, compare
from videobrain.evaluation.metrics import holm, intervals, paired
from videobrain.evaluation.pairing import pair
from videobrain.evaluation.record import Record
from videobrain.result import Usage


def run(right: Callable[[int], bool], *, questions: int = 24, videos: int = 8, **fields: object) -> list[Record]:
    """A run on questions that are dealt out to videos; B is the true letter."""
    return [
        record(f"q{n}", video=f"v{n % videos}.mp4", choice="B" if right(n) else "C", **fields) for n in range(questions)
    ]


def difference(comparison: Comparison, run: int = 1) -> Contrast:
    found = comparison.overall.accuracy[run].contrast
    assert found is not None
    return found


def test_a_run_does_not_differ_from_itself() -> None:
    same = run(lambda n: n % 3 > 0)
    found = difference(compare({"one": same, "other": list(reversed(same))}))
    assert (found.value, found.low, found.high, found.p, found.p_holm, found.questions) == (0, 0, 0, 1, 1, 24)


def test_a_run_that_is_right_where_the_baseline_is_wrong() -> None:
    found = compare({"wrong": run(lambda n: False), "right": run(lambda n: True)})
    against = difference(found)
    assert (against.value, against.high) == (1, 1)
    assert 0.3 < against.low < 0.4  # eight videos, all alike
    assert against.p == 2 / 2**8  # of all ways to swap eight videos, two are as far apart
    assert [each.accuracy.correct for each in found.runs] == [0, 24]
    assert found.overall.accuracy[0].contrast is None
    assert (found.baseline, found.questions, found.videos) == ("wrong", 24, 8)


def test_a_question_whose_verdict_is_missing_counts_for_no_run() -> None:
    said = [record(f"q{n}", video=f"v{n}.mp4", task="open", answer="red", text="Reddish.") for n in range(4)]
    failed = [record("q0", video="v0.mp4", task="open", answer="red", error="ModelError: gone"), *said[1:]]
    verdicts = {f"q{n}": 1.0 for n in range(4)}
    found = compare({"one": said, "other": failed}, verdicts={"one": verdicts, "other": {"q1": 1.0, "q2": 0.0}})
    shares = [each.accuracy.accuracy.value for each in found.runs if each.accuracy.accuracy]
    assert shares == [1, pytest.approx(1 / 3)]  # of q0, which failed in one of them, q1 and q2
    assert [each.interval.value for each in found.overall.accuracy if each.interval] == shares
    unjudged = compare({"one": said, "other": failed})
    assert [each.accuracy.accuracy for each in unjudged.runs] == [None, None]


def test_a_difference_is_that_of_the_accuracies_and_has_a_sign() -> None:
    good, poor = run(lambda n: n % 4 > 0), run(lambda n: n % 2 > 0)
    up, down = difference(compare({"poor": poor, "good": good})), difference(compare({"good": good, "poor": poor}))
    assert up.value == pytest.approx(0.25)
    assert (down.value, down.low, down.high, down.p) == pytest.approx((-up.value, -up.high, -up.low, up.p))
    assert up.low < up.value < up.high


def test_the_same_records_give_the_same_figures_in_any_order() -> None:
    one, other = run(lambda n: n % 3 > 0), run(lambda n: n % 5 > 0)
    assert compare({"a": one, "b": other}) == compare({"a": one, "b": other[::-1]})


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_DRAWS", 400)
    generator = np.random.default_rng(5)
    names = [str(number // 4) for number in range(160)]
    held = 0
    for _ in range(250):  # a video is hard or easy for both runs; the one is right on 20 points more of the questions
        hard = np.repeat(generator.uniform(0, 0.8, 40), 4)
        ours, theirs = generator.random(160) < hard + 0.2, generator.random(160) < hard
        found = paired(ours.astype(float), theirs.astype(float), names)
        held += found.low <= 0.2 <= found.high
    assert 0.90 <= held / 250 <= 0.985


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1, 1]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ],
)
def test_holm(given: Sequence[float], corrected: Sequence[float]) -> None:
    assert holm(given) == pytest.approx(corrected)


def test_p_values_are_corrected_over_the_runs_and_over_the_slices_apart() -> None:
    def typed(right: Callable[[int], bool]) -> list[Record]:
        return [
            record(f"q{n}", video=f"v{n}.mp4", choice="B" if right(n) else "C", slices={"type": "ab"[n % 2]})
            for n in range(12)
        ]

    found = compare({"base": typed(lambda n: False), "half": typed(lambda n: n < 6), "all": typed(lambda n: True)})
    half, every = difference(found, 1), difference(found, 2)
    assert (half.p, every.p) == (2 / 2**6, 2 / 2**12)
    assert (half.p_holm, every.p_holm) == (half.p, 2 * every.p)
    contrasts = [each.contrast for part in found.slices for each in part.accuracy if each.contrast is not None]
    assert [(part.slice, part.value, part.questions) for part in found.slices] == [("type", "a", 6), ("type", "b", 6)]
    assert [each.p for each in contrasts] == [2 / 2**3, 2 / 2**6] * 2
    assert [each.p_holm for each in contrasts] == [2 * 2 / 2**3, 4 * 2 / 2**6] * 2


def test_only_shared_questions_count_and_the_others_are_counted() -> None:
    every = run(lambda n: n < 12)
    found = compare({"long": every, "short": every[12:20], "other": [*every[16:], record("extra", choice="B")]})
    assert found.questions == 4
    assert [(each.asked, each.missing, each.only_here) for each in found.runs] == [(24, 1, 12), (8, 17, 0), (9, 16, 1)]
    assert [each.accuracy.questions for each in found.runs] == [4, 4, 4]
    assert [each.accuracy.correct for each in found.runs] == [0, 0, 0]


def test_the_last_record_of_a_question_counts() -> None:
    failed = record("q", error="the server was away")
    paired_runs = pair({"again": [failed, record("q", choice="B")], "once": [failed]})
    assert [each and each.error for each in paired_runs.questions[0].records] == [None, "the server was away"]


def test_errors_and_unanswered_questions_are_not_correct_and_have_rates() -> None:
    base = run(lambda n: True, questions=4)
    mixed = [base[0], record("q1", video="v1.mp4", error="broken"), record("q2", video="v2.mp4"), base[3]]
    found = compare({"base": base, "mixed": mixed})
    assert (found.runs[1].accuracy.error_rate, found.runs[1].unanswered_rate) == (0.25, 0.25)
    assert difference(found).value == -0.5


def test_what_a_question_cost_stands_beside() -> None:
    usage = Usage(turns=3, frames=24, tool_calls={"clip_sample": 2}, input_tokens=900, output_tokens=80, seconds=2.5)
    cost = compare({"run": run(lambda n: True, usage=usage)}).runs[0].accuracy.efficiency
    assert (cost.frames, cost.turns, cost.input_tokens, cost.output_tokens, cost.seconds) == (24, 3, 900, 80, 2.5)
    assert cost.tool_calls == {"clip_sample": 2}


def test_spans_are_compared_where_they_are_asked_for() -> None:
    def spans(*ends: float) -> list[Record]:
        return [
            record(f"q{n}", task="grounding", truth=((0, 10),), spans=((0, end),) if end else ())
            for n, end in enumerate(ends)
        ]

    found = compare({"half": spans(5, 5, 5, 5), "whole": spans(10, 10, 10, 0)})
    assert found.overall.miou is not None
    assert [each.interval and each.interval.value for each in found.overall.miou] == [0.5, 0.75]
    contrast = found.overall.miou[1].contrast
    assert contrast is not None
    assert contrast.value == pytest.approx(0.25)
    assert [each.grounding and each.grounding.without_spans for each in found.runs] == [0, 1]
    assert found.runs[1].accuracy.unanswered == 1
    choices = compare({"run": [record("q", truth=((0, 10),), choice="B")]})  # where the answer is seen is not asked
    assert choices.overall.miou is None
    assert choices.runs[0].grounding is None
    asked = [record("q", truth=((0, 10),), choice="B", spans=((0, 5),))]
    beside = compare({"not asked": [record("q", truth=((0, 10),), choice="B")], "asked": asked})
    assert beside.overall.miou is not None
    assert [each.interval and each.interval.value for each in beside.overall.miou] == [None, 0.5]
    assert [each.grounding is None for each in beside.runs] == [True, False]


def test_words_are_judged_by_the_verdicts_of_their_run() -> None:
    one, other = ([record("q", task="open", answer="red", text=text)] for text in ("red", "blue"))
    found = compare({"one": one, "other": other}, verdicts={"one": {"q": 1.0}, "other": {"q": 0.1}})
    assert difference(found).value == -1
    assert compare({"one": one, "other": other}).overall.accuracy[1].contrast is None


def test_several_benchmarks_may_have_questions_of_the_same_key() -> None:
    mine = [record("q", choice="B"), record("q", choice="C").model_copy(update={"benchmark": "second"})]
    found = compare({"a": mine, "b": mine})
    assert found.questions == 2
    assert [(part.slice, part.value) for part in found.slices] == [("benchmark", "made"), ("benchmark", "second")]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"correct_option": 2}, "correct_option"),
        ({"options": COLOURS[::-1]}, "options"),
        ({"question": "What else?"}, "question"),
        ({"truth": ((0, 1),)}, "spans"),
    ],
)
def test_questions_of_another_truth_are_refused(change: dict[str, object], field: str) -> None:
    others = [record(f"q{n}", choice="B", **change) for n in range(5)]
    with pytest.raises(InputError, match=rf"made q0 in new \({field}\).*and 2 more.*Run one of them again"):
        compare({"old": run(lambda n: True, questions=5, videos=5), "new": others})


def test_runs_that_share_nothing_are_refused() -> None:
    mine = run(lambda n: True, questions=3)
    theirs = [each.model_copy(update={"benchmark": "second"}) for each in mine]
    with pytest.raises(InputError, match=r"No question is in all .*a: 3 of made; b: 3 of second.*same benchmark"):
        compare({"a": mine, "b": theirs})
    with pytest.raises(InputError, match="The run b holds no finished question"):
        compare({"a": mine, "b": []})
    with pytest.raises(InputError, match="no run"):
        compare({})
