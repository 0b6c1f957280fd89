"""What one call asks of `VideoBrain`, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from videobrain.agent.choices import LETTERS
from videobrain.errors import ConfigurationError
from videobrain.limits import Limits
from videobrain.result import Question, SubtitleSource, VideoSource
from videobrain.text import misfits

_MOST_SPANS = 100
"""More than any benchmark counts; a grammar for replies grows with them."""


class Output(NamedTuple):
    """What `output_type` asks of the answer."""

    schema: dict[str, Any] | None = None
    check: Callable[[str], str | None] | None = None
    parse: Callable[[str], Any] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all that `VideoBrain.ask` takes for it, which says what each is."""

    video: VideoSource
    question: str
    options: Sequence[str] | None = None
    output_type: type[Any] | None = None
    max_spans: int | None = None
    limits: Limits | None = None
    subtitles: SubtitleSource | None = None
    subtitles_start_seconds: float = 0.0

    @classmethod
    def of(cls, question: Question) -> Self:
        """A question of a batch."""
        return cls(
            question.video,
            question.question,
            question.options,
            max_spans=question.max_spans,
            limits=question.limits,
            subtitles=question.subtitles,
            subtitles_start_seconds=question.subtitles_start_seconds,
        )

    def check(self) -> None:
        """Refuse what cannot be asked.

        Raises:
            ConfigurationError: The question, its options or the form of its answer cannot be used.
        """
        if not isinstance(self.question, str):
            raise ConfigurationError(f"{self.question!r:.80} is no question.", hint="Ask in a string.")
        if not self.question.strip():
            raise ConfigurationError("The question is empty.")
        spans, options = self.max_spans, self.options
        if spans is not None:
            if options is not None or self.output_type is not None:
                raise ConfigurationError("A question takes options, an output type or max_spans, one of them.")
            if isinstance(spans, bool) or not isinstance(spans, int) or not 1 <= spans <= _MOST_SPANS:
                raise ConfigurationError(f"max_spans is a number from 1 to {_MOST_SPANS}, not {spans!r:.80}.")
        if options is None:
            return
        if self.output_type is not None:
            raise ConfigurationError("A question takes options or an output type, not both.")
        texts = isinstance(options, Sequence) and all(isinstance(option, str) for option in options)
        if isinstance(options, str) or not texts or not 2 <= len(options) <= len(LETTERS):
            raise ConfigurationError(f"A question takes a list of 2 to {len(LETTERS)} options, not {options!r:.80}.")
        if any(not option.strip() for option in options):
            raise ConfigurationError("An option is empty.", hint="Each is a text; letters tell equal ones apart.")

    def output(self) -> Output:
        """How the answer is asked for, checked and read.

        Raises:
            ConfigurationError: The output type has no JSON schema.
        """
        if self.output_type is None:
            return Output()
        try:
            adapter = TypeAdapter[Any](self.output_type)
            schema = adapter.json_schema()
        except PydanticUserError as error:
            raise ConfigurationError(
                f"The output type {self.output_type!r} cannot be written as JSON: {error.message.splitlines()[0]}",
                hint="Use a pydantic model, or a type such as int or list[str].",
            ) from error

        def check(text: str) -> str | None:
            try:
                adapter.validate_json(text)
            except ValidationError as error:
                return misfits(error)
            return None

        return Output(schema, check, adapter.validate_json)
