"""Runs on a real video: the report, the card, and the page in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from report.test_report import Page, check, pictures

from videobrain import Answer, Trace, VideoBrain
from videobrain.display import RunDisplay
from videobrain.report import render_report, save_report
from videobrain.testing import ScriptedModel

SCRIPT = [
    '<thinking>Look closer.</thinking><tool_call>{"name": "uniform_sample", "arguments": '
    '{"start_frame": 4000, "end_frame": 9000}}</tool_call>',
    "Hm.",
    '<thinking>Again, over a range that overlaps.</thinking><tool_call>{"name": "uniform_sample", "arguments": '
    '{"start_frame": 4000, "end_frame": 14315}}</tool_call>',
    "<thinking>The rabbit it is.</thinking><answer>B</answer>",
]


@pytest.fixture
async def answer(videos: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    async with VideoBrain(ScriptedModel(SCRIPT), tools=["uniform_sample"]) as brain:
        with RunDisplay(conversation=True) as display:
            return await brain.ask(
                videos / "bbb_448x252_av.mp4",
                "Who takes revenge?",
                options=["A hunter", "The big rabbit", "Nobody"],
                on_event=display,
            )


@pytest.mark.anyio
async def test_the_report_of_a_real_run(answer: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = answer.save_report(tmp_path / "run.html")
    page = check(path.read_text(encoding="utf-8"))
    frames = answer.trace.frames()
    assert sorted(pictures(page)) == sorted(frame.jpeg for frame in frames.values())
    assert f"{answer.usage.frames} of 14,315 in the video" in page.text
    assert "B The big rabbit" in page.text
    assert len(page.classed("bar")) == 2
    assert len(page.classed("again")) + answer.usage.frames == len(page.classed("frame"))
    assert path.stat().st_size < 1.37 * sum(len(frame.jpeg) for frame in frames.values()) + 70_000
    assert "The rabbit it is." in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_saved_trace_gives_the_same_report(answer: Answer, tmp_path: Path) -> None:
    saved = Trace.load(answer.trace.save(tmp_path / "run.jsonl"))
    assert render_report(saved) == render_report(answer.trace)
    for count in range(len(saved.events)):
        check(render_report(Trace(saved.events[:count])))


@pytest.mark.anyio
async def test_notebooks_show_a_card(answer: Answer) -> None:
    html = answer._repr_html_()
    assert "B. The big rabbit" in Page(html).text
    assert len(html) < 120_000


@pytest.mark.anyio
async def test_the_page_works_in_a_browser(answer: Answer, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    path = save_report(answer.trace, tmp_path / "run.html")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    seen = await anyio.run_process([browser, *options, path.as_uri()])
    assert ":CONSOLE" not in seen.stderr.decode()  # neither an error of the script nor a refusal of the policy
    before, after = Page(path.read_text(encoding="utf-8")), Page(seen.stdout.decode())
    ghosts = len(before.classed("ghost"))
    again = len(before.classed("again"))
    assert ghosts == 16
    assert len(after.all("img")) == len(before.all("img")) + ghosts + again  # the script lent the pictures out
