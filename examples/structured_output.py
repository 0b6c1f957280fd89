"""An answer as a typed value instead of a text.

python examples/structured_output.py match.mp4
"""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

from pydantic import BaseModel, Field

from videobrain import VideoBrain


class Scene(BaseModel):
    """What the model is asked to fill in; it is told the JSON schema of this."""

    title: str = Field(description="A few words")
    place: Literal["indoors", "outdoors", "studio", "unknown"]
    people: int = Field(ge=0, le=1000)
    objects: list[str] = Field(max_length=5)


async def main(path: str) -> None:
    """Describe the video at `path` as a `Scene`."""
    async with VideoBrain() as brain:
        answer = await brain.ask(path, "Describe the first scene.", output_type=Scene)
    if isinstance(answer.output, Scene):
        scene = answer.output
        print(f"{scene.title} ({scene.place}), {scene.people} people: {', '.join(scene.objects)}")
    else:
        print(f"No answer: {answer.stop_reason}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
