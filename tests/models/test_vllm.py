"""`ManagedVLLM`: its life with a small command in vLLM's place, and replies of a real vLLM (marked `server`)."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import httpx2
import numpy as np
import pytest
from environments.fixtures import VLLMServer

from videobrain.errors import (
    ConfigurationError,
    ContextLengthError,
    ImageLimitError,
    MissingDependencyError,
    ModelServerError,
    ModelStartError,
)
from videobrain.models.messages import (
    ChatRequest,
    ImagePart,
    Message,
    ModelEvent,
    NativeToolCall,
    TextDelta,
    TextPart,
    ToolSchema,
)
from videobrain.models.openai import OpenAIModel
from videobrain.models.protocol import ChatModel
from videobrain.models.vllm import ManagedVLLM
from videobrain.settings import Settings
from videobrain.video.frame import EncodedFrame, Frame

FAKE = Path(__file__).parent / "fake_vllm.py"
QUESTION = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="what?"),)),), max_output_tokens=16)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def appears(path: Path) -> None:
    for _ in range(200):
        if await anyio.Path(path).exists():
            return
        await anyio.sleep(0.05)
    raise AssertionError(f"{path} does not appear")


class TestLife:
    """Starting, ending and failing, with `fake_vllm.py`."""

    @pytest.fixture
    async def make(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., ManagedVLLM]]:
        monkeypatch.setenv("FAKE_VLLM_PIDS", str(tmp_path / "pids.json"))
        made: list[ManagedVLLM] = []

        def make(mode: str, **settings: object) -> ManagedVLLM:
            command = shlex.join([sys.executable, str(FAKE), mode])
            made.append(
                ManagedVLLM("m", settings=Settings(vllm_command=command, cache_dir=tmp_path, **settings))  # type: ignore[arg-type]
            )
            return made[-1]

        yield make
        for model in made:
            await model.aclose()

    @pytest.fixture
    def pids(self, tmp_path: Path) -> Callable[[], list[int]]:
        return lambda: json.loads((tmp_path / "pids.json").read_text())

    @pytest.mark.anyio
    async def test_starts_replies_and_ends(
        self, make: Callable[..., ManagedVLLM], pids: Callable[[], list[int]], tmp_path: Path
    ) -> None:
        model = make("good", vllm_arguments="--dtype 'bfloat16' --host 0.0.0.0")
        assert isinstance(model, ChatModel)
        assert model.name == "vllm:m"
        assert model.profile.constrains
        capacity = await model.capacity()
        assert (capacity.model, capacity.max_model_len) == ("m", 4096)
        reply = await model.complete(QUESTION)
        assert (reply.text, reply.input_tokens, reply.output_tokens) == ("<answer>A</answer>", 7, 3)
        first = pids()
        assert alive(first) == first
        (log,) = (tmp_path / "logs").glob("vllm-*.log")
        arguments = json.loads(log.read_text().partition("arguments: ")[2].splitlines()[0])
        assert arguments[arguments.index("--limit-mm-per-prompt") + 1] == '{"image": 128, "video": 0}'
        assert arguments[arguments.index("--dtype") + 1] == "bfloat16"
        assert [arguments[at + 1] for at, word in enumerate(arguments) if word == "--host"][-1] == "127.0.0.1"
        assert "--enable-prompt-tokens-details" in arguments
        assert "hermes" not in arguments
        await model.aclose()
        await model.aclose()
        assert alive(first) == []
        await model.complete(QUESTION)  # a closed model starts anew
        assert set(pids()).isdisjoint(first)

    @pytest.mark.anyio
    async def test_concurrent_runs_share_one_server(self, make: Callable[..., ManagedVLLM], tmp_path: Path) -> None:
        model = make("good", tool_calling="native")
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(model.complete, QUESTION)
        (log,) = (tmp_path / "logs").glob("vllm-*.log")
        assert "hermes" in log.read_text()

    @pytest.mark.anyio
    async def test_strangers_on_the_machine_are_refused(self, make: Callable[..., ManagedVLLM]) -> None:
        model = make("good")
        await model.capacity()
        async with httpx2.AsyncClient() as client:
            assert (await client.get(f"{model.base_url}/models")).status_code == 401

    @pytest.mark.anyio
    async def test_a_server_that_dies_at_the_start_is_told_with_its_words(
        self, make: Callable[..., ManagedVLLM], pids: Callable[[], list[int]]
    ) -> None:
        started = time.monotonic()
        with pytest.raises(ModelStartError, match=r"status 1 .*: ValueError: no such architecture") as caught:
            await make("dies").capacity()
        assert "Traceback" in caught.value.server_message
        assert ".log" in caught.value.hint
        assert time.monotonic() - started < 5
        assert alive(pids()) == []

    @pytest.mark.anyio
    async def test_a_server_that_is_too_slow_is_told(
        self, make: Callable[..., ManagedVLLM], pids: Callable[[], list[int]]
    ) -> None:
        model = make("slow", vllm_start_seconds=1.0)
        with pytest.raises(ModelStartError, match=r"not healthy within 1 s.*VLLM_START_SECONDS"):
            await model.capacity()
        await model.aclose()
        assert alive(pids()) == []

    @pytest.mark.anyio
    async def test_a_server_that_dies_later_is_told_and_the_next_run_starts_another(
        self, make: Callable[..., ManagedVLLM], pids: Callable[[], list[int]]
    ) -> None:
        model = make("dies-later")
        await model.capacity()
        first = pids()
        started = time.monotonic()
        with pytest.raises(ModelServerError, match="status 3 while it was in use: RuntimeError: the engine is gone"):
            await model.complete(QUESTION)
        assert time.monotonic() - started < 5
        await model.capacity()
        assert set(pids()).isdisjoint(first)
        assert alive(first) == []

    @pytest.mark.anyio
    async def test_cancelling_the_start_ends_it(
        self, make: Callable[..., ManagedVLLM], pids: Callable[[], list[int]], tmp_path: Path
    ) -> None:
        model = make("slow")
        with anyio.move_on_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(model.capacity)
                await appears(tmp_path / "pids.json")
                group.cancel_scope.cancel()
                started = time.monotonic()
        assert time.monotonic() - started < 2
        await model.aclose()
        assert alive(pids()) == []

    @pytest.mark.anyio
    async def test_closing_ends_a_start(
        self, make: Callable[..., ManagedVLLM], pids: Callable[[], list[int]], tmp_path: Path
    ) -> None:
        model = make("slow")

        async def start() -> None:
            with pytest.raises(ModelStartError, match="closed"):
                await model.capacity()

        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await appears(tmp_path / "pids.json")
            await model.aclose()
        assert alive(pids()) == []

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("settings", "source", "error", "says"),
        [
            ({"vllm_command": "no-such-vllm"}, "m", MissingDependencyError, r"videobrain\[vllm\].*VLLM_COMMAND"),
            ({"vllm_command": "vllm 'unclosed"}, "m", ConfigurationError, "VLLM_COMMAND"),
            ({"vllm_arguments": "'"}, "m", ConfigurationError, "VLLM_ARGUMENTS"),
            ({}, "./no/such/model", ModelStartError, "no model directory"),
        ],
    )
    async def test_what_cannot_start_is_told_at_once(
        self, settings: dict[str, str], source: str, error: type[Exception], says: str, tmp_path: Path
    ) -> None:
        model = ManagedVLLM(source, settings=Settings(cache_dir=tmp_path, **settings))  # type: ignore[arg-type]
        with pytest.raises(error, match=says):
            await model.capacity()
        await model.aclose()

    def test_a_directory_is_known_by_its_configuration(self, tmp_path: Path) -> None:
        assert ManagedVLLM(str(tmp_path)).profile.image_patch == 32
        (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
        assert ManagedVLLM(str(tmp_path)).profile.image_patch == 28


def frame(index: int, colour: tuple[int, int, int], width: int = 448, height: int = 252) -> EncodedFrame:
    return EncodedFrame.encode(Frame(index, float(index), np.full((height, width, 3), colour, np.uint8)))


def ask(*frames: EncodedFrame, **fields: object) -> ChatRequest:
    parts = [part for one in frames for part in (TextPart(text=f"frame {one.frame_index}"), ImagePart(frame=one))]
    message = Message(role="user", parts=(*parts, TextPart(text="what do you see?")))
    return ChatRequest(messages=(message,), **{"max_output_tokens": 24, "temperature": 0.0, **fields})  # type: ignore[arg-type]


def client(server: VLLMServer, **settings: object) -> OpenAIModel:
    return OpenAIModel(
        None,
        base_url=server.base_url,
        api_key=server.api_key,
        settings=Settings(retries=0, **settings),  # type: ignore[arg-type]
    )


@pytest.mark.server
class TestReplies:
    """A real vLLM with a tiny random model."""

    @pytest.fixture
    async def model(self, vllm_server: VLLMServer) -> AsyncIterator[OpenAIModel]:
        model = OpenAIModel(
            None, base_url=vllm_server.base_url, api_key=vllm_server.api_key, settings=Settings(retries=0)
        )
        yield model
        await model.aclose()

    @pytest.mark.anyio
    async def test_images_are_seen_in_their_order_and_counted(self, model: OpenAIModel) -> None:
        assert (await model.capacity()).max_model_len == 32768
        red, blue = frame(0, (255, 0, 0)), frame(1, (0, 0, 255))
        replies = [await model.complete(ask(*frames)) for frames in ([red, blue], [blue, red], [red, blue])]
        assert replies[0].text == replies[2].text != replies[1].text
        assert replies[0].finish_reason == "length"
        assert replies[0].output_tokens == 24
        one = await model.complete(ask(red))
        label = 3  # "frame", " ", "1"
        assert replies[0].input_tokens - one.input_tokens == model.profile.image_tokens(448, 252) + label
        assert 0 < replies[2].cached_tokens < replies[2].input_tokens

    @pytest.mark.anyio
    @pytest.mark.parametrize("bound", [200, 2000])
    async def test_constrained_replies_match_the_pattern(self, model: OpenAIModel, bound: int) -> None:
        text = rf"[ -;=-~]{{1,{bound}}}"
        call = r'\{"name": "uniform_sample", "arguments": \{"start_frame": [0-9]{1,6}, "end_frame": [0-9]{1,6}\}\}'
        pattern = rf"<thinking>{text}</thinking>(<tool_call>{call}</tool_call>|<answer>{text}</answer>)"
        for seed in range(4):
            request = ask(frame(0, (60 * seed, 9, 9)), pattern=pattern, temperature=1.0, seed=seed)
            reply = await model.complete(request.model_copy(update={"max_output_tokens": 3000}))
            assert re.fullmatch(pattern, reply.text), reply.text
            assert reply.finish_reason == "stop"

    @pytest.mark.anyio
    async def test_streams(self, vllm_server: VLLMServer) -> None:
        model = OpenAIModel(
            None,
            base_url=vllm_server.base_url,
            api_key=vllm_server.api_key,
            settings=Settings(retries=0, stream_replies=True),
        )
        events: list[ModelEvent] = []
        reply = await model.complete(ask(frame(0, (1, 2, 3))), on_event=events.append)
        deltas = [event.text for event in events if isinstance(event, TextDelta)]
        assert len(deltas) > 3
        assert "".join(deltas) == reply.text
        assert reply.output_tokens == 24
        await model.aclose()

    @pytest.mark.anyio
    async def test_native_calls(self, model: OpenAIModel, vllm_server: VLLMServer) -> None:
        tool = ToolSchema(
            name="look",
            description="Look at one moment.",
            parameters={"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]},
        )
        call = NativeToolCall(id="1", name="look", arguments='{"at": 3}')
        messages = (
            *ask(frame(0, (9, 9, 9))).messages,
            Message(role="assistant", parts=(), tool_calls=(call,)),
            Message(role="tool", parts=(TextPart(text="done"),), tool_call_id="1"),
        )
        told = await model.complete(ChatRequest(messages=messages, tools=(tool,), max_output_tokens=16))
        untold = await model.complete(ChatRequest(messages=messages, max_output_tokens=16))
        assert told.input_tokens > untold.input_tokens + 50

        # An untrained model calls only where it is made to, and vLLM ignores a pattern beside a tool that is `strict`.
        body = {
            "model": vllm_server.model,
            "messages": [{"role": "user", "content": "when?"}],
            "tools": [{"type": "function", "function": tool.model_dump()}],
            "structured_outputs": {
                "regex": r'text <tool_call>\{"name": "look", "arguments": \{"at": [0-9]{1,3}\}\}</tool_call>'
            },
            "max_tokens": 200,
        }
        headers = {"Authorization": f"Bearer {vllm_server.api_key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            answer = (await http.post(f"{vllm_server.base_url}/chat/completions", json=body)).json()
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"].strip() == "text"
        function = choice["message"]["tool_calls"][0]["function"]
        assert function["name"] == "look"
        assert isinstance(json.loads(function["arguments"])["at"], int)

    @pytest.mark.anyio
    async def test_what_is_too_much_is_told(self, model: OpenAIModel) -> None:
        with pytest.raises(ContextLengthError):
            await model.complete(ask(max_output_tokens=32768))
        small = [frame(index, (index, 0, 0), 32, 32) for index in range(129)]
        with pytest.raises(ImageLimitError):
            await model.complete(ask(*small))


@pytest.mark.server
@pytest.mark.timeout(300)
def test_no_vllm_survives_a_killed_program(
    vllm_command: str, vllm_arguments: str, tiny_random_model: Path, tmp_path: Path
) -> None:
    program = f"""
import anyio
from videobrain.models.vllm import ManagedVLLM
async def main():
    print(await ManagedVLLM({str(tiny_random_model)!r}).capacity(), flush=True)
    await anyio.sleep(600)
anyio.run(main)
"""
    environment = os.environ | {
        "VIDEOBRAIN_CACHE_DIR": str(tmp_path),
        "VIDEOBRAIN_VLLM_COMMAND": vllm_command,
        "VIDEOBRAIN_VLLM_ARGUMENTS": vllm_arguments,
        "VIDEOBRAIN_OFFLINE": "1",
    }
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert b"32768" in killed.stdout.readline()
        family = below(killed.pid)
        assert len(family) >= 3, "the supervisor, the server and its engine"
        killed.kill()
    end = time.monotonic() + 10
    while alive(family) and time.monotonic() < end:
        time.sleep(0.1)
    assert alive(family) == []


def below(root: int) -> list[int]:
    """Processes that descend from `root`."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        parent = int(stat.read_text().rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(root, []))
    for pid in found:
        found += children.get(pid, [])
    return found
