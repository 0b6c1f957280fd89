"""A finished conversation as token ids, with a mask of the tokens that the model itself wrote.

Supervised training takes its loss from these tokens alone: each reply with the token that ends it. What the prompt,
the tools and the chat template wrote is context. The ids are those that the model is given when it is run, image
places included, so that nothing is trained that inference does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from videobrain.errors import ConfigurationError
from videobrain.models import Message, ToolSchema
from videobrain.models.engine import template_message
from videobrain.video import EncodedFrame


@dataclass(frozen=True, slots=True)
class TokenizedConversation:
    """A conversation as a model reads it.

    Attributes:
        input_ids: Token ids; an image stands as its number of image tokens.
        sampled: For each token whether the model wrote it: the replies, each with its end token.
        frames: The images, in the order of their places.
    """

    input_ids: tuple[int, ...]
    sampled: tuple[bool, ...]
    frames: tuple[EncodedFrame, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    sampled: bool


class ConversationTokenizer:
    """Turns conversations into tokens for one model.

    Args:
        processor: The model's processor, as `AutoProcessor` loads it, of the Qwen-VL kind: with an ``image_token``
            that stands once for each image in what its chat template writes.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._images = processor.image_processor
        self._image_token: str = processor.image_token
        self._end: str = self._tokenizer.eos_token
        self._tokens_of_size: dict[tuple[int, int], int] = {}

    def __call__(self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = ()) -> TokenizedConversation:
        """The tokens of a conversation.

        Args:
            messages: The conversation, such as `Episode.messages`. Every assistant message is taken as sampled.
            tools: Tools for native function calling, as they stood in the requests.

        Raises:
            ConfigurationError: The chat template changes or leaves out what the model wrote, so that one sequence
                cannot stand for all turns.
        """
        frames = tuple(frame for message in messages for frame in message.frames)
        counts = iter([self.image_tokens(frame.width, frame.height) for frame in frames])
        ids: list[int] = []
        sampled: list[bool] = []
        for piece in self._pieces(messages, tools):
            first, *others = piece.text.split(self._image_token)
            text = first + "".join(self._image_token * next(counts) + other for other in others)
            new = self._tokenizer.encode(text, add_special_tokens=False)
            ids += new
            sampled += [piece.sampled] * len(new)
        return TokenizedConversation(tuple(ids), tuple(sampled), frames)

    def image_tokens(self, width: int, height: int) -> int:
        """Image tokens of a picture of so many pixels."""
        size = (width, height)
        if size not in self._tokens_of_size:
            patches = self._images.get_number_of_image_patches(height, width, {})
            self._tokens_of_size[size] = patches // self._images.merge_size**2
        return self._tokens_of_size[size]

    def _pieces(self, messages: Sequence[Message], tools: Sequence[ToolSchema]) -> list[_Piece]:
        """The templated conversation cut at the borders of what was sampled.

        Each prompt of the conversation must begin with the prompt and the reply before it: then the model saw at each
        turn what one sequence shows it.
        """
        schemas = [{"type": "function", "function": tool.model_dump()} for tool in tools] or None
        templated = [template_message(message) for message in messages]

        def render(count: int, prompt: bool) -> str:
            text: str = self._processor.apply_chat_template(
                templated[:count], tools=schemas, add_generation_prompt=prompt, tokenize=False
            )
            return text

        whole = render(len(messages), False)
        pieces: list[_Piece] = []
        done = 0
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before, after = render(number, True), render(number + 1, False)
            # The end token may stand in the reply too; what the template adds holds it once.
            end = after.rfind(self._end)
            reply = after[len(before) : end + len(self._end)]
            if not (after.startswith(before) and whole.startswith(before + reply)):
                raise ConfigurationError(
                    "The chat template rewrites earlier turns, so no one sequence is what the model saw.",
                    hint="Use a template that leaves earlier replies as they were written.",
                )
            if not message.tool_calls and reply != message.text + self._end:
                raise ConfigurationError(
                    "The chat template does not write a reply as the model wrote it.",
                    hint="It must put the reply's text between the generation prompt and the end token.",
                )
            pieces += [_Piece(before[done:], False), _Piece(reply, True)]
            done = len(before) + len(reply)
        pieces.append(_Piece(whole[done:], False))
        return pieces
