"""Where in the video something is seen: whole runs that answer with spans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.agent.episodes import uniform
from videobrain import ConfigurationError, Finished, LimitExceeded, Limits, ModelProfile, Question, Settings, VideoBrain
from videobrain.agent import Conclusion, EpisodeStarted, ReplyCorrected, Run, Trace
from videobrain.cli import app
from videobrain.models import ChatRequest
from videobrain.report import ReportEntry, render_report, save_reports
from videobrain.testing import FakeServer, ScriptedModel, make_video

QUERY = "the screen turns green"


def answer(text: str) -> str:
    return f"<thinking>t</thinking>\n<answer>{text}</answer>"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "colours.mp4", seconds=10, fps=5, size=(96, 64))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", warm_index=False, decoder="pyav")


def brain(script: list[Any], settings: Settings, **more: Any) -> VideoBrain:
    return VideoBrain(ScriptedModel(script), settings=settings, tools=["uniform_sample"], **more)


@pytest.mark.anyio
async def test_a_run_looks_is_corrected_and_answers_in_seconds(video: Path, settings: Settings, tmp_path: Path) -> None:
    script = [uniform(0, 25), answer("[[45, 25]]"), answer("[[2.5, 5], [7, 30]]")]
    found = await brain(script, settings).ask(video, QUERY, max_spans=2)
    assert found.spans == ((2.5, 5), (7, 10))
    assert found.text == "[[2.5, 5], [7, 30]]"
    assert found.choice is None
    assert found.output is None
    assert found.stop_reason == "answered"
    assert found.warnings == ("The span 7 to 30 was cut to the video.",)
    assert (found.usage.turns, found.usage.corrections, found.usage.tool_calls) == (2, 1, {"uniform_sample": 1})
    problems = [event.problem for event in found.trace.events if isinstance(event, ReplyCorrected)]
    assert problems == ["the span 45 to 25 ends before it begins"]
    (started,) = [event for event in found.trace.events if isinstance(event, EpisodeStarted)]
    assert started.config.max_spans == 2
    assert QUERY in found.trace.messages[1].text

    loaded = Trace.load(found.trace.save(tmp_path / "run.jsonl"))
    assert loaded.replay() == found.trace.messages
    assert loaded.answer is not None
    assert loaded.answer.model_dump() == found.model_dump()
    assert type(found).model_validate_json(found.model_dump_json()).spans == found.spans


@pytest.mark.anyio
@pytest.mark.parametrize(("strategy", "frames"), [("uniform-4", 4), ("blind", 0)])
async def test_the_baselines_ground_too(video: Path, settings: Settings, strategy: str, frames: int) -> None:
    def look(request: ChatRequest) -> str:
        assert sum(len(message.frames) for message in request.messages) == frames
        assert "when something happens" in request.messages[0].text
        assert "Tools" not in request.messages[0].text
        return answer("from 0:02.5 to 0:05")

    found = await brain([look], settings, strategy=strategy).ask(video, QUERY, max_spans=1)
    assert found.spans == ((2.5, 5),)
    assert found.usage.frames == frames


@pytest.mark.anyio
async def test_a_model_with_a_profile_of_few_words_is_told_times(video: Path, settings: Settings) -> None:
    model = ScriptedModel([answer("[[2.5, 5]]")], profile=ModelProfile(prompts="compact"))
    one = VideoBrain(model, settings=settings, strategy="uniform-2")
    assert (await one.ask(video, QUERY, max_spans=3)).spans == ((2.5, 5),)
    assert "\n49 (9.80 s): " in model.requests[0].messages[1].text


@pytest.mark.anyio
async def test_native_calls_and_constrained_replies(video: Path, settings: Settings) -> None:
    native = settings.model_copy(update={"tool_calling": "native"})
    assert (await brain(["It is seen from 2 s to 5 s."], native).ask(video, QUERY, max_spans=1)).spans == ((2, 5),)
    model = ScriptedModel([answer("[]")], profile=ModelProfile(constrains=True))
    held = settings.model_copy(update={"constrain_replies": True})
    found = await VideoBrain(model, settings=held, strategy="blind").ask(video, QUERY, max_spans=1)
    assert found.spans == ()
    assert found.stop_reason == "answered"
    assert model.requests[0].pattern is not None
    assert r"\[" in model.requests[0].pattern


@pytest.mark.anyio
async def test_limits_bound_it_as_they_bound_a_question(video: Path, settings: Settings) -> None:
    limits = Limits(turns=2, corrections=1)
    found = await brain([uniform(0, 25), answer("[[1, 2]]")], settings).ask(video, QUERY, max_spans=1, limits=limits)
    assert found.spans == ((1, 2),)
    script = [answer("soon"), answer("[[3, 2], [4, 5]]")]
    found = await brain(script, settings).ask(video, QUERY, max_spans=3, limits=limits)
    assert (found.stop_reason, found.spans) == ("corrections", ((4, 5),))
    with pytest.raises(LimitExceeded) as raised:
        await brain(script, settings).ask(
            video, QUERY, max_spans=3, limits=limits.model_copy(update={"on_limit": "raise"})
        )
    assert raised.value.partial is not None
    assert raised.value.partial.spans == ((4, 5),)


@pytest.mark.anyio
async def test_queries_and_questions_share_a_batch_and_a_stream(video: Path, settings: Settings) -> None:
    questions = [
        Question(video=video, question=QUERY, max_spans=2, key="where"),
        Question(video=video, question="Which colour?", options=("red", "green"), key="which"),
        Question(video=video, question="Which colour?", options=("red", "green"), max_spans=2, key="both"),
    ]

    def reply(request: ChatRequest) -> str:
        return answer("[[2.5, 5]]" if QUERY in request.messages[1].text else "B")

    one = brain([reply] * 3, settings, strategy="uniform-2")
    found = {}
    async with one.ask_many(questions, concurrency=2) as outcomes:
        async for outcome in outcomes:
            found[outcome.question.key] = outcome
    assert found["where"].answer is not None
    assert found["where"].answer.spans == ((2.5, 5),)
    assert found["which"].answer is not None
    assert (found["which"].answer.choice, found["which"].answer.spans) == ("B", ())
    assert isinstance(found["both"].error, ConfigurationError)
    async with one.stream(video, QUERY, max_spans=1) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, Finished)
    assert last.answer.spans == ((2.5, 5),)


def test_without_an_event_loop(video: Path, settings: Settings) -> None:
    with brain([answer("[[1, 2]]")], settings, strategy="blind") as one:
        assert one.ask_sync(video, QUERY, max_spans=1).spans == ((1, 2),)


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", [0, -1, 101, True, "3"])
async def test_a_wrong_number_of_spans_is_an_error(video: Path, settings: Settings, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_spans is a number from 1 to 100"):
        await brain([], settings).ask(video, QUERY, max_spans=wrong)


@pytest.mark.anyio
async def test_an_answer_has_one_form(video: Path, settings: Settings) -> None:
    for more in ({"options": ["a", "b"]}, {"output_type": int}):
        with pytest.raises(ConfigurationError, match="one of them"):
            await brain([], settings).ask(video, QUERY, max_spans=1, **more)


@pytest.mark.anyio
async def test_a_strategy_of_ones_own_knows_that_spans_are_wanted(video: Path, settings: Settings) -> None:
    class Middle:
        name = "middle"

        async def run(self, run: Run) -> Conclusion:
            seconds = run.video.info.duration_seconds
            assert run.max_spans == 3
            return Conclusion("the middle", spans=((seconds / 3, 2 * seconds / 3),))  # type: ignore[arg-type]

    found = await brain([], settings, strategy=Middle()).ask(video, QUERY, max_spans=3)
    assert found.spans[0] == pytest.approx((10 / 3, 20 / 3))


# What shows it -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_reports_show_the_spans_on_the_time_line(video: Path, settings: Settings, tmp_path: Path) -> None:
    found = await brain([answer("[[2.5, 5], [7, 8]]")], settings).ask(video, QUERY, max_spans=2)
    page = render_report(found.trace)
    assert '<p class="kicker">Query</p>' in page
    assert '<p class="text">0:02.5 – 0:05.0, 0:07.0 – 0:08.0</p>' in page  # noqa: RUF001
    assert page.count('<rect class="span"') == 2
    assert '<rect class="span" x="25.0%" width="25.0%"' in page
    card = found._repr_html_()
    assert "0:02.5 – 0:05.0, 0:07.0 – 0:08.0" in card  # noqa: RUF001
    assert card.count('height="3" fill="currentColor"') == 2
    listed = save_reports([ReportEntry(found.trace)], tmp_path / "runs.html", title="Runs").read_text("utf-8")
    assert "0:02.5 – 0:05.0, 0:07.0 – 0:08.0" in listed  # noqa: RUF001

    nothing = await brain([answer("[]")], settings).ask(video, QUERY, max_spans=2)
    assert '<p class="text">Not to be seen.</p>' in render_report(nothing.trace)
    question = await brain([answer("green")], settings).ask(video, "Which colour?")
    assert '<p class="kicker">Question</p>' in render_report(question.trace)
    assert "span" not in json.dumps([json.loads(event.model_dump_json()) for event in question.trace.events[:-1]])


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_line_prints_spans(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("VIDEOBRAIN_CACHE_DIR", str(settings.cache_dir))
    monkeypatch.setenv("VIDEOBRAIN_DECODER", "pyav")
    monkeypatch.setenv("VIDEOBRAIN_WARM_INDEX", "false")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    replies = [answer("[[2.5, 5], [7, 8]]"), answer("[[2.5, 5]]"), answer("[]")]
    with FakeServer(replies) as server:
        asked = ("ask", video, QUERY, "--strategy", "uniform-2", "--quiet", "--base-url", server.base_url, "--spans")
        plain = command(*asked, 2, "--report", tmp_path / "r.html")
        assert (plain.exit_code, plain.stdout) == (0, "      2.50 s to       5.00 s\n      7.00 s to       8.00 s\n")
        assert (tmp_path / "r.html").read_text("utf-8").count('<rect class="span"') == 2
        assert json.loads(command(*asked, 2, "--json").stdout)["spans"] == [[2.5, 5.0]]
        assert command(*asked, 1).stdout == "Not to be seen.\n"
        both = command(*asked, 1, "--option", "red", "--option", "green")
    assert both.exit_code == 2
    assert "an answer is an option or spans" in both.output


# A real video --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_real_video(videos: Path, settings: Settings, tmp_path: Path) -> None:
    """Frames are told with the times that the file gives them, and spans end where its last frame ends."""
    real = videos / "car-detection.mp4"
    script = [uniform(0, 60), answer("[[1000, 1100]]"), answer('{"spans": [["0:01", "0:02.5"], ["0:00", "9:59"]]}')]
    found = await brain(script, settings).ask(real, "a car comes into the picture", max_spans=5)
    info = found.trace.events[0].video  # type: ignore[union-attr]
    assert found.spans == ((1, 2.5), (0, info.duration_seconds))
    text = found.trace.messages[1].text
    first = [shown for shown in found.evidence if shown.source == "initial"]
    assert len(first) == settings.initial_frames
    assert all(f"Frame {shown.frame_index} ({shown.timestamp_seconds:.2f} s): " in text for shown in first)
    assert all(shown.timestamp_seconds < info.duration_seconds for shown in found.evidence)
    saved = Trace.load(found.trace.save(tmp_path / "run.jsonl"))
    assert saved.replay() == found.trace.messages
    assert render_report(saved) == render_report(found.trace)
