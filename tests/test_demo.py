"""The demonstration: what uniform sampling would need, and the whole of it on a short video."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from report.test_report import saved_pages

from tests.pictures.demo import console, picture
from videobrain import ModelProfile, Settings, demo
from videobrain.demo import Shown, demonstrate, uniform_need
from videobrain.display import terminal
from videobrain.result import Answer
from videobrain.testing import ScriptedModel
from videobrain.training.tiny.oracle import play
from videobrain.video import EncodedFrame
from videobrain.world import World, WorldQuestion

SECONDS = 120


@pytest.fixture(scope="module")
def world() -> World:
    return World(demo.SEED, split="test", duration_seconds=SECONDS)


def oracle_replies(world: World, question: WorldQuestion) -> list[str]:
    """What a model that knows would say."""

    def look(frames: Sequence[int]) -> list[EncodedFrame]:
        return [EncodedFrame.encode(world.frame_at(index / 10)) for index in frames]

    episode = play(world, question, look, random.Random(0))
    return [message.text for message in episode.messages if message.role == "assistant"]


# --- What uniform sampling would need --------------------------------------------------------------------------------


class ShowsFrom:
    """A video whose answer is shown by some numbers of frames."""

    def __init__(self, frame_count: int, *counts: range) -> None:
        self.frame_count = frame_count
        self.counts = counts
        self.tried: list[int] = []

    def answer_from(self, question: WorldQuestion, frames: Iterable[int]) -> str | None:
        self.tried.append(len(list(frames)))
        return question.answer if any(self.tried[-1] in counts for counts in self.counts) else None


@pytest.mark.parametrize(
    ("counts", "frame_count", "need"),
    [
        ([range(16, 6001)], 6000, 16),
        ([range(1, 6001)], 6000, 16),  # fewer than 16 are not tried
        ([range(17, 6001)], 6000, 17),
        ([range(100, 6001)], 6000, 100),
        ([range(128, 6001)], 6000, 128),
        ([range(129, 6001)], 6000, 129),
        ([range(40, 50), range(60, 6001)], 6000, 60),  # 40 to 49 happen to fall well
        ([range(64, 70), range(300, 6001)], 6000, 64),  # as does the doubled number
        ([range(5000, 6001)], 6000, 5000),
        ([range(6000, 6001)], 6000, 6000),
        ([], 6000, None),
        ([range(10, 21)], 20, 16),
        ([range(20, 21)], 20, 20),
        ([range(10, 13)], 12, 16),  # a video shorter than that shows all it has
    ],
)
def test_uniform_need(world: World, counts: list[range], frame_count: int, need: int | None) -> None:
    assert uniform_need(ShowsFrom(frame_count, *counts), world.questions[0]) == need  # type: ignore[arg-type]


def test_uniform_need_of_a_real_video(world: World) -> None:
    needs = {question.key: uniform_need(world, question) for question in world.questions}
    for question in world.questions:
        need = needs[question.key]
        assert need is not None
        assert (need == 16) == (question.kind == "direct")


# --- Right and wrong -------------------------------------------------------------------------------------------------


def test_answers_are_held_against_the_truth(world: World) -> None:
    choice = next(question for question in world.questions if question.options)
    assert choice.options is not None
    letter = choice.letter or ""
    wrong = next(other for other in "ABCD" if other != letter)
    for answer, right, said in (
        (Answer(text=letter, choice=letter), True, f"{letter}. {choice.answer}"),
        (Answer(text=wrong, choice=wrong), False, f"{wrong}. {choice.options['ABCD'.index(wrong)]}"),
        (Answer(text="", stop_reason="turns"), False, "none (turns)"),
        (Answer(text="so\n" * 80), False, "so " * 26 + "s…"),
    ):
        shown = Shown(choice, answer, 16)
        assert (shown.right, shown.said, shown.truth) == (right, said, f"{letter}. {choice.answer}")
    open_ended = next(question for question in world.questions if not question.options)
    assert Shown(open_ended, Answer(text=f"It is {open_ended.answer}."), None).right


# --- All of it -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_six_questions_and_what_came_of_them(
    world: World, tiny_random_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SECONDS", SECONDS)
    script = [reply for question in world.questions for reply in oracle_replies(world, question)]
    last = world.questions[-1]
    script[-1] = f"<thinking>{'A long thought. ' * 40}So nothing.</thinking>\n<answer>{wrong(last)}</answer>"
    profile = ModelProfile(prompts="compact", encoder=str(tiny_random_encoder), constrains=False)
    file = io.StringIO()
    settings = Settings(cache_dir=tmp_path / "my cache", decoder="pyav")
    report = tmp_path / "page.html"
    async with ScriptedModel(script, profile=profile) as model:
        shown = await demonstrate(model, report=report, console=terminal(file=file), settings=settings)
    assert [each.right for each in shown] == [True] * 5 + [False]

    text = file.getvalue()
    lines = text.splitlines()
    assert "\x1b" not in text
    kinds = ["direct", "direct", "search", "search", "dense", "dense"]
    heads = [line for line in lines if " of 6, " in line]
    assert [head.split(":")[0] for head in heads] == [f"{number} of 6, {kind}" for number, kind in enumerate(kinds, 1)]
    assert all(question.question in lines for question in world.questions)
    for question in world.questions:
        if question.options:
            assert "  A. {}   B. {}   C. {}   D. {}".format(*question.options) in lines
    for each in shown[:5]:
        assert f"  right: {each.truth}" in lines
    assert f"  wrong: the truth is {shown[5].truth}" in lines
    assert f"uniform sampling would need {shown[4].uniform} frames" in text
    (thought,) = [line for line in lines if line.startswith("  A long thought. ")]
    assert " … " in thought
    assert thought.endswith("So nothing.")
    assert len(thought) <= 302
    assert "scripted: 5 of 6 right." in lines
    assert f"  videobrain ask '{tmp_path}/my cache/demo/test-000038.mp4' \"What is" in text
    assert "  videobrain ask VIDEO QUESTION --base-url http://localhost:8000/v1" in text
    assert "tiny is the small model" not in text

    page, beside = saved_pages(report)
    assert len(beside) == 6
    assert "scripted answered 5 of 6 questions right." in page.text
    assert [len(page.classed(name)) for name in ("good", "bad")] == [5, 1]
    assert str(report) in text


def wrong(question: WorldQuestion) -> str:
    return "ABCD".replace(question.letter, "")[0] if question.letter else "nothing"


@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_it_fits_a_terminal_and_a_picture(
    world: World, tiny_random_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SECONDS", SECONDS)
    script = [reply for question in world.questions for reply in oracle_replies(world, question)]
    profile = ModelProfile(prompts="compact", encoder=str(tiny_random_encoder), constrains=False)
    settings = Settings(cache_dir=tmp_path, decoder="pyav")
    terminal = console(width=80)
    async with ScriptedModel(script, profile=profile) as model:
        await demonstrate(model, report=tmp_path / "page.html", console=terminal, settings=settings)
    styled = terminal.export_text(clear=False, styles=True)
    shown, _, after = terminal.export_text().partition("The conversations with their frames:")
    assert "videobrain ask VIDEO QUESTION" in after  # commands may be longer, so that they can be copied
    assert max(map(len, shown.splitlines())) <= 80

    svg = picture(styled)
    text = words_of(svg)
    for words in ("3 of 6, search", "uniform", "scripted: 6 of 6 right."):
        assert words in text
    assert "2 of 6, direct" not in text
    assert "4 of 6, search" not in text
    assert "url(http" not in svg


def words_of(svg: str) -> str:
    return re.sub(r"<[^>]*>", " ", svg).replace("&#160;", " ")


def test_the_picture_in_readme_is_of_the_bundled_model() -> None:
    picture = Path(__file__).parent.parent / "docs" / "assets" / "demo.svg"
    assert re.search(r"tiny: [0-6] of 6 right\.", words_of(picture.read_text("utf-8")))
