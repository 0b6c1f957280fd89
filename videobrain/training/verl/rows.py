"""Files of trajectories as rows: found at once, read and tokenised one by one when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from videobrain.agent import Trace
from videobrain.agent.events import EpisodeStarted
from videobrain.errors import InputError, TraceError
from videobrain.models import Message, ToolSchema
from videobrain.training.tokens import ConversationTokenizer, TokenizedConversation
from videobrain.training.trajectories import Trajectory


class _Place(NamedTuple):
    file: Path
    offset: int
    line: int


class Conversation(NamedTuple):
    """What a trajectory teaches."""

    key: str
    """Of its sample."""
    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...]
    """Tools as they stood in the requests; empty where calls stand in the text."""


class TrajectoryRows:
    """The trajectories of some files. Making it reads no trace; a row does.

    Args:
        files: JSON lines, each a `Trajectory`; traces lie beside them.
        limit: So many at the most; the first ones.

    Raises:
        InputError: A file cannot be read, or there is not one trajectory.
    """

    def __init__(self, files: Sequence[Path], *, limit: int | None = None) -> None:
        self._places = [place for file in files for place in _places(file)][:limit]
        if not self._places:
            names = ", ".join(map(str, files))
            raise InputError(f"{names} holds no trajectories.", hint="videobrain train trajectories writes them.")

    def __len__(self) -> int:
        return len(self._places)

    def check(self) -> None:
        """Read each line, and see to it that its trace is there; the traces themselves, which are large, stay closed.

        Raises:
            InputError: A line is damaged, or its trace is gone.
        """
        for number, place in enumerate(self._places):
            row = self.row(number)
            if not (place.file.parent / row.trace).is_file():
                raise InputError(
                    f"The trace {row.trace} of {row.sample.key!r} is not there ({place.file}, line {place.line}).",
                    hint="Keep a file of trajectories in its directory, beside the runs that it was made from.",
                )

    def row(self, number: int) -> Trajectory:
        """A line.

        Raises:
            InputError: It is damaged.
        """
        place = self._places[number]
        with place.file.open("rb") as file:
            file.seek(place.offset)
            text = file.readline()
        try:
            return Trajectory.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                f"{place.file} is no file of trajectories: line {place.line}, {where or 'content'}: {first['msg']}.",
                hint="videobrain train trajectories writes them.",
            ) from error

    def conversation(self, number: int) -> Conversation:
        """The conversation of a trajectory, its frames with their bytes.

        Raises:
            InputError: The line or the trace cannot be used.
        """
        row = self.row(number)
        path = self._places[number].file.parent / row.trace
        return conversation_of(Trace.load(path), key=row.sample.key, source=str(path))

    def prompts(self, number: int) -> str:
        """Name of the prompt profile that a trajectory was asked with.

        Raises:
            InputError: The line or the trace cannot be used.
        """
        path = self._places[number].file.parent / self.row(number).trace
        configs = [event.config for event in Trace.load(path).events if isinstance(event, EpisodeStarted)]
        return configs[0].prompts.name.removesuffix("-spans") if configs else ""

    def tokens(self, number: int, tokenizer: ConversationTokenizer, *, max_tokens: int) -> TokenizedConversation:
        """The tokens of a trajectory.

        Raises:
            InputError: The line or the trace cannot be used, or it has more than `max_tokens`.
        """
        found = self.conversation(number)
        tokens = tokenizer(found.messages, tools=found.tools)
        if len(tokens.input_ids) > max_tokens:
            raise InputError(
                f"The trajectory {found.key!r} has {len(tokens.input_ids):,} tokens, and max_tokens is {max_tokens:,}.",
                hint="Raise max_tokens, and the training goes on; or leave the trajectory out, and train in another "
                "directory. None is cut short.",
            )
        return tokens


def conversation_of(trace: Trace, *, key: str, source: str) -> Conversation:
    """What a trace teaches.

    Args:
        trace: A run of one Episode.
        key: Of its sample, for errors.
        source: Where it was read, for errors.

    Raises:
        TraceError: It holds no episode or several, a frame without its bytes, or a tool that was withdrawn on the way
            from a model that calls natively: its prompts then differ from what one sequence can say.
    """
    configs = [event.config for event in trace.events if isinstance(event, EpisodeStarted)]
    if len(configs) != 1:
        raise TraceError(
            f"The trace {source} of {key!r} holds {len(configs)} episodes, and a trajectory is one.",
            hint="Record it with the strategy videobrain.",
        )
    if any(not frame.jpeg for frame in trace.frames().values()):
        raise TraceError(f"The trace {source} of {key!r} has no frames.", hint="Record it with keep_frames.")
    config = configs[0]
    tools: tuple[ToolSchema, ...] = ()
    if config.calling == "native":
        if any(getattr(getattr(event, "outcome", None), "withdraw", False) for event in trace.events):
            raise TraceError(f"In the trace {source} of {key!r} a tool was withdrawn.", hint="Leave it out.")
        tools = tuple(
            ToolSchema(name=tool.name, description=tool.description, parameters=tool.parameters)
            for tool in config.tools
        )
    return Conversation(key, tuple(trace.messages), tools)


def _places(path: Path) -> list[_Place]:
    try:
        with path.open("rb") as file:
            found: list[_Place] = []
            offset = 0
            for number, line in enumerate(file, 1):
                if line.strip():
                    found.append(_Place(path, offset, number))
                offset += len(line)
            return found
    except OSError as error:
        raise InputError(f"The trajectories {path} cannot be read: {error.strerror or error}.") from error
