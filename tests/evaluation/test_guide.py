"""The page from a download to a comparison: its commands run, one after the other, on a small NExT-GQA."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from evaluation.benchmark_files import write, write_json

from videobrain.cli import app
from videobrain.evaluation.metrics import nextgqa
from videobrain.evaluation.results import read_results
from videobrain.models.bundled import DIRECTORY
from videobrain.testing import FakeServer, make_video

ENCODER = DIRECTORY / "encoder"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmark-run.md"
MODEL, ADDRESS = "Qwen/Qwen3-VL-8B-Instruct", "http://localhost:8000/v1"
VIDEOS, EACH = 4, 3
KINDS = ("CW", "TN", "DO")


def write_benchmark(root: Path) -> None:
    """As the authors distribute it, with questions that are made up."""
    rows, spans, places = [], {}, {}
    for video in map(str, range(101, 101 + VIDEOS)):
        places[video] = f"1164/{video}"
        (root / "NExTVideo/1164").mkdir(parents=True, exist_ok=True)
        make_video(root / f"NExTVideo/1164/{video}.mp4", seconds=2, size=(64, 32))
        spans[video] = {"duration": 2, "location": {str(qid): [[0.5, 1.5]] for qid in range(EACH)}, "fps": 25}
        rows += [
            f"{video},50,64,32,what is shown in {video} at moment {qid},red,{qid},{KINDS[qid]},red,blue,green,cat,dog\n"
            for qid in range(EACH)
        ]
    head = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    write(root / "datasets/nextgqa/val.csv", head + "".join(rows))
    write_json(root / "datasets/nextgqa/gsub_val.json", spans)
    write_json(root / "datasets/nextgqa/map_vid_vidorID.json", places)


def reply(body: dict[str, Any]) -> str:
    """Right more often with more frames: what the strategies are for."""
    said = json.dumps(body["messages"])
    if "JSON list of spans" in said:
        return "<thinking>There.</thinking><answer>[[0.5, 1.25]]</answer>"
    looked = any(message["role"] == "assistant" for message in body["messages"])
    if "uniform_sample" in said and not looked:
        call = '{"name": "uniform_sample", "arguments": {"start_frame": 10, "end_frame": 40}}'
        return f"<thinking>Look closer.</thinking><tool_call>{call}</tool_call>"
    number = re.search(r"shown in (\d+) at moment (\d)", said)
    assert number
    right = int(number[2]) <= looked + ("image_url" in said) - (number[1] == "101")
    return f"<thinking>Enough.</thinking><answer>{'A' if right else 'B'}</answer>"


def commands() -> list[list[str]]:
    fences = re.findall(r"^```console\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [shlex.split(line.removeprefix("$ ")) for fence in fences for line in fence.splitlines()]


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_benchmark(tmp_path / "data/NExT-GQA")
    monkeypatch.chdir(tmp_path)
    bare = {"CACHE_DIR": str(tmp_path / "cache"), "DECODER": "pyav", "WARM_INDEX": "false", "ENCODER": str(ENCODER)}
    for name, value in bare.items():
        monkeypatch.setenv(f"VIDEOBRAIN_{name}", value)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    printed: dict[str, str] = {}
    runner = typer.testing.CliRunner()

    def run(arguments: list[str]) -> str:
        done = runner.invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return done.stdout

    with FakeServer(reply, models=[MODEL]) as server:
        for program, *arguments in commands():
            match program, arguments:
                case "pip", _:
                    pass
                case "export", [assignment]:
                    name, _, value = assignment.partition("=")
                    monkeypatch.setenv(name, value.replace(ADDRESS, server.base_url))
                case "videobrain", ["report", trace, *rest]:
                    (first, *_) = read_results(Path(trace).parents[1])
                    run(["report", trace.replace("traces/TRACE.jsonl", str(first.trace)), *rest])
                case "videobrain", _:
                    last = Path(arguments[arguments.index("--out") + 1]).name if "--out" in arguments else "list"
                    printed[last] = run(arguments)
                case _:
                    pytest.fail(f"{program} is no program that this test knows")
        asked = len(server.requests)
        again = run(["eval", "nextgqa", "--data", "data/NExT-GQA", "--out", "runs/blind", "--strategy", "blind"])

        assert again == printed["blind"]  # a run that is finished prints its table again
        assert len(server.requests) == asked
    assert run(["score", "runs/blind"]) == printed["blind"]  # also when the server is gone
    assert "As the authors of nextgqa report it: Acc@GQA" in printed["videobrain"]
    assert "Spans of 12 questions: mIoU 75.0 %" in printed["videobrain"]

    assert "https://github.com/doc-doc/NExT-GQA: datasets/nextgqa/" in printed["list"]
    columns = r"questions +accuracy, 95 % interval +unanswered +errors +frames +turns +seconds"
    assert re.search(columns, printed["videobrain"])
    assert [row for row in ("group: causal", "type: TN", "duration: ") if row not in printed["videobrain"]] == []
    assert len(read_results("runs/first-ten")) == 10
    assert nextgqa(read_results("runs/videobrain"))["Acc@GQA"] > nextgqa(read_results("runs/blind"))["Acc@GQA"] > 0
    assert "videobrain, as the benchmark's authors report it: Acc@GQA 91.7" in printed["comparison"]
    for said in ("difference, 95 %", "p (Holm)", "mIoU, 95 %", "R1@0.5", "prompt tokens"):
        assert said in printed["comparison"]
    assert len(list(Path("comparison/questions").iterdir())) == VIDEOS * EACH
    assert "data:image/jpeg" in Path("question.html").read_text("utf-8")
