from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from report.traces import CALL, Record, frame, short_run

from videobrain.agent import LimitReached, ReplyCorrected, RequestRetrying, Trace, WarningRaised
from videobrain.models import NativeToolCall
from videobrain.report import ReportEntry, render_report, save_report, save_reports
from videobrain.result import Span, Usage

VOID = {"meta", "img", "input", "br", "hr", "link", "area", "base", "col", "embed", "source", "track", "wbr"}
EVIL = (
    "</style></script></title></textarea><script>alert(1)</script><img src=//evil.example/x onerror=alert(1)>\"'>&amp;"
)


class Page(HTMLParser):
    """A parsed page: its elements, and its text by the element that holds it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.content: list[tuple[str, str]] = []
        self.mistakes: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.content.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        return " ".join(" ".join(data for tag, data in self.content if tag not in ("style", "script")).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self) -> set[str | None]:
        return {attributes["id"] for _, attributes in self.elements if "id" in attributes}

    def classed(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]


def check(html: str, *, beside: Mapping[str, Page] | None = None) -> Page:
    """What holds for every page: well-formed, nothing from outside, each picture once, links that lead somewhere.

    Args:
        html: The page.
        beside: Pages that it may lead to, by address; only the page of one run holds each picture once.
    """
    page = Page(html)
    assert not page.mistakes
    assert not page.open
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert [each for each, count in ids.items() if count > 1] == []
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "video", "audio", "source"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "srcset", "poster", "data", "action", "background"):
                assert (value or "").startswith("data:image/"), (tag, name, value)
            if name in ("href", "xlink:href"):
                address, hash_, anchor = (value or "").partition("#")
                there = (beside or {})[address].ids if address else set(ids)
                assert anchor in there if hash_ else address, (tag, value)
            if name == "data-of":
                assert f"frame-{value}" in ids
            if name == "style":
                assert "url(" not in (value or "")
    for tag, data in page.content:
        if tag == "style":
            assert "url(" not in data
            assert "@import" not in data
    assert all("alt" in attributes for attributes in page.all("img"))
    pictures = Counter(attributes["src"] for attributes in page.all("img"))
    assert beside is not None or set(pictures.values()) <= {1}
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[:1] == [1]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    return page


def pictures(page: Page) -> list[bytes]:
    return [
        base64.b64decode(src.partition(",")[2])
        for src in (attributes["src"] or "" for attributes in page.all("img"))
        if src.startswith("data:image/jpeg;base64,")
    ]


def test_a_run_is_told_from_question_to_answer() -> None:
    record = short_run()
    record.reply(3, "<thinking>Number nine scores.</thinking><answer>Number nine</answer>", last=True)
    page = check(render_report(record.finish("Number nine")))

    for words in ("Who scores first?", "Number nine", "Not enough yet.", "a goal", "test-model", "videobrain", "0.314"):
        assert words in page.text
    assert "7 of 6,000 in the video" in page.text
    assert "frames 1,000 to 3,000 1:40.0 \N{EN DASH} 5:00.0" in page.text
    assert len(page.classed("track")) == 3
    assert len(page.classed("bar")) == 2
    assert len(page.classed("tick")) == 7
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert [each for each in ids if each.startswith("turn-")] == ["turn-1", "turn-2", "turn-3"]


def test_marks_stand_at_their_times() -> None:
    page = check(render_report(Trace(short_run().events)))
    bars = [(float(a["x"].rstrip("%")), float(a["width"].rstrip("%"))) for a in page.classed("bar")]
    assert bars == [pytest.approx((100 / 6, 100 / 3), abs=0.01), pytest.approx((50, 50), abs=0.01)]
    ticks = [float(a["x"].rstrip("%")) for a in page.classed("tick")]
    assert ticks == pytest.approx([0, 25, 50, 75, 1001 / 60, 2999 / 60, 4321 / 60], abs=0.01)


def test_each_picture_is_in_the_page_once_however_often_it_is_shown() -> None:
    record = short_run()
    again, new = frame(1001), frame(5000)
    record.reply(3, CALL % ("uniform_sample", '"start_frame": 900, "end_frame": 5100'))
    record.call(3, "uniform_sample", {"start_frame": 900, "end_frame": 5100}, [again, new], shown=[new])
    trace = record.finish("Nine")
    html = render_report(trace)
    page = check(html)

    assert sorted(pictures(page)) == sorted(each.jpeg for each in trace.frames().values())
    assert len(page.classed("again")) == 1
    assert "shown before" in page.text
    jpegs = sum(len(each.jpeg) for each in trace.frames().values())
    assert len(html) < jpegs * 1.37 + 70_000


def test_frames_that_a_limit_kept_back_are_marked() -> None:
    record = short_run()
    record.reply(3, CALL % ("uniform_sample", '"start_frame": 0, "end_frame": 9'))
    record.call(3, "uniform_sample", {"start_frame": 0, "end_frame": 9}, [frame(3), frame(5)], shown=[frame(3)])
    page = check(render_report(record.finish("Nine")))
    assert len(page.classed("left_out")) == 1
    assert len(page.classed("dim")) == 1
    assert "not shown to the model" in page.text


def test_what_others_wrote_is_never_markup() -> None:
    record = Record(EVIL, options=[EVIL, "b"], source=f"/home/me/{EVIL}.mp4")
    record.say("system", EVIL)
    record.say("user", EVIL, [frame(1)])
    record.reply(1, f"{EVIL}<thinking>{EVIL}</thinking><tool_call>{EVIL}</tool_call>", reasoning=EVIL)
    record.add(ReplyCorrected(problem=EVIL))
    native = NativeToolCall(id="1", name=EVIL, arguments='{"</script>": "</q><script>"}')
    record.reply(1, EVIL, tool_calls=(native,))
    record.call(1, EVIL, {EVIL: [EVIL], "prompt": EVIL, "start_frame": 1, "end_frame": 2}, [frame(2)], text=EVIL)
    record.add(WarningRaised(text=EVIL))
    record.add(RequestRetrying(attempt=1, delay_seconds=1, reason=EVIL))
    html = render_report(record.finish(EVIL, warnings=(EVIL,), output={"a": EVIL}, stop_reason=EVIL))
    page = check(html)

    assert len(page.all("script")) == len(page.all("style")) == 1
    assert "evil.example" not in str([a for _, a in page.elements if "src" in a])
    assert EVIL in page.text
    assert "/home/me" not in html


def test_the_policy_allows_the_page_its_own_script_alone() -> None:
    page = check(render_report(short_run().finish("Nine")))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy") or ""
    script = "".join(data for tag, data in page.content if tag == "script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "img-src data:;" in policy


def test_characters_that_no_page_can_hold(tmp_path: Path) -> None:
    record = short_run()
    record.reply(3, "x")
    record.call(3, "odd", {"key": "a\x00b\ud800c\x1b"})
    path = save_report(record.finish("bell \x07"), tmp_path / "deep" / "run.html")
    text = path.read_text(encoding="utf-8")
    assert "a\ufffdb\ufffdc\ufffd" in text
    assert not re.search("[\x00-\x08\x0b-\x1f]", text)
    assert [each.name for each in path.parent.iterdir()] == ["run.html"]


def test_a_run_that_failed_shows_how_far_it_came() -> None:
    record = short_run()
    record.add(RequestRetrying(attempt=2, delay_seconds=4.0, reason="HTTP 503"))
    record.add(WarningRaised(text="The index could not be warmed."))
    page = check(render_report(Trace(record.events)))
    assert "the run did not finish" in page.text
    assert "No answer." in page.text
    assert "Try 2 failed: HTTP 503; sent again after 4.0 s." in page.text
    assert "The index could not be warmed." in page.text
    assert "7 of 6,000 in the video" in page.text  # counted from the events


@pytest.mark.parametrize("count", range(20))
def test_a_record_may_end_after_any_event(count: int) -> None:
    check(render_report(Trace(short_run().events[:count])))


def test_corrections_and_limits_are_visible() -> None:
    record = short_run()
    record.reply(3, '<tool_call>{"name": "uniform_sample"</tool_call>')
    record.add(ReplyCorrected(problem="the tool call is not valid JSON"))
    record.reply(3, "", finish_reason="length")
    record.add(LimitReached(limit="corrections"))
    usage = Usage(turns=2, corrections=1, frames=7)
    page = check(render_report(record.finish("", stop_reason="corrections", usage=usage)))
    assert "Sent back the tool call is not valid JSON" in page.text
    assert "not carried out" in page.text
    assert "The limit of corrections was reached." in page.text
    assert "stopped: corrections" in page.text
    assert "cut off at the token limit" in page.text
    assert "1 correction" in page.text
    assert len([a for a in page.classed("turn") if (a.get("id") or "").startswith("turn-3")]) == 1


@pytest.mark.parametrize(("kind", "words"), [("error", "failed"), ("retry", "sent back")])
def test_tools_that_gave_nothing(kind: str, words: str) -> None:
    record = short_run()
    record.reply(3, CALL % ("read_scoreboard", '"at_seconds": 3.5'))
    record.call(3, "read_scoreboard", {"at_seconds": 3.5}, kind=kind, text="no scoreboard here")
    page = check(render_report(Trace(record.events)))
    assert words in page.text
    assert "no scoreboard here" in page.text


def test_the_chosen_option_stands_out() -> None:
    record = Record(options=["red", "blue"])
    record.start([frame(0)])
    record.reply(1, "<thinking>Red.</thinking><answer>B</answer>")
    trace = record.finish("B", choice="B", spans=(Span(60.0, 120.0),))
    page = check(render_report(trace))
    assert len(page.classed("chosen")) == 1
    assert "B blue chosen" in page.text
    (span,) = page.classed("span")
    assert (span["x"], span["width"]) == ("10.0%", "10.0%")


def test_without_pictures_places_are_held() -> None:
    trace = short_run().finish("Nine").without_frames()
    page = check(render_report(trace))
    assert pictures(page) == []
    assert page.text.count("picture not kept") == 7
    assert page.classed("ghost") == []


def test_many_frames_and_numbers_of_any_size() -> None:
    record = Record()
    record.start([frame(i * 46) for i in range(128)])
    huge = 10**400
    record.reply(1, CALL % ("uniform_sample", f'"start_frame": -{huge}, "end_frame": {huge}'))
    record.call(1, "uniform_sample", {"start_frame": -huge, "end_frame": huge})
    record.reply(2, CALL % ("look", '"start_seconds": 1e999, "end_seconds": -5'))
    record.call(2, "look", {"start_seconds": float("inf"), "end_seconds": float("nan")})
    record.reply(3, CALL % ("look", '"start_seconds": -5, "end_seconds": 1e300'))
    record.call(3, "look", {"start_seconds": -5, "end_seconds": 1e300})
    html = render_report(record.finish("Nine"))
    page = check(html)
    assert [(a["x"], a["width"]) for a in page.classed("bar")] == [("0.0%", "100.0%")] * 2
    assert len(page.classed("tick")) == 128
    assert len(page.classed("ghost")) == 16
    assert "nan%" not in html


# --- Several runs ----------------------------------------------------------------------------------------------------


def saved_pages(path: Path) -> tuple[Page, dict[str, Page]]:
    """A page that lists runs, and the pages of the runs by their addresses."""
    folder = path.with_name(f"{path.stem}-pages")
    beside = {quote(f"{folder.name}/{each.name}"): check(each.read_text("utf-8")) for each in folder.iterdir()}
    return check(path.read_text("utf-8"), beside=beside), beside


def test_several_runs_are_listed_with_a_page_of_each(tmp_path: Path) -> None:
    right = short_run()
    right.reply(3, "<answer>A</answer>", last=True)
    chosen = Record(options=["red", "blue"])
    chosen.start([frame(0)])
    entries = [
        ReportEntry(
            right.finish("Number nine"), kind="easy", truth="Number nine", right=True, facts={"Else": "3 frames"}
        ),
        ReportEntry(chosen.finish("B", choice="B"), truth="A. red"),
        ReportEntry(Trace(short_run().events)),
    ]
    path = save_reports(entries, tmp_path / "deep" / "my #1 runs.html", title="Three runs", text="Of one video.")
    assert path == tmp_path / "deep" / "my #1 runs.html"
    page, beside = saved_pages(path)
    assert sorted(beside) == [f"my%20%231%20runs-pages/{number}.html" for number in (1, 2, 3)]
    for words in (
        "Three runs", "Of one video.", "1 · easy right", "Answer Number nine Truth Number nine", "Else 3 frames",
        "2 wrong", "Answer B. blue Truth A. red", "Answer none: the run did not finish Cost 7 frames of 6,000",
    ):  # fmt: skip
        assert words in page.text
    assert len(page.classed("tag")) == 2  # the third has no truth
    assert len(page.classed("track")) == 3 + 1 + 3
    assert len(page.all("img")) == 1 + 1 + 1  # what each model saw last
    assert page.all("script") == []


def test_nothing_that_was_said_commands_the_page_of_several(tmp_path: Path) -> None:
    record = Record(EVIL, options=[EVIL, "b"])
    record.start([frame(0)])
    record.reply(1, CALL % ("look", '"at_seconds": 1'))
    record.call(1, EVIL, {EVIL: EVIL}, [frame(1)], text=EVIL)
    entry = ReportEntry(record.finish(EVIL, choice="A"), kind=EVIL, truth=EVIL, facts={EVIL: EVIL})
    page, _ = saved_pages(save_reports([entry], tmp_path / "runs.html", title=EVIL, text=EVIL))
    assert page.all("script") == []
    assert page.text.count(EVIL) >= 6
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy") or ""
    assert "script-src 'none'" in policy
