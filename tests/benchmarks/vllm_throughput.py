"""`evaluate` against a bare client that sends the same conversations to the same vLLM server.

The server is one that videobrain starts (``VIDEOBRAIN_VLLM_COMMAND``, ``VIDEOBRAIN_VLLM_ARGUMENTS``); questions and
videos are those of the synthetic world. Their indexes are made first, and one evaluation that does not count makes
frames warm. The next one is timed. The bare client then sends the conversations of its traces through the openai
package, each turn once the turn before has its reply, with so many conversations at once as a semaphore lets through:
its requests are ready-made, no frame is decoded and nothing is written. A turn generates as many tokens as the
recorded reply has. The server's caches of prefixes and of encoded images are emptied before each arm.
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import anyio
import anyio.to_thread
import httpx2
import openai

from videobrain import Settings, Trace, VideoBrain
from videobrain.agent import MessageAdded, ReplyReceived, RequestStarted
from videobrain.evaluation.benchmarks import LoadedBenchmark, load_benchmark
from videobrain.evaluation.results import read_results
from videobrain.evaluation.runner import evaluate
from videobrain.models import ChatRequest, Message, ModelProfile
from videobrain.models.vllm import ManagedVLLM
from videobrain.models.wire import ImageParts, request_body
from videobrain.world import write_dataset

TARGET = 0.9
_TRIES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    options = parser.add_argument_group("with --vllm")
    options.add_argument("--videos", type=int, default=60, help="videos of the synthetic world, six questions each")
    options.add_argument("--encoder", help="frame encoder; without one, and none in DIR, nothing is searched")
    options.add_argument("--at-once", type=int, nargs="+", default=[8, 16, 32, 64], help="of the bare client")
    options.add_argument("--constrain", action="store_true", help="hold replies to the grammar, for an untrained model")


class Turn(NamedTuple):
    """One request of a recorded run."""

    body: dict[str, Any]
    """As it was sent."""
    tokens: int
    """Of its reply."""


class Arm(NamedTuple):
    """One way of asking."""

    name: str
    replies: int
    seconds: float
    input_tokens: int
    cached_tokens: int

    @property
    def rate(self) -> float:
        """Replies per second."""
        return self.replies / self.seconds

    def __str__(self) -> str:
        cached = self.cached_tokens / max(1, self.input_tokens)
        said = f"{self.replies} replies in {self.seconds:.1f} s, {self.rate:.2f} replies/s"
        return f"{self.name}: {said}; {cached:.0%} of the prompts' tokens were in the prefix cache"


class Server(NamedTuple):
    """A vLLM server in developer mode, where its caches can be emptied."""

    base_url: str
    key: str
    model: str

    async def forget(self) -> None:
        """Empty its caches."""
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {self.key}"}, timeout=60) as http:
            for _ in range(_TRIES):
                answer = await http.post(urljoin(self.base_url, "/reset_prefix_cache"))
                answer.raise_for_status()
                if answer.json()["success"]:
                    break
                await anyio.sleep(0.5)  # blocks of the last requests are still held
            else:
                raise RuntimeError("vLLM does not empty its prefix cache")
            answer = await http.post(urljoin(self.base_url, "/reset_encoder_cache"))
            if answer.status_code != 404:  # older versions have none
                answer.raise_for_status()


def recorded(traces: Iterable[Trace], model: str) -> list[list[Turn]]:
    """The requests of each run, in order; a frame's data URL is made once."""
    image = ImageParts(max_bytes=2**40, uuids=False)
    conversations: list[list[Turn]] = []
    for trace in traces:
        messages: list[Message] = []
        body: dict[str, Any] = {}
        turns: list[Turn] = []
        for event in trace.events:
            match event:
                case MessageAdded():
                    messages.append(event.message)
                case RequestStarted():
                    if event.messages != len(messages):
                        raise RuntimeError("the trace does not hold the conversation that was sent")
                    request = ChatRequest(messages=tuple(messages))
                    sent = request_body(request, model=model, profile=ModelProfile(), image=image, strict_tools=False)
                    body = {"model": model, "messages": sent["messages"]}
                case ReplyReceived():
                    turns.append(Turn(body, event.reply.output_tokens))
                case _:
                    pass
        conversations.append(turns)
    return conversations


async def send_bare(server: Server, conversations: list[list[Turn]], at_once: int) -> Arm:
    """Send all conversations with the openai package, so many at once."""
    slots = anyio.Semaphore(at_once)
    read = cached = replies = 0

    async def send(client: openai.AsyncOpenAI, turns: list[Turn]) -> None:
        nonlocal read, cached, replies
        async with slots:
            for turn in turns:
                reply = await client.chat.completions.create(
                    **turn.body, temperature=0.0, max_tokens=turn.tokens, extra_body={"ignore_eos": True}
                )
                usage = reply.usage
                assert usage is not None
                assert usage.completion_tokens == turn.tokens
                replies += 1
                read += usage.prompt_tokens
                cached += (usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens) or 0

    async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key, timeout=600) as client:
        begun = time.perf_counter()
        async with anyio.create_task_group() as group:
            for turns in conversations:
                group.start_soon(send, client, turns)
        return Arm(f"bare client, {at_once} at once", replies, time.perf_counter() - begun, read, cached)


class Evaluated(NamedTuple):
    """A run of `evaluate`."""

    arm: Arm
    traces: list[Trace]


async def evaluated(loaded: LoadedBenchmark, brain: VideoBrain, out: Path) -> Evaluated:
    """Ask the questions with `evaluate`, as it is by default but for the frames in its traces."""
    begun = time.perf_counter()
    await evaluate(loaded, brain, out, keep_frames=True)
    seconds = time.perf_counter() - begun
    traces = [Trace.load(out / record.trace) for record in read_results(out) if record.trace]
    replies = [event.reply for trace in traces for event in trace.events if isinstance(event, ReplyReceived)]
    read, cached = sum(reply.input_tokens for reply in replies), sum(reply.cached_tokens for reply in replies)
    return Evaluated(Arm("evaluate", len(replies), seconds, read, cached), traces)


async def against_a_bare_client(directory: Path, options: argparse.Namespace) -> bool:
    """Whether `evaluate` reaches `TARGET` of the best bare client."""
    key = os.environ["VLLM_API_KEY"] = secrets.token_urlsafe(24)
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    with tempfile.TemporaryDirectory() as place:
        files = Path(place)
        await anyio.to_thread.run_sync(lambda: write_dataset(files / "world", "test", options.videos))
        loaded = load_benchmark("world", files / "world", split="test")
        settings = Settings(cache_dir=files / "cache", offline=True, constrain_replies=options.constrain or None)
        model = ManagedVLLM(str(directory), settings=settings)
        searches = options.encoder or model.profile.encoder
        tools = ["uniform_sample", "clip_sample"] if searches else ["uniform_sample"]
        try:
            async with VideoBrain(model, encoder=options.encoder, tools=tools, settings=settings) as brain:
                served = await model.capacity()
                assert model.base_url is not None
                server = Server(model.base_url, key, served.model)
                if searches:  # an evaluation embeds what it has the time for
                    for video in sorted({loaded.video_path(sample) for sample in loaded.samples}):
                        await brain.index(video)
                await evaluated(loaded, brain, files / "warm-up")
                await server.forget()
                ours, traces = await evaluated(loaded, brain, files / "run")
                print(ours, flush=True)
                conversations = recorded(traces, served.model)
                bare = []
                for at_once in options.at_once:
                    await server.forget()
                    bare.append(await send_bare(server, conversations, at_once))
                    print(bare[-1], flush=True)
        finally:
            await model.aclose()
    best = max(bare, key=lambda arm: arm.rate)
    ratio = ours.rate / best.rate
    print(f"evaluate has {ratio:.2f} of the replies/s of the {best.name} (target: at least {TARGET})")
    return ratio >= TARGET
