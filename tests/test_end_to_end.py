"""The whole loop on a real film with real models: through a vLLM server, and in process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environments.fixtures import VLLMServer

from videobrain import Limits, Settings, Trace, VideoBrain
from videobrain.agent import VideoBrainStrategy


def ask(
    video: Path, tmp_path: Path, encoder: Path, *arguments: str, **environment: str
) -> tuple[dict[str, Any], Trace]:
    """``videobrain ask`` in a process of its own, as a user runs it, with replies held to the grammar."""
    command = [
        sys.executable,
        "-m",
        "videobrain",
        "ask",
        str(video),
        "What does the rabbit do?",
        "--json",
        "--constrain",
    ]
    command += ["--min-calls", "2", "--max-corrections", "40", "--encoder", str(encoder)]
    command += ["--trace", str(tmp_path / "run.jsonl"), "--report", str(tmp_path / "run.html"), *arguments]
    # No seed: vLLM's engine dies of a seeded request on a CPU.
    settings = {"VIDEOBRAIN_CACHE_DIR": str(tmp_path / "cache"), "VIDEOBRAIN_TEMPERATURE": "1"}
    settings["VIDEOBRAIN_TEXT_CHARACTERS"] = "200"
    done = subprocess.run(
        command, env={**os.environ, **settings, **environment}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), Trace.load(tmp_path / "run.jsonl")


def check(answer: dict[str, Any], trace: Trace, tmp_path: Path) -> None:
    assert answer["stop_reason"] == "answered"
    assert answer["text"]
    assert sum(answer["usage"]["tool_calls"].values()) >= 2
    assert answer["usage"]["frames"] == len(answer["evidence"]) > 16
    assert answer["usage"]["input_tokens"] > 16 * 60
    trace.replay()
    # Every reply was in form: what had to be corrected are ranges, which no grammar can order.
    problems = [event.problem for event in trace.events if event.kind == "reply_corrected"]
    assert all("smaller than end_frame" in problem or "used before" in problem for problem in problems), problems
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "What does the rabbit do?" in page
    assert "data:image/jpeg;base64," in page


@pytest.mark.server
@pytest.mark.timeout(900)
def test_through_a_vllm_server(
    videos: Path, vllm_server: VLLMServer, tiny_random_encoder: Path, tmp_path: Path
) -> None:
    film = videos / "bbb_448x252_av.mp4"
    answer, trace = ask(
        film, tmp_path, tiny_random_encoder, "--base-url", vllm_server.base_url, OPENAI_API_KEY=vllm_server.api_key
    )
    check(answer, trace, tmp_path)
    assert vllm_server.api_key not in (tmp_path / "run.jsonl").read_text(encoding="utf-8")
    # Messages only grow at the end, so the server takes what it has seen from its prefix cache.
    replies = [event.reply for event in trace.events if event.kind == "reply_received"]
    assert replies[-1].cached_tokens >= replies[0].input_tokens * 0.9 > 0


@pytest.mark.timeout(300)
def test_in_process(videos: Path, tiny_random_model: Path, tiny_random_encoder: Path, tmp_path: Path) -> None:
    answer, trace = ask(
        videos / "bbb_448x252_av.mp4",
        tmp_path,
        tiny_random_encoder,
        "--model",
        f"local:{tiny_random_model}",
        VIDEOBRAIN_SEED="1",
    )
    check(answer, trace, tmp_path)


@pytest.mark.server
@pytest.mark.anyio
@pytest.mark.timeout(900)
async def test_many_questions_at_once_through_vllm(
    videos: Path, vllm_server: VLLMServer, tiny_random_encoder: Path, tmp_path: Path
) -> None:
    from videobrain import Question

    settings = Settings(
        cache_dir=tmp_path,
        constrain_replies=True,
        text_characters=200,
        temperature=1,
        max_output_tokens=400,
        image_uuids=True,
        encoder=str(tiny_random_encoder),
    )
    questions = [
        Question(video=videos / name, question=f"What happens? ({n})", options=("a", "b", "c"), key=f"{name} {n}")
        for name in ("flower.mp4", "car-detection.mp4")
        for n in range(4)
    ]
    async with (
        VideoBrain(
            base_url=vllm_server.base_url,
            api_key=vllm_server.api_key,
            strategy=VideoBrainStrategy(min_calls=1),
            limits=Limits(turns=3, corrections=20),
            settings=settings,
        ) as brain,
        brain.ask_many(questions, concurrency=8) as outcomes,
    ):
        found = {outcome.question.key: outcome async for outcome in outcomes}
    assert set(found) == {question.key for question in questions}
    for outcome in found.values():
        assert outcome.error is None
        assert outcome.answer is not None
        assert outcome.answer.choice in ("A", "B", "C")
        assert sum(outcome.answer.usage.tool_calls.values()) >= 1
