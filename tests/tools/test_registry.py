"""Tools by name: built-in ones and those of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from videobrain.errors import ConfigurationError
from videobrain.tools import clip_sample, find_tool, resolve_tools, tool, uniform_sample


@tool
async def read_scoreboard(at_seconds: float) -> str:
    """Read the scoreboard."""
    return "2 : 1"


not_a_tool = 3


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        EntryPoint(name=name, value=f"{module}:{attribute}", group="videobrain.tools")
        for name, module, attribute in [
            ("scoreboard", __name__, "read_scoreboard"),
            ("wrong", __name__, "not_a_tool"),
            ("gone", __name__, "no_such_name"),
            ("missing", "no_such_package", "tool"),
        ]
    )
    monkeypatch.setattr("videobrain.tools.registry.entry_points", lambda *, group: points.select(group=group))


def test_by_default_the_tools_of_the_paper() -> None:
    assert resolve_tools(None) == [uniform_sample, clip_sample]
    assert resolve_tools([]) == []


def test_names_and_tools_mix() -> None:
    assert resolve_tools(["clip_sample", read_scoreboard]) == [clip_sample, read_scoreboard]


def test_tools_of_other_packages_are_found_by_their_entry_point() -> None:
    assert find_tool("scoreboard") is read_scoreboard


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["zoom"], "no tool 'zoom'.*clip_sample, gone, missing, scoreboard, search_subtitles, uniform_sample, wrong"),
        (["wrong"], "gives int, not a Tool"),
        (["gone"], "cannot be loaded from"),
        (["missing"], "cannot be loaded from 'no_such_package:tool'"),
        (["clip_sample", clip_sample], "Two tools have the name 'clip_sample'"),
        ([print], "is not a tool"),
    ],
)
def test_what_cannot_be_resolved_is_said(names: list[object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        resolve_tools(names)  # type: ignore[arg-type]
