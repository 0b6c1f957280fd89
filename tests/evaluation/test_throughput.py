"""The benchmark of throughput at a small scale: what it measures can fail, and its bare client sends what was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation.runs import ANSWER, brain_at, loaded, question, write_videos

from tests.benchmarks.throughput import measure
from tests.benchmarks.vllm_throughput import Server, evaluated, recorded, send_bare
from videobrain.testing import FakeServer

pytestmark = pytest.mark.anyio


async def test_an_evaluation_is_much_faster_than_a_loop(tmp_path: Path) -> None:
    rates = await measure(tmp_path, latency_seconds=0.25, videos=8, each=6, one_by_one=4)
    assert rates.ratio > 3  # about 7 where nothing else works on the machine


async def test_one_question_at_once_is_not(tmp_path: Path) -> None:
    rates = await measure(tmp_path, latency_seconds=0.25, videos=2, each=2, one_by_one=4, concurrency=1)
    assert rates.ratio < 2


async def test_the_bare_client_sends_the_conversations_of_the_run(tmp_path: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        """The question 2 is answered in form only after two corrections."""
        corrected = sum(message["role"] == "assistant" for message in body["messages"])
        return "<answer>" if "Question 2:" in str(body) and corrected < 2 else ANSWER.format("A")

    benchmark = loaded(tmp_path, write_videos(tmp_path), [question(number) for number in range(6)])
    with FakeServer(reply) as server:
        async with brain_at(server.base_url, tmp_path) as brain:
            ours, traces = await evaluated(benchmark, brain, tmp_path / "run")
        sent = server.requests
        conversations = recorded(traces, "fake-model")
        bare = await send_bare(Server(server.base_url, "none", "fake-model"), conversations, 2)
        again = server.requests[len(sent) :]
    assert [len(turns) for turns in conversations].count(3) == 1, "the one that was corrected twice"
    assert (ours.replies, bare.replies) == (8, 8)
    assert sorted(str(body["messages"]) for body in sent) == sorted(str(body["messages"]) for body in again)
    assert {body["max_tokens"] for body in again} == {turn.tokens for turns in conversations for turn in turns}
