"""From a question of a benchmark to what is asked, and from what was answered to its record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from videobrain.agent import Event, ReplyDelta, Trace
from videobrain.brain import VideoBrain
from videobrain.errors import (
    AuthenticationError,
    ConfigurationError,
    LimitExceeded,
    MissingDependencyError,
    ModelStartError,
    UnknownModelError,
    VideoBrainError,
)
from videobrain.evaluation.extraction import read_choice
from videobrain.evaluation.manifest import Manifest
from videobrain.evaluation.record import Prediction, Record
from videobrain.evaluation.sample import Sample
from videobrain.result import Answer, Clip, Span
from videobrain.text import well_formed

HOPELESS = (AuthenticationError, UnknownModelError, ModelStartError, MissingDependencyError)
"""Errors that every further question would have too: the run ends, and no record is made of them."""
_ASKED = ("choice", "open")
"""Tasks that a model can be asked for at present."""
_LOGGER = logging.getLogger(__name__)


class Finished(NamedTuple):
    """A question that came to its end."""

    record: Record
    trace: Trace | None
    error: Exception | None


async def ask_sample(
    brain: VideoBrain, sample: Sample, video: Path, manifest: Manifest, *, on_event: Callable[[Event], None]
) -> Finished:
    """Ask one question and make a record of what comes of it, an error included.

    Args:
        brain: Who is asked.
        sample: The question.
        video: Where its video is.
        manifest: The run that the record belongs to.
        on_event: Called on the event loop with each event.

    Raises:
        VideoBrainError: One of `HOPELESS`.
    """
    answer: Answer | None = None
    failure: Exception | None = None
    trace: Trace | None = None
    events: list[Event] = []

    def note(event: Event) -> None:
        if not isinstance(event, ReplyDelta):  # traces hold whole replies
            events.append(event)
        on_event(event)

    try:
        answer = await _ask(brain, sample, video, note)
        trace = answer.trace
    except LimitExceeded as error:  # the run came to its end, as it does without `on_limit="raise"`
        answer, failure = error.partial, None if error.partial else error
        trace = error.trace or (answer.trace if answer else None)
    except HOPELESS:
        raise
    except Exception as error:  # a bug in a tool of the user's own too: it must not end the others
        if not isinstance(error, VideoBrainError):
            _LOGGER.exception("question %r failed", sample.key)
        failure = error
        trace = error.trace if isinstance(error, VideoBrainError) else None
    about: dict[str, Any] = {
        "sample": sample,
        "benchmark": manifest.benchmark,
        "model": manifest.model,
        "strategy": manifest.strategy,
        "settings": manifest.settings_digest,
    }
    if answer is None:
        said = well_formed(f"{type(failure).__name__}: {failure}")
        return Finished(Record(**about, error=said), trace or _recorded(events), failure)
    begins = sample.clip.start_seconds if sample.clip else 0.0
    record = Record(
        **about,
        prediction=prediction_of(sample, answer),
        stop_reason=answer.stop_reason,
        seen_seconds=tuple(shown.timestamp_seconds + begins for shown in answer.evidence),
        usage=answer.usage,
        warnings=answer.warnings,
    )
    return Finished(record, trace, None)


def prediction_of(sample: Sample, answer: Answer) -> Prediction:
    """What an answer says about a question.

    The letter is that of the answer, or what can be read out of its text. Spans are those of the answer, in seconds of
    the whole video.
    """
    choice = None
    if sample.options is not None:
        choice = answer.choice or read_choice(answer.text, sample.options)
    begins = sample.clip.start_seconds if sample.clip else 0.0
    spans = tuple(Span(start + begins, end + begins) for start, end in answer.spans)
    return Prediction(text=answer.text, choice=choice, spans=spans)


async def _ask(brain: VideoBrain, sample: Sample, video: Path, on_event: Callable[[Event], None]) -> Answer:
    if sample.task not in _ASKED:
        raise ConfigurationError(
            f"Questions that ask for {sample.task} are not supported yet.",
            hint="Evaluate a benchmark of multiple choice or of answers in words.",
        )
    shown: Path | Clip = video if sample.clip is None else Clip(video, *sample.clip)
    return await brain.ask(shown, sample.question, options=sample.options, on_event=on_event)


def _recorded(events: list[Event]) -> Trace | None:
    """What happened until a bug of somebody else's, whose exception carries no trace."""
    return Trace(events) if events else None
