"""A loop of your own: describe the video part by part, then answer from the descriptions.

python examples/custom_strategy.py match.mp4
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from videobrain import Evidence, VideoBrain
from videobrain.agent import Conclusion, MessageAdded, Run
from videobrain.models import ImagePart, Message, TextPart
from videobrain.video import EncodedFrame, evenly_spaced


@dataclass(frozen=True)
class DescribeThenAnswer:
    """Never shows more than a few frames at once, so it suits long videos and small contexts."""

    parts: int = 4
    frames_per_part: int = 4
    name: str = "describe-then-answer"

    async def run(self, run: Run) -> Conclusion:
        """Ask once for each part, and once more for the answer."""
        await run.plan(initial_frames=self.frames_per_part, tools=())
        bounds = evenly_spaced(0, len(run.video) + 1, self.parts + 1)
        shown: list[EncodedFrame] = []
        descriptions: list[str] = []

        async def ask(text: str, frames: Sequence[EncodedFrame] = ()) -> str:
            parts = (TextPart(text=text), *(ImagePart(frame=frame) for frame in frames))
            message = Message(role="user", parts=parts)
            run.emit(MessageAdded(message=message))
            said = (await run.complete([message], max_output_tokens=128)).text
            run.emit(MessageAdded(message=Message(role="assistant", parts=(TextPart(text=said),))))
            shown.extend(frames)
            return said

        for start, end in pairwise(bounds):
            frames = await run.frames(evenly_spaced(start, end, self.frames_per_part))
            said = await ask("Describe in one sentence what these frames of a video show.", frames)
            descriptions.append(f"Frames {start} to {end - 1}: {said}")
        listed = "\n".join(descriptions)
        text = await ask(f"Parts of a video:\n{listed}\n\nAnswer in a few words: {run.question}")
        evidence = tuple(
            Evidence(frame_index=frame.frame_index, timestamp_seconds=frame.timestamp_seconds, source="part")
            for frame in shown
        )
        return Conclusion(text, evidence=evidence)


async def main(path: str) -> None:
    """Answer a question about the whole video at `path`."""
    async with VideoBrain(strategy=DescribeThenAnswer()) as brain:
        answer = await brain.ask(path, "What is this video about?")
    print(answer.text)
    print(f"{answer.usage.frames} frames, {answer.usage.output_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
