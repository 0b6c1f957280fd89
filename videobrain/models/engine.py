"""A vision-language model in this process, through transformers. Blocking: `LocalModel` runs it in worker threads."""

from __future__ import annotations

import copy
import gc
import io
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from videobrain.errors import (
    ContextLengthError,
    MissingDependencyError,
    ModelError,
    ModelStartError,
    RequestRejectedError,
)
from videobrain.models.constrain import GrammarMask, ReplyGrammar
from videobrain.models.messages import ChatReply, ChatRequest, Message, NativeToolCall, TextPart
from videobrain.models.protocol import ModelProfile
from videobrain.video import EncodedFrame

if TYPE_CHECKING:
    import torch

_TOOL_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class Stopped(Exception):
    """The caller no longer wants the result."""


class Engine:
    """A loaded model with its processor. One call at a time; `LocalModel` sees to that.

    Attributes:
        max_model_len: Context in tokens, prompt and reply together.
    """

    def __init__(self, source: str, model: Any, processor: Any) -> None:
        self.source = source
        self._model = model
        self.processor = processor
        self._tokenizer = processor.tokenizer
        text_config = model.config.get_text_config()
        self.max_model_len: int | None = getattr(text_config, "max_position_embeddings", None)
        self._vocab_size: int = text_config.vocab_size
        self._eos = _as_list(model.generation_config.eos_token_id) or _as_list(self._tokenizer.eos_token_id)
        # Images one by one, which is no slower on a CPU and can be stopped in between.
        known = getattr(getattr(processor.image_processor, "valid_kwargs", None), "__annotations__", {})
        self._image_options = {"disable_grouping": True} if "disable_grouping" in known else {}
        self._grammar: ReplyGrammar | None = None
        self._stop = threading.Event()
        self._watch_stop()

    @classmethod
    def load(cls, source: str, *, offline: bool, stop: threading.Event) -> Engine:
        """Load weights and processor from a directory or the hub.

        Raises:
            MissingDependencyError: torch, torchvision or transformers is not installed.
            ModelStartError: There is no such model, it cannot be loaded, or it takes no images.
            Stopped: `stop` was set before the weights were read.
        """
        try:
            import torch
            import torchvision  # noqa: F401  # image processors need it and say so only vaguely
            import transformers
        except ImportError as error:
            raise MissingDependencyError("In-process models need torch and transformers.", extra="local") from error
        _check_is_directory(source)
        try:
            options: dict[str, Any] = {"local_files_only": offline}
            config = transformers.AutoConfig.from_pretrained(source, **options)
            _raise_if_set(stop)
            processor = transformers.AutoProcessor.from_pretrained(source, **options)
            if getattr(processor, "image_processor", None) is None:
                raise ValueError("its processor takes no images")
            _raise_if_set(stop)
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            device = device or torch.device("cpu")
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                source, config=config, dtype=_dtype(config, device), **options
            )
            model.to(device).eval()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ModelStartError(
                f"The model {source!r} cannot be loaded in process: {reason}", hint=_load_hint(source, offline)
            ) from error
        return cls(source, model, processor)

    def profile(self, base: ModelProfile) -> ModelProfile:
        """`base` with what the processor and its chat template say."""
        facts = {"constrains": True, "sends_temperature": True, "sends_seed": True}
        return base.model_copy(update={**facts, **processor_facts(self.processor)})

    def generate(
        self, request: ChatRequest, *, stop: threading.Event, on_text: Callable[[str], None] | None = None
    ) -> ChatReply:
        """Continue the conversation.

        Args:
            request: The conversation and how to sample; greedy where the temperature is 0 or None.
            stop: Ends the generation between two layers.
            on_text: Called with each piece of text as it is generated.

        Raises:
            Stopped: `stop` was set.
            ContextLengthError: Prompt and reply do not fit the model's context.
            RequestRejectedError: The chat template refuses the conversation, or the pattern is no regular expression.
            ModelError: The generation failed, for want of memory for instance.
        """
        import torch

        started = time.monotonic()
        self._stop = stop
        _raise_if_set(stop)
        masks = [self._grammar_mask(request.pattern)] if request.pattern else None
        try:
            with _stoppable(stop):
                inputs = self.encode(request)
            prompt_tokens = inputs["input_ids"].shape[1]
            self._check_context(prompt_tokens, request.max_output_tokens)
            config = copy.deepcopy(self._model.generation_config)
            config.update(max_new_tokens=request.max_output_tokens, max_length=None, **_sampling(request.temperature))
            config.update(eos_token_id=self._eos, pad_token_id=self._pad_token())
            streamer = None if on_text is None else _streamer(self._tokenizer, on_text)
            device = self._model.device
            # The random state belongs to the application, and gets back what it was.
            with torch.random.fork_rng([] if device.type == "cpu" else [device], enabled=request.seed is not None):
                if request.seed is not None:
                    torch.manual_seed(request.seed)
                output = self._model.generate(
                    **inputs, generation_config=config, logits_processor=masks, streamer=streamer
                )
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"The model {self.source!r} ran out of memory.", hint="Show it fewer or smaller frames, or serve it."
            ) from error
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            raise ModelError(f"The model {self.source!r} failed while it replied: {error}") from error
        tokens = output[0, prompt_tokens:].tolist()
        ended = bool(tokens) and tokens[-1] in self._eos
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        calls: tuple[NativeToolCall, ...] = ()
        if request.tools:
            text, calls = split_calls(text)
        return ChatReply(
            text=text,
            tool_calls=calls,
            finish_reason="length" if not ended else "tool_calls" if calls else "stop",
            input_tokens=prompt_tokens,
            output_tokens=len(tokens),
            model=self.source,
            seconds=time.monotonic() - started,
        )

    def free(self) -> None:
        """Drop weights and processor; the engine is of no use afterwards."""
        import torch

        self._model = self.processor = self._tokenizer = self._grammar = None
        gc.collect()  # the hooks of the layers and the engine refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def encode(self, request: ChatRequest) -> Any:
        """The conversation as the model's inputs, on its device."""
        from jinja2 import TemplateError

        tools = [{"type": "function", "function": tool.model_dump()} for tool in request.tools] or None
        messages = [template_message(message) for message in request.messages]
        try:
            prompt = self.processor.apply_chat_template(
                messages, tools=tools, add_generation_prompt=True, tokenize=False
            )
        except TemplateError as error:
            raise RequestRejectedError(
                f"The chat template of {self.source!r} refuses the conversation: {error}"
            ) from error
        images = [frame_image(frame) for message in request.messages for frame in message.frames]
        # Templates write the markers of the conversation's start themselves.
        options: dict[str, Any] = {"add_special_tokens": False, "return_tensors": "pt"}
        if images:
            options |= {"images": images, "images_kwargs": self._image_options}
        inputs = self.processor(text=[prompt], **options)
        return inputs.to(self._model.device, dtype=self._model.dtype)

    def _check_context(self, prompt_tokens: int, reply_tokens: int) -> None:
        if self.max_model_len is not None and prompt_tokens + reply_tokens > self.max_model_len:
            raise ContextLengthError(
                f"The conversation has {prompt_tokens} tokens; with {reply_tokens} for the reply it exceeds the "
                f"{self.max_model_len} of {self.source!r}.",
                hint="Lower --max-frames or max_output_tokens.",
            )

    def _grammar_mask(self, pattern: str) -> GrammarMask:
        if self._grammar is None:
            self._grammar = ReplyGrammar(self._tokenizer, vocab_size=self._vocab_size, eos=self._eos)
        return self._grammar.mask(pattern)

    def _pad_token(self) -> int | None:
        pad: int | None = self._tokenizer.pad_token_id
        return pad if pad is not None else next(iter(self._eos), None)

    def _watch_stop(self) -> None:
        """Look at the stop flag before each layer: a prompt of many frames takes long for one step of generation."""
        import torch

        for module in self._model.modules():
            if isinstance(module, torch.nn.ModuleList):
                for layer in module:
                    layer.register_forward_pre_hook(lambda _layer, _inputs: _raise_if_set(self._stop))


def _raise_if_set(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped


def _stoppable(stop: threading.Event) -> Any:
    """Within this context, each call of torch's by this thread looks at the stop flag first."""
    from torch.overrides import TorchFunctionMode

    class Stoppable(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            _raise_if_set(stop)
            return function(*args, **(kwargs or {}))

    return Stoppable()


def _as_list(ids: int | Sequence[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _check_is_directory(source: str) -> None:
    """Hub ids are ``NAME`` or ``OWNER/NAME``; whatever else does not exist is a path that was mistyped."""
    path = Path(source).expanduser()
    if not path.is_dir() and (path.exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source[0] == "."):
        raise ModelStartError(
            f"There is no model directory {source!r}.", hint="Name a directory or a hub id such as local:OWNER/NAME."
        )


def _load_hint(source: str, offline: bool) -> str:
    if Path(source).is_dir():
        return "It must be the directory of a vision-language model that transformers knows."
    if offline:
        return "VIDEOBRAIN_OFFLINE is set, so the weights must be in the hub's cache; or name a directory."
    return "Without access to the hub, name a directory."


def _dtype(config: Any, device: torch.device) -> torch.dtype:
    """The checkpoint's own type where the device computes it fast, else float32."""
    import torch

    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None) or torch.float32
    if device.type == "cpu" and stored != torch.float32:
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return torch.bfloat16 if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else torch.float32
    if device.type == "cuda" and stored == torch.bfloat16 and not torch.cuda.is_bf16_supported():
        return torch.float16
    return stored


def _sampling(temperature: float | None) -> dict[str, Any]:
    if temperature:
        return {"do_sample": True, "temperature": temperature}
    return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def frame_image(frame: EncodedFrame) -> Image.Image:
    """The frame as processors want it, from the very bytes that servers are sent."""
    return Image.open(io.BytesIO(frame.jpeg)).convert("RGB")


def template_message(message: Message) -> dict[str, Any]:
    """The message as chat templates want it."""
    content = [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in message.parts
    ]
    fields: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _json_or_text(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def processor_facts(processor: Any) -> dict[str, Any]:
    """Fields of `ModelProfile` that a processor and its chat template settle."""
    template = processor.chat_template or processor.tokenizer.chat_template
    facts: dict[str, Any] = {"native_tools": "tools" in str(template or "")}
    images = processor.image_processor
    if hasattr(images, "patch_size") and hasattr(images, "merge_size"):
        side = facts["image_patch"] = images.patch_size * images.merge_size
        size = images.size
        for field, edge in (("image_min_tokens", "shortest_edge"), ("image_max_tokens", "longest_edge")):
            if pixels := size.get(edge):
                facts[field] = max(1, pixels // side**2)
    return facts


def split_calls(text: str) -> tuple[str, tuple[NativeToolCall, ...]]:
    """Text without its well-formed calls, and those calls; what is malformed stays text, for the loop to correct."""
    calls: list[NativeToolCall] = []

    def take(match: re.Match[str]) -> str:
        call = _json_or_text(match[1])
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return match[0]
        arguments = call.get("arguments", {})
        calls.append(
            NativeToolCall(
                id=f"call_{len(calls)}",
                name=call["name"],
                arguments=arguments if isinstance(arguments, str) else json.dumps(arguments),
            )
        )
        return ""

    rest = _TOOL_CALL.sub(take, text)
    return (rest.strip() if calls else text), tuple(calls)


def _streamer(tokenizer: Any, on_text: Callable[[str], None]) -> Any:
    from transformers import TextStreamer

    class Deltas(TextStreamer):  # type: ignore[misc]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            if text:
                on_text(text)

    return Deltas(tokenizer, skip_prompt=True, skip_special_tokens=True)
