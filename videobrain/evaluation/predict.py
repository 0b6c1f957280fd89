"""From a sample to a question, and from finished answers to a prediction.

`predict` does all of it for one sample. Whoever runs many at once (`VideoBrain.ask_many`) takes `question_for`,
`evidence_question_for` and `prediction_of` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from videobrain.agent import Event
from videobrain.agent.choices import LETTERS
from videobrain.brain import VideoBrain
from videobrain.errors import LimitExceeded
from videobrain.evaluation.extraction import read_choice
from videobrain.evaluation.record import Prediction
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.spans import read_spans
from videobrain.limits import Limits
from videobrain.result import Answer, Question, SubtitleSource, Usage, VideoSource

MAX_SPANS = {"grounding": 5, "highlights": 10}
"""Spans that are asked for: so many as scorers look at (R5; the ten windows of QVHighlights)."""
MAX_EVIDENCE_SPANS = 5
"""As in the question of CG-Bench for clue intervals."""


class Predicted(NamedTuple):
    """What became of one sample.

    Attributes:
        prediction: What the model said.
        answer: The run that answered it.
        evidence: The second run, which was asked for the evidence; None without one.
    """

    prediction: Prediction
    answer: Answer
    evidence: Answer | None = None

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Every run, in order."""
        return (self.answer,) if self.evidence is None else (self.answer, self.evidence)

    @property
    def usage(self) -> Usage:
        """What all runs cost."""
        return sum((answer.usage for answer in self.answers), Usage())


async def predict(
    brain: VideoBrain,
    sample: Sample,
    video: VideoSource,
    *,
    evidence: bool = False,
    limits: Limits | None = None,
    subtitles: SubtitleSource | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Predicted:
    """Ask what a sample asks. A run that ends at a limit counts with what there is, also under ``on_limit="raise"``.

    Args:
        brain: Who is asked, with its model, strategy and tools.
        sample: The question; its truth is not looked at.
        video: The video.
        evidence: Ask a second question for the spans in which the answer is seen, unless the strategy gave some with
            its answer. It has no meaning where spans are the answer.
        limits: Limits of each run.
        subtitles: Subtitles that each run has; `Sample.subtitles` alone does not say in which directory they lie.
        on_event: Called with each event of each run.

    Raises:
        VideoBrainError: A run failed. Where it was the second, the first is lost too: a question is done or not done.
    """
    question = question_for(sample, video, limits=limits, subtitles=subtitles)
    answer = await _ask(brain, question, on_event)
    second = None
    if evidence:
        second = evidence_question_for(sample, video, answer, limits=limits, subtitles=subtitles)
    found = await _ask(brain, second, on_event) if second is not None else None
    return Predicted(prediction_of(sample, answer, found), answer, found)


def question_for(
    sample: Sample, video: VideoSource, *, limits: Limits | None = None, subtitles: SubtitleSource | None = None
) -> Question:
    """What a sample asks, for `VideoBrain.ask_many`; its key is the sample's."""
    return Question(
        video=video,
        question=sample.question,
        options=sample.options,
        max_spans=MAX_SPANS.get(sample.task),
        key=sample.key,
        limits=limits,
        subtitles=subtitles,
        subtitles_start_seconds=sample.subtitles_start_seconds,
    )


def evidence_question_for(
    sample: Sample,
    video: VideoSource,
    answer: Answer,
    *,
    limits: Limits | None = None,
    subtitles: SubtitleSource | None = None,
) -> Question | None:
    """The second question about a sample: where its answer, as the model gave it, is seen.

    It is a run of its own: the model sees the video anew, is told the question and the answer that it gave, and spends
    the limits once more. CG-Bench asks for clue intervals in a question of its own too.

    Returns:
        None where the answer has spans already.
    """
    if sample.task in MAX_SPANS or answer.spans:
        return None
    given = _chosen_text(sample, answer) if sample.options else answer.text.strip()
    about = f"the answer {given!r} to the question" if given else "the answer to the question"
    return Question(
        video=video,
        question=f"What one has to see to find {about}: {sample.question}",
        max_spans=MAX_EVIDENCE_SPANS,
        key=sample.key,
        limits=limits,
        subtitles=subtitles,
        subtitles_start_seconds=sample.subtitles_start_seconds,
    )


def prediction_of(sample: Sample, answer: Answer, evidence: Answer | None = None) -> Prediction:
    """A finished run as a prediction.

    The choice is the one that the run found, or else what `read_choice` reads in its text. Spans are those of the
    answer or of its evidence, the surest first. A model is not asked how sure it is of each, so there are no
    `span_scores`, and it is not asked for the saliency of clips: of highlights only the spans are predicted.

    Args:
        sample: What was asked.
        answer: The run that answered it.
        evidence: The run that was asked for the evidence.
    """
    choice = None
    if sample.options:
        choice = answer.choice or read_choice(answer.text, sample.options)
    spans = answer.spans or (evidence.spans if evidence is not None else ())
    if not spans and sample.task in MAX_SPANS and answer.stop_reason == "answered":
        spans = read_spans(answer.text)  # a strategy of somebody's own may answer in words
    if not spans and evidence is not None and evidence.stop_reason == "answered":
        spans = read_spans(evidence.text)
    return Prediction(text=answer.text, choice=choice, spans=spans)


def _chosen_text(sample: Sample, answer: Answer) -> str:
    letter = prediction_of(sample, answer).choice
    options = sample.options or ()
    return options[LETTERS.index(letter)] if letter else ""


async def _ask(brain: VideoBrain, question: Question, on_event: Callable[[Event], None] | None) -> Answer:
    try:
        return await brain.ask(
            question.video,
            question.question,
            options=question.options,
            max_spans=question.max_spans,
            limits=question.limits,
            subtitles=question.subtitles,
            subtitles_start_seconds=question.subtitles_start_seconds,
            on_event=on_event,
        )
    except LimitExceeded as error:
        if error.partial is None:
            raise
        return error.partial
