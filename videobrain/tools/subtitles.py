"""Searching the lines of the subtitles by their words."""

from __future__ import annotations

from videobrain.tools.context import ToolContext
from videobrain.tools.spec import ToolError, ToolResult, ToolRetry
from videobrain.tools.tool import tool

SUBTITLE_LINES = 8
"""Lines of one `search_subtitles` call."""


@tool(max_frames=0)
async def search_subtitles(
    ctx: ToolContext, query: str, start_frame: int = 0, end_frame: int | None = None
) -> ToolResult:
    """Find the 8 lines of the subtitles that best match some words. Good for what is said, and when. Shows no frames.

    Args:
        query: Words that are said, such as "penalty kick". Words match whole; capitals make no difference.
        start_frame: First frame of the range.
        end_frame: Frame after the last one of the range; null for all of the video.
    """
    if ctx.subtitles is None:
        raise ToolError("The video has no subtitles.", withdraw=True)
    if not query.strip():
        raise ToolRetry("query must not be empty.")
    start, end, note = ctx.clamp(start_frame, len(ctx.video.table) if end_frame is None else end_frame)
    lines = await ctx.subtitles.search(query, k=SUBTITLE_LINES, start_frame=start, end_frame=end)
    if not lines:
        found = f"No line from frame {start} to {end} holds a word of {query!r}."
    else:
        count = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
        found = f"{count} from frame {start} to {end} that best match {query!r}, the best one first."
    return ToolResult(f"{note} {found}".strip(), lines=lines)
