"""A reward as data: measures by name, functions of one's own, and what is wrong with either."""

from __future__ import annotations

import pytest

from videobrain.errors import ConfigurationError
from videobrain.result import Usage
from videobrain.training.reward import behaviour_aware
from videobrain.training.reward_spec import MEASURES, RewardSpec, TermSpec
from videobrain.training.rollout import Rollout
from videobrain.training.sample import TrainingSample


def letters(rollout: Rollout) -> float:
    return float(len(rollout.answer))


def a_rollout(**other: object) -> Rollout:
    sample = TrainingSample(key="1", video="v.mp4", question="What?", task="open", answer="red").of_class("Active")
    fields = {"sample": sample, "answer": "red", "accuracy": 0.9, "violations": (), "usage": Usage(frames=24)}
    fields |= {"looks": (), "evidence": (), **other}
    return Rollout(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("violations", [(), ("no answer",)])
def test_the_default_is_the_paper_s(accuracy: float, violations: tuple[str, ...]) -> None:
    rollout = a_rollout(accuracy=accuracy, violations=violations, usage=Usage(tool_calls={"uniform_sample": 1}))
    assert RewardSpec().reward()(rollout) == behaviour_aware()(rollout)


def test_terms_by_name_with_weights() -> None:
    spec = RewardSpec(
        terms=(TermSpec(measure="accuracy", weight=2), TermSpec(measure="frames_shown", weight=-0.01, name="cost")),
    )
    worth = RewardSpec.model_validate_json(spec.model_dump_json()).reward()(a_rollout())
    assert worth.terms == pytest.approx({"accuracy": 1.8, "cost": -0.24})
    assert not spec.needs_class
    assert RewardSpec().needs_class


def test_without_the_gate_ill_formed_rollouts_are_worth_something() -> None:
    spec = RewardSpec(terms=(TermSpec(measure="accuracy"),), gate="none")
    assert spec.reward()(a_rollout(violations=("no answer",))).total == 0.9


def test_from_where_an_answer_counts_as_correct() -> None:
    wrong, right = (RewardSpec(correct_from=bound).reward()(a_rollout(usage=Usage())) for bound in (0.95, 0.85))
    assert (wrong.terms["behaviour"], right.terms["behaviour"]) == (0.0, 0.0)
    looked = a_rollout(usage=Usage(tool_calls={"clip_sample": 1}))
    assert RewardSpec(correct_from=0.95).reward()(looked).terms["behaviour"] == 0.2
    assert RewardSpec(correct_from=0.85).reward()(looked).terms["behaviour"] == 0.5


def test_a_function_of_one_s_own() -> None:
    spec = RewardSpec(terms=(TermSpec(measure=f"{__name__}:letters", weight=0.1),))
    assert spec.reward()(a_rollout()).terms == pytest.approx({"letters": 0.3})


def used_tool(rollout: Rollout) -> bool:
    return rollout.used_tool


@pytest.mark.parametrize("gate", ["tool_used", f"{__name__}:used_tool"])
def test_terms_have_gates(gate: str) -> None:
    spec = RewardSpec(terms=(TermSpec(measure="accuracy", gate=gate),))
    assert spec.reward()(a_rollout()).total == 0
    assert spec.reward()(a_rollout(usage=Usage(tool_calls={"clip_sample": 1}))).total == 0.9


def test_gates_of_the_right_and_the_valid() -> None:
    spec = RewardSpec(terms=(TermSpec(measure="format", gate="correct"),), correct_from=0.95)
    assert spec.reward()(a_rollout()).total == 0
    assert spec.reward()(a_rollout(accuracy=1.0)).total == 1
    lenient = RewardSpec(
        terms=(TermSpec(measure="format", gate="valid"), TermSpec(measure="accuracy")), gate="none"
    ).reward()
    assert lenient(a_rollout(violations=("no answer",))).terms == {"format": 0.0, "accuracy": 0.9}
    with pytest.raises(ConfigurationError, match=r"no gate 'sometimes'.*correct, valid, tool_used"):
        RewardSpec(terms=(TermSpec(measure="accuracy", gate="sometimes"),)).reward()


@pytest.mark.parametrize(
    ("measure", "problem"),
    [
        ("acuracy", "no measure 'acuracy'"),
        ("no.such.module:f", "cannot be imported"),
        (f"{__name__}:nothing", "cannot be imported"),
        (f"{__name__}:__name__", "no function"),
    ],
)
def test_measures_that_are_not_there(measure: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        RewardSpec(terms=(TermSpec(measure=measure),)).reward()


def test_every_measure_gives_a_number() -> None:
    assert all(isinstance(measure(a_rollout()), float) for measure in MEASURES.values())
