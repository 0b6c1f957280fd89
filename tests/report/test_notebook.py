from __future__ import annotations

import io
import re

from PIL import Image
from report.test_report import EVIL, Page, pictures
from report.traces import Record, frame, short_run

from videobrain.report import notebook_html
from videobrain.result import Answer, Usage


def card(answer: Answer) -> Page:
    html = notebook_html(answer)
    page = Page(html)
    assert not page.mistakes
    assert not page.open
    assert not page.all("script")
    assert not any("id" in attributes for _, attributes in page.elements)
    for _, attributes in page.elements:
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert "href" not in attributes
    (style,) = [data for tag, data in page.content if tag == "style"]
    assert all(rule.strip().startswith(".videobrain-card") for rule in re.findall(r"([^{}]+)\{", style))
    return page


def test_the_card_shows_the_answer_and_where_it_looked() -> None:
    answer = short_run().finish("Number nine", warnings=("One frame is missing.",)).answer
    assert answer is not None
    page = card(answer)
    for words in ("Who scores first?", "Number nine", "7 frames of 6,000", "2 turns", "One frame is missing."):
        assert words in page.text
    assert len(pictures(page)) == 6
    assert len(page.all("rect")) == 7 + 2
    assert page.text == card(answer).text


def test_thumbnails_are_small() -> None:
    record = Record()
    record.start([frame(0, size=(640, 360))])
    answer = record.finish("Nine").answer
    assert answer is not None
    (thumbnail,) = pictures(card(answer))
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert image.size == (240, 135)


def test_the_option_is_named() -> None:
    record = Record(options=["red", "blue"])
    record.start([frame(0)])
    answer = record.finish("B", choice="B").answer
    assert answer is not None
    assert "B. blue" in card(answer).text


def test_without_a_trace_there_is_a_card_without_pictures() -> None:
    answer = Answer(text="Nine", usage=Usage(frames=3, turns=1), stop_reason="turns")
    assert card(answer).text == "Nine 3 frames · 1 turn · 0 tool calls · 0 ms · stopped: turns"


def test_without_bytes_and_with_damaged_bytes_there_are_blanks() -> None:
    answer = short_run().finish("Nine").answer
    assert answer is not None
    assert pictures(card(answer.without_frames())) == []

    record = Record()
    record.start([frame(0).model_copy(update={"jpeg": b"no picture"})])
    answer = record.finish("Nine").answer
    assert answer is not None
    page = card(answer)
    assert pictures(page) == []
    assert len(page.classed("vb-blank")) == 1


def test_words_of_others_are_no_markup() -> None:
    record = Record(EVIL, source=EVIL)
    record.start([frame(0)])
    answer = record.finish(EVIL, warnings=(EVIL,), stop_reason=EVIL).answer
    assert answer is not None
    page = card(answer)
    assert EVIL in page.text
    assert len(page.all("img")) == 1
