"""Every error that videobrain raises on purpose.

    VideoBrainError
    ├── InputError                 what the caller gave cannot be used (exit status 2)
    │   ├── ConfigurationError     a setting, a model string, an option
    │   ├── MissingDependencyError an extra is not installed
    │   ├── ToolDefinitionError    a function that cannot be a tool; lists every mistake
    │   ├── TraceError             a trace file that is damaged or does not replay
    │   ├── SubtitleError          a subtitle file or stream; carries `source`
    │   └── VideoError             a video; carries `source`
    │       ├── VideoNotFoundError
    │       ├── NotAVideoError     no demuxer opens it
    │       ├── NoVideoStreamError
    │       └── NoFramesError      a video stream of which no frame can be decoded
    ├── DecodeTimeoutError         decoding overran its deadline
    ├── EncoderUnavailableError    the frame encoder cannot be loaded (offline, not installed, no memory)
    ├── ModelError                 the model; carries the server's own words
    │   ├── ModelConnectionError   unreachable or disconnected, after all tries
    │   ├── ModelTimeoutError
    │   ├── RateLimitError
    │   ├── ModelServerError       5xx, after all tries
    │   ├── InvalidReplyError      a reply that is no chat completion, after all tries
    │   ├── ModelStartError        a managed server or an in-process model did not start
    │   └── RequestRejectedError   4xx that cannot heal
    │       ├── AuthenticationError
    │       ├── UnknownModelError
    │       ├── ContextLengthError
    │       └── ImageLimitError
    ├── LimitExceeded              a limit was reached and `on_limit="raise"`; carries the partial answer
    ├── WorkerDiedError            the process on a cluster that was asked a question of an evaluation
    ├── EvaluationStoppedError     a batch was stopped: too many errors, or its results cannot be written
    ├── RolloutError               a rollout of a training that says nothing about the policy, and is left out
    └── TrainingFailedError        a training in a process of its own; carries `step` and `log`

Each message names the thing and the cause; `hint` is the next step for the reader and is part of `str(error)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from videobrain.agent.trace import Trace
    from videobrain.result import Answer


class VideoBrainError(Exception):
    """Base of all errors of videobrain.

    Attributes:
        message: What is wrong, with the name of the thing.
        hint: What the reader can do about it; empty where nothing can be said.
        trace: What happened until then, where a run had begun.
    """

    trace: Trace | None = None

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(VideoBrainError):
    """What the caller gave cannot be used; calling again unchanged fails again."""


class ConfigurationError(InputError):
    """A setting, a model string or an option is wrong or missing."""


class MissingDependencyError(InputError, ImportError):
    """A package of an extra is not installed.

    Attributes:
        extra: The extra that brings it, such as ``local``.
    """

    def __init__(self, message: str, *, hint: str = "", extra: str = "") -> None:
        super().__init__(message, hint=hint or (f"Install it with: pip install 'videobrain[{extra}]'" if extra else ""))
        self.extra = extra


class ToolDefinitionError(InputError):
    """A function cannot be made a tool.

    Attributes:
        mistakes: Every mistake of the definition, one line each.
    """

    def __init__(self, message: str, *, hint: str = "", mistakes: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.mistakes = tuple(mistakes)


class VideoError(InputError):
    """A video cannot be used.

    Attributes:
        source: The path as given, or ``<bytes>``.
    """

    def __init__(self, message: str, *, hint: str = "", source: str = "") -> None:
        super().__init__(message, hint=hint)
        self.source = source


class VideoNotFoundError(VideoError):
    """There is no such file, or it is not a file, or it cannot be read."""


class NotAVideoError(VideoError):
    """The file is no media file that FFmpeg's demuxers can open."""


class NoVideoStreamError(VideoError):
    """The file is a media file without a (selected) video stream."""


class NoFramesError(VideoError):
    """The video stream holds no frame that can be decoded."""


class SubtitleError(InputError):
    """Subtitles cannot be used: the file or stream is not there, cannot be read, or holds no text.

    Attributes:
        source: The path of the subtitle file as given, or of the video whose stream was wanted.
    """

    def __init__(self, message: str, *, hint: str = "", source: str = "") -> None:
        super().__init__(message, hint=hint)
        self.source = source


class DecodeTimeoutError(VideoBrainError):
    """Decoding overran its deadline."""


class EncoderUnavailableError(VideoBrainError):
    """The frame encoder cannot be loaded: its packages, its weights or memory are missing."""


class ModelError(VideoBrainError):
    """The model did not give a usable reply.

    Attributes:
        status: HTTP status of the server's answer, where there was one.
        server_message: The server's own words, where there were any; never holds an API key.
    """

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, server_message: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.server_message = server_message


class ModelConnectionError(ModelError):
    """The server cannot be reached or dropped the connection, after all tries."""


class ModelTimeoutError(ModelError):
    """The server did not answer in time, after all tries."""


class RateLimitError(ModelError):
    """The server refused for load (429), after all tries."""


class ModelServerError(ModelError):
    """The server failed (5xx), after all tries."""


class InvalidReplyError(ModelError):
    """The server's answer is no chat completion, after all tries."""


class ModelStartError(ModelError):
    """A managed model server or an in-process model did not start."""


class RequestRejectedError(ModelError):
    """The server refused the request (4xx) in a way that no retry can heal."""


class AuthenticationError(RequestRejectedError):
    """The server wants an API key, or another one (401, 403)."""


class UnknownModelError(RequestRejectedError):
    """The server does not serve a model of this name."""


class ContextLengthError(RequestRejectedError):
    """The conversation is longer than the model's context."""


class ImageLimitError(RequestRejectedError):
    """The conversation holds more images than the server accepts in one request."""


class LimitExceeded(VideoBrainError):
    """A limit was reached under ``on_limit="raise"``.

    Attributes:
        limit: The field of `Limits` that was reached, such as ``frames``.
        partial: What there is so far; its ``text`` may be empty.
    """

    def __init__(self, message: str, *, hint: str = "", limit: str = "", partial: Answer | None = None) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit
        self.partial = partial


class WorkerDiedError(VideoBrainError):
    """The process on a cluster that was asked a question of an evaluation died, and so did the next one."""


class EvaluationStoppedError(VideoBrainError):
    """A batch of questions was stopped before its end. What was finished is kept, and a second start goes on."""


class RolloutError(VideoBrainError):
    """A rollout of a training says nothing about the policy: it is left out, and never counts as a bad one."""


class TrainingFailedError(VideoBrainError):
    """A training that runs in a process of its own ended with an error; its checkpoints are kept.

    Attributes:
        step: The last step that was done; None where it failed before its first one.
        log: The file with all that it wrote.
    """

    def __init__(self, message: str, *, hint: str = "", step: int | None = None, log: Path | None = None) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.log = log


class TraceError(InputError):
    """A trace cannot be read, or its episode does not replay to the same messages."""
