"""Several runs as one page that lists them, with a page of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from videobrain.agent.trace import Trace
from videobrain.report.page import render, render_run, write_page
from videobrain.report.reader import read_trace
from videobrain.report.view import FrameView, PromptView, ReplyView, RunView


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """A run on a page of several.

    Attributes:
        trace: The run.
        kind: What kind of question it is, in a few words.
        truth: The right answer; None where nobody knows it.
        right: Whether the run gave it.
        facts: More about it, as names and words.
    """

    trace: Trace
    kind: str = ""
    truth: str | None = None
    right: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Card:
    entry: ReportEntry
    page: str
    run: RunView
    frames: list[FrameView]


def save_reports(entries: Sequence[ReportEntry], path: str | Path, *, title: str, text: str = "") -> Path:
    """Write several runs: a page that lists them, and beside it, in ``NAME-pages``, the report of each.

    Args:
        entries: The runs.
        path: Where the list goes, such as ``runs.html``; missing directories are made.
        title: Its title.
        text: A few words below the title.

    Returns:
        The path.
    """
    path = Path(path)
    pages = path.with_name(f"{path.stem}-pages")
    cards = []
    for number, entry in enumerate(entries, 1):
        run = read_trace(entry.trace)
        page = write_page(pages / f"{number}.html", render_run(run))
        cards.append(_Card(entry, quote(f"{pages.name}/{page.name}"), run, _last_look(run)))
    return write_page(path, render("overview.html.j2", cards=cards, title=title, text=text))


def _last_look(run: RunView) -> list[FrameView]:
    """The frames that the model was shown last."""
    looks = []
    for section in run.sections:
        for block in section.blocks:
            if isinstance(block, PromptView):
                looks.append(block.frames)
            elif isinstance(block, ReplyView):
                looks += [[view for view in call.frames if view.state != "left_out"] for call in block.calls]
    return next((frames for frames in reversed(looks) if frames), [])
