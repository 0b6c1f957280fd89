"""A tool of your own: looking closer at a part of a frame.

python examples/custom_tool.py match.mp4
"""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from videobrain import ToolContext, ToolResult, ToolRetry, VideoBrain, tool
from videobrain.video import Frame

Part = Literal["top left", "top right", "bottom left", "bottom right", "centre"]
ORIGINS = {"top left": (0, 0), "top right": (0, 2), "bottom left": (2, 0), "bottom right": (2, 2), "centre": (1, 1)}
"""Row and column of each part's corner, in quarters of the frame."""


@tool(max_frames=1)
async def look_closer(ctx: ToolContext, frame_index: int, part: Part) -> ToolResult:
    """Look at a quarter of one frame in its full resolution. Good for reading text and for small things.

    Args:
        frame_index: The frame.
        part: Which part of it.
    """
    total = ctx.video.info.frame_count
    if not 0 <= frame_index < total:
        raise ToolRetry(f"the video has no frame {frame_index}; its frames are 0 to {total - 1}")
    frames = await ctx.frames.pixels([frame_index])
    if not frames:
        return ToolResult(f"Frame {frame_index} cannot be decoded.")
    pixels = frames[0].pixels
    height, width = pixels.shape[0] // 4, pixels.shape[1] // 4
    row, column = ORIGINS[part]
    crop = pixels[row * height : (row + 2) * height, column * width : (column + 2) * width]
    closer = Frame(frame_index, frames[0].timestamp_seconds, crop)
    return ToolResult(f"The {part} of frame {frame_index}.", [ctx.frames.encode(closer)])


async def main(path: str) -> None:
    """Ask a question that needs a closer look."""
    async with VideoBrain(tools=[look_closer, "uniform_sample", "clip_sample"]) as brain:
        answer = await brain.ask(path, "What is written along the lower edge of the picture?")
    print(answer.text or f"No answer: {answer.stop_reason}")
    print(dict(answer.usage.tool_calls))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
