"""Ten thousand replies, generated and mutated: none crashes an Episode, none keeps it going, all replay."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.episodes import ANSWER, TOOLS, clip, config, frame, frames, uniform
from videobrain.agent import (
    AskModel,
    CallTool,
    Episode,
    EpisodeConfig,
    EpisodeStarted,
    Event,
    Finish,
    MessageAdded,
    ReplyReceived,
    ToolFinished,
    ToolOutcome,
    Trace,
)
from videobrain.errors import TraceError
from videobrain.models import ChatReply, Message, NativeToolCall

REPLIES = 10_000
PARTS = 10  # tests that share them, so that a failure names its part
OPTIONS = ("red", "green", "blue")
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}, "required": ["n"]}

PIECES = [
    *("<thinking>", "</thinking>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<answer>", "</answer>"),
    *("```json\n", "```", "{", "}", "[", "]", '"', "\\", "\\ud800", "\n", " ", ",", ":", "\x00", "\u2028", "🎬", "NaN"),
    *('{"name": "uniform_sample", "arguments": ', '{"start_frame": 0, "end_frame": 50}', '{"n": 3}', "null", "1e999"),
    *("B", "(C)", "red", "The answer is A.", "uniform_sample", "clip_sample", "zoom", "{0}", "{problem}", "%s", "-5"),
    *('"start_frame": ', '"end_frame": ', '"prompt": ', '"arguments": ', "true", "9" * 30, "9" * 5000, "[" * 300),
]


def good(rng: random.Random) -> str:
    start = rng.randrange(-20, 1020)
    end = start + rng.randrange(-20, 400)
    return rng.choices(
        [
            uniform(start, end),
            clip(rng.choice(["a car", "a dog", "A  car", " ", "x" * 300]), start, end),
            ANSWER,
            "<thinking>t</thinking><answer>B</answer>",
            '<thinking>t</thinking><answer>{"n": 3}</answer>',
        ],
        [8, 8, 1, 1, 1],
    )[0]


def mutated(rng: random.Random) -> str:
    text = good(rng)
    for _ in range(rng.randrange(1, 5)):
        at, length = rng.randrange(len(text) + 1), rng.randrange(12)
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + text[at + length :]
        elif kind == 1:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 2:
            text = text[:at] + chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xD7FF)])) + text[at + 1 :]
        elif kind == 3:
            text = text[:at] + text[at - length : at] * rng.randrange(1, 4) + text[at:]
        else:
            text += good(rng)
    return text


def made_up(rng: random.Random) -> str:
    return "".join(rng.choices(PIECES, k=rng.randrange(12)))


def reply(rng: random.Random, *, native: bool) -> ChatReply:
    source: Callable[[random.Random], str] = rng.choices([good, mutated, made_up], [5, 4, 1])[0]
    calls = []
    for number in range(rng.choices([0, 1, 2, 3], [4, 8, 1, 1] if native else [30, 1, 1, 0])[0]):
        arguments = json.dumps({"start_frame": rng.randrange(900), "end_frame": 1000})
        arguments = arguments if rng.random() < 0.7 else source(rng)
        name = rng.choices(["uniform_sample", "clip_sample", "zoom", "", "{0}"], [12, 3, 1, 1, 1])[0]
        calls.append(NativeToolCall(id=f"call{number}", name=name, arguments=arguments))
    return ChatReply(
        text="" if calls and rng.random() < 0.8 else source(rng),
        reasoning=rng.choice(["", "", "Hm.", " "]),
        tool_calls=tuple(calls),
        finish_reason=rng.choices(["stop", "length", "tool_calls", "content_filter"], [30, 2, 1, 1])[0],
        input_tokens=rng.choice([0, 100, 3000]),
        output_tokens=rng.choice([0, 20, 2000]),
    )


def outcome(rng: random.Random) -> ToolOutcome:
    text = rng.choice(["", "Frames.", "{0} {text}", "<answer>B</answer>"])
    kind = rng.choices(["result", "retry", "error"], [6, 1, 1])[0]
    if kind != "result":
        return ToolOutcome(kind=kind, text=text, withdraw=kind == "error" and rng.random() < 0.3)
    shown = tuple(frame(rng.randrange(60), rng.choice([None, None, "still"])) for _ in range(rng.randrange(30)))
    return ToolOutcome(kind="result", text=text, frames=shown, similarities={f.frame_index: 0.5 for f in shown})


def settings(rng: random.Random) -> EpisodeConfig:
    form = rng.choice([{}, {}, {"options": OPTIONS}, {"output_schema": SCHEMA}])
    limits = {
        "turns": rng.randrange(1, 8),
        "corrections": rng.randrange(5),
        "frames": rng.choice([2, 20, 128]),
        "frames_per_call": rng.choice([4, 20]),
        "on_limit": rng.choice(["answer", "raise"]),
        "input_tokens": rng.choice([None, None, 5000]),
        "output_tokens": rng.choice([None, None, 3000]),
    }
    return config(
        **form,
        limits=limits,
        tools=rng.choice([TOOLS, TOOLS, TOOLS, TOOLS[:1], ()]),
        calling=rng.choice(["tags", "native"]),
        constrain=rng.random() < 0.1,
        min_calls=rng.choice([0, 0, 0, 2]),
        context_tokens=rng.choice([None, 4000]),
    )


def check_conversation(sent: list[Message], now: list[Message]) -> None:
    """Nothing that was sent has changed, and what is sent now is a conversation that servers take."""
    assert now[: len(sent)] == sent
    assert now[-1].role != "assistant"
    waiting: list[str] = []
    for message in now:
        if message.role == "tool":
            assert message.tool_call_id == waiting.pop(0)
            assert not message.frames
        else:
            assert waiting == []
        if message.role == "assistant":
            waiting = [call.id for call in message.tool_calls]
        else:
            assert message.parts
    assert waiting == []


def play(rng: random.Random, configuration: EpisodeConfig) -> tuple[list[Event], int, str]:
    """Drive one Episode to its end; its events, the number of replies it took, and why it ended."""
    episode = Episode(configuration)
    events: list[Event] = [EpisodeStarted(config=configuration)]
    limits, requests, reported = configuration.limits, 0, 0
    sent: list[Message] = []
    step = episode.start(frames(0, 50))
    while True:
        events += [MessageAdded(message=message) for message in episode.messages[reported:]]
        reported = len(episode.messages)
        time_low = rng.random() < 0.03
        match step:
            case AskModel():
                check_conversation(sent, episode.messages)
                sent = list(episode.messages)
                assert 1 <= step.turn <= limits.turns
                assert step.max_output_tokens >= 16
                requests += 1
                received = reply(rng, native=configuration.calling == "native")
                step = episode.reply(received, time_low=time_low)
                events.append(ReplyReceived(reply=received, time_low=time_low))
            case CallTool():
                assert step.name in {spec.name for spec in configuration.tools}
                assert step.turn <= limits.turns
                given = outcome(rng)
                step = episode.observe(given, time_low=time_low)
                events.append(ToolFinished(tool="t", outcome=given, seconds=0, time_low=time_low))
            case Finish(conclusion):
                assert (conclusion.stop_reason == "answered") <= bool(conclusion.text)
                break
    usage = episode.usage
    assert requests <= limits.turns + limits.corrections
    assert usage.turns <= limits.turns
    assert usage.corrections <= limits.corrections
    assert usage.frames <= max(2, limits.frames)
    assert usage.frames == sum(len(message.frames) for message in episode.messages)
    valid = episode.violations() == []
    assert not (valid and conclusion.stop_reason == "corrections")
    return events, requests, conclusion.stop_reason


@pytest.mark.parametrize("part", range(PARTS))
def test_no_reply_crashes_an_episode_and_every_run_replays(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)  # thousands of files that nobody needs after a crash
    rng = random.Random(part)
    replies = runs = called = 0
    ends: set[str] = set()
    while replies < REPLIES // PARTS:
        events, requests, reason = play(rng, settings(rng))
        replies, runs = replies + requests, runs + 1
        trace = Trace(events)
        loaded = Trace.load(trace.save(tmp_path / "run.jsonl"))
        assert loaded.events == trace.events
        assert loaded.replay() == trace.messages
        called += sum(isinstance(event, ToolFinished) for event in events)
        ends.add(reason)
    # The fuzz is one only where it reaches every corner.
    assert runs > 100
    assert called > 50
    assert ends >= {"answered", "corrections", "turns", "frames", "input_tokens", "output_tokens", "context"}


def test_the_fuzz_would_notice_a_changed_message() -> None:
    rng = random.Random(1)
    while True:
        events, *_ = play(rng, settings(rng))
        messages = [number for number, event in enumerate(events) if isinstance(event, MessageAdded)]
        if len(messages) > 4:
            break
    changed = Message(role="user", parts=({"kind": "text", "text": "something else"},))
    for number in messages:
        wrong = [*events[:number], MessageAdded(message=changed), *events[number + 1 :]]
        with pytest.raises(TraceError, match="does not replay"):
            Trace(wrong).replay()
