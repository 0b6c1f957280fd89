"""Opening a container with PyAV and choosing its video stream. Whatever libav says becomes one of our errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from videobrain.errors import (
    ConfigurationError,
    NoFramesError,
    NotAVideoError,
    NoVideoStreamError,
    VideoNotFoundError,
)
from videobrain.video.source import LOCAL_PROTOCOLS, REMOTE_PROTOCOLS, MediaSource

DECODER_THREADS = 3
"""Threads of one decoder, for PyAV and torchcodec alike. A constant, since libav conceals damage differently with
another number: the pixels of a damaged frame must not depend on how many cores a machine has."""

_REMOTE_OPEN_SECONDS = 20.0
_REMOTE_READ_SECONDS = 10.0

_NO_VIDEO_FORMATS = frozenset({"tty", "lrc", "ffmetadata", "concat", "sdp"})
"""Demuxers that take plain text for a video (``tty`` draws it), or that only name other files."""


@contextmanager
def open_container(source: MediaSource) -> Iterator[Any]:
    """Open a source as ``av.container.InputContainer``; close it at the end of the block.

    Raises:
        VideoNotFoundError: The file is gone, or the URL cannot be fetched.
        NotAVideoError: No demuxer opens it.
    """
    container = open_input(source)
    try:
        yield container
    finally:
        container.close()


def open_input(source: MediaSource) -> Any:
    """Like `open_container`; the caller closes the container."""
    import av

    if source.size == 0:
        raise NotAVideoError(f"{source.name} is empty.", source=source.name)
    options = {"protocol_whitelist": REMOTE_PROTOCOLS if source.url else LOCAL_PROTOCOLS}
    if source.data is not None:
        options["protocol_whitelist"] = "data"
    timeout = (_REMOTE_OPEN_SECONDS, _REMOTE_READ_SECONDS) if source.url else None
    try:
        container = av.open(source.location(), options=options, timeout=timeout, metadata_errors="replace")
    except (av.error.HTTPError, av.error.ConnectionRefusedError, av.error.TimeoutError, av.error.ExitError) as error:
        raise VideoNotFoundError(f"{source.name} cannot be fetched: {error.strerror}.", source=source.name) from error
    except (av.error.FileNotFoundError, av.error.PermissionError) as error:
        raise VideoNotFoundError(f"{source.name} cannot be read: {error.strerror}.", source=source.name) from error
    except (av.error.FFmpegError, OSError) as error:
        raise NotAVideoError(
            f"{source.name} is not a video that FFmpeg can open: {error.strerror}.",
            hint="The file may be damaged, cut off before its index, or of another kind.",
            source=source.name,
        ) from error
    if container.format.name in _NO_VIDEO_FORMATS:
        name = container.format.name
        container.close()
        raise NotAVideoError(f"{source.name} is no video ({name}).", source=source.name)
    return container


def choose_stream(container: Any, source: MediaSource, stream_index: int | None) -> Any:
    """The video stream of this index, by default the one that FFmpeg thinks best.

    Raises:
        NoVideoStreamError: There is none. Cover art is no video.
        ConfigurationError: There is no video stream of this index.
    """
    import av

    videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not videos:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise NoVideoStreamError(
            f"{source.name} has no video stream ({container.format.name} with {kinds}).", source=source.name
        )
    if stream_index is None:
        best = container.streams.best("video")
        stream = best if best in videos else videos[0]
    else:
        indices = [s.index for s in videos]
        if stream_index not in indices:
            raise ConfigurationError(
                f"Stream {stream_index} of {source.name} is no video stream.",
                hint=f"Its video streams are {', '.join(map(str, indices))} (VIDEOBRAIN_VIDEO_STREAM).",
            )
        stream = videos[indices.index(stream_index)]
    if stream.codec_context is None:
        raise NoFramesError(f"{source.name}: FFmpeg has no decoder for its video stream.", source=source.name)
    # Frame threads give the same pixels everywhere for sound streams, and for damaged ones with a fixed number.
    stream.thread_type = "FRAME"
    stream.thread_count = DECODER_THREADS
    return stream
