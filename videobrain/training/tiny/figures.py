"""What answers to questions of the synthetic world come to: figures with intervals, and the bars they are held to.

Nothing here asks a model or reads a file: everything follows from records of finished questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from videobrain.evaluation.metrics import Interval, clustered, percent
from videobrain.world import COLOURS, SHAPES, WorldQuestion, pairs
from videobrain.world.vocabulary import COUNTS, DIGITS, LETTERS, PATTERNS

T = TypeVar("T")

_SLICES: Mapping[str, Callable[[WorldQuestion], bool]] = {
    "direct": lambda question: question.kind == "direct",
    "search": lambda question: question.kind == "search",
    "dense": lambda question: question.kind == "dense",
    "all": lambda question: True,
    "seen pairs": lambda question: not question.held_out,
    "held-out pairs": lambda question: question.held_out,
    "multiple choice": lambda question: question.options is not None,
    "open-ended": lambda question: question.options is None,
}
_ANSWERS: Mapping[str, int] = {
    "colour_of_shape": len(COLOURS),
    "shape_of_colour": len(SHAPES),
    "companion": len(pairs("test")) - 1,
    "background_at": len(PATTERNS),
    "screen_order": math.perm(len(COLOURS), 3),
    "screen_nth": len(COLOURS),
    "shape_order": math.perm(len(SHAPES), 3),
    "count_of": len(COUNTS),
}
"""How many answers an open-ended question of each template may have."""


class Record(BaseModel):
    """One finished question: what was asked and what came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    """Model string."""
    weights: str
    """Digest of the model's files; empty where they are not on this machine."""
    strategy: str
    question: WorldQuestion
    text: str = ""
    """The model's answer; empty where there is none."""
    choice: str | None = None
    """Letter of the chosen option."""
    stop_reason: str = ""
    frames: int = 0
    turns: int = 0
    """Accepted replies."""
    ill_formed: int = 0
    """Replies that could not be used."""
    calls: int = 0
    """Accepted tool calls."""
    seconds: float = 0.0
    error: str = ""
    """What went wrong, where there is no answer for that reason."""

    @property
    def given(self) -> str:
        """The answer in its shortest form: the letter where there is one."""
        return self.choice or self.text.strip()

    @property
    def right(self) -> bool:
        """Whether the answer is the truth."""
        return not self.error and self.question.accepts(self.given)


class Figures(BaseModel):
    """What one strategy came to on some of the questions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: str
    """Which questions: a class, a form, or ``all``."""
    questions: int
    right: Interval
    chance: float
    """Share of right answers that guessing would give."""
    frames: float
    """Mean number of frames shown, like the other means over the questions without an error."""
    turns: float
    seconds: float
    tools: float
    """Share of questions with a tool call."""
    ill_formed: float
    """Share of the model's replies that could not be used."""
    unanswered: int
    errors: int


class Agreement(BaseModel):
    """How far two models give the same answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    other: str
    """Model string of the other model."""
    strategy: str
    questions: int
    same: Interval
    differing: tuple[str, ...]
    """Keys of the questions that were answered differently."""


class Bar(BaseModel):
    """One thing that is asked of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    required: str
    found: str
    passed: bool | None
    """None where it was not measured."""


class Evaluation(BaseModel):
    """Everything that an evaluation found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights: str
    version: str
    """Version of videobrain."""
    questions: int
    videos: int
    duration_seconds: int
    seed: int
    """Seed of the first video."""
    strategies: dict[str, tuple[Figures, ...]]
    bars: tuple[Bar, ...]
    agreement: Agreement | None = None

    def table(self) -> str:
        """For people."""
        head = (
            f"{self.model}, weights {self.weights or 'not on this machine'}: {self.questions} questions on "
            f"{self.videos} test videos of {self.duration_seconds} s, seeds from {self.seed}"
        )
        columns = f"{'questions':>9} {'right':>8} {'95 %':>14} {'chance':>8} {'frames':>7} {'turns':>6} {'seconds':>8}"
        columns += f" {'tools':>8} {'ill-formed':>10} {'unanswered':>10} {'errors':>6}"
        lines = [head]
        for strategy, parts in self.strategies.items():
            lines += ["", f"{strategy:18}{columns}", *(_line(figures) for figures in parts)]
        lines.append("")
        word = {True: "pass", False: "FAIL", None: "-"}
        lines += [f"{word[bar.passed]:5} {bar.name}: {bar.found}; required: {bar.required}" for bar in self.bars]
        if self.agreement is not None and self.agreement.differing:
            lines.append(f"Answered differently: {', '.join(self.agreement.differing)}")
        return "\n".join(lines)


def chance(question: WorldQuestion) -> float:
    """Probability that a guess among all possible answers is right."""
    if question.options is not None:
        return 1 / len(question.options)
    if question.template == "glyph_shown":
        return 1 / len(LETTERS if question.answer in LETTERS else DIGITS)
    return 1 / _ANSWERS[question.template]


def figures_of(records: Sequence[Record], part: str = "all") -> Figures | None:
    """Figures of one part of the records; None where it is empty."""
    chosen = [record for record in records if _SLICES[part](record.question)]
    if not chosen:
        return None
    done = [record for record in chosen if not record.error]
    ill_formed, turns = sum(record.ill_formed for record in done), sum(record.turns for record in done)
    return Figures(
        part=part,
        questions=len(chosen),
        right=clustered([record.right for record in chosen], [record.question.video for record in chosen]),
        chance=sum(chance(record.question) for record in chosen) / len(chosen),
        frames=_ratio(sum(record.frames for record in done), len(done)),
        turns=_ratio(turns, len(done)),
        seconds=_ratio(sum(record.seconds for record in done), len(done)),
        tools=_ratio(sum(record.calls > 0 for record in done), len(done)),
        ill_formed=_ratio(ill_formed, ill_formed + turns),
        unanswered=sum(not record.given for record in done),
        errors=len(chosen) - len(done),
    )


def agreement(ours: Sequence[Record], theirs: Sequence[Record]) -> Agreement | None:
    """Whether two models gave the same answers to the questions that both were asked; an error is no answer.

    None where there is no such question.
    """
    others = {record.question.key: record for record in theirs}
    both = [(record, others[record.question.key]) for record in ours if record.question.key in others]
    if not both:
        return None
    same = [not one.error and not other.error and one.given == other.given for one, other in both]
    return Agreement(
        other=both[0][1].model,
        strategy=both[0][1].strategy,
        questions=len(both),
        same=clustered(same, [one.question.video for one, _ in both]),
        differing=tuple(one.question.key for (one, _), equal in zip(both, same, strict=True) if not equal),
    )


def hold_to_bars(records: Mapping[str, Sequence[Record]], compared: Agreement | None = None) -> tuple[Bar, ...]:
    """What is asked of the tiny model, held against the records of each strategy.

    The value that was found decides, not its interval; chance alone is held against the interval. With options a model
    that sees nothing has to guess. Without, it need not name anything that could be true: then more than chance alone
    would tell that questions give their answers away.
    """
    ours, unseeing = records.get("videobrain", ()), records.get("blind", ())
    every = figures_of(ours)
    guessed, said = (figures_of(unseeing, part) for part in ("multiple choice", "open-ended"))
    direct = figures_of([record for record in ours if record.question.kind == "direct"])
    active = figures_of([record for record in ours if record.question.kind != "direct"])
    few, many = (_lead(ours, records.get(name, ())) for name in ("uniform-16", "uniform-64"))
    guessing = f"chance, {percent(guessed.chance)}, within the interval" if guessed else "chance within the interval"
    saying = f"not above chance, {percent(said.chance)}" if said else "not above chance"
    other = compared.other if compared else "another model"
    return (
        _bar(
            "right answers", "at least 90 %", every, lambda part: str(part.right), lambda part: part.right.value >= 0.9
        ),
        _bar("lead over uniform-16", "at least 25 points", few, _points, lambda lead: lead.value >= 0.25),
        _bar("lead over uniform-64", "above 0 points", many, _points, lambda lead: lead.value > 0),
        _bar("direct questions with a tool call", "at most 15 %", direct, _tools, lambda part: part.tools <= 0.15),
        _bar("active questions with a tool call", "at least 85 %", active, _tools, lambda part: part.tools >= 0.85),
        _bar(
            "ill-formed replies",
            "below 1 %",
            every,
            lambda part: percent(part.ill_formed),
            lambda part: part.ill_formed < 0.01,
        ),
        _bar(
            "right answers of blind, multiple choice",
            guessing,
            guessed,
            lambda guess: str(guess.right),
            lambda guess: guess.right.low <= guess.chance <= guess.right.high,
        ),
        _bar(
            "right answers of blind, open-ended",
            saying,
            said,
            lambda guess: str(guess.right),
            lambda guess: guess.right.low <= guess.chance,
        ),
        _bar(
            f"same answers as {other}",
            "at least 99 %",
            compared,
            lambda both: str(both.same),
            lambda both: both.same.value >= 0.99,
        ),
    )


def _bar(name: str, required: str, found: T | None, say: Callable[[T], str], passes: Callable[[T], bool]) -> Bar:
    if found is None:
        return Bar(name=name, required=required, found="not measured", passed=None)
    return Bar(name=name, required=required, found=say(found), passed=passes(found))


def parts_of(records: Sequence[Record]) -> tuple[Figures, ...]:
    """Figures of every part that has a question."""
    return tuple(found for part in _SLICES if (found := figures_of(records, part)) is not None)


def _lead(ours: Sequence[Record], theirs: Sequence[Record]) -> Interval | None:
    """How far the share of right answers is above another one's, over the questions that both were asked."""
    others = {record.question.key: record for record in theirs}
    both = [record for record in ours if record.question.key in others]
    if not both:
        return None
    leads = [float(record.right) - float(others[record.question.key].right) for record in both]
    return clustered(leads, [record.question.video for record in both], bounds=(-1.0, 1.0))


def _points(lead: Interval) -> str:
    return f"{100 * lead.value:.1f} points ({100 * lead.low:.1f} to {100 * lead.high:.1f})"


def _tools(figures: Figures) -> str:
    return percent(figures.tools)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _line(figures: Figures) -> str:
    right = figures.right
    return (
        f"  {figures.part:16}{figures.questions:9} {percent(right.value):>8} "
        f"{f'{100 * right.low:.1f} to {100 * right.high:.1f}':>14} {percent(figures.chance):>8} {figures.frames:7.1f} "
        f"{figures.turns:6.2f} {figures.seconds:8.2f} {percent(figures.tools):>8} {percent(figures.ill_formed):>10} "
        f"{figures.unanswered:10} {figures.errors:6}"
    )
