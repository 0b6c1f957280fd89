"""What the model may do: tools, their context, the sampling tools of the paper."""

from videobrain.tools.context import FrameAccess, Remaining, SearchFrames, SubtitleAccess, ToolContext
from videobrain.tools.registry import default_tools, find_tool, may_search, resolve_tools, tools_for
from videobrain.tools.sampling import clip_sample, uniform_sample
from videobrain.tools.spec import RepeatRule, ToolError, ToolResult, ToolRetry, ToolSpec
from videobrain.tools.subtitles import search_subtitles
from videobrain.tools.tool import Tool, tool

__all__ = [
    "FrameAccess",
    "Remaining",
    "RepeatRule",
    "SearchFrames",
    "SubtitleAccess",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "ToolRetry",
    "ToolSpec",
    "clip_sample",
    "default_tools",
    "find_tool",
    "may_search",
    "resolve_tools",
    "search_subtitles",
    "tool",
    "tools_for",
    "uniform_sample",
]
