"""Questions per second of `evaluate`, against a loop of `ask`, and against a bare client of a vLLM server.

    python -m tests.benchmarks.throughput
    python -m tests.benchmarks.throughput --vllm DIR

Without a model: a server in this process takes a fixed time for each reply, as one with room for all requests would.
Each question is one call of a tool and an answer. The loop asks the first of the same questions one by one, with a
`VideoBrain` that is entered once.

With ``--vllm``: see `tests.benchmarks.vllm_throughput`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio
import anyio.to_thread

from tests.benchmarks import vllm_throughput
from tests.benchmarks.machine import describe
from videobrain import Settings, VideoBrain
from videobrain.evaluation.benchmarks import LoadedBenchmark, load_benchmark
from videobrain.evaluation.results import read_results
from videobrain.evaluation.runner import evaluate
from videobrain.testing import FakeServer, make_video

TARGET = 10.0
LATENCY_SECONDS, VIDEOS, QUESTIONS_EACH, ONE_BY_ONE = 1.0, 30, 10, 10

LOOK = (
    "<thinking>I look more closely at the middle.</thinking>\n"
    '<tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 20, "end_frame": 60}}</tool_call>'
)
ANSWER = "<thinking>That is enough.</thinking>\n<answer>A</answer>"


class Rates(NamedTuple):
    """Questions per second."""

    one_by_one: float
    evaluated: float

    @property
    def ratio(self) -> float:
        """How many times as fast the evaluation is."""
        return self.evaluated / self.one_by_one


def questions(directory: Path, *, videos: int, each: int) -> LoadedBenchmark:
    """Questions on small videos: 8 seconds of 320 x 180 pixels at 10 frames per second."""
    rows = []
    for number in range(videos):
        shade = f"#{40 + 200 * number // videos:02x}6040"
        make_video(directory / f"{number}.mp4", seconds=8, fps=10, scenes=[shade, "green", "blue", "yellow"])
        rows += [
            {
                "key": f"{number}-{question}",
                "video": f"{number}.mp4",
                "question": f"Question {question}: which colour is shown in the middle?",
                "options": ["green", "white"],
                "answer": "A",
            }
            for question in range(each)
        ]
    path = directory / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return load_benchmark("plain", path)


async def measure(
    directory: Path,
    *,
    latency_seconds: float = LATENCY_SECONDS,
    videos: int = VIDEOS,
    each: int = QUESTIONS_EACH,
    one_by_one: int = ONE_BY_ONE,
    concurrency: int | Literal["auto"] = "auto",
) -> Rates:
    """Ask in both ways.

    Args:
        directory: An empty one.
        latency_seconds: Time that the server takes for a reply.
        videos: How many.
        each: Questions on each of them.
        one_by_one: How many of the questions the loop asks.
        concurrency: Of `evaluate`.
    """

    def reply(body: dict[str, Any]) -> str:
        time.sleep(latency_seconds)
        return ANSWER if any(message["role"] == "assistant" for message in body["messages"]) else LOOK

    loaded = await anyio.to_thread.run_sync(lambda: questions(directory, videos=videos, each=each))
    with FakeServer(reply) as server:

        def brain(name: str) -> VideoBrain:
            # A cache and frames of its own, so that neither way of asking profits from the other.
            settings = Settings(cache_dir=directory / name, warm_index=False, offline=True)
            return VideoBrain(
                "openai:fake-model", base_url=server.base_url, tools=["uniform_sample"], settings=settings
            )

        async with brain("loop") as asked:
            await asked.reach()
            begun = time.perf_counter()
            for sample in loaded.samples[:one_by_one]:
                answer = await asked.ask(loaded.video_path(sample), sample.question, options=sample.options)
                assert (answer.choice, answer.usage.turns) == ("A", 2)
            slow = one_by_one / (time.perf_counter() - begun)
        async with brain("evaluation") as asked:
            await asked.reach()
            begun = time.perf_counter()
            await evaluate(loaded, asked, directory / "run", concurrency=concurrency)
            fast = len(loaded.samples) / (time.perf_counter() - begun)
    records = read_results(directory / "run")
    assert len(records) == len(loaded.samples)
    assert all(record.error is None and record.usage.turns == 2 for record in records)
    return Rates(slow, fast)


async def against_a_loop() -> bool:
    with tempfile.TemporaryDirectory() as directory:
        rates = await measure(Path(directory))
    print(f"{VIDEOS * QUESTIONS_EACH} questions on {VIDEOS} videos, 2 replies each, {LATENCY_SECONDS:g} s a reply")
    print(f"loop of ask: {rates.one_by_one:.2f} questions/s (the first {ONE_BY_ONE} questions)")
    print(f"evaluate: {rates.evaluated:.2f} questions/s")
    print(f"{rates.ratio:.1f} times as fast (target: at least {TARGET:g})")
    return rates.ratio >= TARGET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, metavar="DIR", help="a model's directory, which a vLLM server serves")
    vllm_throughput.add_arguments(parser)
    arguments = parser.parse_args()
    print(describe("videobrain", "openai"))
    if arguments.vllm is None:
        reached = anyio.run(against_a_loop)
    else:
        reached = anyio.run(vllm_throughput.against_a_bare_client, arguments.vllm, arguments)
    raise SystemExit(not reached)


if __name__ == "__main__":
    main()
