"""The card that notebooks show for an answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import NamedTuple

from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from videobrain.errors import TraceError
from videobrain.report.page import asset, environment
from videobrain.report.reader import read_trace
from videobrain.result import Answer, Evidence
from videobrain.video import EncodedFrame

_PICTURES = 6
_WIDTH = 240
"""Width of a thumbnail in pixels: a notebook keeps every card in its file, so they are small."""


class Thumbnail(NamedTuple):
    """A small picture of a frame; its `url` is None where the bytes are not there."""

    evidence: Evidence
    url: str | None


def notebook_html(answer: Answer) -> str:
    """An answer as a compact card: its text, the last frames it rests on, where it looked, warnings.

    The card names no outside resource and runs no script; an answer without a trace gives one without pictures.
    """
    try:
        trace = answer.trace
    except TraceError:
        run, frames = None, {}
    else:
        run, frames = read_trace(trace), {frame.frame_index: frame for frame in trace.frames().values()}
    return (
        environment()
        .get_template("notebook.html.j2")
        .render(
            answer=answer, run=run, thumbnails=list(_thumbnails(answer, frames)), style=Markup(asset("notebook.css"))
        )
    )


def _thumbnails(answer: Answer, frames: dict[int, EncodedFrame]) -> Iterable[Thumbnail]:
    for evidence in answer.evidence[-_PICTURES:]:
        frame = frames.get(evidence.frame_index)
        yield Thumbnail(evidence, _thumbnail(frame.jpeg) if frame is not None and frame.jpeg else None)


def _thumbnail(jpeg: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.thumbnail((_WIDTH, _WIDTH))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=80)
    except (UnidentifiedImageError, OSError):  # a tool of the user's own may give anything
        return None
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
