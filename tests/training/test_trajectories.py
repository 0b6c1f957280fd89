"""Trajectories: what a teacher's conversations are kept for, and why others are not."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.agent.episodes import uniform
from tests.evaluation.runs import write_videos
from tests.training.samples import models, sample, settings
from videobrain.agent import Trace
from videobrain.errors import ConfigurationError, InputError
from videobrain.report import save_report
from videobrain.testing import Fault, make_video
from videobrain.training.rounds import Asking
from videobrain.training.sample import QuestionClass
from videobrain.training.trajectories import (
    REJECTED_FILE,
    TRAJECTORIES_FILE,
    Rejected,
    Trajectories,
    read_trajectories,
    write_trajectories,
)

pytestmark = pytest.mark.anyio

SEARCH = '<thinking>Heard?</thinking><tool_call>{"name": "search_subtitles", "arguments": {"query": "red"}}</tool_call>'
CORRECT = "<thinking>So.</thinking>\n<answer>{}</answer>"


class Teacher:
    """Plays, for each question, a list of conversations in turn; a reply of ``right`` or ``wrong`` is an answer."""

    def __init__(self, plays: dict[int, list[list[str | Fault]]]) -> None:
        self.plays = plays
        self.begun: Counter[int] = Counter()
        self.asked = 0

    def __call__(self, body: dict[str, Any]) -> str | Fault:
        self.asked += 1
        messages = body["messages"]
        number = int(re.findall(r"Question (\d+)", json.dumps(messages))[0])
        turn = sum(message["role"] == "assistant" for message in messages)
        if turn == 0:
            self.begun[number] += 1
        reply = self.plays[number][(self.begun[number] - 1) % len(self.plays[number])][turn]
        if isinstance(reply, Fault) or reply.startswith("<"):
            return reply
        letter = "ABCD"[(number + (reply == "wrong")) % 4]
        return CORRECT.format(letter)


async def taught(
    home: Path, plays: dict[int, list[list[str | Fault]]], classes: dict[int, QuestionClass], **how: Any
) -> tuple[Trajectories, Teacher]:
    folder = write_videos(home)
    samples = [sample(number, folder).of_class(name) for number, name in classes.items()]
    teacher = Teacher(plays)
    asking = Asking(settings=settings(home, temperature=0.7), tools=["uniform_sample"], concurrency=1)
    async with models(home, teacher=teacher) as found:
        made = await write_trajectories(samples, found["teacher"], home / "out", asking=asking, **how)
        before = teacher.asked
        assert await write_trajectories(samples, found["teacher"], home / "out", asking=asking, **how) == made
        assert teacher.asked == before
    return made, teacher


async def test_the_best_right_conversation_of_each_question_is_kept(tmp_path: Path) -> None:
    look = uniform(0, 2)
    plays: dict[int, list[list[str | Fault]]] = {
        0: [[look, uniform(2, 4), "right"], [look, "right"], [look, "wrong"]],
        1: [["right"], [look, "right"], ["right"]],
        2: [["right"]],
    }
    # A video of four frames shows all of them at first, so that every call shows nothing new: see below.
    made, teacher = await taught(tmp_path, plays, {0: "Active", 1: "Adaptive", 2: "Direct"}, per_sample=3)
    assert teacher.begun == {0: 3, 1: 3}, "no lesson about what the initial frames answer"
    assert [each.sample.key for each in made.kept] == ["q1"]
    assert made.surplus == 1
    assert made.reasons() == {"wasteful": 3, "wrong": 1}


async def test_why_conversations_are_not_kept(tmp_path: Path) -> None:
    look = uniform(0, 2)
    plays: dict[int, list[list[str | Fault]]] = {
        0: [["right"]],
        1: [["<p>no tags at all", "right"]],
        2: [[look, "wrong"]],
        3: [[Fault.status(400, "no paper")]],
        4: [["<thinking>a</thinking>"] * 4],
        5: [[look, "right"]],
    }
    names: dict[int, QuestionClass] = {0: "Active", 1: "Adaptive", 2: "Active", 3: "Active", 4: "Adaptive", 5: "Active"}
    made, _ = await taught(tmp_path, plays, names, per_sample=1)
    assert made.kept == ()
    assert {each.key: each.reason for each in made.rejected} == {
        "q0": "no tool used",
        "q1": "ill-formed",
        "q2": "wrong",
        "q3": "failed",
        "q4": "no answer",
        "q5": "wasteful",
    }
    details = {each.key: each.detail for each in made.rejected}
    assert "no paper" in details["q3"]
    assert details["q5"] == "uniform_sample showed nothing new"
    assert "| wrong | 1 | 0 |" in made.markdown()
    lines = (tmp_path / "out" / REJECTED_FILE).read_text().splitlines()
    assert [Rejected.model_validate_json(line) for line in lines] == list(made.rejected)
    with pytest.raises(InputError, match="holds no trajectories"):
        read_trajectories(tmp_path / "out" / TRAJECTORIES_FILE)


async def test_a_call_that_is_answered_in_words_is_no_waste(tmp_path: Path) -> None:
    folder = write_videos(tmp_path)
    spoken = folder / "spoken.srt"
    spoken.write_text("1\n00:00:00,000 --> 00:00:01,000\nIt is red.\n", "utf-8")
    teacher = Teacher({0: [[SEARCH, "right"], [SEARCH, uniform(0, 2), "right"]]})
    asking = Asking(
        settings=settings(tmp_path, temperature=0.7), tools=["uniform_sample", "search_subtitles"], concurrency=1
    )
    async with models(tmp_path, teacher=teacher) as found:
        samples = [sample(0, folder, subtitles=str(spoken)).of_class("Active")]
        made = await write_trajectories(
            samples, found["teacher"], tmp_path / "out", per_sample=2, keep="all", asking=asking
        )
    assert [dict(each.usage.tool_calls) for each in made.kept] == [{"search_subtitles": 1}]
    assert made.reasons() == {"wasteful": 1}  # uniform_sample showed what had been shown


async def test_kept_ones_are_traces_with_pictures_that_open_as_reports(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    video = make_video(folder / "v.mp4", seconds=10, fps=4, size=(64, 32), scenes=["red", "blue"])
    samples = [sample(0, folder, video=str(video)).of_class("Active")]
    teacher = Teacher({0: [[uniform(0, 20), "right"], [uniform(0, 40), uniform(20, 40), "right"]]})
    asking = Asking(settings=settings(tmp_path, temperature=0.7), tools=["uniform_sample"], concurrency=1)
    async with models(tmp_path, teacher=teacher) as found:
        made = await write_trajectories(
            samples, found["teacher"], tmp_path / "out", per_sample=2, keep="all", asking=asking
        )
    assert [each.usage.turns for each in made.kept] == [2, 3]
    assert [each.sample for each in made.kept] == samples * 2
    assert read_trajectories(tmp_path / "out" / TRAJECTORIES_FILE) == list(made.kept)
    trace = Trace.load(tmp_path / "out" / made.kept[0].trace)
    assert all(frame.jpeg for frame in trace.frames().values())
    assert trace.replay() == trace.messages
    assert "Question 0" in save_report(trace, tmp_path / "page.html").read_text()


async def test_what_cannot_be_taught(tmp_path: Path) -> None:
    one = sample(0, tmp_path).of_class("Active")
    for given in ({"temperature": 0.0}, {"temperature": 0.7, "seed": 3}):
        with pytest.raises(ConfigurationError, match="would all be the same"):
            await write_trajectories([one], "openai:a", tmp_path, asking=Asking(settings=settings(tmp_path, **given)))
    with pytest.raises(ConfigurationError, match="at least 1 conversation"):
        await write_trajectories([one], "openai:a", tmp_path, per_sample=0)
    with pytest.raises(InputError, match="No sample is Adaptive or Active"):
        await write_trajectories([sample(0, tmp_path).of_class("Direct")], "openai:a", tmp_path)
