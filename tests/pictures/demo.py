"""Makes the picture of `videobrain demo` in README, from its real output: one question and the table.

python -m tests.pictures.demo [--model MODEL] [--out docs/assets/demo.svg]
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
from itertools import pairwise
from pathlib import Path

import anyio
from rich.console import Console
from rich.text import Text

from videobrain.demo import demonstrate

WIDTH = 100
QUESTIONS = (3,)
"""By number: a search."""
_HEAD = re.compile(r"\d of \d, |class +question ")
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
    lines = shown.partition(_END)[0].splitlines()
    plain = [Text.from_ansi(line).plain.strip() for line in lines]
    begins = [number for number, line in enumerate(plain) if _HEAD.match(line)]
    parts = ["\n".join(lines[begin:end]).strip("\n") for begin, end in pairwise([*begins, len(lines)])]
    *questions, table = parts
    return [*(questions[number - 1] for number in QUESTIONS), table]


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
