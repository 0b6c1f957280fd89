"""From a question of a benchmark to what is asked, and from what was answered to its record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from videobrain.agent import Event, ReplyDelta, RunStarted, Trace
from videobrain.brain import VideoBrain
from videobrain.errors import (
    AuthenticationError,
    MissingDependencyError,
    ModelStartError,
    SubtitleError,
    UnknownModelError,
    VideoBrainError,
)
from videobrain.evaluation.manifest import Manifest
from videobrain.evaluation.predict import Predicted, predict
from videobrain.evaluation.record import Prediction, Record
from videobrain.evaluation.sample import Sample
from videobrain.result import Clip, Span
from videobrain.text import well_formed

HOPELESS = (AuthenticationError, UnknownModelError, ModelStartError, MissingDependencyError)
"""Errors that every further question would have too: the run ends, and no record is made of them."""
WITHOUT_SUBTITLES = "Asked without its subtitles: "
"""How the warning of a record begins whose subtitles could not be used."""
_LOGGER = logging.getLogger(__name__)


class Finished(NamedTuple):
    """A question that came to its end."""

    record: Record
    trace: Trace | None
    """Of the run that answered it."""
    error: Exception | None
    evidence: Trace | None = None
    """Of the second run, which was asked for the evidence."""


async def ask_sample(
    brain: VideoBrain,
    sample: Sample,
    video: Path,
    manifest: Manifest,
    *,
    subtitles: Path | None = None,
    on_event: Callable[[Event], None],
) -> Finished:
    """Ask one question and make a record of what comes of it, an error included.

    Args:
        brain: Who is asked.
        sample: The question.
        video: Where its video is.
        manifest: The run that the record belongs to.
        subtitles: Where its subtitles are, if they are to be used. Where they cannot be, the question is asked without
            them, and its record has a warning.
        on_event: Called on the event loop with each event.

    Raises:
        VideoBrainError: One of `HOPELESS`.
    """
    warnings: list[str] = []
    events: list[Event] = []

    def note(event: Event) -> None:
        if isinstance(event, RunStarted):  # the second run, for the evidence, has a trace of its own
            events.clear()
        if not isinstance(event, ReplyDelta):  # traces hold whole replies
            events.append(event)
        on_event(event)

    async def ask(subtitles: Path | None) -> Predicted:
        shown = video if sample.clip is None else Clip(video, *sample.clip)
        evidence = manifest.settings["evidence"] is True
        return await predict(brain, sample, shown, evidence=evidence, subtitles=subtitles, on_event=note)

    try:
        try:
            done = await ask(subtitles)
        except SubtitleError as error:
            warnings.append(well_formed(f"{WITHOUT_SUBTITLES}{error.message}"))
            subtitles = None
            done = await ask(None)
    except HOPELESS:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        _LOGGER.exception("question %r failed", sample.key)  # a tool of the user's own lost a task of its own
        return Finished(failed_record(sample, manifest, error), _recorded(events), RuntimeError("a task was cancelled"))
    except Exception as error:  # a bug in a tool of the user's own too: it must not end the others
        if not isinstance(error, VideoBrainError):
            _LOGGER.exception("question %r failed", sample.key)
        trace = error.trace if isinstance(error, VideoBrainError) else None
        return Finished(failed_record(sample, manifest, error), trace or _recorded(events), error)
    record = Record(
        **_of(sample, manifest),
        prediction=_in_whole_video(sample, done.prediction),
        stop_reason=done.answer.stop_reason,
        seen_seconds=tuple(shown.timestamp_seconds + sample.begins_seconds for shown in done.answer.evidence),
        subtitles=subtitles is not None,
        usage=done.usage,
        warnings=tuple(dict.fromkeys([*warnings, *(said for answer in done.answers for said in answer.warnings)])),
    )
    return Finished(record, done.answer.trace, None, done.evidence.trace if done.evidence else None)


def failed_record(sample: Sample, manifest: Manifest, error: BaseException) -> Record:
    """The record of a question that ended with an error."""
    return Record(**_of(sample, manifest), error=well_formed(f"{type(error).__name__}: {error}"))


def _of(sample: Sample, manifest: Manifest) -> dict[str, Any]:
    """What every record of a run says."""
    return {
        "sample": sample,
        "benchmark": manifest.benchmark,
        "model": manifest.model,
        "strategy": manifest.strategy,
        "settings": manifest.settings_digest,
    }


def _in_whole_video(sample: Sample, prediction: Prediction) -> Prediction:
    """The prediction with its spans in seconds of the whole video."""
    begins = sample.begins_seconds
    spans = tuple(Span(start + begins, end + begins) for start, end in prediction.spans)
    return prediction.model_copy(update={"spans": spans})


def _recorded(events: list[Event]) -> Trace | None:
    """What happened until a bug of somebody else's, whose exception carries no trace."""
    return Trace(events) if events else None
