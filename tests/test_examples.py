"""Every example runs, against a real model: a tiny random one in this process, held to the grammar."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from videobrain.testing import FakeServer, make_video

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NO_ANSWER = "No answer: corrections"
"""A random model may err once too often; the example then says so, which is a right thing to print."""

PRINTS = {
    "ask": r"(?s).+\n +0\.00 s  frame 0 +initial\n.*\d turns, \d+ frames, \d+ tokens, [\d.]+ s\n$",
    "batch": r"(?s)(?=.*colour: )(?=.*people: )(?=.*quick: )(?=.*missing failed: .*does not exist)",
    "custom_strategy": r"(?s).*16 frames, \d+ tokens\n$",
    "custom_tool": r"(?s).+\n\{.*\}\n$",
    "search_library": r"(?: *-?[\d.]+ +[\d.]+ s  .*\.mp4\n){5}$",
    "stream_events": r"(?s)frames of at most \d+x\d+\nturn 1: the model looks at 16 frames\n.+",
    "structured_output": rf"(?:.+ \(\w+\), \d+ people: .*|{NO_ANSWER})\n$",
}


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, example)  # dataclasses look their module up
    spec.loader.exec_module(example)
    return example


def test_every_example_is_run_and_listed() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == set(PRINTS)
    assert scripts == set(re.findall(r"\| `(\w+)\.py`", (EXAMPLES / "README.md").read_text("utf-8")))


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(PRINTS))
async def test_example(
    name: str,
    tiny_random_model: Path,
    tiny_random_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    video = make_video(videos / "scenes.mp4", seconds=4)
    make_video(videos / "other.mp4", seconds=2, scenes=["white", "black"])
    for variable, value in {
        "MODEL": f"local:{tiny_random_model}",
        "CONSTRAIN_REPLIES": "true",
        "TEXT_CHARACTERS": "120",
        "TEMPERATURE": "1",
        "SEED": "0",
        "ENCODER": str(tiny_random_encoder),
        "CACHE_DIR": str(tmp_path / "cache"),
        "OFFLINE": "true",
    }.items():
        monkeypatch.setenv(f"VIDEOBRAIN_{variable}", value)
    await load(name, monkeypatch).main(str(videos if name == "search_library" else video))
    printed = capsys.readouterr().out
    assert re.match(PRINTS[name], printed), printed


@pytest.mark.anyio
async def test_the_tool_of_the_example_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [
        f'<thinking>Closer.</thinking><tool_call>{{"name": "look_closer", "arguments": {arguments}}}</tool_call>'
        for arguments in ('{"frame_index": 100, "part": "centre"}', '{"frame_index": 9, "part": "bottom left"}')
    ]
    monkeypatch.delenv("VIDEOBRAIN_MODEL", raising=False)
    monkeypatch.setenv("VIDEOBRAIN_WARM_INDEX", "false")
    with FakeServer([*calls, "<thinking>Read.</thinking><answer>a code</answer>"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        await load("custom_tool", monkeypatch).main(str(make_video(tmp_path / "scenes.mp4", seconds=4)))
        corrected, shown = (request["messages"][-1]["content"] for request in server.requests[1:])
    assert "the video has no frame 100" in str(corrected)
    assert [part["type"] for part in shown].count("image_url") == 1
    assert capsys.readouterr().out == "a code\n{'look_closer': 1}\n"
