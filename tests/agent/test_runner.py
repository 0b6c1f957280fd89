"""The async side of a run: strategies, limits of time, events, and what comes out where something fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from pydantic import Field

from tests.agent.episodes import ANSWER, clip, uniform
from tests.index.encoders import ColourEncoder
from videobrain import Event, LimitExceeded, Limits, ModelProfile, Settings, VideoBrain
from videobrain.agent import Conclusion, Run, Trace, UniformStrategy, VideoBrainStrategy, resolve_strategy
from videobrain.agent.plan import LABEL_TOKENS, PROMPT_TOKENS, REPLY_TOKENS
from videobrain.errors import ConfigurationError, ModelTimeoutError
from videobrain.models import ChatReply, ChatRequest, ImagePart, Message, ModelEvent, NativeToolCall, TextPart
from videobrain.testing import ScriptedModel, make_video
from videobrain.tools import Remaining, ToolContext, ToolError, ToolResult, ToolRetry, clip_sample, tool, uniform_sample

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "colours.mp4", seconds=40, fps=5, size=(96, 64))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", warm_index=False, decoder="pyav")


def brain(script: Any, settings: Settings, **more: Any) -> VideoBrain:
    model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
    return VideoBrain(model, settings=settings, encoder=ColourEncoder(), **more)


class SlowModel(ScriptedModel):
    """Takes its time from the reply number `slow_from` on."""

    def __init__(self, script: list[str], *, seconds: float, slow_from: int = 0, own_timeout: bool = False) -> None:
        super().__init__(script)
        self._seconds = seconds
        self._slow_from = slow_from
        self._own_timeout = own_timeout

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        if len(self.requests) >= self._slow_from:
            if self._own_timeout:
                assert request.timeout_seconds is not None
                time.sleep(request.timeout_seconds)  # noqa: ASYNC251  # exactly when the run's scope would end it too
                raise ModelTimeoutError("The endpoint did not reply.")
            await anyio.sleep(self._seconds)
        return await super().complete(request, on_event=on_event)


# Events --------------------------------------------------------------------------------------------------------------


async def test_events_come_in_order_and_replay(video: Path, settings: Settings, tmp_path: Path) -> None:
    seen: list[Event] = []
    script = ["Hm.", uniform(0, 50), clip("blue", 0, 200), ANSWER]
    answer = await brain(script, settings).ask(video, "Which colour?", on_event=seen.append)
    assert [event.kind for event in seen] == [
        *("run_started", "frames_planned", "episode_started", "message_added", "message_added"),
        *("request_started", "reply_received", "reply_corrected", "message_added", "message_added"),
        *("request_started", "reply_received", "message_added", "tool_started", "tool_finished", "message_added"),
        *("request_started", "reply_received", "message_added", "tool_started", "tool_finished", "message_added"),
        *("request_started", "reply_received", "message_added", "finished"),
    ]
    assert [event.at_seconds for event in seen] == sorted(event.at_seconds for event in seen)
    assert seen == answer.trace.events
    loaded = Trace.load(answer.trace.save(tmp_path / "run.jsonl"))
    assert loaded.events[:-1] == seen[:-1]
    assert loaded.events[-1].model_dump() == seen[-1].model_dump()
    assert loaded.replay() == answer.trace.messages
    assert answer.usage.corrections == 1


async def test_a_tools_progress_is_an_event(video: Path, settings: Settings) -> None:
    @tool
    async def look(ctx: ToolContext) -> str:
        """Look."""
        ctx.emit("half done")
        return "Seen."

    seen: list[Event] = []
    script = ['<thinking>t</thinking><tool_call>{"name": "look", "arguments": {}}</tool_call>', ANSWER]
    await brain(script, settings, tools=[look]).ask(video, "What?", on_event=seen.append)
    kinds = [event.kind for event in seen]
    at = kinds.index("tool_progress")
    assert kinds[at - 1 : at + 2] == ["tool_started", "tool_progress", "tool_finished"]


@pytest.mark.parametrize("calling", ["tags", "native"])
@pytest.mark.parametrize("long", ["question", "options", "output_type", "tools"])
async def test_the_plan_counts_what_is_really_said(video: Path, settings: Settings, long: str, calling: str) -> None:
    """12,000 characters of anything that the model is told are 4,000 tokens, less room for frames."""
    words = "word " * 2400

    async def look() -> str:
        return "Seen."

    look.__doc__ = f"Look. {words}"
    asked: dict[str, Any] = {
        "question": {"question": f"What? {words}"},
        "options": {"options": [words, "red"]},
        "output_type": {"output_type": Annotated[str, Field(description=words)]},
        "tools": {},
    }[long]
    planned: list[int] = []

    def note(event: Event) -> None:
        if event.kind == "frames_planned":
            planned.append(event.plan.frames)

    given = settings.model_copy(update={"tool_calling": calling})
    for tools, more in ([], {}), ([tool(look)] if long == "tools" else [], asked):
        answer = {"options": "B", "output_type": '"red"'}.get(long, "red") if more else "red"
        model = ScriptedModel(
            [f"<thinking>t</thinking><answer>{answer}</answer>"],
            profile=ModelProfile(native_tools=True),
            max_model_len=8000,
        )
        one = VideoBrain(
            model, settings=given, encoder=ColourEncoder(), tools=tools, limits=Limits(turns=1, frames=1000)
        )
        await one.ask(video, **{"question": "What?", **more}, on_event=note)
    frame_tokens = ModelProfile().image_tokens(96, 64) + LABEL_TOKENS
    short, long_ = (8000 - REPLY_TOKENS - frames * frame_tokens for frames in planned)
    assert PROMPT_TOKENS <= short < PROMPT_TOKENS + frame_tokens
    assert 4000 <= long_ < 4800


# Tools ---------------------------------------------------------------------------------------------------------------


async def test_how_tools_fail(video: Path, settings: Settings) -> None:
    @tool(repeats="allow")
    async def look(ctx: ToolContext, how: str) -> ToolResult:
        """Look."""
        if how == "again":
            raise ToolRetry("Look closer.")
        if how == "broken":
            raise ToolError("The lens is broken.", withdraw=True)
        if how == "slow":
            await anyio.sleep(30)
        return ToolResult("Seen.", await ctx.frames.at([3]))

    def call(how: str) -> str:
        return f'<thinking>t</thinking><tool_call>{{"name": "look", "arguments": {{"how": "{how}"}}}}</tool_call>'

    script = [call("again"), call("slow"), call("well"), call("broken"), ANSWER]
    quick = settings.model_copy(update={"tool_timeout_seconds": 0.3})
    async with ScriptedModel(script) as model:
        answer = await brain(model, quick, tools=[look]).ask(video, "What?")
    told = [request.messages[-1].text for request in model.requests[1:]]
    assert "Look closer." in told[0]
    assert "look took longer than 0.3 seconds and was stopped" in told[1]
    assert "Result of look: Seen." in told[2]
    assert "look failed: The lens is broken. look cannot be used any more." in told[3]
    assert answer.usage.tool_calls == {"look": 3}
    assert (answer.usage.failed_calls, answer.usage.corrections) == (2, 1)
    assert answer.warnings == (
        "look took longer than 0.3 seconds and was stopped. The setting tool_timeout_seconds gives it more time.",
        "look was withdrawn: The lens is broken.",
    )
    answer.trace.replay()


async def test_a_bug_in_a_tool_comes_out_as_it_is(video: Path, settings: Settings) -> None:
    @tool
    async def look() -> str:
        """Look."""
        raise ZeroDivisionError("a bug")

    script = ['<thinking>t</thinking><tool_call>{"name": "look", "arguments": {}}</tool_call>']
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await brain(script, settings, tools=[look]).ask(video, "What?")


async def test_a_range_outside_of_the_video_is_a_correction(video: Path, settings: Settings) -> None:
    async with ScriptedModel([uniform(200, 300), uniform(150, 300), ANSWER]) as model:
        answer = await brain(model, settings).ask(video, "What?")
    assert "lies outside the video, whose frames are 0 to 199" in model.requests[1].messages[-1].text
    assert "the range was cut to 150 to 200" in model.requests[2].messages[-1].text
    assert (answer.usage.corrections, answer.usage.turns) == (1, 2)


async def test_native_calls_through_a_run(video: Path, settings: Settings) -> None:
    def call(number: int, start: int, end: int) -> ChatReply:
        arguments = json.dumps({"start_frame": start, "end_frame": end})
        one = NativeToolCall(id=f"call{number}", name="uniform_sample", arguments=arguments)
        return ChatReply(text="", tool_calls=(one,), finish_reason="tool_calls")

    native = settings.model_copy(update={"tool_calling": "native"})
    async with ScriptedModel([call(1, 0, 50), call(2, 9, 3), call(3, 60, 90), "It is red."]) as model:
        answer = await brain(model, native).ask(video, "Which colour?")
    assert answer.text == "It is red."
    assert [schema.name for schema in model.requests[0].tools] == ["uniform_sample", "clip_sample"]
    last = model.requests[-1].messages
    roles = [message.role for message in last]
    assert " ".join(roles) == "system user assistant tool user assistant tool assistant tool user"
    assert [m.tool_call_id for m in last if m.role == "tool"] == ["call1", "call2", "call3"]
    for earlier, later in zip(model.requests, model.requests[1:], strict=False):
        assert later.messages[: len(earlier.messages)] == earlier.messages
    answer.trace.replay()


async def test_a_model_without_native_calls_gets_the_tagged_protocol(video: Path, settings: Settings) -> None:
    native = settings.model_copy(update={"tool_calling": "native"})
    model = ScriptedModel([ANSWER], profile=ModelProfile(native_tools=False))
    answer = await brain(model, native).ask(video, "Which colour?")
    assert "<tool_call>" in model.requests[0].messages[0].text
    assert any("tagged protocol" in warning for warning in answer.warnings)


# Time ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own_timeout", [False, True], ids=["hangs", "times out by itself"])
@pytest.mark.parametrize("strategy", ["videobrain", "uniform"])
async def test_the_limit_of_seconds_cuts_a_hanging_request(
    video: Path, settings: Settings, own_timeout: bool, strategy: str
) -> None:
    model = SlowModel([ANSWER], seconds=60, own_timeout=own_timeout)
    began = time.monotonic()
    answer = await brain(model, settings, strategy=strategy).ask(video, "What?", limits=Limits(seconds=0.6))
    assert time.monotonic() - began < 10
    assert (answer.text, answer.stop_reason) == ("", "seconds")
    assert answer.evidence
    assert answer.warnings == ("The run ended without an answer: the limit of seconds was reached.",)
    assert [event.limit for event in answer.trace.events if event.kind == "limit_reached"] == ["seconds"]
    answer.trace.replay()


async def test_a_hanging_tool_is_cut_too(video: Path, settings: Settings) -> None:
    @tool
    async def look() -> str:
        """Look."""
        await anyio.sleep(60)
        return ""

    script = ['<thinking>t</thinking><tool_call>{"name": "look", "arguments": {}}</tool_call>']
    answer = await brain(script, settings, tools=[look]).ask(video, "What?", limits=Limits(seconds=0.6))
    assert answer.stop_reason == "seconds"
    assert answer.usage.tool_calls == {"look": 1}


async def test_an_endpoint_that_times_out_while_time_is_left_is_an_error(video: Path, settings: Settings) -> None:
    with pytest.raises(ModelTimeoutError):
        await brain([ModelTimeoutError("too slow")], settings).ask(video, "What?", limits=Limits(seconds=60))


async def test_where_time_runs_low_the_next_turn_is_the_last(video: Path, settings: Settings) -> None:
    @tool(repeats="allow")
    async def look() -> str:
        """Look."""
        await anyio.sleep(1.75)
        return "Seen."

    script = ['<thinking>t</thinking><tool_call>{"name": "look", "arguments": {}}</tool_call>', ANSWER]
    async with ScriptedModel(script) as model:
        answer = await brain(model, settings, tools=[look]).ask(video, "What?", limits=Limits(seconds=2))
    assert "This is the last reply" in model.requests[1].messages[-1].text
    assert (answer.text, answer.stop_reason) == ("red", "answered")
    assert "The limit of seconds forced the answer." in answer.warnings
    answer.trace.replay()


async def test_seconds_raise_with_what_there_is(video: Path, settings: Settings) -> None:
    limits = Limits(seconds=1, on_limit="raise")
    model = SlowModel([uniform(0, 50), ANSWER], seconds=60, slow_from=1)
    with pytest.raises(LimitExceeded, match=r"seconds.*Raise Limits\.seconds") as caught:
        await brain(model, settings).ask(video, "What?", limits=limits)
    assert caught.value.limit == "seconds"
    assert caught.value.partial is not None
    assert caught.value.partial.usage.tool_calls == {"uniform_sample": 1}
    assert caught.value.partial.trace.events[-1].kind == "finished"


@pytest.mark.parametrize(
    ("limits", "script", "limit"),
    [
        ({"turns": 1}, [uniform()], "turns"),
        ({"frames": 16}, [uniform()], "frames"),
        ({"output_tokens": 5}, [ChatReply(text=uniform(), output_tokens=9)], "output_tokens"),
        ({"corrections": 1}, ["Hm.", "Hm."], "corrections"),
        ({"corrections": 0}, ["<answer>red</answer>"], "corrections"),
    ],
)
async def test_limits_raise_with_the_partial_answer(
    video: Path, settings: Settings, limits: dict[str, int], script: list[Any], limit: str
) -> None:
    async with ScriptedModel(script) as model:
        with pytest.raises(LimitExceeded) as caught:
            await brain(model, settings).ask(video, "What?", limits=Limits(**limits, on_limit="raise"))
    assert caught.value.limit == limit
    partial = caught.value.partial
    assert partial is not None
    assert partial.stop_reason == limit
    assert len(partial.evidence) == 16
    assert partial.text == ("red" if "red" in str(script) else "")


# Strategies ----------------------------------------------------------------------------------------------------------


async def test_uniform_asks_once_without_tools(video: Path, settings: Settings) -> None:
    async with ScriptedModel([ANSWER]) as model:
        answer = await brain(model, settings, strategy="uniform-5").ask(video, "What?")
    (request,) = model.requests
    assert [f.frame_index for f in request.messages[1].frames] == [0, 49, 99, 149, 199]
    assert "<tool_call>" not in request.messages[0].text
    assert (answer.text, answer.usage.turns, answer.usage.frames) == ("red", 1, 5)
    assert answer.warnings == ()


async def test_uniform_says_where_it_saw_fewer_frames(video: Path, settings: Settings) -> None:
    answer = await brain([ANSWER], settings, strategy="uniform-50").ask(video, "What?", limits=Limits(frames=7))
    assert answer.usage.frames == 7
    assert "uniform-50 saw only 7 frames" in answer.warnings[0]


@pytest.mark.parametrize("max_model_len", [None, 8192])
async def test_blind_asks_once_without_frames_and_tools(
    video: Path, settings: Settings, max_model_len: int | None
) -> None:
    async with ScriptedModel([ANSWER], max_model_len=max_model_len) as model:
        answer = await brain(model, settings, strategy="blind").ask(video, "What?")
    (request,) = model.requests
    assert request.messages[1].frames == ()
    assert "What?" in request.messages[1].text
    assert "<tool_call>" not in request.messages[0].text
    assert (answer.text, answer.usage.turns, answer.usage.frames, answer.evidence) == ("red", 1, 0, ())
    assert answer.warnings == ()
    assert answer.trace.replay() == answer.trace.messages


async def test_the_paper_strategy_can_ask_for_calls(video: Path, settings: Settings) -> None:
    strategy = VideoBrainStrategy(initial_frames=3, min_calls=1)
    answer = await brain([ANSWER, uniform(0, 50), ANSWER], settings, strategy=strategy).ask(video, "What?")
    assert [e.source for e in answer.evidence].count("initial") == 3
    assert (answer.usage.turns, answer.usage.corrections) == (2, 1)


class Describe:
    """Ask for a description first, then for the answer; ten lines of a user's own."""

    name = "describe"

    async def run(self, run: Run) -> Conclusion:
        plan = await run.plan(initial_frames=4, tools=())
        frames = await run.initial_frames(plan.initial_frames)
        parts = (TextPart(text="Describe."), *(ImagePart(frame=frame) for frame in frames))
        described = await run.complete([Message(role="user", parts=parts)])
        episode = run.episode(plan, list(run.tools.values()), turns=3)
        thought = await run.complete([Message(role="user", parts=(TextPart(text=described.text),))])
        conclusion = await run.drive(episode, frames)
        return Conclusion(f"{thought.text}: {conclusion.text}", evidence=conclusion.evidence)


async def test_a_strategy_of_a_users_own(video: Path, settings: Settings, tmp_path: Path) -> None:
    def say(text: str) -> ChatReply:
        return ChatReply(text=text, input_tokens=100, output_tokens=10, cached_tokens=1)

    script = [say("A wall."), say("Red"), say(uniform(0, 50)), say(ANSWER)]
    async with ScriptedModel(script) as model:
        answer = await brain(model, settings, strategy=Describe()).ask(video, "Which colour?")
    assert (answer.text, answer.stop_reason) == ("Red: red", "answered")
    # Whatever a strategy does through the run is counted and recorded.
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_tokens) == (400, 40, 4)
    assert answer.usage.tool_calls == {"uniform_sample": 1}
    kinds = [event.kind for event in answer.trace.events]
    assert kinds.count("request_started") == kinds.count("reply_received") == 4
    assert [e.turn for e in answer.trace.events if e.kind == "request_started"] == [0, 0, 1, 2]
    loaded = Trace.load(answer.trace.save(tmp_path / "run.jsonl"))
    assert loaded.replay() == answer.trace.messages


class Twice:
    """Two Episodes, one after the other, and a tool call of its own."""

    name = "twice"

    async def run(self, run: Run) -> Conclusion:
        plan = await run.plan(initial_frames=2, tools=())
        remaining = Remaining(turns=1, frames=8, frames_per_call=8, seconds=run.seconds_left)
        looked = await run.call("uniform_sample", {"start_frame": 0, "end_frame": 100}, remaining)
        refused = await run.call("uniform_sample", {"start_frame": 900, "end_frame": 950}, remaining)
        assert (looked.kind, refused.kind) == ("result", "retry")
        first = await run.drive(run.episode(plan, (), turns=1), looked.frames)
        second = await run.drive(run.episode(plan, (), turns=1), await run.frames([0]))
        return Conclusion(f"{first.text} {second.text}")


async def test_all_episodes_of_a_strategy_count_and_replay(video: Path, settings: Settings) -> None:
    answer = await brain([ANSWER, "Hm.", ANSWER], settings, strategy=Twice()).ask(video, "Which colour?")
    assert answer.text == "red red"
    assert (answer.usage.turns, answer.usage.corrections, answer.usage.frames) == (2, 1, 9)
    assert answer.usage.tool_calls == {"uniform_sample": 1}
    assert len(answer.trace.replay()) == len(answer.trace.messages) == 8


async def test_a_strategy_that_hangs_is_cut(video: Path, settings: Settings) -> None:
    class Hang:
        name = "hang"

        async def run(self, run: Run) -> Conclusion:
            await anyio.sleep(60)
            return Conclusion("late")

    answer = await brain([], settings, strategy=Hang()).ask(video, "What?", limits=Limits(seconds=0.2))
    assert (answer.text, answer.stop_reason) == ("", "seconds")


async def test_strategies_by_name() -> None:
    assert resolve_strategy("videobrain") == VideoBrainStrategy()
    assert resolve_strategy("uniform") == UniformStrategy(32)
    assert resolve_strategy("uniform-8").name == "uniform-8"
    assert resolve_strategy("blind").name == "blind"
    mine = Describe()
    assert resolve_strategy(mine) is mine
    for wrong in ("", "uniform-0", "uniform-", "uniform-x", "magic"):
        with pytest.raises(ConfigurationError, match="no strategy"):
            resolve_strategy(wrong)


async def test_a_small_context_is_planned_for_and_recorded(video: Path, settings: Settings) -> None:
    model = ScriptedModel([ANSWER], max_model_len=4400)
    answer = await brain(model, settings, tools=[uniform_sample, clip_sample]).ask(video, "What?")
    (plan,) = [event.plan for event in answer.trace.events if event.kind == "frames_planned"]
    assert plan.context_tokens == 4400
    assert plan.reduced
    assert answer.usage.frames == plan.initial_frames < 16
