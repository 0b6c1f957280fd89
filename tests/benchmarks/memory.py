"""What memory `videobrain eval` takes while it asks thousands of questions.

    python -m tests.benchmarks.memory [--questions N] [--out docs/assets/memory.svg]

The command runs as a process of its own on small videos that are made for it; a `FakeServer` in this process answers.
Prints the memory of that process (resident set, of Linux's /proc) against the questions that are done, and how
much it grows from question 500 to the last one. Draws a figure with ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.machine import describe
from tests.evaluation.killed_runs import Lines
from videobrain.testing import FakeServer, make_video

VIDEOS = 30
SETTLED = 500
"""Questions after which everything is loaded."""
TARGET_BYTES = 32 * 2**20
"""Of growth from there: of the order of what the allocator and the caches of 30 videos do. A record with its trace is
about 30 KB, so a run that kept them would grow by more than 100 MB."""
ROWS = 12
_POLL_SECONDS = 0.05
_BLUE, _SOFT, _LINE = "#2159c4", "#645f58", "#e4e1dc"
_MIB = 2**20


class Moment(NamedTuple):
    """The process at some number of finished questions."""

    questions: int
    resident_bytes: int
    seconds: float


class Replies:
    """One look for every other question, then the answer. The server forgets what it was sent."""

    def __init__(self) -> None:
        self.server: FakeServer | None = None

    def __call__(self, body: dict[str, Any]) -> str:
        if self.server is not None:
            self.server.all_requests.clear()
        asked = json.dumps(body["messages"][1])
        number = int(re.findall(r"Question (\d+)", asked)[-1])
        if number % 2 and not any(message["role"] == "assistant" for message in body["messages"]):
            call = '{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 40}}'
            return f"<thinking>Look closer.</thinking><tool_call>{call}</tool_call>"
        return f"<thinking>That is enough.</thinking><answer>{'AB'[number % 2]}</answer>"


def write_benchmark(home: Path, questions: int) -> Path:
    """Questions about short videos in turn."""
    for number in range(VIDEOS):
        make_video(home / f"v{number}.mp4", seconds=2, fps=25, size=(64, 32), scenes=["red", "green", "blue"])
    rows = [
        {
            "key": f"q{number}",
            "video": f"v{number % VIDEOS}.mp4",
            "question": f"Question {number}: which colour is first?",
            "options": ["red", "blue"],
            "answer": "red",
        }
        for number in range(questions)
    ]
    path = home / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def watch(home: Path, questions: int) -> list[Moment]:
    """Run the command and look at it until it ends.

    Raises:
        RuntimeError: It failed.
    """
    replies, out = Replies(), home / "run"
    file = write_benchmark(home, questions)
    moments: list[Moment] = []
    rows = iter([row * questions // ROWS for row in range(1, ROWS + 1)])
    row = next(rows)
    print(f"{'questions':>9}  {'resident':>10}  {'seconds':>7}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIDEOBRAIN_")}
    environment |= {"VIDEOBRAIN_DECODER": "pyav", "VIDEOBRAIN_WARM_INDEX": "false", "OPENAI_API_KEY": "none"}
    environment["VIDEOBRAIN_CACHE_DIR"] = str(home / "cache")
    with FakeServer(replies) as server, (home / "told").open("w+") as told:
        replies.server = server
        command = [
            "eval",
            "plain",
            "--data",
            str(file),
            "--out",
            str(out),
            "--json",
            "--quiet",
            "--tool",
            "uniform_sample",
        ]
        command += ["--model", "openai:fake-model", "--base-url", server.base_url]
        program = [sys.executable, "-c", "from videobrain.cli import main; main()", *command]
        lines, began = Lines(out), time.monotonic()
        with subprocess.Popen(program, env=environment, stdout=told, stderr=told) as process:
            try:
                while process.poll() is None:
                    done = lines.new()
                    if (resident := resident_bytes(process.pid)) is not None and done:
                        moments.append(Moment(done, resident, time.monotonic() - began))
                        if done >= row:
                            print(f"{done:>9}  {resident / _MIB:>6.1f} MiB  {moments[-1].seconds:>7.0f}", flush=True)
                            row = next(rows, sys.maxsize)
                    time.sleep(_POLL_SECONDS)
            finally:
                process.kill()
        told.seek(0)
        if process.returncode != 0 or lines.new() != questions:
            raise RuntimeError(f"the run ended with status {process.returncode}: {told.read()}")
    return moments


def resident_bytes(pid: int) -> int | None:
    """The resident set of a process; None where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pages * resource.getpagesize() or None


def at(moments: list[Moment], questions: int) -> Moment:
    """The first moment at which so many questions were done, or the last one."""
    return next((moment for moment in moments if moment.questions >= questions), moments[-1])


def draw(moments: list[Moment], path: Path) -> None:
    """Memory against questions, as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": "videobrain", "font.family": "sans-serif", "font.size": 10}
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        figure.patch.set_facecolor("white")
        axes = figure.subplots()
        # One point for every hundred pixels is enough, and keeps the file small.
        shown = moments[:: max(1, len(moments) // 400)]
        axes.plot([one.questions for one in shown], [one.resident_bytes / _MIB for one in shown], color=_BLUE, lw=1.6)
        axes.set_ylim(0, 1.25 * max(one.resident_bytes for one in moments) / _MIB)
        axes.set_xlim(0, moments[-1].questions)
        axes.set_xlabel("questions done", color=_SOFT)
        axes.set_ylabel("resident memory in MiB", color=_SOFT)
        axes.grid(color=_LINE, linewidth=0.8)
        axes.tick_params(color=_LINE, labelcolor=_SOFT)
        for name, spine in axes.spines.items():
            spine.set_visible(name in ("left", "bottom"))
            spine.set_color(_SOFT)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def measure(home: Path, questions: int, out: Path | None) -> bool:
    moments = watch(home, questions)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # of Linux, in KiB
    took = moments[-1].seconds
    print(f"{questions} questions on {VIDEOS} videos in {took:.0f} s ({questions / took:.1f} a second)")
    asking = [moment for moment in moments if moment.questions < questions] or moments
    settled = at(moments, min(SETTLED, questions // 2))
    growth = asking[-1].resident_bytes - settled.resident_bytes
    print(f"growth from question {settled.questions} to {asking[-1].questions}: {growth / _MIB:+.1f} MiB")
    print(f"target: at most {TARGET_BYTES / _MIB:.0f} MiB")
    print(f"the most it ever took, with the figures at the end: {most / _MIB:.1f} MiB")
    if out is not None:
        draw(moments, out)
        print(f"the figure is {out}")
    return growth <= TARGET_BYTES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="file of the figure, as SVG")
    arguments = parser.parse_args()
    print(describe("videobrain", "openai", "av"))
    with tempfile.TemporaryDirectory() as home:
        raise SystemExit(0 if measure(Path(home), arguments.questions, arguments.out) else 1)


if __name__ == "__main__":
    main()
