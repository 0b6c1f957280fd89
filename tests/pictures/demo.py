"""Makes the picture of `videobrain demo` in README, from its real output: two questions and the table.

python -m tests.pictures.demo [--model MODEL] [--out docs/assets/demo.svg]
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
from pathlib import Path

import anyio
from rich.console import Console
from rich.text import Text

from videobrain.demo import demonstrate

WIDTH = 92
QUESTIONS = (3, 5)
"""A search, and a closer look."""
_HEAD = re.compile(r"(?m)^(?=(?:\x1b\[[0-9;]*m)*(\d) of \d, )")
_TABLE = re.compile(r"(?m)^(?=.*\bclass\b.*\bquestion\b.*\btruth\b)")
_END = "\nThe conversations with"
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def console(width: int = WIDTH) -> Console:
    """A terminal that is only written down, without what moves."""
    return Console(
        file=io.StringIO(), record=True, width=width, force_terminal=True, force_interactive=False,
        color_system="truecolor", highlight=False, markup=False, emoji=False,
    )  # fmt: skip


def excerpt(shown: str) -> list[str]:
    """The questions of the picture, and the table, out of everything that the demonstration wrote."""
    talk, table = _TABLE.split(shown.partition(_END)[0], maxsplit=1)
    parts = _HEAD.split(talk)[1:]
    sections = {int(number): text for number, text in zip(parts[::2], parts[1::2], strict=True)}
    return [*(sections[number].strip("\n") for number in QUESTIONS), table.rstrip()]


def picture(shown: str) -> str:
    """The picture as SVG, which asks for nothing from elsewhere."""
    paper = console()
    paper.print(Text("$ videobrain demo", "bold"))
    for part in excerpt(shown):
        paper.print(Text("\n…\n", "dim"))
        paper.print(Text.from_ansi(part))
    return _FONTS.sub("", paper.export_svg(title="videobrain demo"))


async def main(model: str | None, out: Path) -> None:
    """Run the demonstration, and write the picture."""
    terminal = console()
    with tempfile.TemporaryDirectory() as aside:
        await demonstrate(model, report=Path(aside) / "demo.html", console=terminal)
    await anyio.Path(out).write_text(picture(terminal.export_text(styles=True)), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="model string; by default the bundled model")
    parser.add_argument("--out", type=Path, default=Path("docs/assets/demo.svg"), help="where the picture goes")
    given = parser.parse_args()
    anyio.run(main, given.model, given.out)
