"""What happens while the model looks: the events of a run.

python examples/stream_events.py match.mp4
"""

from __future__ import annotations

import asyncio
import sys

from videobrain import Finished, VideoBrain
from videobrain.agent import FramesPlanned, ReplyCorrected, ReplyReceived, RequestStarted, ToolFinished, ToolStarted


async def main(path: str) -> None:
    """Ask about the video at `path` and tell of each step."""
    async with VideoBrain() as brain, brain.stream(path, "How does this video end?") as events:
        async for event in events:
            match event:
                case FramesPlanned(plan=plan):
                    print(f"frames of at most {plan.size.width}x{plan.size.height}")
                case RequestStarted():
                    print(f"turn {event.turn}: the model looks at {event.frames} frames")
                case ReplyReceived(reply=reply):
                    print(f"  {reply.text[:200]}")
                case ReplyCorrected():
                    print(f"  it was told: {event.problem}")
                case ToolStarted():
                    print(f"  {event.tool} {event.arguments}")
                case ToolFinished(outcome=outcome):
                    print(f"  {len(outcome.frames)} frames after {event.seconds:.2f} s")
                case Finished(answer=answer):
                    print(answer.text or f"No answer: {answer.stop_reason}")
                case _:
                    pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
