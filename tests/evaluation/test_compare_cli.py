"""`videobrain compare`: what goes where, and with which exit status."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from compared_runs import records, write_run
from records import record
from rich.console import Console
from typer.testing import CliRunner

from videobrain.cli import app
from videobrain.errors import ConfigurationError, InputError
from videobrain.evaluation.compare_cli import PLOT, read_runs, run_compare
from videobrain.evaluation.verdict import Judgement, Verdict, content_of
from videobrain.evaluation.verdict_file import VerdictFile


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    write_run(tmp_path / "blind", records("BC-!BB"), traces=False)
    write_run(tmp_path / "active", records("BBBBBC", frames=40), traces=False)
    return [str(tmp_path / "blind"), str(tmp_path / "active")]


def compared(runs: list[str], **options: object) -> tuple[str, list[str]]:
    """What is printed and what is told."""
    given = {"out": None, "traces": "all", "as_json": False, "quiet": True, **options}
    told: list[str] = []
    console = Console(file=io.StringIO(), highlight=False, markup=False, emoji=False)
    run_compare(runs, console=console, tell=told.append, **given)  # type: ignore[arg-type]
    return console.file.getvalue(), told  # type: ignore[attr-defined]


def test_the_command_prints_tables(runs: list[str]) -> None:
    done = CliRunner().invoke(app, ["compare", *runs])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "6 questions on 3 videos that all runs have; differences are those to blind"
    figures = {line.split()[0]: line for line in lines[1:4]}
    assert figures["blind"].split()[1:3] == ["50.0", "%"]
    assert "+33.3 (" in figures["active"]
    assert figures["blind"].count("16.7 %") == 2  # one is unanswered, and one an error
    assert any(line.startswith("type: colour") for line in lines)
    assert not any("published" in line for line in lines)
    assert not any(line.endswith("…") for line in lines)  # nothing is cut off where there is no terminal


def test_what_others_published_for_the_benchmark_stands_beside_the_runs(tmp_path: Path) -> None:
    run = [each.model_copy(update={"benchmark": "lvbench"}) for each in records("BBC")]
    runs = [str(write_run(tmp_path / "mine", run, traces=False))]
    printed, _ = compared(runs, out=tmp_path / "out")
    (row,) = (line for line in printed.splitlines() if line.startswith("VideoMind-7B"))
    assert row.split()[1:5] == ["lvbench", "test", "accuracy", "40.8"]
    assert "arXiv 2503.13444" in row
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "not measured here" in page
    assert "VideoMind-7B" in page


def test_json_is_one_object(runs: list[str]) -> None:
    printed, _ = compared(runs, as_json=True)
    found = json.loads(printed)
    assert [run["name"] for run in found["runs"]] == ["blind", "active"]
    assert found["overall"]["accuracy"][1]["contrast"]["value"] == pytest.approx(2 / 6)


def test_answers_in_words_are_compared_by_the_verdicts_in_their_directories(tmp_path: Path) -> None:
    said = [record(f"q{number}", task="open", answer="red", text=f"Reddish, {number}.") for number in range(2)]
    for name, scores in (("one", (1.0, 1.0)), ("other", (0.0, 1.0))):
        file = VerdictFile(write_run(tmp_path / name, said, traces=False))
        for each, score in zip(said, scores, strict=True):
            assert each.prediction is not None
            content = content_of(each.sample, each.prediction)
            verdict = Verdict(score=score, scores={"correct": score}, reason="")
            file.append([Judgement(key=each.sample.key, content=content, judge="j", rubric="r", verdict=verdict)])
        file.close()
    printed, _ = compared([str(tmp_path / "one"), str(tmp_path / "other")], as_json=True)
    assert json.loads(printed)["overall"]["accuracy"][1]["contrast"]["value"] == pytest.approx(-0.5)


def test_out_writes_the_page_and_the_plot(runs: list[str], tmp_path: Path) -> None:
    _, told = compared(runs, out=tmp_path / "out")
    assert told == [f"The page is {tmp_path / 'out' / 'index.html'}"]
    assert "<svg" in (tmp_path / "out" / "index.html").read_text("utf-8")
    assert (tmp_path / "out" / PLOT).read_text("utf-8").startswith("<?xml")


def test_without_matplotlib_there_is_a_page_without_a_plot(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # type: ignore[arg-type]
    _, told = compared(runs, out=tmp_path / "out")
    assert told[0].startswith("warning: the page has no plot: matplotlib is not installed")
    assert "pip install 'videobrain[eval]'" in told[0]
    assert "<svg" not in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_runs_are_called_by_their_directories_or_as_one_likes(runs: list[str], tmp_path: Path) -> None:
    other = write_run(tmp_path / "later" / "blind", records("BB"), traces=False)
    assert list(read_runs(runs)) == ["blind", "active"]
    assert list(read_runs([runs[0], str(other)])) == [runs[0], str(other)]
    assert list(read_runs([runs[0], f"tuned={other}"])) == ["blind", "tuned"]
    odd = write_run(tmp_path / "lr=0.1", records("BB"), traces=False)
    assert list(read_runs([str(odd)])) == ["lr=0.1"]
    with pytest.raises(ConfigurationError, match="Two runs are called x"):
        read_runs([f"x={runs[0]}", f"x={runs[1]}"])


def test_what_cannot_be_compared_is_an_error_of_input(runs: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        compared([str(tmp_path / "nowhere")])
    with pytest.raises(ConfigurationError, match="--traces some is not known"):
        compared(runs, traces="some")
    with pytest.raises(ConfigurationError, match="is the directory of a run"):
        compared(runs, out=Path(runs[0]))


def test_a_run_that_goes_on_is_read_up_to_its_last_whole_line(runs: list[str]) -> None:
    with (Path(runs[0]) / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"sample": {"key": "q9", "vi')
    assert "6 questions" in compared(runs)[0]
