"""The rows of the time line, from the conversation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from videobrain.report.timeline import Row, Tick, TimeAxis
from videobrain.report.view import CallView, FrameView, PromptView, ReplyView, SectionView
from videobrain.report.words import argument, clock, counted, number


def rows_of(axis: TimeAxis, sections: Sequence[SectionView]) -> list[Row]:
    """A row for each set of first frames and each call that was carried out, in order."""
    if not axis.usable:
        return []
    rows = []
    for section in sections:
        frames = [f for block in section.blocks if isinstance(block, PromptView) for f in block.frames]
        if frames:
            count = counted(len(frames), "frame")
            label = "first frames" if section.anchor == "start" else section.title
            times = f"from {clock(frames[0].frame.timestamp_seconds)} to {clock(frames[-1].frame.timestamp_seconds)}"
            summary = f"{section.title}: {count} {times}."
            ticks = _ticks(axis, frames)
            rows.append(Row(label, count, 0, section.anchor, summary, ticks=ticks, turn=section.turn))
        for block in section.blocks:
            if isinstance(block, ReplyView):
                rows += [_call_row(axis, section, call) for call in block.calls if call.started]
    return rows


def _call_row(axis: TimeAxis, section: SectionView, call: CallView) -> Row:
    looked = axis.range_of(call.arguments or {})
    prompt = next((argument(v) for v in (call.arguments or {}).values() if isinstance(v, str)), "")
    failed = call.outcome is None or call.outcome.kind != "result"
    new = sum(view.state == "new" for view in call.frames)
    seen = "failed" if failed else counted(new, "frame")
    where = f" between {clock(looked[0])} and {clock(looked[1])}" if looked else ""
    about = f" for {prompt!r}" if prompt else ""
    return Row(
        label=call.name,
        detail=f"\N{LEFT DOUBLE QUOTATION MARK}{prompt}\N{RIGHT DOUBLE QUOTATION MARK}" if prompt else seen,
        color=call.color,
        anchor=call.anchor,
        summary=f"{section.title}: {call.name}{about}{where}: {seen}.",
        bars=(axis.bar(*looked),) if looked else (),
        ticks=_ticks(axis, call.frames),
        failed=failed,
        turn=section.turn,
    )


def _ticks(axis: TimeAxis, frames: Iterable[FrameView]) -> tuple[Tick, ...]:
    return tuple(
        Tick(
            axis.x(view.frame.timestamp_seconds),
            view.number,
            f"{clock(view.frame.timestamp_seconds)}, frame {number(view.frame.frame_index)}",
            view.state == "new",
        )
        for view in frames
    )
