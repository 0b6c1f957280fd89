"""The front door: what an application developer gets from VideoBrain."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from tests.index.encoders import ColourEncoder
from videobrain import (
    Answer,
    ConfigurationError,
    Event,
    Finished,
    LimitExceeded,
    Limits,
    ModelProfile,
    Question,
    Settings,
    ToolContext,
    ToolResult,
    Trace,
    VideoBrain,
    VideoError,
    tool,
)
from videobrain.agent import Run
from videobrain.errors import ModelConnectionError, ModelServerError, TraceError, VideoNotFoundError
from videobrain.models import ChatReply, ChatRequest, ModelEvent, NativeToolCall
from videobrain.report import render_report
from videobrain.testing import FakeServer, Fault, ScriptedModel, make_video, read_frame_index
from videobrain.video import Video

ANSWER = "<thinking>The frames suffice.</thinking>\n<answer>red</answer>"


def call(tool: str, **arguments: object) -> str:
    body = json.dumps({"name": tool, "arguments": arguments})
    return f"<thinking>More frames are needed.</thinking>\n<tool_call>{body}</tool_call>"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seconds: red, green, blue, yellow, ten seconds each."""
    return make_video(tmp_path_factory.mktemp("videos") / "scenes.mp4", seconds=40, fps=10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", retry_seconds=5)


@pytest.mark.anyio
async def test_ask_answers_with_evidence_usage_and_trace(video: Path, settings: Settings) -> None:
    script = [
        call("uniform_sample", start_frame=100, end_frame=200),
        call("clip_sample", start_frame=0, end_frame=400, prompt="blue"),
        ANSWER,
    ]
    async with ScriptedModel(script) as model, VideoBrain(model, encoder=ColourEncoder(), settings=settings) as brain:
        answer = await brain.ask(video, "Which colour comes first?")
    assert (answer.text, answer.choice, answer.stop_reason, answer.warnings) == ("red", None, "answered", ())
    assert answer.usage.turns == 3
    assert answer.usage.tool_calls == {"uniform_sample": 1, "clip_sample": 1}
    assert answer.usage.frames == len(answer.evidence) == 16 + 8 + 4
    found = [evidence for evidence in answer.evidence if evidence.source == "clip_sample"]
    assert all(200 <= evidence.frame_index < 300 and (evidence.similarity or 0) > 0.9 for evidence in found)
    # The model was sent the frames that it was told of.
    for message in answer.trace.messages:
        for frame in message.frames:
            pixels = np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("RGB"))
            assert read_frame_index(pixels) == frame.frame_index
    assert isinstance(answer.trace.events[-1], Finished)
    answer.trace.replay()


@pytest.mark.anyio
async def test_multiple_choice_and_structured_answers(video: Path, settings: Settings) -> None:
    class Colours(BaseModel):
        first: str
        count: int

    json_answer = '<thinking>Four.</thinking><answer>{"first": "red", "count": 4}</answer>'
    script = ["<thinking>x</thinking><answer>(b) green</answer>", ANSWER, json_answer]
    async with VideoBrain(ScriptedModel(script), settings=settings) as brain:
        chosen = await brain.ask(video, "Which comes second?", options=["red", "green"])
        structured = await brain.ask(video, "Which colours?", output_type=Colours)
    assert chosen.choice == "B"
    assert structured.output == Colours(first="red", count=4)
    assert structured.usage.corrections == 1
    structured.trace.replay()


@pytest.mark.anyio
async def test_options_may_say_the_same(video: Path, settings: Settings) -> None:
    """As in a question of NExT-GQA: letters tell them apart, and the text alone chooses none of them."""
    script = ["<thinking>x</thinking><answer>scarf</answer>", "<thinking>x</thinking><answer>C</answer>"]
    async with VideoBrain(ScriptedModel(script), settings=settings) as brain:
        answer = await brain.ask(video, "What is worn?", options=["scarf", "cap", "scarf"])
    assert (answer.choice, answer.usage.corrections) == ("C", 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"question": " "}, "question is empty"),
        ({"question": None}, "None is no question"),
        ({"question": "q", "options": [1, 2]}, "2 to 26 options"),
        ({"question": "q", "options": ["a"]}, "2 to 26 options"),
        ({"question": "q", "options": ["a", " "]}, "An option is empty"),
        ({"question": "q", "options": ["a", "b"], "output_type": int}, "not both"),
        ({"question": "q", "output_type": threading.Event}, "output type .*Event.* cannot be written as JSON"),
        ({"question": "q", "output_type": Callable[[int], int]}, "output type .* cannot be written as JSON"),
    ],
)
async def test_questions_that_cannot_be_asked(
    video: Path, settings: Settings, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        await VideoBrain(ScriptedModel([]), settings=settings).ask(video, **arguments)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_video_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(VideoNotFoundError, match=r"nowhere\.mp4"):
        await VideoBrain(ScriptedModel([]), settings=settings).ask(tmp_path / "nowhere.mp4", "What?")


def test_wrong_names_are_reported_at_once() -> None:
    for wrong in ({"model": "gpt-4o"}, {"strategy": "magic"}, {"tools": ["no_such_tool"]}):
        with pytest.raises(ConfigurationError):
            VideoBrain(**wrong)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_through_a_server(video: Path, settings: Settings) -> None:
    with FakeServer([Fault.status(500), call("uniform_sample", start_frame=0, end_frame=50), ANSWER]) as server:
        brain = VideoBrain(base_url=server.base_url, api_key="secret-key-1", settings=settings)
        events: list[Event] = []
        answer = await brain.ask(video, "Which colour comes first?", on_event=events.append)
        await _closed(server)  # without `async with`, each call cleans up after itself
    assert answer.text == "red"
    assert [event.kind for event in events].count("request_retrying") == 1
    assert "secret-key-1" not in "".join(event.model_dump_json() for event in events)
    assert events[0].kind == "run_started"
    assert events[-1].kind == "finished"


@pytest.mark.anyio
async def test_stream_ends_with_finished_and_raises_what_the_run_raised(video: Path, settings: Settings) -> None:
    brain = VideoBrain(ScriptedModel([ANSWER]), settings=settings)
    async with brain.stream(video, "What?") as events:
        kinds = [event.kind async for event in events]
    assert kinds[-1] == "finished"
    brain = VideoBrain(ScriptedModel([ModelServerError("the server failed", status=500)]), settings=settings)
    async with brain.stream(video, "What?") as events:
        with pytest.raises(ModelServerError):
            _ = [event async for event in events]


@pytest.mark.anyio
async def test_ask_many_gives_every_outcome_and_one_failure_spoils_no_other(
    video: Path, settings: Settings, tmp_path: Path
) -> None:
    def reply(request: ChatRequest) -> str:
        question = request.messages[1].text
        if "question 3" in question:
            raise ValueError("a bug in a model")
        return f"<thinking>x</thinking><answer>{question.split('question ')[1][:2].strip()}</answer>"

    questions = [Question(video=video, question=f"question {n} ?", key=str(n)) for n in range(12)]
    questions.insert(5, Question(video=tmp_path / "gone.mp4", question="question 99 ?", key="gone"))
    taken = 0

    async def source() -> AsyncIterator[Question]:
        nonlocal taken
        for question in questions:
            taken += 1
            yield question

    outcomes = []
    async with (
        VideoBrain(ScriptedModel([reply] * 12), settings=settings) as brain,
        brain.ask_many(source(), concurrency=3) as stream,
    ):
        async for outcome in stream:
            outcomes.append(outcome)
            assert taken <= len(outcomes) + 4  # read only as far as it is worked on
    by_key = {outcome.question.key: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_key) == 13
    assert isinstance(by_key["gone"].error, VideoNotFoundError)
    assert isinstance(by_key["3"].error, ValueError)
    for n in (0, 1, 2, 4, 11):
        answer = by_key[str(n)].answer
        assert answer is not None
        assert answer.text == str(n)
        assert not any(frame.jpeg for frame in answer.trace.frames().values())


@pytest.mark.anyio
@pytest.mark.parametrize("failing", ["limit", "model"])
async def test_outcomes_that_failed_hold_no_frames(failing: str, video: Path, settings: Settings) -> None:
    looks = call("uniform_sample", start_frame=0, end_frame=50)
    fault = ModelServerError("the server failed", status=500)
    model = ScriptedModel([looks, looks if failing == "limit" else fault])
    limits = Limits(turns=1, corrections=0, on_limit="raise") if failing == "limit" else Limits()
    async with VideoBrain(model, limits=limits, settings=settings) as brain:
        questions = [Question(video=video, question=f"q{n}") for n in range(2 if failing == "limit" else 1)]
        async with brain.ask_many(questions, concurrency=1) as stream:
            outcomes = [outcome async for outcome in stream]
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Run]
    for outcome in outcomes:
        if failing == "model":
            assert outcome.error is fault
        else:
            assert isinstance(outcome.error, LimitExceeded)
            assert outcome.error.partial is not None
            frames = outcome.error.partial.trace.frames()
            assert frames
            assert not any(frame.jpeg for frame in frames.values())


@pytest.mark.anyio
async def test_leaving_ask_many_early_cancels_the_rest(video: Path, settings: Settings) -> None:
    questions = (Question(video=video, question=f"q{n}") for n in range(10_000))
    brain = VideoBrain(ScriptedModel([ANSWER] * 10_000), settings=settings)
    async with brain, brain.ask_many(questions, concurrency=4) as outcomes:
        async for outcome in outcomes:
            assert outcome.error is None
            break
    assert next(questions).question != "q9999"


class Slow(ScriptedModel):
    """Leaves time for what goes on beside its replies."""

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        await anyio.sleep(0.3)
        return await super().complete(request, on_event=on_event)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "embeds"),
    [
        ({}, True),
        ({"tools": ["uniform_sample"]}, False),
        ({"strategy": "uniform-4"}, False),
        ({"strategy": "blind"}, False),
    ],
)
async def test_frames_are_embedded_ahead_for_those_who_may_search(
    how: dict[str, Any], embeds: bool, video: Path, settings: Settings
) -> None:
    encoder = ColourEncoder()
    warm = settings.model_copy(update={"warm_index": True})
    await VideoBrain(Slow([ANSWER]), encoder=encoder, settings=warm, **how).ask(video, "What?")
    assert (encoder.loads > 0) is embeds


@pytest.mark.anyio
async def test_warming_looks_for_weights_off_the_event_loop(video: Path, settings: Settings) -> None:
    looked_in: list[threading.Thread] = []

    class Elsewhere(ColourEncoder):
        @property
        def weights_local(self) -> bool:
            looked_in.append(threading.current_thread())
            return False

    encoder = Elsewhere()
    await VideoBrain(Slow([ANSWER]), encoder=encoder, settings=settings).ask(video, "What?")
    assert looked_in
    assert threading.current_thread() not in looked_in
    assert encoder.loads == 0


@pytest.mark.anyio
async def test_videos_given_as_bytes_are_not_kept_in_memory(video: Path, settings: Settings) -> None:
    def kept() -> list[str]:
        gc.collect()
        return [each.info.source for each in gc.get_objects() if type(each) is Video]

    data = await anyio.Path(video).read_bytes()
    async with VideoBrain(ScriptedModel([ANSWER] * 3), settings=settings) as brain:
        for n in range(2):
            await brain.ask(data + bytes([n]), "What?")
        assert kept() == []
        await brain.ask(video, "What?")
        assert kept() == [str(video)]


@pytest.mark.anyio
@pytest.mark.parametrize("many", [True, False], ids=["ask_many", "stream"])
async def test_a_cancelled_caller_waits_until_the_runs_have_cleaned_up(
    many: bool, video: Path, settings: Settings
) -> None:
    asked, cleaned_up = anyio.Event(), anyio.Event()

    class Hanging(ScriptedModel):
        async def complete(
            self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
        ) -> ChatReply:
            asked.set()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.1)
                    cleaned_up.set()

    async def consume() -> None:
        brain = VideoBrain(Hanging([]), settings=settings)
        async with brain.ask_many([Question(video=video, question="q")]) if many else brain.stream(video, "q") as items:
            async for _ in items:
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        await asked.wait()
        group.cancel_scope.cancel()
    assert cleaned_up.is_set()


@pytest.mark.anyio
async def test_ask_sync_works_inside_a_running_loop_and_keeps_its_model(video: Path, settings: Settings) -> None:
    with FakeServer([ANSWER, ANSWER]) as server:
        with VideoBrain(base_url=server.base_url, api_key="none", settings=settings) as brain:
            assert brain.ask_sync(video, "What?").text == "red"
            assert brain.ask_sync(video, "What?").text == "red"
            assert sum(request.path.endswith("/models") for request in server.all_requests) == 1
        await _closed(server)


@pytest.mark.anyio
async def test_aclose_frees_what_ask_sync_keeps(video: Path, settings: Settings) -> None:
    with FakeServer([ANSWER]) as server:
        async with VideoBrain(base_url=server.base_url, api_key="none", settings=settings) as brain:
            assert brain.ask_sync(video, "What?").text == "red"
        await _closed(server)


def test_ask_sync_without_a_loop(video: Path, settings: Settings) -> None:
    brain = VideoBrain(ScriptedModel([ANSWER]), settings=settings)
    assert brain.ask_sync(video, "What?").text == "red"
    brain.close()
    brain.close()
    assert not any(thread.name == "videobrain-loop" for thread in threading.enumerate())


@pytest.mark.anyio
async def test_index_and_search(video: Path, settings: Settings, tmp_path: Path) -> None:
    other = make_video(tmp_path / "other.mp4", seconds=8, fps=10, scenes=("white", "blue"))
    encoder = ColourEncoder()
    steps: list[tuple[int, int]] = []
    async with VideoBrain(encoder=encoder, settings=settings) as brain:
        index = await brain.index(video, progress=lambda done, total: steps.append((done, total)))
        assert len(index) >= 40
        assert steps[-1][0] == steps[-1][1]
        embedded = encoder.images
        hits = await brain.search(video, "blue", k=3)
        assert [hit.frame_index for hit in hits] == sorted(hit.frame_index for hit in hits)
        assert all(20 <= hit.timestamp_seconds < 30 for hit in hits)
        assert encoder.images == embedded
        assert [hit async for hit in _each(await brain.search(video, "blue", k=3, end_seconds=20))] != hits
        both = await brain.search([video, other], "white", k=2)
        assert {hit.video for hit in both} == {"other.mp4"} or all("other" in hit.video for hit in both)


async def _each(items: list[object]) -> AsyncIterator[object]:
    for item in items:
        yield item


@pytest.mark.anyio
async def test_without_an_encoder_clip_sample_is_withdrawn(video: Path, settings: Settings) -> None:
    offline = settings.model_copy(update={"offline": True, "encoder": "hf-hub:nobody/nothing"})
    script = [call("clip_sample", start_frame=0, end_frame=400, prompt="blue"), ANSWER]
    async with ScriptedModel(script) as model:
        answer = await VideoBrain(model, settings=offline).ask(video, "What?")
        told = model.requests[1].messages[-1].text
    assert "clip_sample failed" in told
    assert "cannot be used any more" in told
    assert any("clip_sample was withdrawn" in warning for warning in answer.warnings)
    assert answer.text == "red"


@pytest.mark.anyio
async def test_native_calling(video: Path, settings: Settings) -> None:
    native = settings.model_copy(update={"tool_calling": "native"})
    arguments = '{"start_frame": 0, "end_frame": 40}'
    script = [
        ChatReply(
            text="",
            tool_calls=(NativeToolCall(id="c1", name="uniform_sample", arguments=arguments),),
            finish_reason="tool_calls",
        ),
        "red",
    ]
    async with ScriptedModel(script, profile=ModelProfile(native_tools=True)) as model:
        answer = await VideoBrain(model, settings=native).ask(video, "What?")
        assert [tool.name for tool in model.requests[0].tools] == ["uniform_sample", "clip_sample"]
        roles = [message.role for message in model.requests[1].messages]
    assert roles == ["system", "user", "assistant", "tool", "user"]
    assert answer.text == "red"
    answer.trace.replay()


@pytest.mark.anyio
async def test_limits_raise_with_what_there_is(video: Path, settings: Settings) -> None:
    script = [call("uniform_sample", start_frame=0, end_frame=n) for n in (50, 100)]
    brain = VideoBrain(ScriptedModel(script), limits=Limits(turns=2, on_limit="raise"), settings=settings)
    with pytest.raises(LimitExceeded, match="turns") as caught:
        await brain.ask(video, "What?")
    assert caught.value.limit == "turns"
    assert caught.value.partial is not None
    assert len(caught.value.partial.evidence) == 23  # frame 0 was shown already
    caught.value.partial.trace.replay()
    assert caught.value.trace is caught.value.partial.trace


@pytest.mark.anyio
async def test_a_search_for_nothing_is_the_models_to_mend(video: Path, settings: Settings) -> None:
    @tool
    async def find(ctx: ToolContext, words: str) -> ToolResult:
        """Find a frame.

        Args:
            words: What to look for.
        """
        return ToolResult(str([hit.frame_index for hit in await ctx.search(words, k=1, start_frame=0, end_frame=None)]))

    model = ScriptedModel([call("find", words=" "), call("find", words="blue"), ANSWER])
    async with model, VideoBrain(model, tools=[find], encoder=ColourEncoder(), settings=settings) as brain:
        answer = await brain.ask(video, "What?")
    assert (answer.usage.tool_calls, answer.usage.corrections) == ({"find": 1}, 1)
    assert "query of a search is empty" in model.requests[1].messages[-1].text


@pytest.mark.anyio
async def test_seconds_cut_a_hanging_request(video: Path, settings: Settings) -> None:
    with FakeServer([Fault.hang()]) as server:
        brain = VideoBrain(base_url=server.base_url, api_key="none", limits=Limits(seconds=1.5), settings=settings)
        began = time.monotonic()
        answer = await brain.ask(video, "What?")
        assert time.monotonic() - began < 4
        await _closed(server)
    assert answer.stop_reason == "seconds"
    assert answer.text == ""


@pytest.mark.anyio
async def test_no_callback_holds_the_event_loop(
    videos: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each callback's own time during an ask on a long film, imports done, stays below 50 ms."""
    script = [
        call("uniform_sample", start_frame=2000, end_frame=9000),
        call("clip_sample", start_frame=0, end_frame=14315, prompt="green"),
        ANSWER,
    ]
    film = videos / "bbb_448x252_av.mp4"
    with FakeServer(script * 2) as server:
        async with VideoBrain(
            base_url=server.base_url, api_key="none", encoder=ColourEncoder(), settings=settings
        ) as brain:
            await brain.ask(videos / "flower.mp4", "What?")  # first imports
            slowest: list[tuple[float, str]] = []
            run = asyncio.Handle._run

            def timed(handle: asyncio.Handle) -> None:
                began = time.thread_time()
                run(handle)
                slowest.append((time.thread_time() - began, repr(handle)))

            monkeypatch.setattr(asyncio.Handle, "_run", timed)
            answer = await brain.ask(film, "What?")
            monkeypatch.undo()
    assert answer.usage.frames > 20
    assert max(slowest)[0] < 0.05, max(slowest)


@pytest.mark.anyio
async def test_questions_on_one_video_decode_and_embed_each_frame_once(video: Path, settings: Settings) -> None:
    encoder = ColourEncoder()
    script = [call("clip_sample", start_frame=0, end_frame=400, prompt="blue"), ANSWER]

    def reply(request: ChatRequest) -> str:
        return script[(len(request.messages) - 2) // 2]

    async with VideoBrain(ScriptedModel([reply] * 12), encoder=encoder, settings=settings) as brain:
        questions = [Question(video=video, question=f"q{n}") for n in range(6)]
        async with brain.ask_many(questions, concurrency=6, keep_frames=True) as outcomes:
            answers = [outcome.answer async for outcome in outcomes]
    assert encoder.images == 40  # one frame a second
    frames = [answer.trace.frames() for answer in answers if answer is not None]
    assert len(frames) == 6
    for digest, frame in frames[0].items():
        assert all(other[digest].jpeg is frame.jpeg for other in frames)


@pytest.mark.anyio
async def test_trace_files(video: Path, settings: Settings, tmp_path: Path) -> None:
    script = [call("uniform_sample", start_frame=0, end_frame=100), ANSWER]
    answer = await VideoBrain(ScriptedModel(script), settings=settings).ask(video, "What?")
    path = answer.trace.save(tmp_path / "runs" / "one.jsonl")
    loaded = Trace.load(path)
    assert [event.model_dump() for event in loaded.events] == [event.model_dump() for event in answer.trace.events]
    assert loaded.frames() == answer.trace.frames()
    assert loaded.answer is not None
    assert loaded.answer.trace is loaded
    assert loaded.replay() == answer.trace.messages
    text = path.read_text(encoding="utf-8")
    (tmp_path / "torn.jsonl").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(TraceError, match=r"torn\.jsonl is damaged at line"):
        Trace.load(tmp_path / "torn.jsonl")
    with pytest.raises(TraceError, match="is no trace"):
        Trace.load(_write(tmp_path / "x.jsonl", "{}\n"))
    with pytest.raises(TraceError, match="cannot be read"):
        Trace.load(tmp_path / "none.jsonl")
    changed = text.replace("Which", "What").replace('"question":"What?"', '"question":"When?"')
    with pytest.raises(TraceError, match="does not replay"):
        Trace.load(_write(tmp_path / "changed.jsonl", changed)).replay()
    again = Answer.model_validate_json(answer.model_dump_json())
    assert again.text == "red"
    with pytest.raises(TraceError, match="carries no trace"):
        _ = again.trace


def test_ask_sync_from_many_threads_at_once(video: Path, settings: Settings) -> None:
    model = ScriptedModel([ANSWER] * 24)
    with (
        VideoBrain(model, settings=settings.model_copy(update={"decoder": "pyav"})) as brain,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda number: brain.ask_sync(video, f"q{number}"), range(24)))
    assert [answer.text for answer in answers] == ["red"] * 24
    assert not any(thread.name == "videobrain-loop" for thread in threading.enumerate())


@pytest.mark.anyio
async def test_what_is_missing_in_a_video_is_named(videos: Path, settings: Settings) -> None:
    answer = await VideoBrain(ScriptedModel([ANSWER]), settings=settings).ask(videos / "corrupted.mp4", "What?")
    assert any("3.00 to 3.10 s" in warning for warning in answer.warnings), answer.warnings
    truncated = await VideoBrain(ScriptedModel([ANSWER]), settings=settings).ask(videos / "annex-b.mp4", "What?")
    assert truncated.usage.frames == 6
    assert truncated.warnings


@pytest.mark.anyio
async def test_questions_of_a_failing_iterator_are_answered_before_its_error(video: Path, settings: Settings) -> None:
    def source() -> Iterator[Question]:
        for number in range(3):
            yield Question(video=video, question=f"q{number}")
        raise ValueError("the file of questions is torn")

    brain = VideoBrain(ScriptedModel([ANSWER] * 3), settings=settings)
    async with brain.ask_many(source(), concurrency=4) as stream:
        outcomes = [await anext(stream) for _ in range(3)]
        with pytest.raises(ValueError, match="is torn"):
            await anext(stream)
    assert [outcome.answer is not None for outcome in outcomes] == [True] * 3


@pytest.mark.anyio
async def test_what_is_no_question_fails_alone(video: Path, settings: Settings) -> None:
    questions: list[Any] = [None, Question(video=video, question="q"), ("x",)]
    brain = VideoBrain(ScriptedModel([ANSWER]), settings=settings)
    async with brain.ask_many(questions, concurrency=1) as stream:
        outcomes = [outcome async for outcome in stream]
    assert [type(outcome.error) for outcome in outcomes] == [ConfigurationError, type(None), ConfigurationError]


@pytest.mark.anyio
async def test_an_error_carries_what_happened_until_then(video: Path, settings: Settings, tmp_path: Path) -> None:
    script = [call("uniform_sample", start_frame=0, end_frame=100), ModelServerError("it broke", status=500)]
    with pytest.raises(ModelServerError) as caught:
        await VideoBrain(ScriptedModel(script), settings=settings).ask(video, "What?")
    trace = caught.value.trace
    assert trace is not None
    assert len(trace.frames()) == 23
    loaded = Trace.load(trace.save(tmp_path / "failed.jsonl"))
    assert loaded.answer is None
    assert loaded.events[-1].kind == "failed"
    assert "it broke" in render_report(loaded)


@pytest.mark.anyio
async def test_text_that_is_no_unicode_is_mended(settings: Settings, tmp_path: Path) -> None:
    @tool
    async def odd() -> str:
        """Say something odd."""
        return "half \ud800 a pair"

    path = make_video(tmp_path / "v.mp4", seconds=2)
    strange = path.rename(tmp_path / "v\udcff.mp4")
    model = ScriptedModel([call("odd"), "<thinking>\udcff</thinking><answer>red \udcff</answer>"])
    answer = await VideoBrain(model, tools=[odd], settings=settings).ask(strange, "What \udcff?")
    assert answer.text == "red ?"
    assert Trace.load(answer.trace.save(tmp_path / "t.jsonl")).replay()
    answer.model_dump_json()
    render_report(answer.trace)


@pytest.mark.anyio
async def test_a_server_that_is_away_is_seen_to_be_retried(video: Path, settings: Settings) -> None:
    events: list[Event] = []
    away = settings.model_copy(update={"retries": 2})
    brain = VideoBrain("openai:m", base_url="http://127.0.0.1:9/v1", api_key="none", settings=away)
    with pytest.raises(ModelConnectionError):
        await brain.ask(video, "What?", on_event=events.append)
    assert [event.kind for event in events].count("request_retrying") == 2
    assert events[-1].kind == "failed"


async def _closed(server: FakeServer) -> None:
    """All connections to it; the server hears of that a moment later."""
    for _ in range(100):
        if server.open_connections:
            await anyio.sleep(0.02)
    assert server.open_connections == 0


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.anyio
async def test_errors_of_videos_are_input_errors(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(VideoError, match=r"notes\.txt"):
        await VideoBrain(ScriptedModel([]), settings=settings).ask(tmp_path / "notes.txt", "What?")
