"""One question, its answer, and what the answer rests on.

python examples/ask.py match.mp4
"""

from __future__ import annotations

import asyncio
import sys

from videobrain import VideoBrain


async def main(path: str) -> None:
    """Ask what happens in the video at `path`."""
    async with VideoBrain() as brain:
        answer = await brain.ask(path, "What happens in this video?")
    print(answer.text or f"No answer: {answer.stop_reason}")
    for warning in answer.warnings:
        print(f"warning: {warning}")
    for shown in answer.evidence:
        print(f"{shown.timestamp_seconds:8.2f} s  frame {shown.frame_index:<6} {shown.source}")
    usage = answer.usage
    print(f"{usage.turns} turns, {usage.frames} frames, {usage.output_tokens} tokens, {usage.seconds:.1f} s")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
