"""Benchmarks as their authors distribute them, where they are at hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from videobrain.evaluation.benchmarks import LoadedBenchmark, load_benchmark
from videobrain.result import Span


def load(name: str, root: Path) -> LoadedBenchmark:
    """A benchmark whose videos are not there: that and nothing else is wrong with it."""
    loaded = load_benchmark(name, root)
    assert {problem.kind for problem in loaded.problems} == {"video"}
    assert loaded.playable == ()
    assert len(loaded.samples) == loaded.expected_questions
    return loaded


def test_nextgqa(shared_data: Path) -> None:
    loaded = load("nextgqa", shared_data / "benchmarks/nextgqa")
    predicted = json.loads((shared_data / "golden/nextgqa_val.json").read_text("utf-8"))["pred_qa"]
    truth = {sample.key: sample.correct_option for sample in loaded.samples}
    assert {key: pair[0] for key, pair in predicted.items()} == {key: truth[key] for key in predicted}
    assert all(sample.spans and sample.duration_seconds for sample in loaded.samples)
    assert Counter(sample.slices["type"] for sample in loaded.samples) == {"CW": 1474, "TN": 931, "CH": 481, "TC": 472}
    assert len({sample.video for sample in loaded.samples}) == 567


def test_charades_sta(shared_data: Path) -> None:
    loaded = load("charades-sta", shared_data / "benchmarks/charades_sta")
    rows = json.loads((shared_data / "golden/charades_sta_test.json").read_text("utf-8"))["rows"]
    found = [(Path(sample.video).stem, *sample.spans[0]) for sample in loaded.samples]
    assert found == [(video, start, end) for video, start, end, *_ in rows]


def test_qvhighlights(shared_data: Path) -> None:
    root = shared_data / "benchmarks/qvhighlights"
    loaded = load("qvhighlights", root)
    lines = (root / "sample_val_preds.jsonl").read_text("utf-8").splitlines()
    predicted = {str(json.loads(line)["qid"]) for line in lines}
    assert {sample.key for sample in loaded.samples} == predicted
    first = loaded.samples[0]
    assert (first.key, first.spans, first.duration_seconds) == ("2579", (Span(82.0, 150.0),), 150.0)
    assert len(first.extra["relevant_clip_ids"]) == len(first.extra["saliency_scores"]) == 34  # type: ignore[arg-type]
