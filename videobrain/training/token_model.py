"""A chat model of token ids, with which rollouts of reinforcement learning are sampled.

What is trained has to be what was sampled. So a conversation is kept as the token ids that the model was given and
gave: its history is never tokenised again. At each request only what the chat template writes after the last reply is
tokenised and appended. Whoever drives the conversation, an Episode above all, sees text and frames as at inference.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread

from videobrain.errors import (
    ConfigurationError,
    ContextLengthError,
    ModelError,
    ModelTimeoutError,
    RequestRejectedError,
)
from videobrain.models import ChatReply, ChatRequest, Message, ToolSchema
from videobrain.models.engine import frame_image, split_calls, template_message
from videobrain.models.protocol import ModelCapacity, ModelProfile
from videobrain.training.tokens import ConversationTokenizer

if TYPE_CHECKING:
    from PIL import Image

    from videobrain.models.messages import ModelEvent

_LEAST_ROOM = 16
"""Fewer tokens than this hold no reply; `Episode` asks for no fewer either."""


class Sampling(NamedTuple):
    """How a reply is to be sampled. A trainer may have its own temperature and seed."""

    max_tokens: int
    temperature: float | None = None
    seed: int | None = None


class Sampled(NamedTuple):
    """A reply as it was sampled."""

    token_ids: Sequence[int]
    """Its tokens, with the one that ended it."""
    log_probs: Sequence[float] | None = None
    """The log-probability of each when it was sampled, where known."""


Generate = Callable[[Sequence[int], Sequence["Image.Image"], Sampling], Awaitable[Sampled]]
"""Continues token ids, in which an image stands as its number of image tokens; the images are given in their order."""


@dataclass(frozen=True, slots=True)
class TokenTrajectory:
    """A conversation up to the last token that was sampled.

    Attributes:
        prompt_ids: What stood before the first sampled token.
        response_ids: All from there on, observations included.
        response_mask: 1 for each response token that the model sampled, else 0.
        log_probs: Of each response token when it was sampled, 0 for others; None where they are not known.
        images: The frames, in the order of their places.
        replies: How many replies there are.
        rewritten: How many of them the tokenizer would write in other tokens than were sampled.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response_mask: tuple[int, ...]
    log_probs: tuple[float, ...] | None
    images: tuple[Image.Image, ...]
    replies: int
    rewritten: int


class TokenModel:
    """A `ChatModel` that works on token ids. Each conversation takes place within a `rollout`.

        model = TokenModel(processor, name="policy", profile=profile)
        async with VideoBrain(model) as brain:
            with model.rollout(generate) as rollout:
                answer = await brain.ask("match.mp4", "Who scores first?")
            trajectory = rollout.trajectory()

    Rollouts may run at the same time in one event loop; each belongs to the task that began it and to its children.

    Args:
        processor: The model's processor, of the Qwen-VL kind; see `ConversationTokenizer`.
        name: For logs and traces.
        profile: What the model can do. Replies cannot be held to a grammar, whatever it says.
        eos_token_ids: Tokens that end a reply; by default the tokenizer's one.
        max_model_len: Context in tokens, prompt and replies together; None where nothing bounds it.
    """

    def __init__(
        self,
        processor: Any,
        *,
        name: str,
        profile: ModelProfile,
        eos_token_ids: Sequence[int] | None = None,
        max_model_len: int | None = None,
    ) -> None:
        self._name = name
        self._profile = profile.model_copy(update={"constrains": False, "constrain_replies": False})
        self._max_model_len = max_model_len
        self._writer = _Writer(processor, eos_token_ids)
        self._current: ContextVar[TokenRollout] = ContextVar("rollout")

    @property
    def name(self) -> str:
        """The given name."""
        return self._name

    @property
    def profile(self) -> ModelProfile:
        """What the model can do."""
        return self._profile

    async def capacity(self, *, on_event: Callable[[ModelEvent], None] | None = None) -> ModelCapacity:
        """Its context."""
        return ModelCapacity(model=self._name, max_model_len=self._max_model_len)

    async def complete(
        self, request: ChatRequest, *, on_event: Callable[[ModelEvent], None] | None = None
    ) -> ChatReply:
        """Continue the conversation of the current rollout.

        Raises:
            ConfigurationError: There is no rollout, the request is of another conversation, or the chat template
                rewrites earlier turns.
            RequestRejectedError: The chat template refuses the conversation, or its text holds an image token.
            ContextLengthError: The conversation leaves no room for a reply.
            ModelTimeoutError: The time of the request was over.
            ModelError: What was sampled cannot be used.
        """
        rollout = self._current.get(None)
        if rollout is None:
            raise ConfigurationError(
                f"{self._name} was asked outside of a rollout.", hint="Ask within `with model.rollout(generate):`."
            )
        with anyio.move_on_after(request.timeout_seconds):
            return await rollout._complete(request)
        raise ModelTimeoutError(f"{self._name} did not finish its reply within {request.timeout_seconds:.3g} s.")

    @contextmanager
    def rollout(self, generate: Generate) -> Iterator[TokenRollout]:
        """Within this context, requests of this task and its children are one conversation.

        Args:
            generate: Samples the replies.
        """
        rollout = TokenRollout(self._writer, generate, self._name, self._max_model_len)
        token = self._current.set(rollout)
        try:
            yield rollout
        finally:
            self._current.reset(token)

    async def aclose(self) -> None:
        """There is nothing to free."""


@dataclass(slots=True)
class _Told:
    """What a conversation consists of so far; replaced whole, so that a request that fails leaves no trace."""

    messages: tuple[Message, ...] = ()
    """Those that the token ids stand for, the last reply left out."""
    reply: ChatReply | None = None
    text: str = ""
    """What the chat template wrote for `messages`, generation prompt included."""
    ids: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    log_probs: list[float] | None = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    replies: int = 0
    rewritten: int = 0


class TokenRollout:
    """One conversation as token ids; made by `TokenModel.rollout`."""

    def __init__(self, writer: _Writer, generate: Generate, name: str, max_model_len: int | None) -> None:
        self._writer = writer
        self._generate = generate
        self._name = name
        self._max_model_len = max_model_len
        self._told = _Told()

    def trajectory(self) -> TokenTrajectory | None:
        """The conversation up to the last token that was sampled; None where there is no reply."""
        told = self._told
        if not told.replies:
            return None
        begin = told.sampled.index(1)
        return TokenTrajectory(
            prompt_ids=tuple(told.ids[:begin]),
            response_ids=tuple(told.ids[begin:]),
            response_mask=tuple(told.sampled[begin:]),
            log_probs=None if told.log_probs is None else tuple(told.log_probs[begin:]),
            images=tuple(told.images),
            replies=told.replies,
            rewritten=told.rewritten,
        )

    async def _complete(self, request: ChatRequest) -> ChatReply:
        started = time.monotonic()
        told = self._told
        # Templates, tokenizers and JPEG decoders take tens of milliseconds.
        new = await anyio.to_thread.run_sync(self._writer.context, told, request)
        prompt, images = [*told.ids, *new.ids], [*told.images, *new.images]
        sampling = Sampling(self._room(len(prompt), request.max_output_tokens), request.temperature, request.seed)
        sampled = await self._generate(prompt, images, sampling)
        token_ids = [int(token) for token in sampled.token_ids]
        self._writer.check(token_ids, sampled.log_probs, self._name)
        text = self._writer.decode(token_ids)
        visible, calls = split_calls(text) if request.tools else (text, ())
        ended = token_ids[-1] in self._writer.eos
        reply = ChatReply(
            text=visible,
            tool_calls=calls,
            finish_reason="length" if not ended else "tool_calls" if calls else "stop",
            input_tokens=len(prompt),
            output_tokens=len(token_ids),
            model=self._name,
            seconds=time.monotonic() - started,
        )
        log_probs = None
        if told.log_probs is not None and sampled.log_probs is not None:
            log_probs = [*told.log_probs, *(0.0 for _ in new.ids), *map(float, sampled.log_probs)]
        self._told = _Told(
            messages=request.messages,
            reply=reply,
            text=new.text,
            ids=[*prompt, *token_ids],
            sampled=[*told.sampled, *(0 for _ in new.ids), *(1 for _ in token_ids)],
            log_probs=log_probs,
            images=images,
            replies=told.replies + 1,
            rewritten=told.rewritten + (self._writer.canonical(text, token_ids) != token_ids),
        )
        return reply

    def _room(self, prompt_tokens: int, asked: int) -> int:
        room = asked if self._max_model_len is None else min(asked, self._max_model_len - prompt_tokens)
        if room < min(asked, _LEAST_ROOM):
            raise ContextLengthError(
                f"The conversation has {prompt_tokens} tokens, which leaves no room for a reply in the "
                f"{self._max_model_len} of {self._name}.",
                hint="Show fewer frames, or raise the tokens of prompt and response.",
            )
        return room


class _Context(NamedTuple):
    """What a request adds to a conversation."""

    text: str
    ids: list[int]
    images: list[Image.Image]


class _Writer:
    """Writes and reads the tokens of conversations with one model."""

    def __init__(self, processor: Any, eos_token_ids: Sequence[int] | None) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._sizes = ConversationTokenizer(processor)
        self._end: str = self._tokenizer.eos_token
        self._end_id: int = self._tokenizer.eos_token_id
        self.eos = frozenset(eos_token_ids or (self._end_id,))
        self._image: str = processor.image_token
        names = (self._image, getattr(processor, "video_token", None))
        self._visual = frozenset(self._tokenizer.convert_tokens_to_ids(name) for name in names if name)
        # Tokenizers change settings of theirs while they encode, which threads must not do at once.
        self._lock = threading.Lock()

    def context(self, told: _Told, request: ChatRequest) -> _Context:
        """What the chat template writes after the last reply, as tokens, up to where the next reply begins."""
        known = len(told.messages)
        if request.messages[:known] != told.messages or (told.reply and not _holds(request, known, told.reply)):
            raise ConfigurationError(
                "A rollout is one conversation that grows at its end, and this request belongs to another one.",
                hint="Use the strategy videobrain, or one that plays a single Episode.",
            )
        text = self._render(request.messages, request.tools, prompt=True)
        done, ids = "", []
        if told.reply is not None:
            done = self._with_reply(told, request)
            if not text.startswith(done):
                raise _rewrites()
            if told.ids[-1] != self._end_id:  # it was cut off, or ended by another token; the template ends it anyhow
                ids.append(self._end_id)
        new = text[len(done) :]
        messages = request.messages[known + (told.reply is not None) :]
        images = [frame_image(frame) for message in messages for frame in message.frames]
        if new.count(self._image) != len(images):
            raise RequestRejectedError(f"The text of the conversation holds {self._image}, which stands for images.")
        first, *others = new.split(self._image)
        counts = [self._sizes.image_tokens(*image.size) for image in images]
        expanded = first + "".join(self._image * count + other for count, other in zip(counts, others, strict=True))
        return _Context(text, ids + self._encode(expanded), images)

    def check(self, token_ids: Sequence[int], log_probs: Sequence[float] | None, name: str) -> None:
        """Refuse a reply that cannot be trained on."""
        if not token_ids:
            raise ModelError(f"{name} sampled no token.")
        if log_probs is not None and len(log_probs) != len(token_ids):
            raise ModelError(f"{name} gave {len(log_probs)} log-probabilities for {len(token_ids)} tokens.")
        if not self._visual.isdisjoint(token_ids):
            # As part of the conversation they would stand for an image that is not there.
            raise ModelError(f"{name} sampled a token that stands for an image.")

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of a reply, as inference reads it."""
        with self._lock:
            text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text

    def canonical(self, text: str, token_ids: Sequence[int]) -> list[int]:
        """The tokens that the tokenizer would write for a reply that ended as this one did."""
        return [*self._encode(text), *(token for token in token_ids[-1:] if token in self.eos)]

    def _encode(self, text: str) -> list[int]:
        with self._lock:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _with_reply(self, told: _Told, request: ChatRequest) -> str:
        """What the template writes up to the end of the last reply."""
        known = len(told.messages)
        reply = request.messages[known]
        after = self._render(request.messages[: known + 1], request.tools, prompt=False)
        # The end token may stand in the reply too; what the template adds holds it once.
        done = after[: after.rfind(self._end) + len(self._end)]
        if not done.startswith(told.text):
            raise _rewrites()
        if not reply.tool_calls and done != told.text + reply.text + self._end:
            raise ConfigurationError(
                "The chat template does not write a reply as the model wrote it.",
                hint="It must put the reply's text between the generation prompt and the end token.",
            )
        return done

    def _render(self, messages: Sequence[Message], tools: Sequence[ToolSchema], *, prompt: bool) -> str:
        from jinja2 import TemplateError

        schemas = [{"type": "function", "function": tool.model_dump()} for tool in tools] or None
        try:
            text: str = self._processor.apply_chat_template(
                [template_message(message) for message in messages],
                tools=schemas,
                add_generation_prompt=prompt,
                tokenize=False,
            )
        except TemplateError as error:
            raise RequestRejectedError(f"The chat template refuses the conversation: {error}") from error
        return text


def _holds(request: ChatRequest, position: int, reply: ChatReply) -> bool:
    """Whether a message of the request is the reply as it was given."""
    if len(request.messages) <= position:
        return False
    message = request.messages[position]
    said = (message.role, message.text, message.tool_calls)
    return said == ("assistant", reply.text, reply.tool_calls)


def _rewrites() -> ConfigurationError:
    return ConfigurationError(
        "The chat template rewrites earlier turns, so no one sequence is what the model saw.",
        hint="Use a template that leaves earlier replies as they were written.",
    )
