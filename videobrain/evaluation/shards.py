"""A part of a benchmark's videos, for one of several machines."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NamedTuple, Self

from videobrain.errors import ConfigurationError


class Shard(NamedTuple):
    """One of several parts; each video is in exactly one, whatever other videos there are."""

    number: int
    """From 1."""
    parts: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``2/4``, the second of four.

        Raises:
            ConfigurationError: It is no such text.
        """
        match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigurationError(f"{text!r} is no shard.", hint="Write 2/4 for the second of four.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"

    def holds(self, video: str) -> bool:
        """Whether a video belongs to this part. Its name alone (`Sample.video_name`) decides: all machines agree."""
        return int.from_bytes(sha256(video.encode("utf-8", "replace")).digest()[:8]) % self.parts == self.number - 1
