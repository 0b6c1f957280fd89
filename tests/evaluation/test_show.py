"""What a run shows: lines of progress, the table at its end, the list of benchmarks."""

from __future__ import annotations

import io
from pathlib import Path

from evaluation.records import record

from videobrain.evaluation.benchmarks import benchmark_rows, load_benchmark
from videobrain.evaluation.metrics import accuracy, accuracy_by_slice, judged
from videobrain.evaluation.progress import Tally
from videobrain.evaluation.scores import Scores
from videobrain.evaluation.show import EvaluationDisplay, print_benchmarks, print_scores, words_of
from videobrain.evaluation.verdict import Judgement, MissingVerdict
from videobrain.result import Usage

RECORDS = [
    record("a", choice="B", usage=Usage(frames=10, turns=1, tool_calls={"clip_sample": 1}), slices={"type": "who"}),
    record("b", choice="A", usage=Usage(frames=20, turns=3), slices={"type": "what"}),
    record("c", error="ModelError: gone", slices={"type": "what"}),
]


SAID = [record("d", task="open", answer="red", text="red"), record("e", task="open", text="red")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tally(seconds: list[float]) -> Tally:
    made = Tally(questions=40, missing_videos=1, missing_questions=6, clock=lambda: seconds[0])
    made.start()
    return made


def test_a_moment_in_words() -> None:
    seconds = [100.0]
    count = tally(seconds)
    assert words_of(count.progress(4)) == "0 of 40 questions, 0 errors, 4 at once"
    count.add(RECORDS[0], None, earlier=True)
    seconds[0] = 130.0
    for each in RECORDS[1:]:
        count.add(each, None)
    moment = count.progress(8)
    assert (moment.per_second, moment.seconds_left, moment.earlier) == (2 / 30, 37 * 15, 1)
    assert words_of(moment) == (
        "3 of 40 questions, 4.0 a minute, 9 min left, accuracy 33.3 %, 15.0 frames each, 1 error, 8 at once"
    )
    count.to_judge = 2
    missing = MissingVerdict(cause="model_error", message="down")
    count.judge(Judgement(key="a", content="", judge="j", rubric="r", missing=missing))
    assert words_of(count.progress(8)).endswith("8 at once, 1 of 2 answers judged, 1 verdict missing")


def test_an_open_answer_counts_with_its_verdict() -> None:
    count = tally([0.0])
    said = record("o", task="open", answer="red", text="red")
    count.add(said, None)
    assert count.progress(1).scored == 0
    count.add(said, 0.9)
    assert (count.progress(1).scored, count.progress(1).correct) == (1, 1)


def test_a_file_gets_a_line_from_time_to_time() -> None:
    now = [0.0]
    out = io.StringIO()
    count = tally([0.0])
    count.add(RECORDS[0], None, earlier=True)
    with EvaluationDisplay(file=out, clock=lambda: now[0]) as display:
        for now[0] in (0.0, 10.0, 29.0, 31.0):
            display(count.progress(4))
    lines = out.getvalue().splitlines()
    assert lines[0] == "1 question finished earlier."
    assert len(lines) == 3
    assert display.progress == count.progress(4)
    silent = io.StringIO()
    with EvaluationDisplay(file=silent, quiet=True) as display:
        display(count.progress(4))
    assert silent.getvalue() == ""


def test_a_terminal_gets_one_line_that_changes() -> None:
    out = Terminal()
    count = tally([0.0])
    with EvaluationDisplay(file=out) as display:
        display(count.progress(4))
    assert "0 of 40 questions" in out.getvalue()


def test_what_is_wrong_with_the_files(tmp_path: Path) -> None:
    rows = ['{"key": "a", "video": "x.mp4", "question": "?"}', *["{"] * 22]
    (tmp_path / "questions.jsonl").write_text("\n".join(rows))
    out = io.StringIO()
    EvaluationDisplay(file=out).problems(load_benchmark("plain", tmp_path))
    assert "questions.jsonl, line 2" in out.getvalue()
    assert "… and 2 more problems of the files." in out.getvalue()
    assert "1 video is missing: 1 question left out." in out.getvalue()


def test_the_table_of_a_run() -> None:
    scores = Scores(
        run="runs/one", benchmark="made", split="test", model="m", strategy="s", shard="1/2", questions=40,
        total=accuracy(RECORDS + SAID), slices=accuracy_by_slice(RECORDS), missing_videos=1, missing_questions=6,
        judged=judged(SAID[:1], []), without_subtitles=2,
        with_subtitles=3, failed_tools=1, passing_errors=1, malformed=2, limit=40, expected_questions=1337,
    )  # fmt: skip
    out = io.StringIO()
    print_scores(scores, out)
    text = out.getvalue()
    assert text.startswith("made (test), m, s, shard 1/2\n")
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "33.3 % (0.0 to 100.0)" in rows["all"]
    assert "1 (20.0 %)" in rows["all"]
    assert "  0.0 % (0.0 to 65.8)" in rows["type: what"]
    assert "100.0 %" in rows["type: who"]
    for said in (
        "clip_sample 0.25",
        "1 video is missing: 6 questions left out.",
        "5 of 40 questions finished.",
        "1 question without a known truth, left out of the accuracy.",
        "1 verdict is missing (1 not judged), left out of the accuracy: --judge MODEL judges those answers.",
        "Asked with subtitles: 3 of 5 questions.",
        "2 questions asked without subtitles, which could not be used.",
        "In 1 question a tool failed, and the model went on without it",
        "1 error of the server or of a worker, not of the question: the same command asks again.",
        "2 rows of the benchmark could not be read.",
        "Limited to the first 40 questions.",
        "runs/one",
    ):
        assert said in text


def test_a_part_of_a_split_is_no_whole_one() -> None:
    scores = Scores(
        run="runs/one", benchmark="made", split="test", model="m", strategy="s", shard=None, questions=5,
        total=accuracy(RECORDS + SAID), slices={}, expected_questions=1337,
    )  # fmt: skip
    out = io.StringIO()
    print_scores(scores, out)
    assert "These are 5 of the split's 1,337 questions: no figure of the whole split." in out.getvalue()


def test_a_benchmark_with_subtitles_of_which_none_are_there(tmp_path: Path) -> None:
    row = '[{"qid": 1, "video_uid": "v", "question": "?", "choices": ["a", "b"], "right_answer": "A"}]'
    (tmp_path / "cgbench_mini.json").write_text(row)
    out = io.StringIO()
    EvaluationDisplay(file=out).problems(load_benchmark("cgbench", tmp_path))
    assert "No subtitles were found in cg_subtitles or subtitles: the questions are asked without." in out.getvalue()


def test_the_list_of_benchmarks() -> None:
    for out in (io.StringIO(), Terminal()):
        print_benchmarks(benchmark_rows(), out)
        assert "lvbench" in out.getvalue()
        assert "1,549 questions" in out.getvalue()
