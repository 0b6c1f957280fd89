"""Which worker is asked which question, so that all questions on one video go to one worker. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from videobrain.evaluation.executor import Posed


@dataclass(slots=True)
class _Place:
    waiting: deque[Posed] = field(default_factory=deque)
    """Questions on videos that are its own by now."""
    under_way: int = 0


class Spread(Iterator[Posed]):
    """Questions in the order in which they are to be asked, and the worker that is to be asked each.

    The next question is one for the worker that has the fewest under way. It goes through its video to the end before
    it takes another, so that a fast worker takes more videos than a slow one.

    Args:
        questions: The questions, in any order.
        workers: How many workers there are; they go by numbers from 0.
    """

    def __init__(self, questions: Iterable[Posed], workers: int) -> None:
        by_video: dict[Path, deque[Posed]] = {}
        for question in questions:
            by_video.setdefault(question.video, deque()).append(question)
        self._videos = deque(by_video.values())
        self._places = {number: _Place() for number in range(workers)}
        self._owner: dict[Path, int] = {}

    def __next__(self) -> Posed:
        for number in self._idlest():
            place = self._places[number]
            if not place.waiting and self._videos:
                place.waiting = self._videos.popleft()
                self._owner[place.waiting[0].video] = number
            if place.waiting:
                place.under_way += 1
                return place.waiting.popleft()
        raise StopIteration

    def worker_of(self, question: Posed) -> int:
        """The worker that a question, which came out before, belongs to at present."""
        return self._owner[question.video]

    def ended(self, question: Posed) -> None:
        """A question is not under way any more."""
        place = self._places.get(self._owner[question.video])
        if place is not None:  # else no worker was left
            place.under_way -= 1

    def lose(self, worker: int) -> bool:
        """A worker is gone for good: another one takes over its videos, with the questions that are under way.

        Returns:
            Whether any worker is left.
        """
        lost = self._places.pop(worker, None)
        if lost is not None and self._places:
            heir = self._idlest()[0]
            self._places[heir].waiting.extend(lost.waiting)
            self._places[heir].under_way += lost.under_way
            self._owner.update({video: heir for video, owner in self._owner.items() if owner == worker})
        return bool(self._places)

    def _idlest(self) -> list[int]:
        return sorted(self._places, key=lambda number: (self._places[number].under_way, number))
