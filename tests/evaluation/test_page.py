"""The pages of a comparison: every link leads somewhere, hostile text stays text, and nothing grows without bound."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from compared_runs import records, write_run
from records import record

from videobrain.evaluation.comparison import compare
from videobrain.evaluation.page import RunSource, save_comparison
from videobrain.evaluation.plot import accuracy_against_frames, inline
from videobrain.evaluation.results import read_results

HOSTILE = """</script><script>alert(1)</script><img src=x onerror=alert(2)>"'&{{ 7 * 7 }}"""


class Page(HTMLParser):
    """What a page consists of, as a browser would read it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.source = path.read_text("utf-8")
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.rows: list[dict[str, str | None]] = []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            self.attributes.append(name)
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")
            if name == "id":
                self.ids.add(value or "")
        if tag == "tr" and "data-outcomes" in dict(attributes):
            self.rows.append(dict(attributes))

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(directory: Path) -> dict[str, Page]:
    return {str(path.relative_to(directory)): Page(path) for path in sorted(directory.rglob("*.html"))}


def sources(*runs: Path) -> dict[str, RunSource]:
    return {run.name: RunSource(read_results(run), run) for run in runs}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, RunSource]:
    return sources(
        write_run(tmp_path / "blind", records("BC-!BB", frames=0)),
        write_run(tmp_path / "active", records("BBBBBC", frames=40)),
    )


def test_every_link_leads_to_a_page_or_a_place(runs: dict[str, RunSource], tmp_path: Path) -> None:
    comparison = compare({name: run.records for name, run in runs.items()})
    plot = accuracy_against_frames(comparison)
    index = save_comparison(runs, tmp_path / "out", comparison=comparison, plot=plot)
    found = pages(tmp_path / "out")
    assert index == tmp_path / "out" / "index.html"
    assert len([name for name in found if name.startswith("questions/")]) == 6
    assert len([name for name in found if name.startswith("traces/")]) == 12
    by_path = {page.path.resolve(): page for page in found.values()}
    seen = set()
    for name, page in found.items():
        for link in page.links:
            if link.startswith("data:image/"):
                continue
            assert "://" not in link, (name, link)
            place, _, fragment = link.partition("#")
            target = by_path[(page.path.parent / unquote(place)).resolve() if place else page.path.resolve()]
            seen.add(target.path)
            assert not fragment or fragment in target.ids, (name, link)
    assert len(seen) >= 1 + 6 + 12  # every page can be reached
    questions = [page for name, page in found.items() if name.startswith("questions/")]
    assert all(page.text.count("what it looked at, and why") == 2 for page in questions)
    assert all("data:image/jpeg" in page.source for name, page in found.items() if name.startswith("traces/"))


def test_the_page_says_what_each_run_answered(runs: dict[str, RunSource], tmp_path: Path) -> None:
    save_comparison(runs, tmp_path / "out", traces="none")
    page = pages(tmp_path / "out")["index.html"]
    assert [row["data-outcomes"] for row in page.rows] == ["r r", "w r", "u r", "e r", "r r", "r w"]
    assert [row["data-slices"] for row in page.rows] == ["0", "1"] * 3
    words = " ".join(page.text.split())
    assert "6 questions on 3 videos that all runs have. Differences are those to blind" in words
    assert "type: colour" in words
    assert "svg" not in page.tags


def test_the_verdicts_of_a_judge_say_what_is_right(tmp_path: Path) -> None:
    said = [record("q", task="open", answer="red", text="Reddish.")]
    save_comparison({"one": RunSource(said, verdicts={"q": 1.0}), "other": RunSource(said)}, tmp_path)
    page = pages(tmp_path)["index.html"]
    assert [row["data-outcomes"] for row in page.rows] == ["r n"]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    fields = {"question": HOSTILE, "options": (HOSTILE, "b"), "slices": {HOSTILE: HOSTILE}, "text": HOSTILE}
    first = [each.model_copy(update={"model": HOSTILE, "warnings": (HOSTILE,)}) for each in records("BA", **fields)]
    second = [each.model_copy(update={"prediction": None, "error": HOSTILE}) for each in records("BA", **fields)]
    runs = {HOSTILE: RunSource(first), f"$x^2$ {HOSTILE}": RunSource(second)}
    comparison = compare({name: run.records for name, run in runs.items()})
    save_comparison(runs, tmp_path / "out", comparison=comparison, plot=accuracy_against_frames(comparison))
    for name, page in pages(tmp_path / "out").items():
        assert page.tags.count("script") == (name == "index.html"), name
        assert "img" not in page.tags
        assert not any(attribute.startswith("on") for attribute in page.attributes)
        assert "alert(1)" in page.text
        assert "{{ 7 * 7 }}" in page.text
    index = (tmp_path / "out" / "index.html").read_text("utf-8")
    script = re.search(r"<script>(.*?)</script>", index, re.DOTALL)
    assert script is not None
    allowed = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{allowed}&#39;" in index
    assert "$x^2$" in index  # a dollar sign begins no formula


def test_a_trace_is_read_from_the_directory_of_its_run_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", records("BBBB"))
    secret = (run / "traces" / "q0.jsonl").rename(tmp_path / "secret.jsonl")
    (run / "traces" / "q1.jsonl").write_text("nonsense", "utf-8")
    (run / "traces" / "q2.jsonl").unlink()
    first, *others = read_results(run)
    bad = [first.model_copy(update={"trace": "../secret.jsonl"}), *others]
    save_comparison({"run": RunSource(bad, run)}, tmp_path / "out")
    assert secret.is_file()
    found = pages(tmp_path / "out")
    assert len([name for name in found if name.startswith("traces/")]) == 1
    text = "".join(page.text for page in found.values())
    problems = (
        "lies outside the run's directory",
        "traces/q1.jsonl is damaged at line 1",
        "cannot be read: No such file",
    )
    assert [text.count(problem) for problem in problems] == [1, 1, 1]
    assert str(tmp_path) not in text  # where things lie is nobody else's business


@pytest.mark.parametrize(("traces", "made"), [("all", 12), ("differing", 8), ("none", 0)])
def test_which_traces_become_pages(runs: dict[str, RunSource], tmp_path: Path, traces: str, made: int) -> None:
    save_comparison(runs, tmp_path / "out", traces=traces)  # type: ignore[arg-type]
    found = pages(tmp_path / "out")
    assert len([name for name in found if name.startswith("traces/")]) == made
    assert sum(page.text.count("was not made a page") for page in found.values()) == 12 - made


def test_traces_become_pages_once(runs: dict[str, RunSource], tmp_path: Path) -> None:
    out = tmp_path / "out"
    save_comparison(runs, out)
    written = {path: path.stat().st_mtime_ns for path in (out / "traces").iterdir()}
    trace = tmp_path / "active" / "traces" / "q3.jsonl"
    newer = max(written.values()) + 10**9
    os.utime(trace, ns=(newer, newer))
    progress: list[tuple[int, int]] = []
    save_comparison(runs, out, progress=lambda done, total: progress.append((done, total)))
    again = {path: path.stat().st_mtime_ns for path in (out / "traces").iterdir()}
    assert set(again) == set(written)
    assert sum(again[path] != written[path] for path in written) == 1
    assert progress == [(number, 6) for number in range(1, 7)]


def test_many_questions_make_no_giant_page(tmp_path: Path) -> None:
    long = "a very long question " * 100
    many = RunSource(records("BC" * 100, question=long, text="A long answer. " * 200))
    index = save_comparison({"one": many, "other": many}, tmp_path)
    assert index.stat().st_size < 60_000 + 200 * 1_000
    assert len(list((tmp_path / "questions").iterdir())) == 200


def test_the_plot_is_small_and_readable_as_it_stands_and_within_the_page(runs: dict[str, RunSource]) -> None:
    comparison = compare({name: run.records for name, run in runs.items()})
    svg = accuracy_against_frames(comparison)
    assert accuracy_against_frames(comparison) == svg
    assert len(svg) < 40_000
    text = "".join(ElementTree.fromstring(svg).itertext())
    assert all(words in text for words in ("1. blind", "2. active", "frames per question"))
    within = inline(svg)
    ElementTree.fromstring(within)
    assert within.startswith("<svg")
    assert "<style" not in within
    assert "var(--ink)" in within
    assert "#1d1b19" not in within


def test_a_browser_filters_the_questions_without_a_network(runs: dict[str, RunSource], tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    index = save_comparison(runs, tmp_path / "out", traces="none")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([browser, *options, index.as_uri()], capture_output=True, text=True, timeout=100, check=True)
    assert ":CONSOLE" not in done.stderr  # neither an error of the script nor a refusal of the policy
    assert "6 of 6 questions" in done.stdout
    assert '<div class="filters" id="filters" role="search">' in done.stdout
