"""Where a video comes from: a file, bytes, or (when allowed) a URL. Nothing else is ever opened."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, TypeGuard
from urllib.parse import urlsplit

from videobrain.errors import ConfigurationError, VideoError, VideoNotFoundError
from videobrain.result import WholeVideo

_BLOCK_BYTES = 16 * 1024
_BLOCKS = 32
_KEY_VERSION = b"videobrain-1"

LOCAL_PROTOCOLS = "file,crypto,data"
"""What libav may open on behalf of a local file (a playlist names other files)."""
REMOTE_PROTOCOLS = "http,https,tcp,tls,crypto,data,httpproxy"


class FileState(NamedTuple):
    """What tells a file that was changed from one that was not."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class MediaSource:
    """A checked video source.

    Attributes:
        name: How it is shown: the path as given, the URL without its query, or ``<bytes>``.
        path: Absolute path of a local file.
        data: The bytes of an in-memory video.
        url: Address of a remote video.
        size: Size in bytes; None where it is unknown.
        content_key: Hash of the size and sampled blocks; of the address for a URL.
        state: Size and time of a local file.
    """

    name: str
    content_key: str
    size: int | None
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    url: str | None = None
    state: FileState | None = None

    def location(self) -> str | IO[bytes]:
        """What libav is given: never a bare path, which libav could take for a protocol such as ``concat:``."""
        if self.path is not None:
            return f"file:{self.path}"
        if self.data is not None:
            return io.BytesIO(self.data)
        return self.url or ""

    def check_unchanged(self) -> None:
        """A file must still be the one whose frames were counted.

        Raises:
            VideoNotFoundError: It is gone.
            VideoError: It was changed.
        """
        if self.path is not None and _state(self.path, self.name) != self.state:
            raise VideoError(
                f"{self.name} was changed while it was in use.", hint="Open the video again.", source=self.name
            )


def display_name(source: WholeVideo) -> str:
    """How a source is named in messages: bytes not at all, a URL without what may be secret in it.

    Raises:
        VideoNotFoundError: A URL that cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    return _url_name(source) if _is_url(source) else os.fspath(source)


def resolve_source(source: WholeVideo, *, allow_remote: bool) -> MediaSource:
    """Check `source` and compute its content key. Reads at most half a megabyte.

    Raises:
        VideoNotFoundError: There is no such file, or it cannot be read, or it is a directory or a device.
        ConfigurationError: A URL, and `allow_remote` is off.
    """
    name = display_name(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return MediaSource(name, _content_key(io.BytesIO(data), len(data)), len(data), data=data)
    if _is_url(source):
        if not allow_remote:
            raise ConfigurationError(
                f"{name} is a URL, and fetching videos is not allowed.",
                hint="Download it first, or set VIDEOBRAIN_ALLOW_REMOTE=1 (allow_remote=True).",
            )
        key = hashlib.sha256(_KEY_VERSION + source.encode()).hexdigest()[:32]
        return MediaSource(name, key, None, url=source)
    try:
        path = Path(name).expanduser().absolute()
        state = _state(path, name)
        with path.open("rb") as file:
            key = _content_key(file, state.size)
    except ValueError as error:  # a NUL byte in the path
        raise VideoNotFoundError(f"{name!r} is no path of a file.", source=name) from error
    except OSError as error:
        raise VideoNotFoundError(f"{name} cannot be read: {error.strerror}.", source=name) from error
    return MediaSource(name, key, state.size, path=path, state=state)


def _state(path: Path, name: str) -> FileState:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        hint = ""
        if "://" in name:
            hint = "Only http(s) URLs, local paths and bytes can be opened."
        raise VideoNotFoundError(f"{name} does not exist.", source=name, hint=hint) from error
    except OSError as error:
        raise VideoNotFoundError(f"{name} cannot be read: {error.strerror}.", source=name) from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoNotFoundError(f"{name} is a directory.", hint="Name a video file in it.", source=name)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device could block for ever
        raise VideoNotFoundError(f"{name} is no regular file.", source=name)
    return FileState(status.st_size, status.st_mtime_ns)


def _content_key(file: IO[bytes], size: int) -> str:
    """Hash of the size and of blocks spread over the content, first and last included."""
    digest = hashlib.sha256(_KEY_VERSION + size.to_bytes(8, "little"))
    last = max(0, size - _BLOCK_BYTES)
    for offset in sorted({last * i // (_BLOCKS - 1) for i in range(_BLOCKS)}):
        file.seek(offset)
        digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:32]


def _is_url(source: WholeVideo) -> TypeGuard[str]:
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def _url_name(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # its words may quote a password
        raise VideoNotFoundError("The video's URL cannot be read.", hint="Is it written right?") from None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # what is left out may hold secrets
