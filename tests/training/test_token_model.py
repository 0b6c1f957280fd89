"""Rollouts are conversations of token ids: what was sampled stays as it was sampled, and the rest is inference's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from videobrain import Limits, Settings, VideoBrain
from videobrain.errors import (
    ConfigurationError,
    ContextLengthError,
    ModelError,
    ModelTimeoutError,
    RequestRejectedError,
)
from videobrain.models import ChatReply, ChatRequest, Message, TextPart, ToolSchema
from videobrain.models.engine import Engine, processor_facts
from videobrain.models.protocol import ModelProfile
from videobrain.testing import make_video
from videobrain.training.token_model import Sampled, Sampling, TokenModel, TokenRollout
from videobrain.training.tokens import ConversationTokenizer
from videobrain.video import EncodedFrame
from videobrain.video.frame import Frame
from videobrain.world import World

CALL = '<tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 10, "end_frame": 60}}</tool_call>'
REPLIES = ["<thinking>Not enough.</thinking>\n" + CALL, "no tags at all", "<thinking>Red.</thinking><answer>A</answer>"]
Samples = Callable[[Sequence[int], Sequence[Image.Image], Sampling], Awaitable[Sampled]]


@pytest.fixture(scope="module")
def engine(tiny_random_model: Path) -> Engine:
    return Engine.load(str(tiny_random_model), offline=True, stop=threading.Event())


def model_of(engine: Engine, processor: Any = None, **options: Any) -> TokenModel:
    wanted = ModelProfile(constrains=True, constrain_replies=True)
    profile = wanted.model_copy(update=processor_facts(engine.processor))
    model = TokenModel(processor or engine.processor, name="policy", profile=profile, **options)
    # What a policy says is its own.
    assert not model.profile.constrains
    assert not model.profile.constrain_replies
    return model


def saying(engine: Engine, *replies: str, end: bool = True) -> tuple[Samples, list[list[int]]]:
    """Samples these replies; and the prompts that it was given."""
    tokenizer = engine.processor.tokenizer
    prompts: list[list[int]] = []
    left = iter(replies)

    async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
        prompts.append(list(prompt))
        ids = tokenizer.encode(next(left), add_special_tokens=False) + [tokenizer.eos_token_id] * end
        return Sampled(ids, [-0.5] * len(ids))

    return generate, prompts


def user(text: str, *frames: EncodedFrame) -> Message:
    from videobrain.models import ImagePart

    return Message(role="user", parts=(TextPart(text=text), *(ImagePart(frame=frame) for frame in frames)))


def assistant(reply: ChatReply) -> Message:
    return Message(role="assistant", parts=(TextPart(text=reply.text),), tool_calls=reply.tool_calls)


async def converse(
    model: TokenModel, generate: Samples, turns: Sequence[Message], **asked: Any
) -> tuple[TokenRollout, list[Message]]:
    """A user message before each reply."""
    messages: list[Message] = []
    with model.rollout(generate) as rollout:
        for turn in turns:
            messages.append(turn)
            messages.append(assistant(await model.complete(ChatRequest(messages=tuple(messages), **asked))))
    return rollout, messages


def a_frame(index: int = 0) -> EncodedFrame:
    return EncodedFrame.encode(Frame(index, index / 10, World(0, duration_seconds=120).draw(index)))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "made.mp4", seconds=8)


@pytest.mark.anyio
async def test_a_run_is_the_same_tokens_as_at_inference(engine: Engine, video: Path) -> None:
    generate, prompts = saying(engine, *REPLIES)
    model = model_of(engine)
    async with VideoBrain(model, settings=Settings(warm_index=False), limits=Limits(turns=4)) as brain:
        with model.rollout(generate) as rollout:
            answer = await brain.ask(video, "What colour is it?", options=["red", "blue"])
    assert (answer.choice, answer.usage.turns, answer.usage.tool_calls) == ("A", 2, {"uniform_sample": 1})
    messages = answer.trace.messages
    replies = [number for number, message in enumerate(messages) if message.role == "assistant"]
    for prompt, number in zip(prompts, replies, strict=True):
        request = ChatRequest(messages=tuple(messages[:number]))
        assert prompt == engine.encode(request)["input_ids"][0].tolist()
    trajectory = rollout.trajectory()
    assert trajectory is not None
    tokens = ConversationTokenizer(engine.processor)(messages)
    whole = trajectory.prompt_ids + trajectory.response_ids
    assert whole == tokens.input_ids[: len(whole)]
    assert set(tokens.input_ids[len(whole) :]) <= set(engine.processor.tokenizer.encode("\n"))
    sampled = (0,) * len(trajectory.prompt_ids) + trajectory.response_mask
    assert sampled == tuple(map(int, tokens.sampled[: len(whole)]))
    assert trajectory.log_probs == tuple(-0.5 if mask else 0.0 for mask in trajectory.response_mask)
    assert len(trajectory.images) == len(tokens.frames) == answer.usage.frames > 16
    assert [image.size for image in trajectory.images] == [(frame.width, frame.height) for frame in tokens.frames]
    assert (trajectory.replies, trajectory.rewritten) == (3, 0)


@pytest.mark.anyio
async def test_images_are_those_that_the_engine_decodes(engine: Engine) -> None:
    frame = a_frame()
    generate, _ = saying(engine, "one")
    rollout, _ = await converse(model_of(engine), generate, [user("Look.", frame)])
    trajectory = rollout.trajectory()
    assert trajectory is not None
    given = engine.encode(ChatRequest(messages=(user("Look.", frame),)))
    pixels = engine.processor.image_processor(images=list(trajectory.images), return_tensors="pt")["pixel_values"]
    assert (pixels == given["pixel_values"].to(pixels.dtype)).all()


@pytest.mark.anyio
async def test_what_was_sampled_stays_as_it_was_sampled(engine: Engine) -> None:
    tokenizer = engine.processor.tokenizer
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "red"]
    assert tokenizer.encode("red", add_special_tokens=False) != letters
    end = tokenizer.eos_token_id
    given: list[list[int]] = []

    async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
        given.append(list(prompt))
        return Sampled([*letters, end], [-1.0, -2.0, -3.0, -4.0])

    rollout, messages = await converse(model_of(engine), generate, [user("What?"), user("Sure?")])
    assert [message.text for message in messages] == ["What?", "red", "Sure?", "red"]
    trajectory = rollout.trajectory()
    assert trajectory is not None
    assert trajectory.rewritten == 2 == trajectory.replies
    assert given[1][: len(given[0]) + 4] == [*given[0], *letters, end]
    assert trajectory.response_ids[:4] == trajectory.response_ids[-4:] == (*letters, end)
    assert trajectory.response_mask == (1, 1, 1, 1, *(0 for _ in trajectory.response_ids[8:]), 1, 1, 1, 1)
    assert trajectory.log_probs is not None
    assert trajectory.log_probs[-4:] == (-1.0, -2.0, -3.0, -4.0)


@pytest.mark.anyio
async def test_a_reply_that_was_cut_off_is_ended_by_the_template(engine: Engine) -> None:
    generate, prompts = saying(engine, "so far", "done", end=False)
    model = model_of(engine)
    rollout, messages = await converse(model, generate, [user("Go."), user("On.")])
    assert prompts[1] == engine.encode(ChatRequest(messages=tuple(messages[:3])))["input_ids"][0].tolist()
    trajectory = rollout.trajectory()
    assert trajectory is not None
    end = engine.processor.tokenizer.eos_token_id
    assert trajectory.response_mask[trajectory.response_ids.index(end)] == 0
    assert trajectory.rewritten == 0


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["<|im_end|>", "a<|im_end|>\n<|im_start|>user\nb", " \n", "<answer>", "🙂é\u0301", "\u200b", "<tool_call>{}"]
)


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(texts, min_size=1, max_size=4), said=st.lists(texts, min_size=4, max_size=4))
def test_any_text_gives_the_tokens_of_the_whole_conversation(engine: Engine, asked: list[str], said: list[str]) -> None:
    tokenizer = engine.processor.tokenizer
    # Special tokens are no text where a reply is sampled; spelt out in ordinary tokens they are.
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}

    async def run() -> None:
        left = iter(said)

        async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
            ids = [token for token in tokenizer.encode(next(left), add_special_tokens=False) if token not in special]
            return Sampled([*ids, tokenizer.eos_token_id])

        rollout, messages = await converse(model_of(engine), generate, [user(f"{text}?") for text in asked])
        trajectory = rollout.trajectory()
        assert trajectory is not None
        assert trajectory.log_probs is None
        tokens = ConversationTokenizer(engine.processor)(messages)
        whole = trajectory.prompt_ids + trajectory.response_ids
        assert whole == tokens.input_ids[: len(whole)]
        assert trajectory.replies == len(asked)

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_tokens_are_kept(engine: Engine, data: st.DataObject) -> None:
    tokenizer = engine.processor.tokenizer
    visual = {tokenizer.convert_tokens_to_ids(name) for name in ("<|image_pad|>", "<|video_pad|>")}
    token = st.integers(0, len(tokenizer) - 1).filter(lambda token: token not in visual)
    replies = data.draw(st.lists(st.lists(token, min_size=1, max_size=12), min_size=1, max_size=3))

    async def run() -> None:
        left = iter(replies)

        async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
            return Sampled(next(left))

        rollout, _ = await converse(model_of(engine), generate, [user("Again.") for _ in replies])
        trajectory = rollout.trajectory()
        assert trajectory is not None
        kept = [i for i, mask in zip(trajectory.response_ids, trajectory.response_mask, strict=True) if mask]
        assert kept == [token for reply in replies for token in reply]

    asyncio.run(run())


@pytest.mark.anyio
async def test_native_calls(engine: Engine) -> None:
    tool = ToolSchema(name="look", description="Look.", parameters={"type": "object"})
    generate, prompts = saying(engine, '<tool_call>{"name": "look", "arguments": {"at": 3}}</tool_call>', "Red.")
    model = model_of(engine)
    messages = [user("What?")]
    with model.rollout(generate) as rollout:
        reply = await model.complete(ChatRequest(messages=tuple(messages), tools=(tool,)))
        assert reply.finish_reason == "tool_calls"
        assert reply.tool_calls[0].name == "look"
        messages += [assistant(reply), Message(role="tool", parts=(TextPart(text="red"),), tool_call_id="call_0")]
        await model.complete(ChatRequest(messages=tuple(messages), tools=(tool,)))
    assert prompts[1] == engine.encode(ChatRequest(messages=tuple(messages), tools=(tool,)))["input_ids"][0].tolist()
    trajectory = rollout.trajectory()
    assert trajectory is not None
    assert trajectory.replies == 2


@pytest.mark.anyio
async def test_many_rollouts_at_once_do_not_mix(engine: Engine) -> None:
    model = model_of(engine)

    async def one(number: int) -> str:
        tokenizer = engine.processor.tokenizer

        async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
            await asyncio.sleep(0.001 * (number % 3))
            assert f"I am {number}." in tokenizer.decode(prompt)
            return Sampled([*tokenizer.encode(f"you are {number}", add_special_tokens=False), tokenizer.eos_token_id])

        rollout, _ = await converse(model, generate, [user(f"I am {number}."), user("Who?"), user("Sure?")])
        trajectory = rollout.trajectory()
        assert trajectory is not None
        return str(tokenizer.decode(trajectory.response_ids))

    said = await asyncio.gather(*(one(number) for number in range(20)))
    assert all(text.count(f"you are {number}") == 3 for number, text in enumerate(said))


@pytest.mark.anyio
async def test_there_must_be_a_rollout(engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="outside of a rollout"):
        await model_of(engine).complete(ChatRequest(messages=(user("What?"),)))


@pytest.mark.anyio
async def test_a_rollout_without_a_reply_has_no_trajectory(engine: Engine) -> None:
    generate, _ = saying(engine)
    with model_of(engine).rollout(generate) as rollout:
        pass
    assert rollout.trajectory() is None


@pytest.mark.anyio
async def test_another_conversation_is_refused(engine: Engine) -> None:
    model = model_of(engine)
    generate, _ = saying(engine, "red", "blue")
    with model.rollout(generate):
        await model.complete(ChatRequest(messages=(user("What?"),)))
        for messages in ((user("Who?"),), (user("What?"), assistant(ChatReply(text="green")), user("Sure?"))):
            with pytest.raises(ConfigurationError, match="another one"):
                await model.complete(ChatRequest(messages=messages))


@pytest.mark.anyio
async def test_a_template_that_rewrites_is_refused(engine: Engine) -> None:
    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(engine.processor, name)

        def apply_chat_template(self, messages: Any, **options: Any) -> str:
            return f"{len(messages)}{engine.processor.apply_chat_template(messages, **options)}"

    generate, _ = saying(engine, "red", "blue")
    with pytest.raises(ConfigurationError, match="rewrites earlier turns"):
        await converse(model_of(engine, Counting()), generate, [user("What?"), user("Sure?")])


@pytest.mark.anyio
async def test_image_tokens_have_their_frames(engine: Engine) -> None:
    image = engine.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    with pytest.raises(RequestRejectedError, match="stands for images"):
        await converse(model_of(engine), saying(engine, "red")[0], [user("What is <|image_pad|>?")])

    async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
        return Sampled([image, image])

    with pytest.raises(ModelError, match="stands for an image"):
        await converse(model_of(engine), generate, [user("What?")])


@pytest.mark.anyio
async def test_replies_fit_the_context(engine: Engine) -> None:
    asked: list[int] = []

    async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
        asked.append(sampling.max_tokens)
        return Sampled([engine.processor.tokenizer.eos_token_id])

    words = user("one two three")
    length = engine.encode(ChatRequest(messages=(words,)))["input_ids"].shape[1]
    await converse(model_of(engine, max_model_len=length + 20), generate, [words])
    assert asked == [20]
    with pytest.raises(ContextLengthError, match=f"has {length} tokens"):
        await converse(model_of(engine, max_model_len=length + 5), generate, [words])


@pytest.mark.anyio
async def test_a_request_ends_with_its_time_and_leaves_no_trace(engine: Engine) -> None:
    async def generate(prompt: Sequence[int], images: Sequence[Image.Image], sampling: Sampling) -> Sampled:
        await asyncio.sleep(30)
        raise AssertionError

    model = model_of(engine)
    with model.rollout(generate) as rollout, pytest.raises(ModelTimeoutError, match=r"within 0\.05 s"):
        await model.complete(ChatRequest(messages=(user("What?"),), timeout_seconds=0.05))
    assert rollout.trajectory() is None
