"""Which lines of the subtitles a message says, and after which frame."""

from __future__ import annotations

from collections.abc import Mapping

from videobrain.agent.subtitles import EpisodeSubtitles
from videobrain.models import ImagePart, Message, TextPart


def lines_beside(message: Message, config: EpisodeSubtitles | None) -> Mapping[str, list[str]]:
    """Texts of the lines that follow the frames of a message, by the frame's digest."""
    found: dict[str, list[str]] = {}
    if config is None:
        return found
    for part, after in zip(message.parts, message.parts[1:], strict=False):
        if isinstance(part, ImagePart) and isinstance(after, TextPart):
            found[part.frame.digest] = _read(after.text, part.frame.frame_index, config)
    return found


def _read(text: str, frame_index: int, config: EpisodeSubtitles) -> list[str]:
    """The lines at the head of a text, which is that of the template, then what follows in the message."""
    before, between = config.prompts.beside.partition("{lines}")[0], config.prompts.between
    if not text.startswith(before):
        return []
    rest, told = text.removeprefix(before), []
    for number in config.subtitles.at(frame_index):
        line = config.subtitles.lines[number].text
        if rest.startswith(line):
            told.append(line)
            rest = rest.removeprefix(line).removeprefix(between)
    return told
