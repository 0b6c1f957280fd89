"""What a tool is given when a benchmark calls it as a run would."""

from __future__ import annotations

from videobrain.settings import Settings
from videobrain.tools import FrameAccess, Remaining, SearchFrames, ToolContext
from videobrain.video import FRAME_SIZES, Video


def tool_context(video: Video, *, search: SearchFrames) -> ToolContext:
    """The context of the first call in a run with the default limits."""
    return ToolContext(
        video=video,
        frames=FrameAccess(video, FRAME_SIZES[0], Settings().jpeg_quality),
        search=search,
        remaining=Remaining(turns=5, frames=112, frames_per_call=20, seconds=None),
        emit=lambda text: None,
    )
