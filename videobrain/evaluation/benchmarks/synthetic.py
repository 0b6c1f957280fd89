"""The synthetic world: what `videobrain.world.write_dataset` writes."""

from __future__ import annotations

from collections.abc import Iterator

from videobrain.evaluation.benchmarks.benchmark import Benchmark, Split
from videobrain.evaluation.benchmarks.row import option_of_text
from videobrain.evaluation.benchmarks.source import Source
from videobrain.evaluation.sample import Sample
from videobrain.world.dataset import QUESTIONS_FILE
from videobrain.world.question import WorldQuestion
from videobrain.world.vocabulary import FPS


def _read(source: Source) -> Iterator[Sample]:
    for row in source.rows():
        with row:
            row.text("key")  # a row that is no object says so
            question = WorldQuestion.model_validate(row.value)
            if (question.kind == "unanswerable") != (source.split == "unanswerable"):
                continue
            options = question.options
            answer = None if question.kind == "unanswerable" else question.answer  # nobody knows
            yield Sample(
                key=question.key,
                video=source.video(question.video),
                question=question.question,
                task="open" if options is None else "choice",
                options=options,
                correct_option=None if options is None or answer is None else option_of_text(answer, options),
                answer=answer,
                spans=question.spans,
                duration_seconds=question.frame_count / FPS,
                slices={
                    "type": question.kind,
                    "template": question.template,
                    "form": "open" if options is None else "choice",
                    "pair": "held out" if question.held_out else "of training",
                },
                extra={"world": question.model_dump(mode="json")},  # its `accepts` scores an answer in words
            )


WORLD = Benchmark(
    name="world",
    title="The synthetic world",
    tasks=("choice", "open"),
    splits={"test": Split((QUESTIONS_FILE,)), "unanswerable": Split((QUESTIONS_FILE,))},
    licence="made on this machine, free of other people's rights",
    download="nothing: videobrain.world.write_dataset writes it",
    read=_read,
)
