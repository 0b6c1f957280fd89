"""Arithmetic of spans: how much of one set of spans lies in another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from videobrain.result import Span


class Overlap(NamedTuple):
    """How well predicted spans fit the true ones, each from 0 to 1."""

    iou: float
    """Intersection over union."""
    iop: float
    """Intersection over prediction: how much of what was predicted is true."""


NO_OVERLAP = Overlap(0.0, 0.0)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same time as spans that neither overlap nor touch, in order; empty and reversed ones are dropped."""
    found: list[Span] = []
    for span in sorted(Span(*span) for span in spans if span[1] > span[0]):
        if found and span.start_seconds <= found[-1].end_seconds:
            found[-1] = Span(found[-1].start_seconds, max(found[-1].end_seconds, span.end_seconds))
        else:
            found.append(span)
    return tuple(found)


def covered_seconds(spans: Iterable[Span]) -> float:
    """Seconds that lie in at least one of the spans."""
    return sum(span.end_seconds - span.start_seconds for span in merged(spans))


def overlap(predicted: Sequence[Span], true: Sequence[Span]) -> Overlap:
    """IoU and IoP of two sets of spans, both merged first.

    An empty prediction overlaps nothing, also one that is an instant within the truth. (NExT-GQA's own scorer counts
    such an instant as IoP 1: see `nextgqa`.)
    """
    ours, theirs = merged(predicted), merged(true)
    shared = sum(
        max(0.0, min(one.end_seconds, other.end_seconds) - max(one.start_seconds, other.start_seconds))
        for one in ours
        for other in theirs
    )
    if shared == 0:
        return NO_OVERLAP
    return Overlap(shared / covered_seconds((*ours, *theirs)), shared / covered_seconds(ours))


def best_match(predicted: Span, true: Sequence[Span]) -> Overlap:
    """The highest IoU and the highest IoP of one predicted span with any single true one."""
    found = [overlap([predicted], [span]) for span in true]
    return Overlap(max((o.iou for o in found), default=0.0), max((o.iop for o in found), default=0.0))
