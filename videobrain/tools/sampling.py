"""The two sampling tools of the VideoBrain paper (arXiv 2602.04094)."""

from __future__ import annotations

from videobrain.tools.context import ToolContext
from videobrain.tools.spec import ToolResult
from videobrain.tools.tool import tool
from videobrain.video import evenly_spaced

UNIFORM_FRAMES = 8
"""Frames of one `uniform_sample` call."""
CLIP_FRAMES = 4
"""Frames of one `clip_sample` call."""


@tool(repeats="interval", max_frames=UNIFORM_FRAMES)
async def uniform_sample(ctx: ToolContext, start_frame: int, end_frame: int) -> ToolResult:
    """Look at 8 frames evenly spaced in a range of the video. Good for order, actions, counting and summaries.

    Args:
        start_frame: First frame of the range.
        end_frame: Frame after the last one of the range.
    """
    start, end, note = ctx.clamp(start_frame, end_frame)
    count = min(UNIFORM_FRAMES, ctx.remaining.frames_per_call)
    frames = await ctx.frames.at(evenly_spaced(start, end, count))
    found = f"{len(frames)} frames evenly spaced from frame {start} to {end}."
    return ToolResult(f"{note} {found}".strip(), frames)


@tool(repeats="prompt", max_frames=CLIP_FRAMES)
async def clip_sample(ctx: ToolContext, start_frame: int, end_frame: int, prompt: str) -> ToolResult:
    """Find the 4 frames of a range that best match a short description. Good for locating or confirming something.

    Args:
        start_frame: First frame of the range.
        end_frame: Frame after the last one of the range.
        prompt: A few words that describe one thing to be seen, such as "a red car".
    """
    start, end, note = ctx.clamp(start_frame, end_frame)
    count = min(CLIP_FRAMES, ctx.remaining.frames_per_call)
    hits = await ctx.search(prompt, k=count, start_frame=start, end_frame=end)
    frames = await ctx.frames.at([hit.frame_index for hit in hits])
    found = f"{len(frames)} frames from frame {start} to {end} that best match {prompt!r}, in time order."
    return ToolResult(f"{note} {found}".strip(), frames, {hit.frame_index: hit.similarity for hit in hits})
