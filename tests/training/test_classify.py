"""Classes of questions: the rule, the samples' files, and whole classifications against two servers."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from typer.testing import CliRunner

from tests.evaluation.runs import VIDEOS, write_videos
from tests.training.samples import COLOURS, models, sample, settings
from videobrain.cli import app
from videobrain.errors import ConfigurationError, EncoderUnavailableError, InputError
from videobrain.evaluation.benchmarks import load_benchmark
from videobrain.evaluation.lines import JsonLines
from videobrain.testing import FakeServer, Fault
from videobrain.training.classification import Classified, Label, Round, Votes, always, classify_votes, majority
from videobrain.training.classify import CLASSES_FILE, REPORT_FILE, SAMPLES_FILE, ClassifiedSample, classify
from videobrain.training.rounds import Asking, copy_of
from videobrain.training.sample import read_samples, training_samples, write_samples
from videobrain.world import write_dataset

pytestmark = pytest.mark.anyio

TOOLS = ["uniform_sample"]
"""Without a search, which would want an encoder."""

# --- The rule --------------------------------------------------------------------------------------------------------

YES, NO = (True, True, False), (True, False, False)
ALWAYS = (True, True, True)
UNKNOWN = (True, None, False)
BLIND: dict[Round, Votes] = {"student-blind": YES, "teacher-blind": YES}


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ({"student-blind": ALWAYS}, "dropped"),
        ({"student-blind": YES, "teacher-blind": ALWAYS}, "dropped"),
        ({**BLIND, "student-initial": YES}, "Direct"),
        ({**BLIND, "student-initial": NO, "teacher-initial": YES}, "Adaptive"),
        ({**BLIND, "student-initial": NO, "teacher-initial": NO, "teacher-more": YES}, "Active"),
        (
            {**BLIND, "student-initial": NO, "teacher-initial": NO, "teacher-more": NO, "student-more": YES},
            "Active",
        ),
        (
            {**BLIND, "student-initial": NO, "teacher-initial": NO, "teacher-more": NO, "student-more": NO},
            "dropped",
        ),
        ({**BLIND, "student-initial": UNKNOWN}, "open"),
        ({"student-blind": (True, None)}, "open"),
        ({"student-blind": (False, None), "teacher-blind": NO, "student-initial": (True, True, None)}, "Direct"),
    ],
)
def test_the_class_is_decided_by_who_is_right_with_what(votes: dict[Round, Votes], label: Label) -> None:
    found = classify_votes(votes)
    assert isinstance(found, Classified)
    assert found.label == label


def test_rounds_are_asked_for_only_where_they_can_change_the_class() -> None:
    votes: dict[Round, Votes] = {}
    for name in get_args(Round):
        assert classify_votes(votes) == name
        votes[name] = NO
    assert isinstance(classify_votes(votes), Classified)


@pytest.mark.parametrize(
    ("votes", "most", "every"),
    [
        ((), False, False),
        ((True,), True, True),
        ((True, False), False, False),
        ((True, True, None), True, None),
        ((True, None, None), None, None),
        ((False, False, None), False, False),
        ((None,), None, None),
    ],
)
def test_what_most_and_all_votes_say(votes: Votes, most: bool | None, every: bool | None) -> None:
    assert (majority(votes), always(votes)) == (most, every)


# --- Samples ---------------------------------------------------------------------------------------------------------


def test_a_copy_turns_the_options_and_keeps_the_truth(tmp_path: Path) -> None:
    one = sample(1, tmp_path)
    turned = copy_of(one, 3, options=3)
    assert turned.key == "q1#3"
    assert turned.options == ("white", "red", "green", "blue")
    assert turned.options[turned.correct_option or 0] == "green"
    assert copy_of(one, 0).options == one.options


def test_samples_are_written_as_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    folder = write_videos(tmp_path)
    samples = [sample(0, folder).of_class("Active"), sample(1, folder, spans=[(0.25, 0.5)], slices={"type": "count"})]
    path = write_samples(tmp_path / "made" / "samples.jsonl", samples)
    assert read_samples(path) == samples
    assert [each.question_class for each in read_samples(path)] == ["Active", None]
    assert read_samples(path)[1].question_type == "count"
    named = tmp_path / "named.jsonl"
    named.write_text(path.read_text("utf-8").replace('"Active"', '"animals"'), "utf-8")
    with pytest.raises(InputError, match="'q0' has the class 'animals'; a class is Direct, Adaptive, Active"):
        read_samples(named)
    (folder / VIDEOS[0]).unlink()
    with pytest.raises(InputError, match="the video is missing"):
        read_samples(path)
    with pytest.raises(ValueError, match="the class is Direct or Adaptive or Active, not 'Hard'"):
        sample(2, folder, slices={"class": "Hard"})


def test_questions_of_the_synthetic_world_have_their_class_by_construction(tmp_path: Path) -> None:
    write_dataset(tmp_path, "train", 1, seed=3, duration_seconds=120)
    samples = training_samples(load_benchmark("world", tmp_path))
    assert all(Path(each.video).is_absolute() for each in samples)
    of_type = {each.question_type: each.question_class for each in samples}
    assert of_type == {"direct": "Direct", "search": "Active", "dense": "Active"}


# --- Whole classifications -------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    number: int
    with_what: str


class Knower:
    """Answers rightly the questions that it is said to know, by what it is shown."""

    def __init__(self, knows: dict[str, set[int]]) -> None:
        self.knows = knows
        self.faults: dict[int, list[Fault]] = {}
        self.asked: Counter[Seen] = Counter()

    def __call__(self, body: dict[str, Any]) -> str | Fault:
        text = json.dumps(body["messages"])
        number = int(re.findall(r"Question (\d+)", text)[0])
        with_what = "more" if "uniform_sample" in text else "initial" if "image_url" in text else "blind"
        self.asked[Seen(number, with_what)] += 1
        if self.faults.get(number):
            return self.faults[number].pop(0)
        letters = {colour: letter for letter, colour in re.findall(r"([A-D])\. (red|green|blue|white)", text)}
        right = COLOURS[number % 4]
        wrong = COLOURS[(number + 1) % 4]
        return (
            f"<thinking>So.</thinking>\n<answer>{letters[right if number in self.knows[with_what] else wrong]}</answer>"
        )


STUDENT = {"blind": {0}, "initial": {0, 1, 6}, "more": {4}}
TEACHER = {"blind": {0, 6}, "initial": {2, 4, 6}, "more": {3}}
LABELS = {
    "q0": "dropped",
    "q1": "Direct",
    "q2": "Adaptive",
    "q3": "Active",
    "q4": "Adaptive",
    "q5": "dropped",
    "q6": "dropped",
}


async def test_a_classification_asks_no_more_than_it_needs_and_writes_what_it_found(tmp_path: Path) -> None:
    folder = write_videos(tmp_path)
    # Classes of before do not count.
    samples = [sample(number, folder).of_class("Active") for number in range(7)]
    student, teacher = Knower(STUDENT), Knower(TEACHER)
    moments: list[str] = []
    asking = Asking(settings=settings(tmp_path), tools=TOOLS, on_progress=lambda name, progress: moments.append(name))
    async with models(tmp_path, student=student, teacher=teacher) as both:
        found = await classify(samples, both["student"], both["teacher"], tmp_path / "out", asking=asking)
        assert {each.sample.key: each.label for each in found.questions} == LABELS
        assert found.counts() == {"Direct": 1, "Adaptive": 2, "Active": 1, "dropped": 3, "open": 0}
        assert set(moments) == set(get_args(Round))
        # Three orders of the options in each round, and no round that cannot change a class.
        assert set(student.asked.values()) | set(teacher.asked.values()) == {3}
        assert {number for number, what in teacher.asked if what == "initial"} == {2, 3, 4, 5}
        assert {number for number, what in teacher.asked if what == "more"} == {3, 5}
        assert {number for number, what in student.asked if what == "more"} == {5}
        before = student.asked.total() + teacher.asked.total()
        again = await classify(samples, both["student"], both["teacher"], tmp_path / "out", asking=asking)
        files = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.*")}
        # What a later start does not ask for does not count, though it is there.
        fewer = await classify(samples, both["student"], both["teacher"], tmp_path / "out", votes=1, asking=asking)
        for path, content in files.items():
            path.write_bytes(content)
    assert again == found
    assert student.asked.total() + teacher.asked.total() == before
    assert list(JsonLines(tmp_path / "out" / CLASSES_FILE, ClassifiedSample).read()) == list(found.questions)
    kept = read_samples(tmp_path / "out" / SAMPLES_FILE)
    assert {each.key: each.question_class for each in kept} == {
        key: label for key, label in LABELS.items() if label != "dropped"
    }
    assert {len(votes) for each in fewer.questions for votes in each.votes.values()} == {1}
    three = next(each for each in found.questions if each.sample.key == "q3")
    assert three.votes["teacher-more"] == (True, True, True)
    assert "student-more" not in three.votes
    assert (three.usage.turns, three.usage.frames) == (15, 3 * 3 * 4)  # five rounds, three of them with four frames
    page = (tmp_path / "out" / REPORT_FILE).read_text()
    assert "| Adaptive | 2 | 28.6% |" in page
    assert "1 x nobody is right, whatever is shown, such as\n\n- `q5` Question 5: which colour?" in page
    assert "1 x the teacher needs no frame to be right, such as\n\n- `q6`" in page


async def test_a_question_whose_runs_failed_stays_open_until_they_are_asked_again(tmp_path: Path) -> None:
    folder = write_videos(tmp_path)
    student, teacher = Knower(STUDENT), Knower(TEACHER)
    student.faults = {1: [Fault.status(400, "no paper")] * 2}
    asking = Asking(settings=settings(tmp_path), tools=TOOLS, concurrency=1)
    async with models(tmp_path, student=student, teacher=teacher) as both:
        how: dict[str, Any] = {"student": both["student"], "teacher": both["teacher"], "out": tmp_path / "out"}
        first = await classify([sample(1, folder)], **how, asking=asking)
        assert first.counts()["open"] == 0  # one vote of three is enough to know that it is not always right
        assert first.questions[0].votes["student-blind"] == (None, None, False)
        student.faults = {2: [Fault.status(400, "no paper")] * 3}
        second = await classify([sample(2, folder)], **how, asking=asking)
        assert second.questions[0].label == "open"
        assert second.questions[0].reason == "answers of the student (blind) are missing: their runs failed"
        assert second.samples == ()
        retried = await classify([sample(2, folder)], **how, asking=replace(asking, retry_errors=True))
    assert retried.questions[0].label == "Adaptive"


async def test_without_its_search_nothing_is_classified(tmp_path: Path) -> None:
    folder = write_videos(tmp_path)
    knower = Knower({"blind": set(), "initial": set(), "more": {1}})
    asking = Asking(settings=settings(tmp_path, offline=True), encoder=str(tmp_path / "no-encoder"))
    async with models(tmp_path, both=knower) as one:
        with pytest.raises(EncoderUnavailableError):
            await classify([sample(1, folder)], one["both"], one["both"], tmp_path / "out", asking=asking)
    assert {with_what for _, with_what in knower.asked} == {"blind", "initial"}


async def test_what_would_be_the_same_request_is_asked_once(tmp_path: Path) -> None:
    folder = write_videos(tmp_path)
    two = sample(1, folder, options=("green", "blue"), correct_option=0)
    knower = Knower({"blind": set(), "initial": {1}, "more": set()})
    async with models(tmp_path, both=knower) as one:
        for number, (given, count) in enumerate(
            [({}, 2), ({"temperature": 1.0}, 5), ({"temperature": 1.0, "seed": 1}, 2)]
        ):
            knower.asked.clear()
            asking = Asking(settings=settings(tmp_path, **given), tools=TOOLS)
            out = tmp_path / f"out{number}"
            await classify([two], one["both"], one["both"], out, votes=5, asking=asking)
            assert knower.asked[Seen(1, "initial")] == count


@pytest.mark.parametrize(
    ("fields", "how", "words"),
    [
        ({}, {"votes": 0}, "at least 1 vote"),
        ({"correct_option": None}, {}, "truth of the sample 'q0' is not known"),
        (
            {"task": "open", "options": None, "correct_option": None},
            {},
            r"Only a judge can say whether an answer to 'q0' is right\. Name one with --judge",
        ),
    ],
)
async def test_what_cannot_be_classified(tmp_path: Path, fields: Any, how: Any, words: str) -> None:
    with pytest.raises((ConfigurationError, InputError), match=words):
        await classify([sample(0, tmp_path, **fields)], "openai:a", "openai:b", tmp_path / "out", **how)
    with pytest.raises(InputError, match="Two samples have the key 'q0'"):
        await classify([sample(0, tmp_path)] * 2, "openai:a", "openai:b", tmp_path / "out")
    with pytest.raises(InputError, match="There are no samples"):
        await classify([], "openai:a", "openai:b", tmp_path / "out")


# --- The commands ----------------------------------------------------------------------------------------------------


def test_the_commands_go_from_questions_to_lessons(
    tmp_path: Path, tiny_random_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEOBRAIN_ENCODER", str(tiny_random_encoder))
    folder = write_videos(tmp_path)
    write_samples(tmp_path / "questions.jsonl", [sample(number, folder) for number in range(6)])
    knowers = {"student": Knower(STUDENT), "teacher": Knower(TEACHER)}
    monkeypatch.setenv("VIDEOBRAIN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    run = CliRunner()
    with FakeServer(lambda body: knowers[body["model"]](body), models=tuple(knowers)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        given = ["--data", str(tmp_path / "questions.jsonl"), "--out", str(tmp_path / "classes")]
        models = ["--student", "openai:student", "--teacher", "openai:teacher", "--teacher-base-url", server.base_url]
        done = run.invoke(app, ["train", "classify", "plain", *given, *models])
        assert done.exit_code == 0, done.output
        assert "| Direct | 1 | 16.7% |" in done.stdout
        assert "student-initial" in done.stderr
        again = run.invoke(app, ["train", "classify", "plain", *given, *models, "--json", "--quiet"])
        assert json.loads(again.stdout) == {"Direct": 1, "Adaptive": 2, "Active": 1, "dropped": 2, "open": 0}
        assert again.stderr == ""
        lessons = [str(tmp_path / "classes" / SAMPLES_FILE), "--out", str(tmp_path / "lessons")]
        done = run.invoke(app, ["train", "trajectories", *lessons, "--teacher", "openai:teacher", "--per-sample", "2"])
        assert done.exit_code == 0, done.output
        # The teacher answers the questions of words that it knows with tools (q3) at once: no lesson about looking.
        assert "no tool used" in done.stdout
        wrong = run.invoke(app, ["train", "trajectories", *lessons, "--teacher", "openai:teacher", "--keep", "some"])
        assert wrong.exit_code == 2
        same = ["--temperature", "0", "--teacher", "openai:teacher"]
        refused = run.invoke(app, ["train", "trajectories", lessons[0], "--out", str(tmp_path / "other"), *same])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: Several conversations about one question would all be the same")
