"""The tiny Qwen3-VL: its shape, and its loss on a batch of equal frames."""

from __future__ import annotations

import copy
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from videobrain.models.tiny_random import SPECIAL_TOKENS
from videobrain.training.tiny.tokenizer import CONTEXT_TOKENS, FRAME_PIXELS, MERGE, PATCH_PIXELS
from videobrain.video.frame import Pixels

if TYPE_CHECKING:
    import torch

_GRID = FRAME_PIXELS // PATCH_PIXELS
FRAME_TOKENS = (_GRID // MERGE) ** 2
_IGNORED = -100
_ROWS = 128
"""Queries of a sequence that attend at a time: what lies behind the last of them is not computed."""
_FILLED_LENGTH, _FILLED_BATCH, _FILLED_ROWS, _FILLED_FRAMES = 64, 256, 32, 8
"""Tokens of a sequence and of a batch, places of a sequence in the last layer, and frames of a batch are filled up to
multiples of these. On a CPU each new shape of a product of matrices costs the making of a kernel."""
_ROPE_THETA = 5_000_000.0
"""As in the large models: half of a head turns so slowly that a whole conversation is within its reach."""
_GAIN = 1.5
"""Of the norms of queries and keys at first: with 1, a head 32 wide could not single out one token of hundreds."""


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes of the model. Attention heads are 32 wide, which vLLM's CPU kernels take."""

    text_hidden: int = 256
    text_layers: int = 4
    text_heads: int = 8
    text_key_heads: int = 4
    text_inner: int = 640
    vision_hidden: int = 96
    vision_layers: int = 3
    vision_inner: int = 320


class Batch(NamedTuple):
    """Sequences one after the other, and all their frames."""

    lengths: torch.Tensor
    """(sequences,): tokens of each, with what fills it up at its end."""
    input_ids: torch.Tensor
    """(tokens,)"""
    targets: torch.Tensor
    """(tokens,): the next token where that is trained, else -100."""
    computed: torch.Tensor
    """(tokens,): whether the last layer computes it, which is all that is trained and what fills it up."""
    position_ids: torch.Tensor
    """(3, tokens): time, height and width."""
    frames: torch.Tensor
    """(frames, side, side, 3), uint8, in the order of their places."""

    def to(self, device: Any) -> Batch:
        """The batch on a device."""
        return Batch(*(tensor.to(device) for tensor in self))


def make_tiny_model(processor: Any, shape: TinyShape | None = None, *, seed: int = 0) -> Any:
    """A new model with random weights, in float32.

    Args:
        processor: From `make_tiny_processor`.
        shape: Its sizes.
        seed: Seed of the weights.
    """
    import torch
    import transformers

    shape = shape or TinyShape()
    tokenizer = processor.tokenizer
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": shape.text_hidden,
            "intermediate_size": shape.text_inner,
            "num_hidden_layers": shape.text_layers,
            "num_attention_heads": shape.text_heads,
            "num_key_value_heads": shape.text_key_heads,
            "head_dim": 32,
            "max_position_embeddings": CONTEXT_TOKENS,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": _ROPE_THETA,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": shape.vision_layers,
            "hidden_size": shape.vision_hidden,
            "intermediate_size": shape.vision_inner,
            "num_heads": shape.vision_hidden // 32,
            "patch_size": PATCH_PIXELS,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": shape.text_hidden,
            "num_position_embeddings": _GRID * _GRID,
            "deepstack_visual_indexes": [],  # of three layers the last one holds everything
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = transformers.Qwen3VLForConditionalGeneration(config)
        _attend_to_alike(model)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], do_sample=False
    )
    return model


def _attend_to_alike(model: Any) -> None:
    """Let one query head of each key head begin with the key's own weights, so that a token attends to its like.

    Whether a word was there before, and what stood beside it, is what looking up and comparing come down to. Heads of
    random weights do not get there within a thousand steps (mimetic initialization, arXiv:2305.09828).
    """
    import torch

    with torch.no_grad():
        for layer in model.model.language_model.layers:
            attention = layer.self_attn
            keys = attention.k_proj.weight.view(-1, attention.head_dim, attention.k_proj.in_features)
            queries = attention.q_proj.weight.view(len(keys), -1, *keys.shape[1:])
            queries[:, 0] = keys
            attention.q_norm.weight.fill_(_GAIN)
            attention.k_norm.weight.fill_(_GAIN)


def save_tiny_model(model: Any, processor: Any, path: str | os.PathLike[str]) -> Path:
    """Write weights as bfloat16 with everything that ``local:`` and ``vllm:`` need; the model itself stays as it is."""
    import torch

    target = Path(path)
    target.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(target)
    processor.save_pretrained(target)
    return target


def parameters(model: Any) -> int:
    """Number of weights."""
    return sum(weights.numel() for weights in model.parameters())


def positions(input_ids: npt.NDArray[np.int64], image_token: int) -> npt.NDArray[np.int64]:
    """M-RoPE positions of one sequence whose images are all `FRAME_TOKENS` long: shape (3, length).

    A word takes one step on all three axes; an image stands at one time, spreads over height and width, and takes as
    many steps as it is wide.
    """
    side = _GRID // MERGE
    images = input_ids == image_token
    numbers = np.cumsum(images) - 1  # of image tokens, all images counted through
    within = numbers % FRAME_TOKENS
    steps = np.where(images, np.where(within == FRAME_TOKENS - 1, side, 0), 1)
    start = np.cumsum(steps) - steps
    found = np.stack([start, start, start])
    found[1] += np.where(images, within // side, 0)
    found[2] += np.where(images, within % side, 0)
    return found.astype(np.int64)


def fit_frame(pixels: Pixels) -> Pixels:
    """A square frame in the model's size, as its image processor reduces it."""
    from PIL import Image

    if pixels.shape[0] == FRAME_PIXELS:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((FRAME_PIXELS, FRAME_PIXELS), Image.Resampling.BICUBIC))


def patches(frames: torch.Tensor) -> torch.Tensor:
    """Frames as the image processor gives them: (frames * patches, channels * time * patch * patch), in [-1, 1]."""
    count, blocks = frames.shape[0], _GRID // MERGE
    scaled = frames.float() / 127.5 - 1
    cut = scaled.view(count, blocks, MERGE, PATCH_PIXELS, blocks, MERGE, PATCH_PIXELS, 3)
    ordered = cut.permute(0, 1, 4, 2, 5, 7, 3, 6)  # block by block, within it patch by patch
    twice = ordered.unsqueeze(6).expand(*ordered.shape[:6], 2, *ordered.shape[6:])  # a picture is two equal moments
    return twice.reshape(count * _GRID * _GRID, -1)


def see(model: Any, frames: torch.Tensor) -> torch.Tensor:
    """Image tokens of equal frames: what the vision tower gives, several times faster.

    transformers attends within one image after another; images of one size can be a batch.

    Returns:
        (frames * FRAME_TOKENS, hidden size of the text model)
    """
    import torch
    from torch.nn.functional import linear, pad

    visual = model.model.visual
    shown = len(frames) * FRAME_TOKENS
    frames = pad(frames, (0, 0, 0, 0, 0, 0, 0, -len(frames) % _FILLED_FRAMES))
    count, length = len(frames), _GRID * _GRID
    blocks = _GRID // MERGE
    order = torch.arange(length, device=frames.device).view(blocks, MERGE, blocks, MERGE).transpose(1, 2).reshape(-1)
    places = torch.stack([order // _GRID, order % _GRID], dim=1)
    # A convolution whose stride is its width is a product of matrices.
    cut = visual.patch_embed.proj
    hidden = linear(patches(frames), cut.weight.flatten(1), cut.bias).view(count, length, -1)
    hidden = hidden + visual.pos_embed(order)
    cosine, sine = visual.rotary_pos_emb(hidden, places)
    cosine, sine = cosine.view(1, 1, length, -1), sine.view(1, 1, length, -1)
    for block in visual.blocks:
        attention = block.attn
        mixed = attention.qkv(block.norm1(hidden)).view(count, length, 3, attention.num_heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        query, key = (_turned(each, cosine, sine).to(value.dtype) for each in (query, key))
        scores = query * attention.scaling @ key.transpose(-1, -2)
        looked = scores.softmax(-1).to(value.dtype) @ value
        hidden = hidden + attention.proj(looked.transpose(1, 2).reshape(count, length, -1))
        hidden = hidden + block.mlp(block.norm2(hidden))
    seen: torch.Tensor = visual.merger(hidden.view(count * length, -1))
    return seen[:shown]


def trained_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits before each trained token, and these tokens: (tokens, vocabulary) and (tokens,).

    What transformers computes of padded sequences, about twice as fast: hardly anything is padded, and of the last
    layer there is only what leads to a trained token.
    """
    import torch

    text = model.model.language_model
    hidden = text.embed_tokens(batch.input_ids)
    if len(batch.frames):
        seen = see(model, batch.frames)
        images = (batch.input_ids == model.config.image_token_id).unsqueeze(-1).expand_as(hidden)
        hidden = hidden.masked_scatter(images, seen.to(hidden.dtype))
    cosine, sine = (each[0] for each in text.rotary_emb(hidden.unsqueeze(0), batch.position_ids.unsqueeze(1)))
    lengths = batch.lengths.tolist()
    places = [torch.arange(length, device=hidden.device) for length in lengths]
    for layer in text.layers:
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)

        def heads(projection: Any, tokens: torch.Tensor, width: int = attention.head_dim) -> torch.Tensor:
            vectors: torch.Tensor = projection(tokens)
            return vectors.view(len(tokens), -1, width)

        keys = _turned(attention.k_norm(heads(attention.k_proj, normed)).transpose(0, 1), cosine, sine)
        values = heads(attention.v_proj, normed).transpose(0, 1)
        if layer is text.layers[-1]:
            hidden, normed, cosine, sine = (each[batch.computed] for each in (hidden, normed, cosine, sine))
            places = [part.nonzero()[:, 0] for part in batch.computed.split(lengths)]
        queries = _turned(attention.q_norm(heads(attention.q_proj, normed)).transpose(0, 1), cosine, sine)
        looked = [
            _looked_back(*each)
            for each in zip(
                (queries * attention.scaling).to(values.dtype).split([len(each) for each in places], 1),
                keys.to(values.dtype).repeat_interleave(attention.num_key_value_groups, 0).split(lengths, 1),
                values.repeat_interleave(attention.num_key_value_groups, 0).split(lengths, 1),
                places,
                strict=True,
            )
        ]
        hidden = hidden + attention.o_proj(torch.cat(looked, 1).transpose(0, 1).flatten(1))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    logits: torch.Tensor = model.lm_head(text.norm(hidden))
    targets = batch.targets[batch.computed]
    trained = targets != _IGNORED
    return logits[trained].float(), targets[trained]


def _looked_back(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Causal attention within a sequence, of the queries at these places: (heads, queries, width).

    For heads as narrow as these torch's fused attention is slower on a CPU, most of all backwards.
    """
    import torch

    looked = []
    for query, at in zip(queries.split(_ROWS, 1), places.split(_ROWS), strict=True):
        end = _filled(int(at[-1]) + 1, _FILLED_LENGTH) if len(at) else 0
        later = torch.arange(end, device=at.device) > at.unsqueeze(1)
        scores = (query @ keys[:, :end].transpose(-1, -2)).masked_fill(later, -math.inf)
        looked.append(scores.softmax(-1).to(values.dtype) @ values[:, :end])
    return torch.cat(looked, 1)


def _turned(vectors: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Vectors with their positions (RoPE)."""
    import torch

    first, second = vectors.chunk(2, dim=-1)
    return vectors * cosine + torch.cat((-second, first), dim=-1) * sine


def collate(
    sequences: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]],
    frames: list[Pixels],
    *,
    image_token: int,
) -> Batch:
    """Sequences of token ids and masks as a batch. What fills a sequence up stands behind it, where nothing looks."""
    import torch

    lengths = np.array([_filled(len(ids), _FILLED_LENGTH) for ids, _ in sequences])
    lengths[-1] += -lengths.sum() % _FILLED_BATCH
    total = lengths.sum()
    input_ids, places = np.zeros(total, dtype=np.int64), np.zeros((3, total), dtype=np.int64)
    targets, computed = np.full(total, _IGNORED), np.zeros(total, dtype=bool)
    for end, length, (ids, sampled) in zip(lengths.cumsum(), lengths, sequences, strict=True):
        begin = end - length
        input_ids[begin : begin + len(ids)] = ids
        places[:, begin : begin + len(ids)] = positions(ids, image_token)
        targets[begin : begin + len(ids) - 1] = np.where(sampled, ids, _IGNORED)[1:]
        trained = targets[begin:end] != _IGNORED
        first = np.argsort(~trained, kind="stable")[: _filled(int(trained.sum()), _FILLED_ROWS)]
        computed[begin + first] = True
    pictures = np.stack(frames) if frames else np.zeros((0, FRAME_PIXELS, FRAME_PIXELS, 3), dtype=np.uint8)
    return Batch(*(torch.from_numpy(array) for array in (lengths, input_ids, targets, computed, places, pictures)))


def _filled(count: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-count // unit) * unit
