"""Time and pixels: frame tables, decoding, JPEG encoding, the frame cache."""

from __future__ import annotations

from videobrain.video.frame import FRAME_SIZES, EncodedFrame, Frame, FrameSize
from videobrain.video.pool import VideoPool, probe
from videobrain.video.sampling import evenly_spaced
from videobrain.video.subtitles import PlacedLine, SubtitleLine, Subtitles
from videobrain.video.table import FrameTable, MissingFrames, VideoInfo
from videobrain.video.video import Video

__all__ = [
    "FRAME_SIZES",
    "EncodedFrame",
    "Frame",
    "FrameSize",
    "FrameTable",
    "MissingFrames",
    "PlacedLine",
    "SubtitleLine",
    "Subtitles",
    "Video",
    "VideoInfo",
    "VideoPool",
    "evenly_spaced",
    "probe",
]
