"""Questions about videos with subtitles, through the front door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.video.test_video_subtitles import LINES as STREAM_LINES
from tests.video.test_video_subtitles import as_mov_text, mux
from videobrain import (
    Finished,
    ModelProfile,
    Question,
    Settings,
    ToolContext,
    ToolResult,
    Trace,
    VideoBrain,
    tool,
)
from videobrain.agent import EpisodeStarted, ToolFinished
from videobrain.cli import app
from videobrain.display import RunDisplay
from videobrain.errors import ConfigurationError, SubtitleError
from videobrain.models import ChatRequest
from videobrain.report import render_report
from videobrain.testing import FakeServer, ScriptedModel, make_video

SRT = """1
00:00:00,000 --> 00:00:02,000
Welcome to the match.

2
00:00:12,000 --> 00:00:13,000
What a penalty! Anna Berg <b>scores</b> & wins.

3
00:00:30,000 --> 00:00:31,000
The referee <script>alert(1)</script>blows the whistle.
"""
ANSWER = "<thinking>The commentator says it.</thinking>\n<answer>Anna Berg</answer>"


def call(name: str, **arguments: object) -> str:
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<thinking>What is said?</thinking>\n<tool_call>{body}</tool_call>"


SEARCH = call("search_subtitles", query="scores penalty")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds of ten frames."""
    return make_video(tmp_path_factory.mktemp("videos") / "match.mp4", seconds=40, fps=10, size=(96, 64))


@pytest.fixture
def srt(tmp_path: Path) -> Path:
    path = tmp_path / "match.srt"
    path.write_text(SRT, "utf-8")
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", initial_frames=4, warm_index=False, decoder="pyav")


@pytest.mark.anyio
@pytest.mark.parametrize("prompts", ["default", "compact"])
async def test_a_question_that_the_subtitles_answer(
    video: Path, srt: Path, settings: Settings, tmp_path: Path, prompts: str
) -> None:
    script = [SEARCH, call("uniform_sample", start_frame=120, end_frame=128), ANSWER]
    model = ScriptedModel(script, profile=ModelProfile(prompts=prompts), max_model_len=32_000)
    async with model, VideoBrain(model, settings=settings) as brain:
        answer = await brain.ask(video, "Who scores?", subtitles=srt)
    assert (answer.text, answer.warnings) == ("Anna Berg", ())
    assert answer.usage.tool_calls == {"search_subtitles": 1, "uniform_sample": 1}
    asked, found, looked = (request.messages[-1].text for request in model.requests)
    assert '"search_subtitles"' in model.requests[0].messages[0].text
    assert "Welcome to the match." in asked
    assert "Anna Berg" not in asked  # frames 0, 133, 266 and 399: none of them lies in its time
    assert "What a penalty! Anna Berg scores & wins." in found
    assert "120" in found
    assert "Anna Berg" not in looked  # it was said already
    assert answer.trace.replay() == answer.trace.messages
    path = answer.trace.save(tmp_path / "run.jsonl")
    again = Trace.load(path)
    assert again.replay() == answer.trace.messages
    (started,) = [event for event in again.events if isinstance(event, EpisodeStarted)]
    assert started.config.subtitles is not None
    assert started.config.subtitles.subtitles.source == str(srt)
    (searched,) = [
        event for event in again.events if isinstance(event, ToolFinished) and event.tool == "search_subtitles"
    ]
    assert searched.outcome.lines == (1,)
    for trace in (answer.trace, again, answer.without_frames().trace):
        page = render_report(trace)
        assert page.count('<q class="spoken" dir="auto">Welcome to the match.</q>') == 1
        assert "</span> What a penalty! Anna Berg scores &amp; wins.</li>" in page
        assert "3 lines of match.srt" in page
        assert "<script>alert" not in page


@pytest.mark.anyio
async def test_without_subtitles_nothing_is_different(video: Path, settings: Settings, tmp_path: Path) -> None:
    model = ScriptedModel([call("uniform_sample", start_frame=120, end_frame=128), ANSWER])
    async with model, VideoBrain(model, settings=settings) as brain:
        answer = await brain.ask(video, "Who scores?")
    assert all("ubtitles" not in message.text for request in model.requests for message in request.messages)
    written = answer.trace.save(tmp_path / "run.jsonl").read_text("utf-8")
    assert "subtitle" not in written
    assert '"lines"' not in written
    assert 'class="spoken"' not in render_report(answer.trace)


@pytest.mark.anyio
async def test_stream_and_ask_many_and_the_offset(video: Path, srt: Path, settings: Settings) -> None:
    def reply(request: ChatRequest) -> str:
        said = "".join(message.text for message in request.messages)
        return f"<thinking>x</thinking><answer>{'penalty' if 'What a penalty!' in said else 'nothing'}</answer>"

    async with VideoBrain(ScriptedModel([reply] * 4), settings=settings) as brain:
        async with brain.stream(video, "What?", subtitles=srt, subtitles_start_seconds=12) as events:
            last = [event async for event in events][-1]
        assert isinstance(last, Finished)
        assert last.answer.text == "penalty"  # it begins with the video
        questions = [
            Question(video=video, question="What?", key="with", subtitles=srt, subtitles_start_seconds=12),
            Question(video=video, question="What?", key="without"),
            Question(video=video, question="What?", key="gone", subtitles="gone.srt"),
            Question(video=video, question="What?", key="elsewhere", subtitles=srt, subtitles_start_seconds=-1e6),
        ]
        async with brain.ask_many(questions) as outcomes:
            by_key = {outcome.question.key: outcome async for outcome in outcomes}
    answers = {key: outcome.answer for key, outcome in by_key.items()}
    assert answers["with"] is not None
    assert answers["with"].text == "penalty"
    assert answers["without"] is not None
    assert answers["without"].text == "nothing"
    assert isinstance(by_key["gone"].error, SubtitleError)
    assert answers["elsewhere"] is not None
    assert answers["elsewhere"].warnings == (
        "The subtitles (match.srt) were not used: none of its 3 lines lies in the video.",
    )


def test_ask_sync_with_the_stream_of_the_video(video: Path, settings: Settings, tmp_path: Path) -> None:
    path = mux(tmp_path / "spoken.mp4", video, [("mov_text", "eng", as_mov_text, STREAM_LINES)])
    model = ScriptedModel([call("search_subtitles", query="zoe"), "<thinking>x</thinking><answer>Zoë</answer>"])
    with VideoBrain(model, settings=settings) as brain:
        answer = brain.ask_sync(path, "Who scores?", subtitles="embedded")
        assert answer.text == "Zoë"
        assert "\nFrame 30 (3.00 s): Zoë scores!" in model.requests[1].messages[-1].text
        with pytest.raises(SubtitleError, match=r"match\.mp4 has no subtitle stream\. Its streams: stream 0: video"):
            brain.ask_sync(video, "Who scores?", subtitles="embedded")
    model.assert_done()


@pytest.mark.anyio
async def test_what_cannot_be_used_is_said_before_the_model_is_asked(
    video: Path, srt: Path, settings: Settings
) -> None:
    async with ScriptedModel([]) as model, VideoBrain(model, settings=settings) as brain:
        with pytest.raises(SubtitleError, match=r"gone\.srt does not exist"):
            await brain.ask(video, "Who?", subtitles=srt.with_name("gone.srt"))
        with pytest.raises(ConfigurationError, match="subtitles_start_seconds must be a number"):
            await brain.ask(video, "Who?", subtitles=srt, subtitles_start_seconds=float("inf"))
        with pytest.raises(ConfigurationError, match="names no subtitles"):
            await brain.ask(video, "Who?", subtitles=b"1")  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_warnings_reach_the_answer(video: Path, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "match.srt"
    path.write_bytes((SRT + "\n4\n00:00:xx --> 00:00:05\nlost\n").replace("Welcome", "Welcöme").encode("latin-1"))
    async with VideoBrain(ScriptedModel([ANSWER]), settings=settings) as brain:
        answer = await brain.ask(video, "Who?", subtitles=path)
    latin, cues = answer.warnings
    assert latin.startswith("match.srt is not UTF-8; it was read as Latin-1")
    assert cues == "1 cue of the subtitles (match.srt) could not be read: it was left out."
    assert "Welcöme" in answer.trace.messages[1].text


@pytest.mark.anyio
async def test_one_shot_from_uniform_frames_reads_along(video: Path, srt: Path, settings: Settings) -> None:
    for strategy, reads in (("uniform-4", True), ("blind", False)):
        model = ScriptedModel(["<thinking>x</thinking><answer>Anna</answer>"])
        async with model, VideoBrain(model, strategy=strategy, settings=settings) as brain:
            await brain.ask(video, "Who?", subtitles=srt)
        said = "".join(message.text for message in model.requests[0].messages)
        assert ("Welcome to the match." in said) is reads
        assert "search_subtitles" not in said


@pytest.mark.anyio
async def test_tools_of_ones_own_may_give_lines(video: Path, srt: Path, settings: Settings) -> None:
    @tool
    async def last_words(ctx: ToolContext) -> ToolResult:
        """Read the last line of the subtitles."""
        return ToolResult("The last line.", lines=[len(ctx.subtitles.lines) - 1] if ctx.subtitles else [])

    @tool
    async def wrong(ctx: ToolContext) -> ToolResult:
        """Read a line that is not there."""
        return ToolResult("x", lines=[99])

    model = ScriptedModel([call("last_words"), ANSWER, call("wrong")])
    async with model, VideoBrain(model, tools=[last_words, wrong], settings=settings) as brain:
        await brain.ask(video, "Who?", subtitles=srt)
        assert '"search_subtitles"' not in model.requests[0].messages[0].text
        assert "Frame 300 (30.00 s): The referee alert(1)blows the whistle." in model.requests[1].messages[-1].text
        with pytest.raises(IndexError, match="tool wrong gave line 99 of the subtitles, which have 3 lines"):
            await brain.ask(video, "Who?", subtitles=srt)


@pytest.mark.anyio
async def test_the_terminal_shows_what_was_found(video: Path, srt: Path, settings: Settings, tmp_path: Path) -> None:
    with (
        (tmp_path / "out.txt").open("w", encoding="utf-8") as file,
        RunDisplay(file=file, conversation=True) as display,
    ):
        async with VideoBrain(ScriptedModel([SEARCH, ANSWER]), settings=settings) as brain:
            await brain.ask(video, "Who?", subtitles=srt, on_event=display)
    assert "    0:12.0  What a penalty! Anna Berg scores & wins.\n" in (tmp_path / "out.txt").read_text("utf-8")


def test_the_command_line(video: Path, srt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOBRAIN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VIDEOBRAIN_WARM_INDEX", "false")
    monkeypatch.setenv("VIDEOBRAIN_DECODER", "pyav")
    replies = iter([SEARCH, ANSWER])
    with FakeServer(lambda body: next(replies), models=["m"]) as server:
        base = ["ask", str(video), "Who scores?", "--model", "openai:m", "--base-url", server.base_url, "--quiet"]
        report = tmp_path / "run.html"
        done = CliRunner().invoke(app, [*base, "--subtitles", str(srt), "--report", str(report)])
        assert (done.exit_code, done.stdout) == (0, "Anna Berg\n")
        assert "What a penalty! Anna Berg scores" in report.read_text("utf-8")
        missing = CliRunner().invoke(app, [*base, "--subtitles", "embedded", "--subtitles-start-seconds", "3"])
    assert missing.exit_code == 2
    assert "has no subtitle stream. Its streams: stream 0: video (h264)" in missing.stderr
