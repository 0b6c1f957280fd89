"""The benchmarks' own scorers, to the last digit that they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.records import answered, record
from videobrain.evaluation.benchmarks import load_benchmark
from videobrain.evaluation.metrics import accuracy, accuracy_by_slice, grounding, nextgqa, overlap_of, qvhighlights
from videobrain.evaluation.record import Record


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# QVHighlights --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def highlights(shared_data: Path) -> list[Record]:
    files = shared_data / "benchmarks" / "qvhighlights"
    said = {str(line["qid"]): line for line in read_lines(files / "sample_val_preds.jsonl")}
    return [
        answered(
            sample,
            spans=[window[:2] for window in said[sample.key]["pred_relevant_windows"]],
            span_scores=[window[2] for window in said[sample.key]["pred_relevant_windows"]],
            saliency=said[sample.key]["pred_saliency_scores"],
        )
        for sample in load_benchmark("qvhighlights", files).samples
    ]


def test_all_values_of_qvhighlights(highlights: list[Record], shared_data: Path) -> None:
    printed = read(shared_data / "benchmarks" / "qvhighlights" / "sample_val_preds_metrics_raw.json")
    expected: dict[str, float] = {}
    for length in ("full", "long", "middle", "short"):
        for threshold, value in printed[length]["MR-mAP"].items():
            expected[f"MR-{length}-mAP" + ("" if threshold == "average" else f"@{threshold}")] = value
        for threshold, value in printed[length]["MR-R1"].items():
            expected[f"MR-{length}-R1@{threshold}"] = value
    for rating in ("Fair", "Good", "VeryGood"):
        for name, value in printed[f"HL-min-{rating}"].items():
            expected[f"HL-min-{rating}-{name.removeprefix('HL-')}"] = value
    assert len(highlights) == 1550
    assert len(expected) == 90
    figures = qvhighlights(highlights)
    assert figures == expected
    assert {name: figures[name] for name in printed["brief"]} == printed["brief"]


# Charades-STA --------------------------------------------------------------------------------------------------------


def test_charades_sta(shared_data: Path) -> None:
    golden = read(shared_data / "golden" / "charades_sta_test.json")
    records = [
        record(str(number), task="grounding", video=video, truth=[(start, end)], spans=[(first, last)])
        for number, (video, start, end, first, last) in enumerate(golden["rows"])
    ]
    assert [overlap_of(one).iou for one in records[:10]] == golden["iou_first10"]
    figures = grounding(records)
    assert figures is not None
    assert figures.questions == golden["n"] == 3720
    found = {name: 100 * interval.value for name, interval in figures.recall.items() if name.startswith("R1")}
    for scorer in ("expected_vslnet", "expected_lmms_eval_iou"):
        expected = golden[scorer]
        assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-14)
        assert 100 * figures.miou.value == pytest.approx(expected["mIoU"], rel=1e-14)


# NExT-GQA ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grounded(shared_data: Path) -> list[Record]:
    golden = read(shared_data / "golden" / "nextgqa_val.json")
    samples = load_benchmark("nextgqa", shared_data / "benchmarks" / "nextgqa").samples
    assert len(samples) == golden["n_ground"] == 3358
    assert {sample.key: sample.correct_option for sample in samples} == {
        key: correct for key, (correct, _) in golden["pred_qa"].items()
    }
    return [
        answered(sample, choice="ABCDE"[golden["pred_qa"][sample.key][1]], spans=[golden["pred_ground"][sample.key]])
        for sample in samples
    ]


def test_nextgqa(grounded: list[Record], shared_data: Path) -> None:
    golden = read(shared_data / "golden" / "nextgqa_val.json")
    figures = nextgqa(grounded)
    assert {name: float(f"{value:.1f}") for name, value in figures.items()} == golden["expected_ground_printed"]
    assert figures == pytest.approx(golden["expected_ground_unrounded"], rel=1e-12)


def test_answers_of_nextgqa(grounded: list[Record], shared_data: Path) -> None:
    parts = accuracy_by_slice(grounded)
    named = {
        "Why": parts["type"]["CW"],
        "How": parts["type"]["CH"],
        "Bef&Aft": parts["type"]["TN"],
        "When": parts["type"]["TC"],
        "Acc_C": parts["group"]["causal"],
        "Acc_T": parts["group"]["temporal"],
        "Acc": accuracy(grounded),
    }
    printed = {name: float(f"{100 * part.accuracy.value:.2f}") for name, part in named.items() if part.accuracy}
    assert printed == read(shared_data / "golden" / "nextgqa_val.json")["expected_qa_acc"]
