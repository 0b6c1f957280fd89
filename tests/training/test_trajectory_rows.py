"""Files of trajectories become rows lazily, and their tokens are those that the model is given and samples."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from videobrain.agent import Trace
from videobrain.errors import InputError, TraceError
from videobrain.models import ChatRequest
from videobrain.models.engine import Engine
from videobrain.training.tokens import ConversationTokenizer
from videobrain.training.verl.rows import TrajectoryRows, conversation_of


@pytest.fixture(scope="module")
def engine(tiny_random_model: Path) -> Engine:
    return Engine.load(str(tiny_random_model), offline=True, stop=threading.Event())


def rewritten(path: Path, out: Path, change: dict[str, object]) -> Path:
    """The file with fields of its first line changed."""
    first, *others = path.read_text("utf-8").splitlines(keepends=True)
    out.write_text(json.dumps({**json.loads(first), **change}) + "\n" + "".join(others), "utf-8")
    return out


def test_rows_are_found_without_reading_a_trace(trajectories: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.jsonl"  # its traces are not there
    alone.write_text(trajectories.read_text("utf-8") + "\n\n", "utf-8")
    rows = TrajectoryRows([alone, trajectories])
    assert len(rows) == 12
    assert [rows.row(number).sample.key for number in (0, 5, 6)] == ["colour-0", "colour-5", "colour-0"]
    assert rows.conversation(6).key == "colour-0"
    with pytest.raises(TraceError, match="cannot be read"):
        rows.conversation(0)
    assert len(TrajectoryRows([alone], limit=2)) == 2


def test_the_tokens_are_those_of_the_conversation(trajectories: Path, engine: Engine) -> None:
    tokenizer = ConversationTokenizer(engine.processor)
    rows = TrajectoryRows([trajectories])
    for number in range(len(rows)):
        trace = Trace.load(trajectories.parent / rows.row(number).trace)
        tokens = rows.tokens(number, tokenizer, max_tokens=4096)
        assert tokens == tokenizer(trace.messages)
        assert 0 < sum(tokens.sampled) < len(tokens.sampled)
        assert all(frame.jpeg for frame in tokens.frames)
        assert len(tokens.frames) > 2  # those that the tool showed too


def test_native_calls_come_with_their_tools(native_trajectories: Path, engine: Engine) -> None:
    found = TrajectoryRows([native_trajectories]).conversation(0)
    assert [tool.name for tool in found.tools] == ["uniform_sample"]
    tokens = ConversationTokenizer(engine.processor)(found.messages, tools=found.tools)
    last = max(number for number, message in enumerate(found.messages) if message.role == "assistant")
    given = engine.encode(ChatRequest(messages=found.messages[:last], tools=found.tools))["input_ids"][0].tolist()
    assert list(tokens.input_ids[: len(given)]) == given
    assert all(tokens.sampled[len(given) : -1])  # the reply with its end; then a newline that nobody sampled
    assert not tokens.sampled[-1]


def test_a_trajectory_that_is_too_long_is_named(trajectories: Path, engine: Engine) -> None:
    rows = TrajectoryRows([trajectories])
    tokenizer = ConversationTokenizer(engine.processor)
    length = len(rows.tokens(3, tokenizer, max_tokens=4096).input_ids)
    assert len(rows.tokens(3, tokenizer, max_tokens=length).input_ids) == length
    with pytest.raises(InputError, match=rf"'colour-3' has {length:,} tokens, and max_tokens is {length - 1:,}"):
        rows.tokens(3, tokenizer, max_tokens=length - 1)


def test_damage_is_named(trajectories: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        TrajectoryRows([tmp_path / "none.jsonl"])
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InputError, match="holds no trajectories"):
        TrajectoryRows([empty])
    damaged = rewritten(trajectories, tmp_path / "damaged.jsonl", {"trace": 7})
    with pytest.raises(InputError, match="line 1, trace"):
        TrajectoryRows([damaged]).check()
    TrajectoryRows([trajectories]).check()
    elsewhere = rewritten(trajectories, trajectories.with_name("elsewhere.jsonl"), {"trace": "run/gone.jsonl"})
    with pytest.raises(InputError, match=r"trace run/gone\.jsonl of 'colour-0' is not there .*line 1"):
        TrajectoryRows([trajectories, elsewhere]).check()


def test_what_is_no_single_episode_with_frames_is_refused(trajectories: Path) -> None:
    trace = Trace.load(trajectories.parent / "run" / "0.jsonl")
    assert len(conversation_of(trace, key="k", source="s").messages) == 5
    with pytest.raises(TraceError, match="'k' has no frames"):
        conversation_of(trace.without_frames(), key="k", source="s")
    with pytest.raises(TraceError, match="holds 2 episodes"):
        conversation_of(Trace([*trace.events, *trace.events]), key="k", source="s")
