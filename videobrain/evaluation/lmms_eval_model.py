"""The class that lmms-eval imports for ``--model videobrain``; importing it needs lmms-eval."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms

from videobrain.brain import VideoBrain
from videobrain.errors import ConfigurationError
from videobrain.evaluation.lmms_eval import Request, answer_all, questions_of
from videobrain.limits import Limits
from videobrain.result import Answer


class LmmsEvalModel(lmms):  # type: ignore[misc]  # lmms-eval has no types
    """Answers the video tasks of lmms-eval with the loop of `VideoBrain`."""

    is_simple = True

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        strategy: str = "videobrain",
        encoder: str | None = None,
        concurrency: int = 16,
        max_turns: int | None = None,
        max_frames: int | None = None,
        max_seconds: float | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
        device: Any = None,
    ) -> None:
        """What ``--model_args`` takes.

        Args:
            model: Model string, such as ``openai:NAME``.
            base_url: Address of an OpenAI-compatible server.
            strategy: ``videobrain``, ``uniform-N`` or ``blind``.
            encoder: Frame encoder of the index.
            concurrency: Questions that are worked on at once.
            max_turns: Replies of the model to one question.
            max_frames: Frames shown for one question.
            max_seconds: Time of one question.
            batch_size: What lmms-eval gives every model; it means nothing here, like the next two.
            max_batch_size: See `batch_size`.
            device: See `batch_size`.
        """
        super().__init__()
        given: dict[str, Any] = {"turns": max_turns, "frames": max_frames, "seconds": max_seconds}
        self._concurrency = concurrency
        self._brain = VideoBrain(
            model,
            base_url=base_url,
            strategy=strategy,
            encoder=encoder,
            limits=Limits(**{name: value for name, value in given.items() if value is not None}),
        )

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """An answer for each request, with its tokens; an empty one where the run failed."""
        questions = questions_of((Request(*request.args) for request in requests), self.task_dict)
        answers = asyncio.run(answer_all(self._brain, questions, concurrency=self._concurrency))
        return [_result(answer) for answer in answers]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not there: a run of several turns has no likelihood of an answer."""
        raise ConfigurationError(
            "videobrain gives no likelihoods.", hint="Take a variant of the task whose answers are generated."
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """Not there: every question is a conversation of its own."""
        raise ConfigurationError("videobrain takes no tasks of several rounds.", hint="Take another task.")


def _result(answer: Answer | None) -> GenerationResult:
    if answer is None:
        return GenerationResult(text="")
    tokens = TokenCounts(input_tokens=answer.usage.input_tokens, output_tokens=answer.usage.output_tokens)
    return GenerationResult(text=answer.text, token_counts=tokens)
