"""Reading the subtitle stream that a video file holds itself."""

from __future__ import annotations

from typing import Any

from videobrain.errors import SubtitleError
from videobrain.video.container import open_container
from videobrain.video.source import MediaSource
from videobrain.video.subtitle_files import ReadLines, clean_text
from videobrain.video.subtitles import SubtitleLine
from videobrain.video.work import Job

EMBEDDED = "embedded"
"""What is given in place of a path for a stream of the video."""


def is_embedded(source: object) -> bool:
    """Whether a source of subtitles means a stream of the video."""
    return isinstance(source, str) and (source == EMBEDDED or source.startswith(f"{EMBEDDED}:"))


def read_stream(media: MediaSource, wanted: str, job: Job, *, start_seconds: float) -> tuple[str, ReadLines]:
    """Read a subtitle stream of text; the whole file is read through. For worker threads.

    Args:
        media: The video.
        wanted: ``embedded``: the stream that players choose; ``embedded:LANGUAGE`` or ``embedded:INDEX``: this one.
        job: Looked at between packets.
        start_seconds: The container's start on its own clock, from which times count.

    Returns:
        Which stream it is, in words, and its lines.

    Raises:
        SubtitleError: There is no such stream, or it holds pictures or nothing that can be decoded.
    """
    import av

    found: list[SubtitleLine] = []
    skipped = 0
    with open_container(media) as container:
        stream = _choose(container, media, wanted.partition(":")[2])
        beside = container.streams.video[:1]  # its packets come often, so that the clock is looked at in silence too
        for packet in container.demux(stream, *beside):
            job.check()
            if packet.stream.index != stream.index or not packet.size:
                continue
            try:
                texts = [part.dialogue.decode("utf-8", "replace") for part in packet.decode()]
            except (av.error.FFmpegError, AttributeError):  # damaged, or a picture among texts
                skipped += 1
                continue
            clean = clean_text("\n".join(map(_without_styles, texts)))
            if packet.pts is None:
                skipped += bool(clean)
            elif clean:
                begins = float(packet.pts * packet.time_base) - start_seconds
                lasts = float(packet.duration * packet.time_base) if packet.duration else 0.0
                found.append(SubtitleLine(begins, begins + lasts, clean))
        name = _described(stream)
    return name, ReadLines(_with_ends(found), skipped)


def _choose(container: Any, media: MediaSource, which: str) -> Any:
    """The stream that is wanted: by index, by language, or the default one, text before pictures."""
    streams = list(container.streams.subtitles)
    listed = "; ".join(map(_described, container.streams)) or "none"
    if not streams:
        raise SubtitleError(
            f"{media.name} has no subtitle stream. Its streams: {listed}.",
            hint="Give a subtitle file instead.",
            source=media.name,
        )
    if which.isdecimal():
        fit = [stream for stream in streams if stream.index == int(which)]
    else:
        fit = [stream for stream in streams if not which or _language(stream) == which.lower()]
    if not fit:
        raise SubtitleError(
            f"{media.name} has no subtitle stream {which!r}. Its streams: {listed}.",
            hint="Name one of its subtitle streams by language or number, as in 'embedded:eng' or 'embedded:2'.",
            source=media.name,
        )
    of_text = [stream for stream in fit if _is_text(stream)]
    if not of_text:
        raise SubtitleError(
            f"The subtitles of {media.name} cannot be read as text: {'; '.join(map(_described, fit))}. "
            "Subtitles of discs and broadcasts are pictures.",
            hint="Make a text file of them with a tool for OCR, and give that.",
            source=media.name,
        )
    best = container.streams.best("subtitle")
    return next((stream for stream in of_text if best is not None and stream.index == best.index), of_text[0])


def _is_text(stream: Any) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.text_sub


def _language(stream: Any) -> str:
    return str(stream.metadata.get("language", "")).lower()


def _described(stream: Any) -> str:
    codec = stream.codec_context.name if stream.codec_context is not None else "no decoder"
    words = [f"{stream.type} ({codec})" if stream.type else f"({codec})", _language(stream)]
    return f"stream {stream.index}: {' '.join(filter(None, words))}"


def _without_styles(text: str) -> str:
    """The text of a dialogue in the form that libav gives all of them: as in ASS, with styles in braces."""
    from pysubs2 import SSAEvent

    return str(SSAEvent(text=text).plaintext)


def _with_ends(lines: list[SubtitleLine]) -> list[SubtitleLine]:
    """Lines whose packets say no duration stand until the next one begins, the last one for a moment."""
    starts = [line.start_seconds for line in lines[1:]]
    return [
        line if line.end_seconds > line.start_seconds else line._replace(end_seconds=max(line.start_seconds, after))
        for line, after in zip(lines, [*starts, *(line.start_seconds for line in lines[-1:])], strict=True)
    ]
