"""The command line as a user meets it: what goes where, and with which exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from videobrain.testing import FakeServer, Fault, make_video

ANSWER = "<thinking>The frames suffice.</thinking>\n<answer>{}</answer>"
BUNDLED_ELSEWHERE = """
import sys
from pathlib import Path
from videobrain import cli, demo
from videobrain.models import bundled
demo.SECONDS = 120
bundled.DIRECTORY = Path(sys.argv.pop(1))
cli.main()
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "scenes.mp4", seconds=8, fps=10)


class Run:
    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(
        self, *arguments: object, expect: int = 0, bundled: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        # Nothing of the developer's own configuration reaches the command. PyAV, since importing torch takes seconds.
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "VIDEOBRAIN_CACHE_DIR": str(self.home / "cache")}
        bare["VIDEOBRAIN_DECODER"] = "pyav"
        program = ["-m", "videobrain"] if bundled is None else ["-c", BUNDLED_ELSEWHERE, bundled]
        done = subprocess.run(
            [sys.executable, *map(str, (*program, *arguments))],
            env={**bare, **environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == expect, done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_ask_prints_the_answer_and_nothing_else_on_stdout(run: Run, video: Path) -> None:
    with FakeServer([ANSWER.format("red")]) as server:
        done = run("ask", video, "Which colour is first?", "--base-url", server.base_url, OPENAI_API_KEY="sk-none")
    assert done.stdout == "red\n"


def test_ask_with_options_json_report_and_trace(run: Run, video: Path) -> None:
    with FakeServer([ANSWER.format("B")]) as server:
        done = run(
            "ask", video, "Which?", "--option", "green", "--option", "red", "--json", "--report", "r.html", "--trace",
            "t.jsonl", "--base-url", server.base_url, OPENAI_API_KEY="sk-secret-1",
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
    assert (answer["choice"], answer["stop_reason"], answer["usage"]["turns"]) == ("B", "answered", 1)
    assert "<html" in (run.home / "r.html").read_text()
    page = run("report", "t.jsonl", "-o", "again.html").stdout.strip()
    assert (run.home / page).read_text() == (run.home / "r.html").read_text()
    (run.home / "taken").mkdir()
    refused = run("report", "t.jsonl", "-o", "taken", expect=1).stderr
    assert refused.startswith("error: ")
    assert refused.count("\n") == 1
    for written in ("r.html", "t.jsonl"):
        assert "sk-secret-1" not in (run.home / written).read_text()


def test_the_command_line_wins_over_the_environment_on_constraining(run: Run, video: Path) -> None:
    constrained = []
    for flags in (["--no-constrain"], ["--constrain"], []):
        with FakeServer([ANSWER.format("red")]) as server:
            run(
                "ask", video, "Which?", *flags, "--base-url", server.base_url,
                OPENAI_API_KEY="k", VIDEOBRAIN_CONSTRAIN_REPLIES="0" if "--constrain" in flags else "1",
            )  # fmt: skip
            constrained.append("structured_outputs" in server.requests[0])
    assert constrained == [False, True, True]


def test_a_run_without_an_answer_fails(run: Run, video: Path) -> None:
    with FakeServer(["nonsense"] * 2) as server:
        done = run(
            "ask", video, "Which?", "--max-corrections", 1, "--base-url", server.base_url, expect=1, OPENAI_API_KEY="k"
        )
    assert "limit of corrections" in done.stderr


def test_errors_are_one_line_that_says_what_to_do(run: Run, video: Path) -> None:
    def fails(status: int, *arguments: object, bundled: Path | None = None, **environment: str) -> str:
        done = run(*arguments, expect=status, bundled=bundled, **environment)
        assert done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, done.stderr
        return lines[0]

    nothing = fails(2, "ask", video, "Which?", bundled=run.home / "tiny")
    assert all(word in nothing for word in ("No model is configured", "tiny holds no weights", "VIDEOBRAIN_MODEL"))
    assert "--model" in fails(2, "ask", video, "Which?", OPENAI_API_KEY="sk-1")
    assert "openai:gpt" in fails(2, "ask", video, "Which?", "--model", "gpt")
    assert "gone.mp4" in fails(
        2, "ask", "gone.mp4", "Which?", "--base-url", "http://127.0.0.1:9/v1", OPENAI_API_KEY="k"
    )
    assert "VIDEOBRAIN_RETRIES" in fails(2, "ask", video, "Which?", VIDEOBRAIN_RETRIES="many")
    assert "scenes.mp4" in fails(2, "report", video)
    with FakeServer([]) as server:
        said = fails(1, "ask", video, "Which?", "-m", "openai:other", "--base-url", server.base_url, OPENAI_API_KEY="k")
    assert "other" in said


def test_a_failed_run_keeps_its_record(run: Run, video: Path) -> None:
    call = (
        '<thinking>x</thinking><tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 0, "end_frame": 9}}'
    )
    with FakeServer([call + "</tool_call>", Fault.context_length()]) as server:
        done = run(
            "ask", video, "Which?", "--trace", "t.jsonl", "--report", "r.html", "--base-url", server.base_url, expect=1,
            OPENAI_API_KEY="k",
        )  # fmt: skip
    assert "--max-model-len" in done.stderr
    assert "uniform_sample" in (run.home / "r.html").read_text()
    run("report", "t.jsonl")


def test_files_that_cannot_be_written(run: Run, video: Path, tiny_random_encoder: Path) -> None:
    (run.home / "file").write_text("")
    place = run.home / "file" / "r.html"
    for option in ("--report", "--trace"):
        done = run(
            "ask", video, "Which?", option, place, "--base-url", "http://127.0.0.1:9/v1", expect=2, OPENAI_API_KEY="k"
        )
        assert f"{place} cannot be written" in done.stderr
    kept = run("index", video, "--encoder", tiny_random_encoder, expect=1, VIDEOBRAIN_CACHE_DIR=str(run.home / "file"))
    assert "VIDEOBRAIN_CACHE_DIR" in kept.stderr


def test_usage_errors(run: Run) -> None:
    assert "Missing argument" in run("ask", expect=2).stderr
    assert "VIDEO" in run("index", expect=2).stderr
    assert "QUERY" in run("search", "x.mp4", expect=2).stderr
    assert run("--version").stdout.strip()
    assert "ask" in run("--help").stdout


def test_index_search_and_the_store(run: Run, video: Path, tiny_random_encoder: Path) -> None:
    done = run("index", video, "--encoder", tiny_random_encoder)
    assert "frames of" in done.stdout
    hits = json.loads(
        run("search", video, "a red picture", "-k", 3, "--json", "--encoder", tiny_random_encoder).stdout
    )["hits"]
    assert len(hits) == 3
    assert [hit["frame_index"] for hit in hits] == sorted(hit["frame_index"] for hit in hits)
    text = run("search", video, "a red picture", "--end", 4, "--encoder", tiny_random_encoder).stdout
    assert len(text.splitlines()) == 4
    assert len(json.loads(run("index", "--list", "--json").stdout)["indexes"]) == 1
    assert "scenes.mp4" in run("index", "--list").stdout
    run("index", "--clear")
    assert json.loads(run("index", "--list", "--json").stdout)["indexes"] == []


def test_doctor(run: Run) -> None:
    with FakeServer([]) as server:
        done = run("doctor", "--json", "--base-url", server.base_url, OPENAI_API_KEY="k")
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert found["model"]["state"] == "ok"
    assert {"python", "decoder", "device", "encoder", "cache"} <= found.keys()
    away = run("doctor", "--base-url", "http://127.0.0.1:9/v1", expect=1, OPENAI_API_KEY="k", VIDEOBRAIN_RETRIES="0")
    assert "vllm serve" in away.stdout
    missing = run("doctor", "--model", "vllm:some/model", expect=1, VIDEOBRAIN_VLLM_COMMAND="no-such-vllm")
    assert "vLLM's command 'no-such-vllm' is not installed" in " ".join(missing.stdout.split())


def test_doctor_says_which_model_would_answer(run: Run, untrained_tiny_model: Path) -> None:
    def found(*arguments: str, bundled: Path) -> dict[str, dict[str, str]]:
        done = run("doctor", "--json", *arguments, bundled=bundled)
        assert not done.stderr
        return {finding["subject"]: finding for finding in json.loads(done.stdout)}

    default = found(bundled=untrained_tiny_model)
    assert default["bundled model"]["state"] == "ok"
    assert str(untrained_tiny_model) in default["bundled model"]["text"]
    assert default["model"]["state"] == "note"
    assert "tiny, the bundled model, answers" in default["model"]["text"]
    assert "vllm serve" in default["model"]["advice"]
    assert "SigLIP2" in default["encoder"]["text"]  # which searches use, and every other model
    named = found("--model", "tiny", bundled=untrained_tiny_model)
    assert named["model"]["state"] == "ok"
    assert named["encoder"]["text"] == f"{untrained_tiny_model / 'encoder'}, weights on disk, the model's own"
    missing = found(bundled=run.home / "tiny")
    assert missing["bundled model"]["state"] == missing["model"]["state"] == "note"
    assert "holds no weights" in missing["model"]["text"]
    assert "vllm serve" in missing["model"]["advice"]


@pytest.mark.timeout(240)
def test_ask_with_nothing_configured(run: Run, video: Path, untrained_tiny_model: Path) -> None:
    done = run(
        "ask", video, "Which?", "--option", "red", "--option", "green", "--max-turns", 1, "--constrain",
        bundled=untrained_tiny_model, VIDEOBRAIN_TEXT_CHARACTERS="40",
    )  # fmt: skip
    assert done.stdout in ("A. red\n", "B. green\n")
    assert done.stderr.count("No model is configured, so the bundled model 'tiny' answers.") == 1
    assert done.stderr.count("warning: This is a guess: tiny was trained on the synthetic world") == 1


@pytest.mark.timeout(240)
def test_demo_runs_offline_with_nothing_configured(run: Run, untrained_tiny_model: Path) -> None:
    done = run(
        "demo", bundled=untrained_tiny_model, VIDEOBRAIN_CONSTRAIN_REPLIES="1", VIDEOBRAIN_TEXT_CHARACTERS="40",
        OPENAI_API_KEY="sk-names-no-model",
    )  # fmt: skip
    assert re.search(r"^tiny: [0-6] of 6 right\.$", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^  (?:right|wrong): ", done.stdout, re.MULTILINE)) == 6
    assert "tiny is the small model that comes with videobrain." in " ".join(done.stdout.split())
    assert "  videobrain ask VIDEO QUESTION --base-url http://localhost:8000/v1\n" in done.stdout
    assert "No model is configured" not in done.stderr
    assert "<html" in (run.home / "videobrain-demo.html").read_text("utf-8")
    assert len(list((run.home / "videobrain-demo-pages").iterdir())) == 6


def test_demo_on_a_video_of_ones_own(run: Run, video: Path) -> None:
    with FakeServer([ANSWER.format("red")]) as server:
        done = run(
            "demo", video, "Which colour?", "--report", "own.html", "--base-url", server.base_url, OPENAI_API_KEY="k"
        )
    lines = done.stdout.splitlines()
    assert "Which colour?" in lines
    assert "  Answer: red" in lines
    assert lines[-1].endswith("own.html")
    assert "Which colour?" in (run.home / "own.html").read_text("utf-8")
    assert "with a QUESTION" in run("demo", video, expect=2).stderr
    assert "cannot be written" in run("demo", "--report", run.home, expect=2).stderr
