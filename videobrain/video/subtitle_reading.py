"""Subtitles of an open video from wherever they come: found, read, moved to the video's time, and placed."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

from videobrain.errors import ConfigurationError
from videobrain.result import SubtitleSource
from videobrain.video.source import MediaSource
from videobrain.video.subtitle_files import read_file
from videobrain.video.subtitle_streams import is_embedded, read_stream
from videobrain.video.subtitles import Subtitles, place, within
from videobrain.video.table import FrameTable
from videobrain.video.work import Job

_KEPT = 4
"""Subtitles of one video and its parts that are kept, so that the questions on it share them."""


class SubtitleShelf:
    """The subtitles of one video and its parts that were read last.

    Used by worker threads; what two read at once is read twice.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Subtitles] = OrderedDict()

    def read(
        self,
        media: MediaSource,
        table: FrameTable,
        source: SubtitleSource,
        job: Job,
        *,
        key: str,
        container_start_seconds: float,
        start_seconds: float,
    ) -> Subtitles:
        """Read subtitles, or give those that are there and have not changed since.

        Args:
            media: The video.
            table: Its frames, or those of a part of it.
            source: What to read; see `Video.subtitles`.
            job: Looked at while it is read.
            key: What tells the video from its parts.
            container_start_seconds: The container's start on its own clock.
            start_seconds: Time of the subtitles at which the video or its part begins.

        Raises:
            SubtitleError: They cannot be used.
        """
        wanted = (key, str(source), is_embedded(source), start_seconds, _state(source))
        kept = self._kept.get(wanted)
        if kept is not None:
            return kept
        if is_embedded(source):
            name, read = read_stream(media, str(source), job, start_seconds=container_start_seconds)
        else:
            name = str(source)
            read = read_file(_path(source), job, unknown_end_seconds=start_seconds + table.duration_seconds)
        inside = within(read.lines, start_seconds=start_seconds, duration_seconds=table.duration_seconds)
        lines = place(inside, table)
        shown = name if is_embedded(source) else Path(name).name
        warnings = list(read.warnings)
        if read.skipped:
            cues, left = ("1 cue", "it was") if read.skipped == 1 else (f"{read.skipped} cues", "they were")
            warnings.append(f"{cues} of the subtitles ({shown}) could not be read: {left} left out.")
        if not lines:
            there = f"none of its {len(read.lines)} lines lies in the video" if read.lines else "it holds no lines"
            warnings.append(f"The subtitles ({shown}) were not used: {there}.")
        subtitles = Subtitles(source=name, lines=lines, warnings=tuple(warnings))
        subtitles.at(0), subtitles.text_bytes  # what is computed once is computed here, in a thread
        self._kept[wanted] = subtitles
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return subtitles


def check_subtitle_source(source: object, start_seconds: object) -> None:
    """Whether these can name subtitles at all.

    Raises:
        ConfigurationError: They cannot.
    """
    if not isinstance(source, str | Path) or not str(source).strip():
        raise ConfigurationError(
            f"{source!r:.80} names no subtitles.", hint="Give the path of an SRT or VTT file, or 'embedded'."
        )
    if (
        isinstance(start_seconds, bool)
        or not isinstance(start_seconds, int | float)
        or not math.isfinite(start_seconds)
    ):
        raise ConfigurationError(f"subtitles_start_seconds must be a number of seconds, not {start_seconds!r:.80}.")


def _state(source: SubtitleSource) -> tuple[int, int] | None:
    """What tells a file that was changed from one that was not; None where there is none, which reading reports."""
    if is_embedded(source):
        return None
    try:
        status = _path(source).stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _path(source: SubtitleSource) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # nobody of such a name has a home
        return Path(source)
