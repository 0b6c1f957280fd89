"""Ask questions about long videos.

    from videobrain import VideoBrain

    answer = await VideoBrain("openai:MODEL", base_url="http://localhost:8000/v1").ask("match.mp4", "Who scores first?")

The rooms of the house are imported when a name of theirs is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videobrain.agent import Event, Finished, Strategy, Trace
    from videobrain.brain import VideoBrain
    from videobrain.errors import ConfigurationError, LimitExceeded, ModelError, VideoBrainError, VideoError
    from videobrain.index import FrameEncoder, FrameHit, FrameIndex
    from videobrain.limits import Limits
    from videobrain.models import ChatModel, ModelProfile
    from videobrain.result import Answer, Evidence, Outcome, Question, Span, Usage, VideoSource
    from videobrain.settings import Settings
    from videobrain.tools import Tool, ToolContext, ToolError, ToolResult, ToolRetry, tool
    from videobrain.video import probe

_HOMES = {
    "videobrain.agent": (
        "Event",
        "Finished",
        "Strategy",
        "Trace",
    ),
    "videobrain.brain": ("VideoBrain",),
    "videobrain.errors": (
        "ConfigurationError",
        "LimitExceeded",
        "ModelError",
        "VideoBrainError",
        "VideoError",
    ),
    "videobrain.index": (
        "FrameEncoder",
        "FrameHit",
        "FrameIndex",
    ),
    "videobrain.limits": ("Limits",),
    "videobrain.models": (
        "ChatModel",
        "ModelProfile",
    ),
    "videobrain.result": (
        "Answer",
        "Evidence",
        "Outcome",
        "Question",
        "Span",
        "Usage",
        "VideoSource",
    ),
    "videobrain.settings": ("Settings",),
    "videobrain.tools": (
        "Tool",
        "ToolContext",
        "ToolError",
        "ToolResult",
        "ToolRetry",
        "tool",
    ),
    "videobrain.video": ("probe",),
}

__all__ = [
    "Answer",
    "ChatModel",
    "ConfigurationError",
    "Event",
    "Evidence",
    "Finished",
    "FrameEncoder",
    "FrameHit",
    "FrameIndex",
    "LimitExceeded",
    "Limits",
    "ModelError",
    "ModelProfile",
    "Outcome",
    "Question",
    "Settings",
    "Span",
    "Strategy",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "ToolRetry",
    "Trace",
    "Usage",
    "VideoBrain",
    "VideoBrainError",
    "VideoError",
    "VideoSource",
    "probe",
    "tool",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    if name == "__version__":
        from videobrain.installed import installed_version

        return installed_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
