"""Traces made by hand, for tests of what shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from videobrain.agent import (
    EpisodeConfig,
    EpisodeStarted,
    Event,
    Finished,
    FramePlan,
    FramesPlanned,
    MessageAdded,
    ReplyReceived,
    RequestStarted,
    RunStarted,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
    Trace,
)
from videobrain.models import ChatReply, ImagePart, Message, TextPart
from videobrain.result import Answer, Evidence, Usage
from videobrain.video import EncodedFrame, Frame, FrameSize, VideoInfo

FPS = 10.0


def frame(index: int, *, size: tuple[int, int] = (64, 36)) -> EncodedFrame:
    """A frame of noise that is its own."""
    pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return EncodedFrame.encode(Frame(index, index / FPS, pixels))


def video_info(source: str = "match.mp4", frames: int = 6000) -> VideoInfo:
    return VideoInfo(
        source=source,
        key="k",
        size_bytes=1,
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        bit_depth=8,
        stream_index=0,
        width=640,
        height=360,
        coded_width=640,
        coded_height=360,
        rotation=0,
        mirrored=False,
        pixel_aspect=1.0,
        frame_count=frames,
        header_frame_count=frames,
        duration_seconds=frames / FPS,
        header_duration_seconds=frames / FPS,
        start_seconds=0.0,
        fps=FPS,
        header_fps=FPS,
        variable_frame_rate=False,
    )


class Record:
    """Writes down a run, event by event."""

    def __init__(
        self, question: str = "Who scores first?", *, options: Sequence[str] | None = None, source: str = "match.mp4"
    ) -> None:
        self.events: list[Event] = []
        self.clock = 0.0
        chosen = tuple(options) if options else None
        info = video_info(source)
        self.add(
            RunStarted(
                question=question,
                options=chosen,
                video=info,
                model="test-model",
                strategy="videobrain",
                started_at="2026-01-01T00:00:00.000+00:00",
                version="0.1",
            )
        )
        plan = FramePlan(
            size=FrameSize(640, 360),
            initial_frames=4,
            frames=128,
            frames_per_call=20,
            frame_tokens=250,
            context_tokens=32768,
        )
        self.add(FramesPlanned(plan=plan))
        config = EpisodeConfig(
            question=question, options=chosen, frame_count=info.frame_count, fps=FPS, duration_seconds=600.0
        )
        self.add(EpisodeStarted(config=config))

    def add(self, event: Event) -> None:
        self.clock += 0.5
        self.events.append(event.model_copy(update={"at_seconds": self.clock}))

    def say(self, role: str, text: str, frames: Sequence[EncodedFrame] = ()) -> None:
        parts = [TextPart(text=text), *(ImagePart(frame=each) for each in frames)]
        self.add(MessageAdded(message=Message(role=role, parts=tuple(parts))))

    def start(self, frames: Sequence[EncodedFrame]) -> None:
        self.say("system", "You answer a question about a video.")
        self.say("user", "Question: Who scores first?", frames)

    def reply(self, turn: int, text: str, *, last: bool = False, **more: Any) -> None:
        self.add(RequestStarted(turn=turn, last=last, messages=2, frames=4))
        reply = ChatReply(text=text, input_tokens=1000, cached_tokens=600, output_tokens=50, seconds=0.4, **more)
        self.add(ReplyReceived(reply=reply))

    def call(
        self,
        turn: int,
        tool: str,
        arguments: dict[str, Any],
        frames: Sequence[EncodedFrame] = (),
        *,
        kind: str = "result",
        text: str = "Frames follow.",
        similarities: Mapping[int, float] | None = None,
        shown: Sequence[EncodedFrame] | None = None,
    ) -> None:
        """The events of a call: those of `frames` that are in `shown` reach the model, by default all."""
        self.add(ToolStarted(turn=turn, tool=tool, arguments=arguments))
        outcome = ToolOutcome(kind=kind, text=text, frames=tuple(frames), similarities=dict(similarities or {}))
        self.add(ToolFinished(tool=tool, outcome=outcome, seconds=0.2))
        self.say("assistant", self._last_reply())
        self.say("user", f"Result of {tool}: {text}", frames if shown is None else shown)

    def finish(self, text: str, **more: Any) -> Trace:
        frames = Trace(self.events).frames().values()
        evidence = tuple(
            Evidence(frame_index=each.frame_index, timestamp_seconds=each.timestamp_seconds, source="initial")
            for each in frames
        )
        usage = Usage(turns=2, frames=len(evidence), tool_calls={"uniform_sample": 1}, input_tokens=2000, seconds=4.0)
        answer = Answer(text=text, **{"evidence": evidence, "usage": usage, **more})
        self.add(Finished(answer=answer))
        trace = Trace(self.events)
        answer._trace = trace
        return trace

    def _last_reply(self) -> str:
        return next(event.reply.text for event in reversed(self.events) if isinstance(event, ReplyReceived))


CALL = '<thinking>Not enough yet.</thinking><tool_call>{"name": "%s", "arguments": {%s}}</tool_call>'


def short_run(*, initial: int = 4) -> Record:
    """First frames and one call of each sampling tool; no answer yet."""
    record = Record()
    record.start([frame(i * 6000 // initial) for i in range(initial)])
    record.reply(1, CALL % ("uniform_sample", '"start_frame": 1000, "end_frame": 3000'))
    record.call(1, "uniform_sample", {"start_frame": 1000, "end_frame": 3000}, [frame(1001), frame(2999)])
    arguments = {"start_frame": 3000, "end_frame": 6000, "prompt": "a goal"}
    record.reply(2, CALL % ("clip_sample", '"start_frame": 3000, "end_frame": 6000, "prompt": "a goal"'))
    record.call(2, "clip_sample", arguments, [frame(4321)], similarities={4321: 0.314})
    return record
