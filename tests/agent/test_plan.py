"""How large the frames of a run are, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.episodes import TOOLS
from videobrain.agent import FramePlan, plan_frames
from videobrain.agent.plan import BYTES_PER_TOKEN, LABEL_TOKENS, PROMPT_TOKENS, REPLY_TOKENS
from videobrain.errors import ContextLengthError
from videobrain.limits import Limits
from videobrain.models import ModelProfile
from videobrain.tools import ToolResult, tool
from videobrain.video import FRAME_SIZES

PROFILE = ModelProfile()
LARGE, MIDDLE, SMALL = (PROFILE.image_tokens(*size.fit(1280, 720)) + LABEL_TOKENS for size in FRAME_SIZES)
WORST = 16 + 5 * 8  # frames of the paper's run
WORDS = PROMPT_TOKENS + 6 * REPLY_TOKENS


def plan(context_tokens: int | None, **changes: Any) -> FramePlan:
    facts: dict[str, Any] = {
        "width": 1280,
        "height": 720,
        "initial_frames": 16,
        "tools": TOOLS,
        "limits": Limits(),
        "profile": PROFILE,
    }
    return plan_frames(**{**facts, **changes}, context_tokens=context_tokens)


@pytest.mark.parametrize(
    ("context_tokens", "size", "initial", "frames", "cut"),
    [
        pytest.param(None, 0, 16, 128, "", id="not known"),
        pytest.param(1_000_000, 0, 16, 128, "", id="ample"),
        pytest.param(WORDS + WORST * LARGE, 0, 16, WORST, "", id="just enough"),
        pytest.param(WORDS + WORST * LARGE - 1, 1, 16, None, "448x252", id="one short"),
        pytest.param(WORDS + WORST * MIDDLE, 1, 16, WORST, "448x252", id="middle"),
        pytest.param(WORDS + WORST * MIDDLE - 1, 2, 16, None, "320x180", id="one short of the middle"),
        pytest.param(WORDS + WORST * SMALL, 2, 16, WORST, "320x180", id="small"),
        pytest.param(WORDS + WORST * SMALL - 1, 2, 16, WORST - 1, "16 at first and 55 in all", id="fewer frames"),
        pytest.param(WORDS + 20 * SMALL, 2, 10, 20, "10 at first and 20 in all", id="fewer at first"),
        pytest.param(WORDS + SMALL, 2, 1, 1, "1 at first and 1 in all", id="one frame"),
    ],
)
def test_the_resolution_gives_way_first_and_then_the_count(
    context_tokens: int | None, size: int, initial: int, frames: int | None, cut: str
) -> None:
    made = plan(context_tokens)
    assert made.size == FRAME_SIZES[size]
    assert made.initial_frames == initial
    assert made.frames >= WORST if frames is None else made.frames == frames
    assert made.frame_tokens == (LARGE, MIDDLE, SMALL)[size]
    assert made.context_tokens == context_tokens
    assert cut in made.reduced
    assert bool(made.reduced) is bool(cut)


def test_no_room_for_one_frame_is_an_error_with_a_hint() -> None:
    with pytest.raises(ContextLengthError, match="max-model-len"):
        plan(WORDS + SMALL - 1)
    with pytest.raises(ContextLengthError):
        plan(100)


@pytest.mark.parametrize(
    ("changes", "initial", "frames"),
    [
        ({"tools": (), "initial_frames": 32}, 32, 128),
        ({"limits": Limits(frames=10)}, 10, 10),
        ({"profile": ModelProfile(max_images=20)}, 16, 20),
        ({"profile": ModelProfile(max_images=8)}, 8, 8),
        ({"initial_frames": 500}, 128, 128),
    ],
)
def test_limits_and_what_a_model_takes_bound_the_frames(changes: dict[str, Any], initial: int, frames: int) -> None:
    made = plan(None, **changes)
    assert (made.initial_frames, made.frames) == (initial, frames)


def test_what_a_model_takes_is_recorded() -> None:
    assert "20 images" in plan(None, profile=ModelProfile(max_images=20)).reduced
    assert plan(None, profile=ModelProfile(max_images=500)).reduced == ""


@pytest.mark.parametrize("letter", ["w", "字"])
def test_long_words_take_their_room_from_the_frames(letter: str) -> None:
    def text(tokens: int) -> str:
        return letter * (tokens * BYTES_PER_TOKEN // len(letter.encode()))

    enough = WORDS + WORST * LARGE
    assert plan(enough, text=text(PROMPT_TOKENS)) == plan(enough)
    assert plan(enough, text=text(PROMPT_TOKENS + 1)).size == FRAME_SIZES[1]
    assert plan(enough + 500, text=text(PROMPT_TOKENS + 500)).size == FRAME_SIZES[0]
    with pytest.raises(ContextLengthError, match=r"beside 60000 tokens.*Shorten the question"):
        plan(enough, text=text(60_000))


def test_tools_without_frames_take_no_room() -> None:
    @tool(max_frames=0)
    async def note(text: str) -> ToolResult:
        """Note something."""
        return ToolResult()

    assert plan(WORDS + 16 * LARGE, tools=(note.spec,)).size == FRAME_SIZES[0]
    assert plan(WORDS + 16 * LARGE).size != FRAME_SIZES[0]


def test_a_tool_of_unknown_appetite_is_planned_with_the_limit_of_a_call() -> None:
    @tool
    async def look(at: int) -> ToolResult:
        """Look."""
        return ToolResult()

    worst = 16 + 5 * 20
    assert plan(WORDS + worst * LARGE, tools=(look.spec,)).size == FRAME_SIZES[0]
    assert plan(WORDS + worst * LARGE - 1, tools=(look.spec,)).size == FRAME_SIZES[1]


def test_small_videos_cost_what_they_are() -> None:
    made = plan(WORDS + WORST * SMALL, width=320, height=180)
    assert (made.size, made.reduced) == (FRAME_SIZES[0], "")  # never enlarged, so there is nothing to cut down


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    context=st.integers(1, 100_000),
    initial=st.integers(1, 64),
    turns=st.integers(1, 12),
    frames=st.integers(1, 200),
    size=st.tuples(st.integers(16, 4000), st.integers(16, 4000)),
    tools=st.sampled_from([(), TOOLS, TOOLS[:1]]),
)
def test_the_worst_case_of_turns_always_fits(
    context: int, initial: int, turns: int, frames: int, size: tuple[int, int], tools: Any
) -> None:
    limits = Limits(turns=turns, frames=frames)
    try:
        made = plan(context, initial_frames=initial, limits=limits, tools=tools, width=size[0], height=size[1])
    except ContextLengthError:
        return
    requests = turns if tools else 1
    assert 1 <= made.initial_frames <= min(made.frames, initial)
    assert made.frames <= frames
    shown = min(made.frames, made.initial_frames + (requests - 1) * 8)
    assert PROMPT_TOKENS + requests * REPLY_TOKENS + shown * made.frame_tokens <= context
