"""The evaluation of the tiny model: its figures by tables, and the command on a random model, killed and resumed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from videobrain.errors import ConfigurationError, ModelError
from videobrain.evaluation.results import read_results
from videobrain.models import ChatReply, ChatRequest, ModelCapacity, ModelEvent, ModelProfile
from videobrain.models.bundled import DIRECTORY
from videobrain.training.tiny.card import FACTS, weights_digest
from videobrain.training.tiny.evaluate import evaluate, fixed_mix, main
from videobrain.training.tiny.figures import (
    Agreement,
    Evaluation,
    Interval,
    Record,
    agreement,
    chance,
    clustered,
    figures_of,
    hold_to_bars,
    parts_of,
)
from videobrain.training.tiny.model import TinyShape, make_tiny_model, save_tiny_model
from videobrain.training.tiny.tokenizer import make_tiny_processor
from videobrain.world import World, WorldQuestion

RESULTS = "runs/*/*/*/results.jsonl"
SMALL = TinyShape(text_hidden=64, text_layers=1, text_heads=2, text_key_heads=1, text_inner=64, vision_hidden=32)


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def questions() -> list[WorldQuestion]:
    return [question for seed in range(20) for question in World(seed, split="test", duration_seconds=120).questions]


def answered(question: WorldQuestion, *, right: bool = True, strategy: str = "videobrain", **more: Any) -> Record:
    """A record of a question that was answered rightly or wrongly."""
    wrong = "nothing" if question.letter is None else "A" if question.letter != "A" else "B"
    given: dict[str, Any] = {"text": (question.letter or question.answer) if right else wrong, "turns": 1}
    if question.options is not None:
        given["choice"] = given["text"]
    return Record(model="m", weights="", strategy=strategy, question=question, **{**given, **more})


# Figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "clusters", "expected"),
    [
        pytest.param([1, 1, 1], "aab", (1, 0.3424, 1), id="all right"),
        pytest.param([0, 0], "ab", (0, 0, 0.6576), id="all wrong"),
        pytest.param([1, 1, 0, 0], "aabb", (0.5, 0, 1), id="two videos"),
        pytest.param([1, 0, 1, 0], "aabb", (0.5, 0.0945, 0.9055), id="two videos that are alike"),
        pytest.param([1, 1, 1, 0], "aaab", (0.75, 0, 1), id="videos of different size"),
        pytest.param([1, -1], "ab", (0, -1, 1), id="differences"),
    ],
)
def test_intervals(values: Sequence[float], clusters: str, expected: tuple[float, float, float]) -> None:
    assert clustered(values, list(clusters)) == pytest.approx(expected, abs=1e-4)


def test_an_interval_is_that_of_a_mean_and_wider_where_questions_hang_together() -> None:
    values = [number % 5 > 0 for number in range(400)]
    alone = clustered(values, [str(number) for number in range(400)])
    assert alone.value == 0.8
    assert alone.low == pytest.approx(0.8 - 1.96 * (0.8 * 0.2 / 400) ** 0.5, abs=0.005)
    assert alone.high == pytest.approx(0.8 + 1.96 * (0.8 * 0.2 / 400) ** 0.5, abs=0.005)
    together = clustered(sorted(values), [str(number // 4) for number in range(400)])
    assert together.high - together.low == pytest.approx(2 * (alone.high - alone.low), rel=0.1)
    assert clustered(values, [str(number) for number in range(400)]) == alone


def test_a_guess_among_all_answers() -> None:
    answers: dict[tuple[str, int], set[str]] = {}
    for seed in range(250):
        for question in World(seed, split="test", duration_seconds=120).questions:
            if question.options is None:
                answers.setdefault((question.template, round(1 / chance(question))), set()).add(question.answer)
            else:
                assert chance(question) == 0.25
    assert len({template for template, _ in answers}) == 9
    for (template, count), found in answers.items():
        assert len(found) == count if count <= 10 else 10 < len(found) <= count, template


def test_the_letter_decides_where_there_is_one(questions: list[WorldQuestion]) -> None:
    choice = next(question for question in questions if question.options is not None)
    open_ended = next(question for question in questions if question.options is None)
    wrong = next(letter for letter in "ABCD" if letter != choice.letter)
    assert answered(choice).right
    assert answered(choice, text=f"It must be {choice.answer}.").right
    assert not answered(choice, choice=wrong, text=choice.answer).right
    assert answered(open_ended, text=f" {open_ended.answer.capitalize()}. ").right
    assert not answered(open_ended, text="").right
    assert not answered(open_ended, error="ModelError: broken").right


def test_figures(questions: list[WorldQuestion]) -> None:
    first = [question for question in questions if question.kind == "direct"][:4]
    records = [
        answered(first[0], frames=16, turns=1, seconds=1.0),
        answered(first[1], right=False, frames=24, turns=2, calls=1, seconds=3.0),
        answered(first[2], text="", choice=None, frames=16, turns=1, ill_formed=4, stop_reason="corrections"),
        answered(first[3], text="", choice=None, turns=0, error="ModelError: broken"),
    ]
    found = figures_of(records)
    assert found is not None
    assert (found.questions, found.right.value, found.unanswered, found.errors) == (4, 0.25, 1, 1)
    assert found.frames == pytest.approx(56 / 3)
    assert (found.turns, found.seconds, found.tools) == pytest.approx((4 / 3, 4 / 3, 1 / 3))
    assert found.ill_formed == 0.5  # four of eight replies
    assert found.chance == pytest.approx(sum(map(chance, first)) / 4)
    assert figures_of(records, "dense") is None
    only_errors = figures_of(records[3:])
    assert only_errors is not None
    assert (only_errors.right.value, only_errors.seconds, only_errors.ill_formed) == (0, 0, 0)


def test_parts(questions: list[WorldQuestion]) -> None:
    found = {figures.part: figures for figures in parts_of([answered(question) for question in questions])}
    assert list(found)[:4] == ["direct", "search", "dense", "all"]
    assert [found[part].questions for part in ("direct", "search", "dense", "all")] == [40, 40, 40, 120]
    assert found["seen pairs"].questions + found["held-out pairs"].questions == 120
    assert found["multiple choice"].questions == found["open-ended"].questions == 60
    assert found["multiple choice"].chance == 0.25 > found["open-ended"].chance


def test_agreement(questions: list[WorldQuestion]) -> None:
    ours = [answered(question) for question in questions[:10]]
    theirs = [answered(question, right=question is not questions[3]) for question in questions[2:10]]
    found = agreement(ours, [record.model_copy(update={"model": "other"}) for record in theirs])
    assert found is not None
    assert (found.other, found.questions, found.same.value) == ("other", 8, 7 / 8)
    assert found.differing == (questions[3].key,)
    broken = [record.model_copy(update={"error": "E", "text": "", "choice": None}) for record in ours]
    failed = agreement(broken, broken)
    assert failed is not None
    assert failed.same.value == 0
    assert agreement(ours, []) is None


# Bars ------------------------------------------------------------------------------------------------------------


def share(questions: Sequence[WorldQuestion], wanted: float) -> set[str]:
    """Keys of a share of the questions."""
    return {question.key for question in questions[: round(len(questions) * wanted)]}


def verdicts(questions: Sequence[WorldQuestion], **changes: float) -> dict[str, bool | None]:
    """The bars for records of which everything stands just where it has to, but for the changes."""
    direct = [question for question in questions if question.kind == "direct"]
    active = [question for question in questions if question.kind != "direct"]
    shares = {"right": 0.9, "few": 0.65, "many": 0.85, "direct": 0.15, "active": 0.85, "ill_formed": 0.0} | changes
    calling = share(direct, shares["direct"]) | share(active, shares["active"])
    ill_formed = share(questions, shares["ill_formed"])
    records = {
        "videobrain": [
            answered(
                question,
                right=question.key in share(questions, shares["right"]),
                calls=question.key in calling,
                ill_formed=question.key in ill_formed,
            )
            for question in questions
        ],
        "uniform-16": [answered(each, right=each.key in share(questions, shares["few"])) for each in questions],
        "uniform-64": [answered(each, right=each.key in share(questions, shares["many"])) for each in questions],
    }
    if "blind" in shares:
        lucky = share(random.Random(0).sample(questions, k=len(questions)), shares["blind"])
        records["blind"] = [answered(question, right=question.key in lucky) for question in questions]
    same = None
    if "same" in shares:
        same = Agreement(
            other="vllm:m", strategy="videobrain", questions=100, same=Interval(shares["same"], 0, 1), differing=()
        )
    return {bar.name: bar.passed for bar in hold_to_bars(records, same)}


@pytest.mark.parametrize(
    ("changes", "bar", "passed"),
    [
        ({}, "right answers", True),
        ({"right": 0.89}, "right answers", False),
        ({}, "lead over uniform-16", True),
        ({"few": 0.67}, "lead over uniform-16", False),
        ({}, "lead over uniform-64", True),
        ({"many": 0.9}, "lead over uniform-64", False),
        ({}, "direct questions with a tool call", True),
        ({"direct": 0.2}, "direct questions with a tool call", False),
        ({}, "active questions with a tool call", True),
        ({"active": 0.8}, "active questions with a tool call", False),
        ({"ill_formed": 0.005}, "ill-formed replies", True),
        ({"ill_formed": 0.02}, "ill-formed replies", False),
        ({"blind": 0.25}, "right answers of blind, multiple choice", True),
        ({"blind": 0.5}, "right answers of blind, multiple choice", False),
        ({"blind": 0.0}, "right answers of blind, multiple choice", False),
        ({}, "right answers of blind, multiple choice", None),
        ({"blind": 0.0}, "right answers of blind, open-ended", True),
        ({"blind": 0.35}, "right answers of blind, open-ended", False),
        ({"same": 0.99}, "same answers as vllm:m", True),
        ({"same": 0.98}, "same answers as vllm:m", False),
        ({}, "same answers as another model", None),
    ],
)
def test_bars(questions: list[WorldQuestion], changes: dict[str, float], bar: str, passed: bool | None) -> None:
    assert verdicts(questions, **changes)[bar] is passed


def test_nothing_is_passed_that_was_not_measured() -> None:
    bars = hold_to_bars({})
    assert len(bars) == 9
    assert {bar.passed for bar in bars} == {None}


# Questions -------------------------------------------------------------------------------------------------------


def test_any_number_of_questions_is_a_third_of_each_class_and_half_of_each_form(
    questions: list[WorldQuestion],
) -> None:
    for count in (*range(1, 14), 100, 119):
        chosen = fixed_mix(questions, count)
        assert len({question.key for question in chosen}) == count
        kinds = Counter(question.kind for question in chosen)
        assert max(kinds.values()) - min(kinds[kind] for kind in ("direct", "search", "dense")) <= 1
        assert abs(2 * sum(question.options is not None for question in chosen) - count) <= 1
    assert {question.key for question in fixed_mix(questions, 120)} == {question.key for question in questions}


# The command -----------------------------------------------------------------------------------------------------


class Knowing:
    """Knows the truth and says it only where it was shown enough; calls the right tool where it may."""

    name = "knowing"
    profile = ModelProfile()

    def __init__(self, video: World, *, fails: int = 0) -> None:
        self.questions = video.questions
        self.fails = fails
        self.asked = 0

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        return ModelCapacity(model=self.name)

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        self.asked += 1
        if self.asked <= self.fails:
            raise ModelError("The server is asleep.")
        (question,) = (question for question in self.questions if question.question in request.messages[1].text)
        tools = "<tool_call>" in request.messages[0].text
        looked = any(message.frames for message in request.messages[2:])
        if tools and question.calls and not looked:
            call = json.dumps({"name": question.calls[0].name, "arguments": question.calls[0].arguments})
            return ChatReply(text=f"<thinking>Look.</thinking><tool_call>{call}</tool_call>")
        knows = looked or (question.kind == "direct" and request.messages[1].frames)
        said = (question.letter or question.answer) if knows else ("Q" if question.options else "nothing")
        return ChatReply(text=f"<thinking>Seen.</thinking><answer>{said}</answer>")

    async def aclose(self) -> None:
        raise AssertionError("a model is closed by its maker")


def test_a_model_that_knows(tmp_path: Path, tiny_random_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOBRAIN_ENCODER", str(tiny_random_encoder))
    video = World(7, split="test", duration_seconds=120)
    options: dict[str, Any] = {"questions": 6, "seed": 7, "duration_seconds": 120, "log": quiet}
    found = evaluate(Knowing(video), tmp_path, compare=Knowing(video), **options)
    parts = {name: {figures.part: figures for figures in every} for name, every in found.strategies.items()}
    assert {name: every["all"].right.value for name, every in parts.items()} == {
        "videobrain": 1,
        "uniform-16": pytest.approx(1 / 3),
        "uniform-64": pytest.approx(1 / 3),
        "blind": 0,
    }
    assert (parts["videobrain"]["direct"].frames, parts["videobrain"]["direct"].tools) == (16, 0)
    assert parts["videobrain"]["dense"].frames > 16
    assert (parts["videobrain"]["dense"].turns, parts["videobrain"]["search"].tools) == (2, 1)
    assert [every["all"].frames for every in parts.values()][1:] == [16, 64, 0]
    # "Q" is no option, so it is corrected three times, and a fourth reply ends the run.
    assert parts["blind"]["multiple choice"].ill_formed == 1
    assert parts["blind"]["open-ended"].ill_formed == 0
    verdict = {bar.name: bar.passed for bar in found.bars}
    assert set(verdict.values()) == {True}
    assert found.agreement is not None
    assert found.agreement.same.value == 1
    assert "pass  right answers: 100.0 % (20.7 to 100.0); required: at least 90 %" in found.table()
    assert Evaluation.model_validate_json((tmp_path / "results.json").read_bytes()) == found


def test_errors_are_counted_and_asked_again(tmp_path: Path) -> None:
    video = World(7, split="test", duration_seconds=120)
    options: dict[str, Any] = {"questions": 6, "seed": 7, "duration_seconds": 120, "strategies": ["uniform-16"]}
    first = evaluate(Knowing(video, fails=1), tmp_path, concurrency=1, log=quiet, **options)
    assert [part.errors for part in first.strategies["uniform-16"] if part.part == "all"] == [1]
    again = Knowing(video)
    second = evaluate(again, tmp_path, log=quiet, **options)
    assert [part.errors for part in second.strategies["uniform-16"] if part.part == "all"] == [0]
    assert again.asked == 1
    (run,) = (tmp_path / "runs" / "videos-120").glob("knowing-*/uniform-16")
    assert len(read_results(run)) == 6


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory, tiny_random_encoder: Path) -> Path:
    """A directory as a trained model has it, with random weights."""
    processor = make_tiny_processor()
    path = tmp_path_factory.mktemp("models") / "random"
    save_tiny_model(make_tiny_model(processor, SMALL), processor, path)
    profile = {"prompts": "compact", "encoder": str(tiny_random_encoder), "knows": "synthetic world"}
    (path / "videobrain.json").write_text(json.dumps({"profile": profile}), "utf-8")
    return path


@pytest.mark.timeout(300)
def test_the_command_goes_on_where_it_was_killed(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOBRAIN_MAX_OUTPUT_TOKENS", "16")
    arguments = ["--model", f"local:{random_model}", "--out", str(tmp_path), "--questions", "8", "--duration", "120"]
    arguments += ["--strategies", "videobrain,uniform-64,blind"]
    command = [sys.executable, "-m", "videobrain.training.tiny.evaluate", *arguments]
    with subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if sum(answers.read_bytes().count(b"\n") for answers in tmp_path.glob(RESULTS)) >= 3:
                break
            time.sleep(0.02)
        process.kill()
        process.wait()
    (answers,) = tmp_path.glob(RESULTS)
    kept = answers.read_bytes()
    before = kept[: kept.rfind(b"\n") + 1]
    assert 3 <= before.count(b"\n") < 24

    assert main(arguments) == 0
    output = capsys.readouterr()
    assert "questions are answered already" in output.err
    assert answers.read_bytes().startswith(before)
    runs = {path.parent.name: read_results(path.parent) for path in tmp_path.glob(RESULTS)}
    assert {name: len({record.sample.key for record in records}) for name, records in runs.items()} == {
        "videobrain": 8,
        "uniform-64": 8,
        "blind": 8,
    }
    assert {name: len(records) for name, records in runs.items()} == dict.fromkeys(runs, 8)
    assert not any(record.error for records in runs.values() for record in records)
    shown = {name: {record.usage.frames for record in records} for name, records in runs.items()}
    assert min(shown["videobrain"]) == 16
    assert (shown["uniform-64"], shown["blind"]) == ({64}, {0})
    assert weights_digest(random_model) in output.out
    for words in ("2 test videos of 120 s", "held-out pairs", "ill-formed replies", "not measured"):
        assert words in output.out

    (random_model / "training").mkdir()
    shutil.copy(DIRECTORY / FACTS, random_model / FACTS)
    assert main([*arguments, "--card"]) == 0
    assert capsys.readouterr().out == output.out
    assert "| uniform-64 | all | 8 |" in (random_model / "README.md").read_text("utf-8")
    assert {path.parent.name: read_results(path.parent) for path in tmp_path.glob(RESULTS)} == runs


def test_other_weights_are_asked_anew(random_model: Path) -> None:
    before = weights_digest(random_model)
    (random_model / "README.md").write_text("A card.", "utf-8")
    (random_model / "training").mkdir(exist_ok=True)
    (random_model / FACTS).write_text("{}", "utf-8")
    assert weights_digest(random_model) == before
    (random_model / "more.json").write_text("{}", "utf-8")
    assert weights_digest(random_model) != before


def test_what_cannot_be_used_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["--model", "local:nowhere/at/all", "--out", str(tmp_path), "--questions", "1", "--duration", "120"]) == 2
    )
    assert "no model directory" in capsys.readouterr().err
    for model, says in ((str(tmp_path), "facts.json is missing"), ("nowhere/at/all", "no directory here")):
        assert main(["--model", f"local:{model}", "--out", str(tmp_path / "out"), "--card"]) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError, match="no strategy 'magic'"):
        evaluate("tiny", tmp_path, strategies=["magic"], log=quiet)
    with pytest.raises(ConfigurationError, match="at least one question"):
        evaluate("tiny", tmp_path, questions=0, log=quiet)
