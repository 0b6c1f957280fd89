"""A tiny vision-language model with random weights: the whole loop runs with it, and its answers are noise.

It has the shape of Qwen3-VL, so that transformers and vLLM run it as they run the big ones, in a few megabytes and
without a hub. Demonstrations and tests use it with constrained replies, which even an untrained model gives in form.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from videobrain.errors import MissingDependencyError

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Ordinary tokens, since special ones would be lost when a reply is decoded.
TAGS = tuple(f"<{slash}{name}>" for name in ("thinking", "tool_call", "answer", "tool_response") for slash in ("", "/"))
_PHRASES = (
    "you see frames of a video with the index and the time of each frame",
    "think about what they show and whether they suffice to answer the question",
    "call a tool to sample more frames uniform_sample clip_sample start_frame end_frame prompt name arguments",
    "reply with your answer at the total number of seconds fps width height image first last turn no more calls",
    "a man woman child person dog cat bird horse rabbit car bus train boat bicycle ball tree flower house road",
    "the is are was in on under behind near left right red blue green yellow black white small large slow fast",
    "walks runs jumps opens closes holds takes gives looks talks sits stands turns falls before after then while",
    "hand door window table chair street kitchen room water sky grass scene camera text screen music light night day",
)
_CALLS = (
    '{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 16}}',
    '{"name": "clip_sample", "arguments": {"start_frame": 0, "end_frame": 16, "prompt": "red ball"}}',
)
_SENTENCE_MARKS = (".", ",", "?", "!")

CHAT_TEMPLATE = """\
{%- set functions -%}
{%- if tools -%}
You may call these functions:
{% for tool in tools %}{{ tool | tojson }}
{% endfor -%}
Call one by writing <tool_call>{"name": NAME, "arguments": {...}}</tool_call>
{%- endif -%}
{%- endset -%}
{%- if tools and messages[0].role != 'system' -%}
{{- '<|im_start|>system\n' + functions + '<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\n' -}}
{%- if message.role == 'tool' -%}{{- '<tool_response>' -}}{%- endif -%}
{%- if message.content is string -%}
{{- message.content -}}
{%- elif message.content -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif part.type == 'text' -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' -}}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson -}}
{{- '}</tool_call>' -}}
{%- endfor -%}
{%- if message.role == 'tool' -%}{{- '</tool_response>' -}}{%- endif -%}
{%- if tools and loop.first and message.role == 'system' -%}{{- '\n\n' + functions -}}{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""


def make_tiny_random_model(path: str | os.PathLike[str], *, seed: int = 0) -> Path:
    """Write a tiny random Qwen3-VL with tokenizer, processor and chat template.

    The same seed gives the same weights. Its context of 32,768 tokens holds 56 frames of 640 x 360 twice over.

    Args:
        path: Directory to write to; made where it is missing.
        seed: Seed of the weights.

    Returns:
        The directory, for ``local:`` and ``vllm:`` model strings.

    Raises:
        MissingDependencyError: torch or transformers is not installed.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "Making a tiny random model needs torch and transformers.", extra="local"
        ) from error

    tokenizer = make_tokenizer([" ".join(_PHRASES), *_CALLS] * 4, vocab_size=1200)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = transformers.Qwen3VLForConditionalGeneration(_config(tokenizer))
    spoken = _spoken(tokenizer)
    with torch.no_grad():
        # Only whole words, digits, marks and tags are ever preferred: noise that can be read.
        model.lm_head.weight[[token for token in range(len(tokenizer)) if token not in spoken]] = 0
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    processor = make_processor(tokenizer, patch_size=16, merge_size=2, fewest_pixels=64 * 64, most_pixels=1024 * 1024)
    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return target


def make_processor(tokenizer: Any, *, patch_size: int, merge_size: int, fewest_pixels: int, most_pixels: int) -> Any:
    """A Qwen3-VL processor with the chat template of the tiny models.

    Args:
        tokenizer: From `make_tokenizer`.
        patch_size: Side of a patch in pixels.
        merge_size: Patches along the side of one image token.
        fewest_pixels: Images of fewer pixels are enlarged.
        most_pixels: Images of more pixels are reduced.
    """
    import transformers

    pixels: dict[str, Any] = {"patch_size": patch_size, "merge_size": merge_size, "temporal_patch_size": 2}
    pixels |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(
            size={"shortest_edge": fewest_pixels, "longest_edge": most_pixels}, **pixels
        ),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen3VLVideoProcessor(**pixels),
        chat_template=CHAT_TEMPLATE,
    )


def make_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    phrases: Sequence[str] = (),
    digits: int = 1,
    model_max_length: int = 32768,
) -> Any:
    """A byte-level BPE tokenizer: any text can be written, numbers are cut alike everywhere, and each tag is a token.

    Args:
        texts: What the merges are learnt from.
        vocab_size: Tokens at the most, tags, phrases and special tokens apart.
        phrases: Texts that are one token each.
        digits: Most digits of a token; of more than one where `texts` show them.
        model_max_length: Context of the model in tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(rf"\p{{N}}{{1,{digits}}}" r"|[,:] (?!\p{L})| ?[\p{L}_]+| ?[^\s\p{L}\p{N}_]+|\s+"),
                behavior="isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    bpe.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*TAGS, *phrases)])
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=model_max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _config(tokenizer: Any) -> Any:
    """A shape that vLLM's CPU kernels take too: a head dimension of 32, no token id without a token."""
    from transformers import Qwen3VLConfig

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 32768,
            "initializer_range": 0.1,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 128,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1],
            "initializer_range": 0.1,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )


def _spoken(tokenizer: Any) -> set[int]:
    """Token ids that the model may prefer; without a grammar it may also end its reply."""
    words = {word for phrase in _PHRASES for word in phrase.split()}
    texts = {f" {word}" for word in words} | set("0123456789") | set(_SENTENCE_MARKS) | set(TAGS)
    spoken = {ids[0] for text in texts if len(ids := tokenizer.encode(text, add_special_tokens=False)) == 1}
    return spoken | {tokenizer.eos_token_id}
