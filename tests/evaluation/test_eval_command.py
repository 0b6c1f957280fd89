"""The commands as a user meets them; runs that are interrupted go on. Those that are killed: `test_killed_runs`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from evaluation.runs import Answers, essence, question, write_questions, write_videos

from videobrain.evaluation.results import read_results
from videobrain.testing import FakeServer, Fault

pytestmark = pytest.mark.timeout(900)
SECONDS = 200
"""That a command may take: on a machine that is busy with other things, its imports alone take many."""
QUESTIONS = 24
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
from videobrain.cli import main
main()
"""


class Command:
    def __init__(self, home: Path, videos: Path) -> None:
        self.home = home
        self.videos = videos
        write_questions(home / "questions.jsonl", [question(number) for number in range(QUESTIONS)])

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        # Nothing of the developer's own configuration reaches the command. PyAV, since importing torch takes seconds.
        # The package is the one beside these tests, whichever is installed.
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "VIDEOBRAIN_CACHE_DIR": str(self.home / "cache")}
        bare |= {"VIDEOBRAIN_DECODER": "pyav", "VIDEOBRAIN_WARM_INDEX": "false", "OPENAI_API_KEY": "none"}
        bare["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            env={**bare, **environment},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: object, expect: int = 0) -> tuple[str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == expect, err
        assert "Traceback" not in err
        return out, err

    def evaluation(self, server: FakeServer, out: str, *more: object) -> list[object]:
        where = ["--data", "questions.jsonl", "--videos", self.videos, "--out", out, "--base-url", server.base_url]
        return ["eval", "plain", *where, "--tool", "uniform_sample", *more]


@pytest.fixture
def command(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tmp_path, write_videos(tmp_path_factory.mktemp("videos")))


def finished(directory: Path) -> int:
    path = directory / "results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(lines: int, directory: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + SECONDS
    while finished(directory) < lines:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_list_of_benchmarks(command: Command) -> None:
    out, err = command("eval", "--list")
    for said in ("lvbench", "plain", "choice, open, grounding, highlights", "2,700", "to download"):
        assert said in out
    assert err == ""
    rows = json.loads(command("eval", "--list", "--json")[0])
    assert {"name", "task", "questions", "licence", "download"} == set(rows[0])
    assert len(rows) >= 14


def test_a_run_prints_a_table_and_then_the_same_as_json(command: Command) -> None:
    with FakeServer(Answers({1: [Fault.status(400, "no")]})) as server:
        run = command.evaluation(server, "run")
        out, err = command(*run)
        again, _ = command(*run, "--json", "--quiet")
        asked = len(server.requests)
    assert "plain (questions), openai:fake-model, videobrain" in out
    assert "62.5 %" in out
    assert "1 (4.2 %)" in out
    assert "0 of 24 questions" in err
    assert asked == QUESTIONS
    scores = json.loads(again)
    assert (scores["total"]["questions"], scores["total"]["correct"], scores["total"]["errors"]) == (24, 15, 1)
    assert scores["total"]["accuracy"][0] == 0.625


def test_a_judge_judges_what_has_no_verdict(command: Command) -> None:
    rows = [question(number, options=None, answer="red") for number in range(3)]
    write_questions(command.home / "questions.jsonl", rows)
    with (
        FakeServer(Answers()) as server,
        FakeServer(lambda body: '{"reason": "It is.", "correct": true}', models=["judge"]) as judge,
    ):
        run = command.evaluation(server, "run")
        out, _ = command(*run)
        assert "3 verdicts are missing (3 not judged)" in out
        run += ["--judge", "openai:judge", "--judge-base-url", judge.base_url]
        for _ in range(2):
            (command.home / "run" / "verdicts.jsonl").unlink(missing_ok=True)  # what the judge replied is known then
            out, _ = command(*run, "--json")
            scores = json.loads(out)
            assert (scores["total"]["correct"], scores["judged"]["missing"]) == (3, 0)
        assert (len(server.requests), len(judge.requests)) == (3, 3)

    # Whoever answered is gone; the figures are there, and another judge may judge.
    out, _ = command("score", "run")
    assert "100.0 % (43.9 to 100.0)" in out
    with FakeServer(lambda body: '{"reason": "No.", "correct": false}', models=["strict"]) as strict:
        score = ["score", "run", "--judge", "openai:strict", "--judge-base-url", strict.base_url]
        scores = json.loads(command(*score, "--json")[0])
        assert (scores["total"]["correct"], scores["judged"]["judged"]) == (0, 3)
        _, err = command("merge", "run", "--out", "merged", expect=2)
        assert "videobrain score merged --judge MODEL" in err
        score[1] = "merged"
        assert json.loads(command(*score, "--json")[0])["total"]["incorrect"] == 3
        assert len(strict.requests) == 3
    _, err = command("score", "run", expect=2)
    assert "verdicts of 2 kinds" in err
    _, err = command("compare", "run", "merged", expect=2)
    assert "--judge and --rubric" in err
    assert "1.000" in command("compare", "run", "merged", "--judge", "openai:strict")[0]
    (command.home / "rubric.json").write_text(
        '{"name": "gist", "criteria": [{"name": "close", "description": "It comes near.", "scale": "score"}]}', "utf-8"
    )
    with FakeServer(lambda body: '{"reason": "Nearly.", "close": 0.9}', models=["mild"]) as mild:
        score = ["score", "run", "--judge", "openai:mild", "--judge-base-url", mild.base_url]
        scores = json.loads(command(*score, "--rubric", "rubric.json", "--json")[0])
    assert scores["judged"]["score"][0] == pytest.approx(0.9)
    assert "It comes near." in json.dumps(mild.requests[0])
    with FakeServer([Fault.unauthorized()], models=["new"]) as judge:
        _, err = command("score", "run", "--judge", "openai:new", "--judge-base-url", judge.base_url, expect=1)
    assert "cannot judge them: AuthenticationError" in err


def test_wrong_usage_and_wrong_input(command: Command) -> None:
    _, err = command("eval", "plain", expect=2)
    assert "--data and --out" in err
    _, err = command("eval", "plain", "--data", ".", "--out", "run", "--judge-base-url", "http://x", expect=2)
    assert "--judge" in err
    _, err = command("score", "run", "--rubric", "none.json", expect=2)
    assert "--judge" in err
    judged = ("score", "run", "--judge", "openai:x", "--judge-base-url", "http://x/v1", "--rubric")
    _, err = command(*judged, "none.json", expect=2)
    assert "The rubric none.json cannot be read" in err
    (command.home / "wrong.json").write_text('{"name": "gist", "criteria": [{"name": "A b"}]}', "utf-8")
    _, err = command(*judged, "wrong.json", expect=2)
    assert "wrong.json holds no rubric: criteria.0.name: String should match" in err
    _, err = command("eval", "nonsense", "--data", ".", "--out", "run", "--model", "openai:x", expect=2)
    assert err.startswith("error: There is no benchmark 'nonsense'.")
    with FakeServer() as server:
        for more in (["--concurrency", "many"], ["--shard", "5/4"], ["--strategy", "guess"]):
            command(*command.evaluation(server, "run", *more), expect=2)
    _, err = command("merge", "run-1", "run-2", "--out", "run", expect=2)
    assert "run-1 is no run" in err
    assert not (command.home / "run").exists()


def test_a_run_that_fails_ends_with_status_1(command: Command) -> None:
    refuse: dict[int, list[Fault | str]] = {number: [Fault.status(400, "no paper")] for number in range(QUESTIONS)}
    with FakeServer(Answers(refuse)) as server:
        out, err = command(*command.evaluation(server, "run", "--max-errors", "2", "--concurrency", "1"), expect=1)
    assert out == ""
    assert "error: 2 of 2 questions failed" in err
    assert "no paper" in err


def test_an_interrupted_run_says_how_to_go_on(command: Command) -> None:
    answers = Answers()
    with FakeServer(answers) as server:
        process = command.start(*command.evaluation(server, "run", "--concurrency", "2"))
        with process, answers.held(after=4):
            wait_for(2, command.home / "run", process)
            os.kill(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 130
        assert "of 24 questions are finished and kept in run; the same command goes on from here" in err
        assert "Traceback" not in err
        assert 2 <= len(read_results(command.home / "run")) < QUESTIONS
        command(*command.evaluation(server, "run", "--quiet"))
    assert len(essence(read_results(command.home / "run"))) == QUESTIONS


def test_shards_are_merged(command: Command) -> None:
    with FakeServer(Answers()) as server:
        for number in (1, 2):
            command(*command.evaluation(server, f"run-{number}", "--quiet", "--shard", f"{number}/2"))
    out, _ = command("merge", "run-1", "run-2", "--out", "run", "--json")
    assert json.loads(out)["total"]["questions"] == QUESTIONS
