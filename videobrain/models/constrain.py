"""Replies of an in-process model held to a regular expression, through llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from videobrain.errors import MissingDependencyError, RequestRejectedError

if TYPE_CHECKING:
    import torch


class ReplyGrammar:
    """What llguidance knows of a tokenizer: made once for a model, since it reads the whole vocabulary."""

    def __init__(self, tokenizer: Any, *, vocab_size: int, eos: Sequence[int]) -> None:
        try:
            import llguidance
            import llguidance.hf
        except ImportError as error:
            raise MissingDependencyError("Constrained replies need llguidance.", extra="local") from error
        marked = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocab_size, eos_token=list(eos))
        self._vocab_size = vocab_size
        self._matcher = llguidance.LLMatcher
        self._tokens = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_PlainTags(tokenizer, marked, eos)), eos_token=list(eos)
        )

    def mask(self, pattern: str) -> GrammarMask:
        """A logits processor for one reply that must match `pattern`.

        Raises:
            RequestRejectedError: `pattern` is no regular expression that llguidance takes.
        """
        matcher = self._matcher(self._tokens, self._matcher.grammar_from_regex(pattern))
        if matcher.is_error():
            raise RequestRejectedError(f"The reply pattern cannot be used: {matcher.get_error()}")
        return GrammarMask(matcher, self._vocab_size)


class GrammarMask:
    """Logits processor that leaves only the tokens with which the reply can still match its pattern."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._bits = np.zeros((vocab_size + 31) // 32, dtype=np.int32)
        self._started = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of the next token; those of forbidden tokens are minus infinity."""
        import torch

        if self._started:
            self._matcher.consume_token(int(input_ids[0, -1]))
        self._started = True
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise RuntimeError(self._matcher.get_error())
        allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: scores.shape[-1]].astype(bool)
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), float("-inf"))


class _PlainTags:
    """A tokenizer as `llguidance.TokenizerWrapper` wants it, in which only special tokens are special.

    llguidance takes every added token for special, ``<tool_call>`` of the Qwen models too: it then forbids the very
    token that it forces, as the tokenizer writes the tag with it.
    """

    def __init__(self, tokenizer: Any, marked: Any, eos: Sequence[int]) -> None:
        ids = range(marked.vocab_size)
        plain = {number for number, token in tokenizer.added_tokens_decoder.items() if not token.special}
        self._tokenizer = tokenizer
        self.bos_token_id = None
        self.eos_token_id = eos[0]
        self.tokens = [marked.decode_bytes([number]) for number in ids]
        self.special_token_ids = [number for number in ids if number not in plain and marked.is_special_token(number)]

    def __call__(self, text: str | bytes) -> list[int]:
        decoded = text.decode() if isinstance(text, bytes) else text
        return self._tokenizer.encode(decoded, add_special_tokens=False)  # type: ignore[no-any-return]
