"""What an Episode says of the subtitles: each line once, within a budget of tokens. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from videobrain.agent.plan import BYTES_PER_TOKEN
from videobrain.video import EncodedFrame, Subtitles

_MESSAGE_SHARE = 4
"""One message says at most this part of what the run may say, so that the first frames leave something for later. Where
the run may say all, there is nothing to share."""
_LINE_BYTES = 32
"""Allowance for what stands around the text of a line."""


class SubtitlePrompts(BaseModel):
    """Templates of what is said of subtitles, beside those of a `PromptProfile`, which runs without them do not need.

    The names in braces are what each template may use.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    intro: str
    """After the head of the question: ``{count}``."""
    beside: str
    """After a frame, all lines of its time: ``{lines}``."""
    between: str
    """Stands between two lines of one frame."""
    found: str
    """A line that a tool found: ``{frame_index}``, ``{timestamp}``, ``{text}``."""
    shown_before: str
    """``{frames}``"""
    left_out: str
    """``{count}``"""


DEFAULT = SubtitlePrompts(
    name="default",
    intro="The video has subtitles, {count} lines. A line that stands while a frame is shown follows it, once.\n",
    beside="\nSubtitles: {lines}",
    between=" / ",
    found="\nFrame {frame_index} ({timestamp:.2f} s): {text}",
    shown_before=" Said above already: what begins at {frames}.",
    left_out=" {count} more lines were left out: the run may show no more of the subtitles.",
)
COMPACT = DEFAULT.model_copy(
    update={
        "name": "compact",
        "intro": "\nSubtitles ({count} lines) follow their frames.",
        "beside": "\n= {lines}",
        "found": "\n{frame_index} = {text}",
    }
)
"""Few words, as in the prompt profile of this name."""

_PROFILES = {prompts.name: prompts for prompts in (DEFAULT, COMPACT)}


def subtitle_prompts(name: str) -> SubtitlePrompts:
    """What a prompt profile says of subtitles; one that says nothing of them says what the default one does."""
    return _PROFILES.get(name, DEFAULT)


class EpisodeSubtitles(BaseModel):
    """The subtitles of an Episode. Pure data: it stands in the trace."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subtitles: Subtitles
    prompts: SubtitlePrompts = DEFAULT
    tokens: int = Field(ge=0)
    """Tokens of lines that the whole run may say."""


def tokens_of(subtitles: Subtitles) -> int:
    """Tokens that saying every line takes, about."""
    return -(-(subtitles.text_bytes + _LINE_BYTES * len(subtitles)) // BYTES_PER_TOKEN)


class LineTeller:
    """Says lines of the subtitles, and remembers which were said and what that has cost."""

    def __init__(self, config: EpisodeSubtitles) -> None:
        self._lines = config.subtitles
        self._prompts = config.prompts
        self._bytes_left = config.tokens * BYTES_PER_TOKEN
        share = 1 if tokens_of(self._lines) <= config.tokens else _MESSAGE_SHARE
        self._most = -(-self._bytes_left // share)
        self._said: set[int] = set()
        self._left_out: set[int] = set()

    @property
    def tokens_per_message(self) -> int:
        """Tokens of lines that the next message may hold."""
        return min(self._bytes_left, self._most) // BYTES_PER_TOKEN

    @property
    def intro(self) -> str:
        """Tells the model that there are subtitles."""
        return self._prompts.intro.format(count=len(self._lines))

    def beside(self, frames: Sequence[EncodedFrame]) -> list[str]:
        """What to say after each of the frames of one message: the lines of its time that were not said yet."""
        told = []
        room = min(self._bytes_left, self._most)
        scarce, each, saved = self._cost(frames) > room, room / max(1, len(frames)), 0.0
        for frame in frames:
            # A fair share of what is scarce; what one frame leaves over is the next one's, so that lines are spread.
            saved += each
            text, cost = self._of_frame(frame.frame_index, min(room, int(saved)) if scarce else room)
            room, saved = room - cost, saved - cost
            told.append(text)
        return told

    def _cost(self, frames: Sequence[EncodedFrame]) -> int:
        """Bytes that all lines of these frames take, at the most."""
        lines = {number for frame in frames for number in self._lines.at(frame.frame_index)} - self._said
        return sum(len(self._lines.lines[number].text.encode()) + _LINE_BYTES for number in lines)

    def _of_frame(self, frame_index: int, room: int) -> tuple[str, int]:
        """The text after a frame, and its length in bytes."""
        prompts, lines = self._prompts, self._lines.lines
        fresh: list[str] = []
        text, cost = "", 0
        for number in self._lines.at(frame_index):
            if number in self._said:
                continue
            longer = prompts.beside.format(lines=prompts.between.join([*fresh, lines[number].text]))
            if (length := len(longer.encode())) > room:
                self._left_out.add(number)
                continue
            fresh.append(lines[number].text)
            self._said.add(number)
            text, cost = longer, length
        self._bytes_left -= cost
        return text, cost

    def found(self, numbers: Iterable[int]) -> str:
        """What to say of lines that a tool found, in the order given."""
        prompts, lines = self._prompts, self._lines.lines
        room = min(self._bytes_left, self._most)
        text, left_out = "", 0
        again: dict[str, None] = {}
        for number in dict.fromkeys(numbers):
            line = lines[number]
            if number in self._said:
                again[f"frame {line.start_frame}"] = None
                continue
            one = prompts.found.format(frame_index=line.start_frame, timestamp=line.start_seconds, text=line.text)
            if (length := len(one.encode())) > room:
                self._left_out.add(number)
                left_out += 1
                continue
            self._said.add(number)
            self._bytes_left -= length
            room -= length
            text += one
        notes = prompts.shown_before.format(frames=", ".join(again)) if again else ""
        notes += prompts.left_out.format(count=left_out) if left_out else ""
        return notes + text

    @property
    def warnings(self) -> list[str]:
        """What the reader of the answer should know of what was left out."""
        count = len(self._left_out - self._said)
        if not count:
            return []
        lines = "1 line of the subtitles was" if count == 1 else f"{count} lines of the subtitles were"
        return [f"{lines} left out: the run may show no more of them."]
