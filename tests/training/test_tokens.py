"""A conversation's tokens are those that the model is given and has written; only the latter are trained."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from videobrain.agent import AskModel, CallTool, Episode, EpisodeConfig, Finish
from videobrain.agent.prompts import COMPACT, DEFAULT, PromptProfile
from videobrain.agent.steps import ToolOutcome
from videobrain.errors import ConfigurationError
from videobrain.models import ChatReply, ChatRequest, Message, TextPart
from videobrain.models.engine import Engine
from videobrain.tools import default_tools
from videobrain.training.tokens import ConversationTokenizer
from videobrain.video import EncodedFrame
from videobrain.video.frame import Frame
from videobrain.world import World

CALL = '<tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 100, "end_frame": 200}}</tool_call>'
REPLIES = [
    "<thinking>Not enough.</thinking>\n" + CALL,
    "no tags at all",
    "<thinking>A red star.</thinking>\n<answer>red</answer>",
]


def frames(world: World, *indices: int) -> tuple[EncodedFrame, ...]:
    return tuple(EncodedFrame.encode(Frame(index, index / 10, world.draw(index))) for index in indices)


def episode(prompts: PromptProfile = COMPACT) -> Episode:
    """Three replies: a call, one that has to be corrected, and the answer."""
    world = World(0, duration_seconds=120)
    run = Episode(
        EpisodeConfig(
            question="What colour is the star?",
            frame_count=world.frame_count,
            fps=10,
            duration_seconds=120,
            tools=tuple(tool.spec for tool in default_tools()),
            prompts=prompts,
        )
    )
    step = run.start(frames(world, 0, 400, 1199))
    replies = iter(REPLIES)
    while not isinstance(step, Finish):
        match step:
            case AskModel():
                step = run.reply(ChatReply(text=next(replies)))
            case CallTool():
                step = run.observe(ToolOutcome(kind="result", text="2 frames.", frames=frames(world, 100, 199)))
    return run


@pytest.fixture(scope="module")
def engine(tiny_random_model: Path) -> Engine:
    return Engine.load(str(tiny_random_model), offline=True, stop=threading.Event())


def prompt_ids(engine: Engine, messages: list[Message]) -> list[int]:
    """What the in-process model is given."""
    ids: list[int] = engine.encode(ChatRequest(messages=tuple(messages)))["input_ids"][0].tolist()
    return ids


@pytest.mark.parametrize("prompts", [COMPACT, DEFAULT], ids=lambda prompts: prompts.name)
def test_each_turn_is_what_the_model_was_given(engine: Engine, prompts: PromptProfile) -> None:
    run = episode(prompts)
    tokens = ConversationTokenizer(engine.processor)(run.messages)
    replies = [number for number, message in enumerate(run.messages) if message.role == "assistant"]
    begins = [i for i in range(len(tokens.sampled)) if tokens.sampled[i] and not tokens.sampled[i - 1]]
    assert len(replies) == len(begins) == 3
    for number, begin in zip(replies, begins, strict=True):
        assert list(tokens.input_ids[:begin]) == prompt_ids(engine, run.messages[:number])


def test_replies_and_their_end_are_sampled(engine: Engine) -> None:
    run = episode()
    tokens = ConversationTokenizer(engine.processor)(run.messages)
    tokenizer = engine.processor.tokenizer
    assert len(tokens.input_ids) == len(tokens.sampled)
    sampled = [token for token, wrote in zip(tokens.input_ids, tokens.sampled, strict=True) if wrote]
    assert tokenizer.decode(sampled) == "".join(f"{reply}<|im_end|>" for reply in REPLIES)
    after = [
        tokenizer.decode([token])
        for token, before, wrote in zip(tokens.input_ids[1:], tokens.sampled, tokens.sampled[1:], strict=False)
        if before and not wrote
    ]
    assert after == ["\n"] * 3


def test_images_have_their_places(engine: Engine) -> None:
    run = episode()
    tokenize = ConversationTokenizer(engine.processor)
    tokens = tokenize(run.messages)
    assert [frame.frame_index for frame in tokens.frames] == [0, 400, 1199, 100, 199]
    image = engine.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert tokens.input_ids.count(image) == 5 * tokenize.image_tokens(128, 128) == 5 * 16
    assert not any(wrote for token, wrote in zip(tokens.input_ids, tokens.sampled, strict=True) if token == image)


class _Template:
    """A processor whose template is other than it should be."""

    def __init__(self, processor: Any, old: str, new: str) -> None:
        self._processor = processor
        self._template = processor.chat_template.replace(old, new)
        assert self._template != processor.chat_template

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        text: str = self._processor.apply_chat_template(messages, chat_template=self._template, **options)
        return text


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "{%- elif part.type == 'text' -%}{{- part.text -}}",
            "{%- elif part.type == 'text' -%}{{- part.text if message.role != 'assistant' else '' -}}",
            "as the model wrote it",
        ),
        (
            "{%- for message in messages -%}",
            "{{- messages | length -}}{%- for message in messages -%}",
            "rewrites earlier turns",
        ),
    ],
    ids=["drops-replies", "counts-messages"],
)
def test_templates_that_change_what_was_written_are_refused(engine: Engine, old: str, new: str, problem: str) -> None:
    tokenize = ConversationTokenizer(_Template(engine.processor, old, new))
    with pytest.raises(ConfigurationError, match=problem):
        tokenize(episode().messages)


def test_a_reply_that_quotes_the_end_token_ends_at_the_last_one(engine: Engine) -> None:
    messages = [
        Message(role="user", parts=(TextPart(text="Hi."),)),
        Message(role="assistant", parts=(TextPart(text="a<|im_end|>b"),)),
    ]
    tokens = ConversationTokenizer(engine.processor)(messages)
    sampled = [token for token, wrote in zip(tokens.input_ids, tokens.sampled, strict=True) if wrote]
    assert engine.processor.tokenizer.decode(sampled) == "a<|im_end|>b<|im_end|>"
