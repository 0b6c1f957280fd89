"""videobrain as a model of lmms-eval: what its entry point names, and its requests as our questions.

lmms-eval finds it by the entry-point group ``lmms_eval.models``, so nothing in lmms-eval is changed. Tasks, prompts and
scores are lmms-eval's; how a video is looked at is ours. Nothing here imports lmms-eval before it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from videobrain.brain import VideoBrain
from videobrain.errors import InputError
from videobrain.result import Answer, Question

NAME = "videobrain"
_MODEL = "videobrain.evaluation.lmms_eval_model.LmmsEvalModel"

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """What lmms-eval gives a model of its kind ``simple`` for one question, in this order."""

    context: str
    """The whole prompt: the question, its options, and how to answer."""
    generation: Mapping[str, Any]
    """Sampling of the reply. It is not heeded: a run has many replies, whose settings are those of `Settings`."""
    doc_to_visual: Callable[[Any], Sequence[Any]]
    doc_id: int
    task: str
    split: str


def manifest() -> Any:
    """What the entry point gives lmms-eval: the model's name, and the class it imports when the model is asked for."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=NAME, simple_class_path=_MODEL)


def questions_of(requests: Iterable[Request], tasks: Mapping[str, Mapping[str, Any]]) -> list[Question]:
    """The requests as questions, whose keys are their places.

    Options stay in the text, as lmms-eval's task wrote it: its scorer reads the letter from the answer.

    Args:
        requests: What is asked.
        tasks: The documents by task and split, as lmms-eval keeps them.

    Raises:
        InputError: A task shows something else than one video as a file.
    """
    questions = []
    for place, request in enumerate(requests):
        shown = list(request.doc_to_visual(tasks[request.task][request.split][request.doc_id]) or ())
        if len(shown) != 1 or not isinstance(shown[0], str):
            kinds = ", ".join(sorted({type(each).__name__ for each in shown})) or "nothing"
            raise InputError(
                f"The task {request.task} shows {len(shown)} visuals ({kinds}) for document {request.doc_id}.",
                hint="videobrain answers questions about one video file each.",
            )
        questions.append(Question(video=shown[0], question=request.context, key=str(place)))
    return questions


async def answer_all(brain: VideoBrain, questions: Sequence[Question], *, concurrency: int) -> list[Answer | None]:
    """The answers in the order of the questions; None where a run failed, which the log tells.

    Raises:
        Exception: Every run failed, with the error of one of them: a server that is away is no score of 0.
    """
    answers: list[Answer | None] = [None] * len(questions)
    error: Exception | None = None
    async with brain.ask_many(questions, concurrency=concurrency) as outcomes:
        async for outcome in outcomes:
            answers[int(outcome.question.key or 0)] = outcome.answer
            if outcome.error is not None:
                error = outcome.error
                logger.warning("no answer about %s: %s", outcome.question.video, error)
    if error is not None and all(answer is None for answer in answers):
        raise error
    return answers
