"""What the package promises about itself: its names, what importing it costs, and which room may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import videobrain

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "torchcodec",
    "torchvision",
    "open_clip",
    "transformers",
    "hnswlib",
    "llguidance",
    "openai",
    "av",
    "vllm",
    "ray",
)

FLOORS = [
    {"errors", "limits", "settings", "blocking", "files", "installed", "text"},
    {"result"},
    {"video"},
    {"index"},
    {"world"},
    {"models"},
    {"tools"},
    {"agent"},
    {"report"},
    {"resources", "asked", "recipe"},
    {"brain"},
    {"evaluation"},
    {"testing", "display", "doctor", "training"},
    {"demo"},
    {"cli"},
    {"__main__", "__init__"},
]


def test_public_names_are_sorted_and_there() -> None:
    assert sorted(videobrain.__all__) == list(videobrain.__all__)
    for name in videobrain.__all__:
        assert getattr(videobrain, name) is not None
    assert len(videobrain.__all__) <= 35
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = videobrain.nonsense


def test_importing_is_quick_and_pulls_in_no_heavy_package() -> None:
    code = f"""
import sys, time
began = time.perf_counter()
import videobrain
seconds = time.perf_counter() - began
from videobrain import *
print(seconds, [name for name in {HEAVY} if name in sys.modules])
"""
    best = float("inf")
    for _ in range(5):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        seconds, heavy = out.split(maxsplit=1)
        assert heavy.strip() == "[]"
        best = min(best, float(seconds))
    assert best < 0.3


def test_rooms_import_downwards_only() -> None:
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for path in sorted((ROOT / "videobrain").rglob("*.py")):
        relative = path.relative_to(ROOT / "videobrain")
        room = relative.parts[0].removesuffix(".py")
        assert room in floor_of, f"{room} has no floor"
        for module in _imported_at_load(ast.parse(path.read_text(encoding="utf-8"))):
            other = module.split(".")[1] if "." in module else "__init__"
            if other != room and floor_of[other] >= floor_of[room]:
                wrong.append(f"{relative} imports {module}")
    assert wrong == []


def _imported_at_load(tree: ast.Module) -> list[str]:
    """Modules of videobrain that are imported when the module is, so not those within functions or for types only."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "videobrain":
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "videobrain"]
    return found


def test_every_requirement_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name != "all"}
    requirements = [*project["dependencies"], *(requirement for wanted in extras.values() for requirement in wanted)]
    for requirement in requirements:
        line = next(line for line in text.splitlines() if f'"{requirement}"' in line)
        assert "#" in line, requirement


def test_a_missing_extra_is_one_error_that_says_how_to_install_it(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
for name in ("torch", "transformers", "open_clip", "torchcodec"):
    sys.modules[name] = None
from videobrain import VideoBrain, VideoBrainError
for work in (
    lambda: VideoBrain("local:{tmp_path}").ask({str(tmp_path / "v.mp4")!r}, "What?"),
    lambda: VideoBrain("local:{tmp_path}").search({str(tmp_path / "v.mp4")!r}, "a dog"),
):
    try:
        asyncio.run(work())
    except VideoBrainError as error:
        print(type(error).__name__, error)
"""
    from videobrain.testing import make_video

    make_video(tmp_path / "v.mp4", seconds=2)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    lines = out.splitlines()
    assert len(lines) == 2
    assert all("pip install 'videobrain[local]'" in line for line in lines)
