"""Searching the lines of the subtitles, and when that is offered."""

from __future__ import annotations

import random
import time
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from videobrain.errors import ConfigurationError
from videobrain.index.words import WordIndex, words_of
from videobrain.tools import (
    Remaining,
    SubtitleAccess,
    ToolContext,
    ToolError,
    ToolResult,
    ToolRetry,
    clip_sample,
    default_tools,
    find_tool,
    resolve_tools,
    search_subtitles,
    tools_for,
    uniform_sample,
)
from videobrain.video import FrameTable, SubtitleLine, Subtitles
from videobrain.video.subtitles import place

TEXTS = (
    "Welcome to the match.",
    "What a goal!",
    "The referee looks at the screen.",
    "No goal: it was offside, says the referee.",
    "The Café is open. Goal, goal, goal!",
)


def table(frames: int = 1000, fps: float = 10.0) -> FrameTable:
    pts = np.arange(frames, dtype=np.int64)
    return FrameTable(pts / fps, pts, np.ones(frames, bool), frames / fps, Fraction(1, 10))


def subtitles(*texts: str) -> Subtitles:
    """One line every ten seconds, that is every hundred frames."""
    lines = [SubtitleLine(10.0 * n, 10.0 * n + 5, text) for n, text in enumerate(texts)]
    return Subtitles(source="match.srt", lines=place(lines, table()))


def context(*texts: str) -> ToolContext:
    video: Any = SimpleNamespace(table=table())
    unused: Any = None
    return ToolContext(
        video=video,
        frames=unused,
        search=unused,
        remaining=Remaining(turns=5, frames=100, frames_per_call=20, seconds=None),
        emit=lambda text: None,
        subtitles=SubtitleAccess(subtitles(*texts)) if texts else None,
    )


async def search(context: ToolContext, **arguments: Any) -> ToolResult:
    return await search_subtitles.run(context, arguments, timeout_seconds=30)


@pytest.mark.anyio
async def test_the_best_lines_come_first() -> None:
    found = await search(context(*TEXTS), query="GOAL")
    assert list(found.lines) == [4, 1, 3]  # three times, in few words, in many words
    assert found.text == "3 lines from frame 0 to 1000 that best match 'GOAL', the best one first."
    assert not found.frames
    found = await search(context(*TEXTS), query="referee offside")
    assert list(found.lines) == [3, 2]
    found = await search(context(*TEXTS), query="cafe\u0301")
    assert list(found.lines) == [4]
    assert found.text.startswith("1 line from")


@pytest.mark.anyio
async def test_a_range_is_kept_to() -> None:
    found = await search(context(*TEXTS), query="goal", start_frame=100, end_frame=400)
    assert list(found.lines) == [1, 3]
    found = await search(context(*TEXTS), query="goal", start_frame=101)
    assert list(found.lines) == [4, 3]
    found = await search(context(*TEXTS), query="goal", start_frame=-5, end_frame=100)
    assert not found.lines
    assert found.text == (
        "The video has 1000 frames; the range was cut to 0 to 100. No line from frame 0 to 100 holds a word of 'goal'."
    )
    with pytest.raises(ToolRetry, match="0 to 999"):
        await search(context(*TEXTS), query="goal", start_frame=2000)


@pytest.mark.anyio
async def test_no_more_than_eight_lines() -> None:
    found = await search(context(*[f"goal number {n}" for n in range(20)]), query="goal")
    assert list(found.lines) == list(range(8))


@pytest.mark.anyio
async def test_what_cannot_be_searched() -> None:
    with pytest.raises(ToolRetry, match="query must not be empty"):
        await search(context(*TEXTS), query=" \n")
    assert (await search(context(*TEXTS), query="?!")).text.startswith("No line")
    with pytest.raises(ToolError, match="no subtitles") as caught:
        await search(context(), query="goal")
    assert caught.value.withdraw


def test_what_the_model_is_told_of_it() -> None:
    spec = search_subtitles.spec
    assert (spec.name, spec.max_frames, spec.parameters["required"]) == ("search_subtitles", 0, ["query"])
    assert spec.problems({"query": "goal"}) == []
    assert spec.problems({"query": "goal", "start_frame": 5, "end_frame": None}) == []
    assert spec.problems({"query": "goal", "start_frame": 5, "end_frame": 5})
    assert spec.problems({})
    assert spec.frames_per_call(20) == 0


def test_it_is_offered_where_there_are_subtitles() -> None:
    def names(tools: list[Any] | None, *, subtitles: bool) -> list[str]:
        offered = tools_for(resolve_tools(tools), named=tools is not None, subtitles=subtitles)
        return [tool.name for tool in offered]

    assert names(None, subtitles=False) == ["uniform_sample", "clip_sample"]
    assert names(None, subtitles=True) == ["uniform_sample", "clip_sample", "search_subtitles"]
    assert names([uniform_sample], subtitles=True) == ["uniform_sample"]  # the application has chosen
    assert names([clip_sample, "search_subtitles"], subtitles=True) == ["clip_sample", "search_subtitles"]
    assert names([clip_sample, "search_subtitles"], subtitles=False) == ["clip_sample"]
    assert find_tool("search_subtitles") is search_subtitles
    assert search_subtitles not in default_tools()
    with pytest.raises(ConfigurationError, match="clip_sample, search_subtitles, uniform_sample"):
        find_tool("nonsense")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t STOP, e-mail me: a_b 4.5!", ["don't", "stop", "e", "mail", "me", "a_b", "4", "5"]),
        ("Größe ÉTÉ naïve", ["grosse", "ete", "naive"]),
        ("守门员 scores ゴール", ["守", "门", "员", "scores", "コ", "ー", "ル"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    found = words_of(text)
    if "ゴール" in text:  # how its accent is written is not what this is about
        assert found[:4] == words[:4]
        assert len(found) == len(words)
    else:
        assert found == words


def test_scores_are_those_of_bm25() -> None:
    """Against the formula, written out over every text."""
    random_ = random.Random(0)
    texts = [" ".join(random_.choices("abcdefgh", k=random_.randint(1, 9))) for _ in range(200)]
    mean = sum(len(text.split()) for text in texts) / len(texts)

    def score(text: str, query: list[str]) -> float:
        words = text.split()
        total = 0.0
        for word in query:
            holding = sum(word in other.split() for other in texts)
            rarity = np.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            count = words.count(word)
            total += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(words) / mean))
        return total

    index = WordIndex(texts)
    for query in ("a", "b c", "h g f e"):
        expected = sorted(range(200), key=lambda n: (-round(score(texts[n], query.split()), 9), n))[:5]
        found = index.search(query, k=5)
        assert [round(score(texts[n], query.split()), 9) for n in found] == [
            round(score(texts[n], query.split()), 9) for n in expected
        ]


def test_a_hundred_thousand_lines_are_searched_quickly() -> None:
    index = WordIndex(f"the line of number {n}" for n in range(100_000))
    began = time.process_time()
    assert index.search("number 77777", k=3)[0] == 77777
    assert time.process_time() - began < 5
    assert WordIndex([]).search("x", k=3) == []
