"""Spans in answers in words: ours by a table, those of the official scorers by their golden cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videobrain.evaluation.spans import read_spans

COLUMNS = {"lmms-eval": "lmms_utils", "timechat": "lmms_eval_tvg_(timechat_style)"}


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((shared_data / "golden/time_extraction.json").read_text("utf-8"))["cases"]
    assert len(found) == 29
    return found


@pytest.mark.parametrize("reader", ["lmms-eval", "timechat"])
def test_the_scorers_are_reproduced(cases: list[dict[str, Any]], reader: Any) -> None:
    for case in cases:
        assert [list(span) for span in read_spans(case["response"], reader=reader)] == case[COLUMNS[reader]], case


def test_ours_reads_whatever_a_scorer_reads_and_more(cases: list[dict[str, Any]]) -> None:
    more, otherwise = {}, {}
    for case in cases:
        ours, theirs = [list(span) for span in read_spans(case["response"])], case["lmms_utils"]
        if theirs and ours[:1] != theirs:
            otherwise[case["response"]] = ours
        elif ours and not theirs:
            more[case["response"]] = ours
    assert otherwise == {"01:02.5 - 01:04.0": [[62.5, 64.0]]}
    assert more == {
        "It starts at 24.3 and ends at 30.4": [[24.3, 30.4]],
        "The start time for this event is 0 seconds, and the end time is 12 seconds.": [[0.0, 12.0]],
        "between 5 and 9 seconds": [[5.0, 9.0]],
        "[5.0, 9.5]": [[5.0, 9.5]],
        "<5.0> <9.5>": [[5.0, 9.5]],
        "A specific example is : 20.8 - 30.0 seconds": [[20.8, 30.0]],
        "(5.0, 9.0)": [[5.0, 9.0]],
        "start: 12.0, end: 15.5": [[12.0, 15.5]],
    }


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("[[5, 9], [12, 15.5]]", [(5, 9), (12, 15.5)]),
        ('```json\n{"spans": [[5, 9]]}\n```', [(5, 9)]),
        ('{"start": 5, "end": 9}', [(5, 9)]),
        ('{"start_seconds": 5.5, "end_seconds": 9}', [(5.5, 9)]),
        ("The event happens in 3 - 4 seconds and 10 - 12 seconds", [(3, 4), (10, 12)]),
        ("from 1:05 to 1:09", [(65, 69)]),
        ("1:02:03.5 - 1:02:04", [(3723.5, 3724)]),
        ("1 min 5 s to 1 min 9 s", [(65, 69)]),
        ("from 1 minute and 5 seconds to 2 minutes", [(65, 120)]),
        ("1-2 minutes", [(60, 120)]),
        ("5s–9s", [(5, 9)]),  # noqa: RUF001
        ("from 9 until 5 seconds", [(5, 9)]),
        ("It begins at 12s and then stops at 15s.", [(12, 15)]),
        ("**24.3** - **30.4** seconds", [(24.3, 30.4)]),
        ("3-4 people come in from 12 s to 15 s.", [(12, 15)]),
        ("<think>from 1 to 2</think>from 5 to 9", [(5, 9)]),
        ("<answer>[5, 9]</answer>", [(5, 9)]),
        ("from 5 to 5", [(5, 5)]),
        ("at 1:05", []),
        ("It begins at 12s.", []),
        ("It is 5 seconds long.", []),
        ("5 of 9 people", []),
        ("1.5.2 - 3", []),
        ("<think>from 5 to 9</think>", []),
        ("", []),
    ],
)
def test_what_we_read(text: str, spans: list[tuple[float, float]]) -> None:
    assert read_spans(text) == tuple(spans)


@settings(deadline=None, derandomize=True)
@given(st.text(st.sampled_from("0123456789.:-– tosendrtfbwa[](),<>\n") | st.characters(), max_size=60))  # noqa: RUF001
def test_every_span_is_in_order(text: str) -> None:
    for reader in ("videobrain", "lmms-eval", "timechat"):
        assert all(start <= end for start, end in read_spans(text, reader=reader))
