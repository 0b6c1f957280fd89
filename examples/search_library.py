"""The moments of all videos of a directory that look like a few words. No model is asked.

python examples/search_library.py VIDEOS "a red car"
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from videobrain import VideoBrain

SUFFIXES = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".ts"}


def videos_in(directory: str) -> list[Path]:
    """The videos of a directory, by their names."""
    return sorted(path for path in Path(directory).iterdir() if path.suffix.lower() in SUFFIXES)


async def main(directory: str, query: str = "a red car") -> None:
    """Search every video in `directory`."""
    videos = videos_in(directory)
    async with VideoBrain() as brain:
        for hit in await brain.search(videos, query, k=5):
            print(f"{hit.similarity:6.3f}  {hit.timestamp_seconds:8.2f} s  {hit.video}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
