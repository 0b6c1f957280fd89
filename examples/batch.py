"""Many questions at once, written down as they are answered.

python examples/batch.py match.mp4
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

from videobrain import Limits, Question, VideoBrain


def questions(path: str) -> Iterator[Question]:
    """Questions may come from a file of any length: they are read only as far as they are worked on."""
    yield Question(key="colour", video=path, question="Which colour is most common?", options=("red", "green", "blue"))
    yield Question(key="people", video=path, question="Are there people?", options=("yes", "no"))
    yield Question(key="quick", video=path, question="Is it day or night?", limits=Limits(turns=1))
    yield Question(key="missing", video=f"{path}.missing", question="Does a missing file stop the others?")


async def main(path: str) -> None:
    """Answer every question; one failure spoils no other."""
    async with VideoBrain() as brain, brain.ask_many(questions(path), concurrency=4) as outcomes:
        async for outcome in outcomes:
            if outcome.answer is not None:
                answer = outcome.answer
                print(f"{outcome.question.key}: {answer.choice or answer.text or answer.stop_reason}")
            else:
                print(f"{outcome.question.key} failed: {outcome.error}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
