"""Each benchmark's format, in excerpts that are made up: what the samples say, and what is wrong with bad rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation.benchmark_files import shown, touch, write, write_json, write_lines, write_parquet

from videobrain.errors import InputError
from videobrain.evaluation.benchmarks import load_benchmark, read_subtitles
from videobrain.evaluation.benchmarks.mvbench import TASKS
from videobrain.evaluation.scoring import scores_itself
from videobrain.result import Span
from videobrain.world.question import WorldQuestion

# --- LongVideoBench --------------------------------------------------------------------------------------------------

LONG = {
    "id": "aB3_x-9QzLk_0",
    "video_id": "aB3_x-9QzLk",
    "video_path": "aB3_x-9QzLk.mp4",
    "subtitle_path": "aB3_x-9QzLk_en.json",
    "question": "What does the baker in white put on the table first?",
    "candidates": ["a tray", "a bowl", "a knife", "a cup"],
    "correct_choice": 2,
    "duration": 312.5,
    "duration_group": 600,
    "question_category": "T3O",
    "topic_category": "CA-Cooking",
    "level": "IntraMoment",
    "position": [10, 20],
    "starting_timestamp_for_subtitles": 61.5,
    "view_count": 12,
}


def test_longvideobench(tmp_path: Path) -> None:
    hidden = {**LONG, "id": "aB3_x-9QzLk_1"}
    del hidden["correct_choice"]
    write_json(tmp_path / "lvb_val.json", [LONG, {**LONG, "id": "other", "correct_choice": 4}, {"id": "bare"}, hidden])
    touch(tmp_path, "videos/aB3_x-9QzLk.mp4", "subtitles/aB3_x-9QzLk_en.json")

    loaded = load_benchmark("LongVideoBench", tmp_path)

    first, last = loaded.samples
    assert (first.key, first.video, first.letter, first.answer) == (
        LONG["id"],
        "videos/aB3_x-9QzLk.mp4",
        "C",
        "a knife",
    )
    assert first.options == ("a tray", "a bowl", "a knife", "a cup")
    assert first.subtitles == "subtitles/aB3_x-9QzLk_en.json"
    assert (first.subtitles_start_seconds, first.duration_seconds) == (61.5, 312.5)
    assert first.slices == {"duration": "600", "type": "T3O", "level": "IntraMoment", "source": "CA-Cooking"}
    assert last.correct_option is None
    assert last.answer is None
    assert shown(loaded) == [
        "lvb_val.json, row 2: correct_choice 4 is none of the 4 candidates",
        "lvb_val.json, row 3: video_path is missing",
    ]
    assert loaded.expected_questions == 1337


def test_longvideobench_as_the_hub_has_it(tmp_path: Path) -> None:
    options = {"option0": "a tray", "option1": "a bowl", "option2": "a knife", "option3": "N/A", "option4": "N/A"}
    table = {name: value for name, value in LONG.items() if name not in {"candidates", "position"}} | options
    write_parquet(tmp_path / "validation-00000-of-00001.parquet", [table])
    write_parquet(tmp_path / "test-00000-of-00001.parquet", [{**table, "correct_choice": -1}])

    known, hidden = (load_benchmark("longvideobench", tmp_path, split=split) for split in ("val", "test"))

    assert known.samples[0].options == ("a tray", "a bowl", "a knife")
    assert known.samples[0].key == LONG["id"]
    assert known.samples[0].letter == "C"
    # A row names them: that they are missing is said of each question, which is asked without.
    assert known.samples[0].subtitles == "subtitles/aB3_x-9QzLk_en.json"
    assert hidden.samples[0].letter is None


def test_subtitles_of_longvideobench(tmp_path: Path) -> None:
    spoken = [{"timestamp": [60.0, 62.5], "text": "one"}, {"timestamp": [70.0, None], "text": "two"}]
    clocks = [
        {"start": "00:00:01.000", "end": "00:00:02.500", "line": "before"},
        {"start": "00:01:01.500", "end": "00:01:03.000", "line": "one"},
        {"start": "01:00:00.000", "end": "01:00:01.000", "line": "after"},
    ]
    assert read_subtitles(write_json(tmp_path / "a.json", spoken), start_seconds=61.5, duration_seconds=20.0) == [
        (0.0, 1.0, "one"),
        (8.5, 20.0, "two"),
    ]
    assert read_subtitles(write_json(tmp_path / "b.json", clocks), start_seconds=61.5, duration_seconds=20.0) == [
        (0.0, 1.5, "one")
    ]
    with pytest.raises(InputError, match=r"c\.json holds no subtitles of LongVideoBench: line 1"):
        read_subtitles(write_json(tmp_path / "c.json", [{"start": "soon", "end": "later", "line": "x"}]))


# --- LVBench ---------------------------------------------------------------------------------------------------------


def lvbench_video(key: str, *questions: dict[str, Any]) -> dict[str, Any]:
    info = {"duration_minutes": 61, "fps": 30.0, "resolution": {"width": 1280, "height": 720}}
    return {"key": key, "type": "cartoon", "video_info": info, "qa": list(questions)}


def test_lvbench_has_the_options_in_the_question(tmp_path: Path) -> None:
    question = {
        "uid": "17",
        "question": "Which door (A or B) opens?\n(A) the red one\n(B) a blue one (with (C) on it)\n(C) both\n(D) none",
        "answer": "B",
        "question_type": ["reasoning", "entity recognition"],
        "time_reference": "00:15-01:19",
    }
    late = {**question, "uid": "18", "time_reference": "01:00:05-01:00:10", "answer": "E"}
    inline = {**question, "uid": "19", "question": "How many? (A) one (B) two", "time_reference": "all of it"}
    without = {**question, "uid": "20", "question": "How many?"}
    video = lvbench_video("Xy_12-ab", question, late, inline, without)
    write_lines(tmp_path / "video_info.meta.jsonl", [video, '{"key": "torn", "qa": [', {"qa": []}])
    touch(tmp_path, "all_videos/Xy_12-ab.MP4")

    loaded = load_benchmark("lvbench", tmp_path)

    first, other = loaded.samples
    assert first.key == "17"
    assert first.video == "all_videos/Xy_12-ab.MP4"
    assert first.question == "Which door (A or B) opens?"
    assert first.options == ("the red one", "a blue one (with (C) on it)", "both", "none")
    assert (first.letter, first.answer) == ("B", "a blue one (with (C) on it)")
    assert first.spans == (Span(15.0, 79.0),)
    assert first.duration_seconds == 3660.0
    assert first.slices == {"source": "cartoon", "type: reasoning": "yes", "type: entity recognition": "yes"}
    assert (other.question, other.options, other.spans) == ("How many?", ("one", "two"), ())
    assert other.extra["time_reference"] == "all of it"
    problems = shown(loaded)
    assert problems[0] == "video_info.meta.jsonl, line 1, qa 2: the answer 'E' is no letter of the 4 options"
    assert problems[1].startswith("video_info.meta.jsonl, line 1, qa 4: the question holds no options")
    assert problems[2].startswith("video_info.meta.jsonl, line 2: no JSON: ")
    assert problems[3] == "video_info.meta.jsonl, line 3: key is missing"


def test_lvbench_finds_videos_that_the_authors_script_has_numbered(tmp_path: Path) -> None:
    question = {"uid": "1", "question": "Which?\n(A) x\n(B) y", "answer": "A", "question_type": ["reasoning"]}
    write_lines(tmp_path / "data/video_info.meta.jsonl", [lvbench_video("Xy_12-ab", question)])
    touch(tmp_path, "scripts/videos/00000/00000003.mp4")
    address = {"url": "https://www.youtube.com/watch?v=Xy_12-ab", "key": "00000003", "status": "success"}
    write_json(tmp_path / "scripts/videos/00000/00000003.json", address)
    assert load_benchmark("lvbench", tmp_path).samples[0].video == "scripts/videos/00000/00000003.mp4"


# --- Video-MME -------------------------------------------------------------------------------------------------------


def videomme_row(number: int, duration: str) -> dict[str, Any]:
    return {
        "video_id": f"{number:03}",
        "duration": duration,
        "domain": "Knowledge",
        "sub_category": "Astronomy",
        "url": f"https://www.youtube.com/watch?v=id-{number}_",
        "videoID": f"id-{number}_",
        "question_id": f"{number:03}-1",
        "task_type": "Counting Problem",
        "question": "How many moons are drawn?",
        "options": ["A. One.", "B. Two.", "C. Three.", "D. B. and C."],
        "answer": "D",
    }


def test_videomme(tmp_path: Path) -> None:
    rows = [videomme_row(1, "short"), videomme_row(601, "long"), {**videomme_row(602, "long"), "answer": "F"}]
    write_parquet(tmp_path / "videomme/test-00000-of-00001.parquet", rows)
    touch(tmp_path, "data/id-1_.mp4", "data/id-601_.mkv", "subtitle/id-1_.srt")

    everything, long = load_benchmark("Video-MME", tmp_path), load_benchmark("videomme", tmp_path, split="long")

    first, second = everything.samples
    assert (first.key, first.video, first.subtitles) == ("001-1", "data/id-1_.mp4", "subtitle/id-1_.srt")
    assert first.options == ("One.", "Two.", "Three.", "B. and C.")
    assert (first.letter, first.answer) == ("D", "B. and C.")
    assert first.slices == {
        "duration": "short",
        "type": "Counting Problem",
        "source": "Knowledge",
        "sub-category": "Astronomy",
    }
    assert (second.video, second.subtitles) == ("data/id-601_.mkv", None)
    assert everything.subtitles_path(first) == tmp_path / "subtitle/id-1_.srt"
    assert everything.subtitles_path(second) is None
    assert [sample.key for sample in long.samples] == ["601-1"]
    assert shown(long) == ["videomme/test-00000-of-00001.parquet, row 3: the answer 'F' is no letter of the 4 options"]


def test_videomme_as_its_authors_repository_has_it(tmp_path: Path) -> None:
    row = videomme_row(1, "short")
    question = {name: row[name] for name in ("question_id", "task_type", "question", "answer")}
    video = {
        "video_id": "001",
        "duration_category": "short",
        "video_category": "Knowledge",
        "video_subcategory": "Astronomy",
        "url": row["url"],
        "questions": [{**question, "choices": row["options"]}, {**question, "question_id": "001-2"}],
    }
    write_json(tmp_path / "output_test_template.json", [video])
    write_parquet(tmp_path / "hub/test-00000-of-00001.parquet", [row])
    touch(tmp_path, "videos/001.mp4")

    ours, theirs = load_benchmark("videomme", tmp_path), load_benchmark("videomme", tmp_path / "hub")

    assert ours.samples[0].model_copy(update={"video": theirs.samples[0].video}) == theirs.samples[0]
    assert ours.samples[0].video == "videos/001.mp4"
    assert shown(ours) == ["output_test_template.json, row 1, questions 2: options is missing"]


# --- MLVU ------------------------------------------------------------------------------------------------------------


def test_mlvu(tmp_path: Path) -> None:
    count = {
        "video": "count_7.mp4",
        "duration": 420.5,
        "question": "How often is a drum played?",
        "candidates": ["1", "2", "5", "3"],
        "answer": "5",
        "question_type": "count",
    }
    write_json(tmp_path / "MLVU/json/4_count.json", [count, {**count, "answer": "9"}])
    order = {
        **count,
        "video": "order_1.mp4",
        "candidates": ["1->2", "2->1"],
        "answer": "2->1",
        "question_type": "order",
    }
    write_json(tmp_path / "MLVU/json/5_order.json", [order])
    summary = {"video": "film_1.mp4", "duration": 900, "question": "Summarise.", "answer": "A man walks."}
    write_json(tmp_path / "MLVU/json/9_summary.json", [{**summary, "scoring_points": ["man", "walks"]}])
    touch(tmp_path, "MLVU/video/4_count/count_7.mp4", "MLVU/video/9_summary/film_1.mp4")

    choice, words = load_benchmark("mlvu", tmp_path), load_benchmark("mlvu", tmp_path, split="dev-open")

    assert [sample.slices["type"] for sample in choice.samples] == ["count", "order"]
    first = choice.samples[0]
    assert (first.video, first.letter, first.answer) == ("MLVU/video/4_count/count_7.mp4", "C", "5")
    assert first.key.startswith("count-")
    assert choice.missing_videos == {"MLVU/video/5_order/order_1.mp4"}
    problems = shown(choice)
    assert "MLVU/json/4_count.json, row 2: the answer '9' is none of the options ['1', '2', '5', '3']" in problems
    assert sum("the file of this task is missing" in problem for problem in problems) == 5
    assert (words.samples[0].task, words.samples[0].options, words.samples[0].answer) == ("open", None, "A man walks.")
    assert words.samples[0].slices == {"type": "summary"}
    assert words.samples[0].extra == {"scoring_points": ["man", "walks"]}
    elsewhere = load_benchmark("mlvu", tmp_path, videos=tmp_path / "MLVU/video")
    assert elsewhere.samples[0].video == "4_count/count_7.mp4"


def test_mlvu_test_split_with_and_without_its_truth(tmp_path: Path) -> None:
    row = {
        "video": "test_ego_3.mp4",
        "duration": 500,
        "question": "What is taken?",
        "candidates": ["pen", "cup", "hat", "box", "key", "bag"],
        "question_type": "ego",
        "question_id": "EQ_3",
    }
    write_json(tmp_path / "MLVU_Test/test_question.json", [row])
    touch(tmp_path, "MLVU_Test/video/test_ego_3.mp4")
    assert load_benchmark("mlvu", tmp_path, split="test").samples[0].letter is None
    write_json(tmp_path / "test-ground-truth/test_mcq_gt.json", [{**row, "answer": "key"}])
    sample = load_benchmark("mlvu", tmp_path, split="test").samples[0]
    assert (sample.key, sample.letter, sample.video) == ("EQ_3", "E", "MLVU_Test/video/test_ego_3.mp4")


# --- MVBench ---------------------------------------------------------------------------------------------------------


def mvbench_row(video: str, **more: Any) -> dict[str, Any]:
    row = {"video": video, "question": "What is done?", "candidates": ["sits", "runs", "eats"], "answer": "eats"}
    return {**row, **more}


def test_mvbench(tmp_path: Path) -> None:
    assert len(TASKS) == 20
    star = [
        mvbench_row("QQ1AB.mp4", start=3.5, end=9.0, accurate_start=4.0),
        mvbench_row("QQ1AB.mp4", start=9.0, end=3.5),
        mvbench_row("QQ1AB.mp4", start=3.5, end=9.0, answer="swims"),
    ]
    write_json(tmp_path / "json/action_sequence.json", star)
    write_json(tmp_path / "json/action_antonym.json", [mvbench_row("77.webm", start=0, end=1)])
    write_json(tmp_path / "json/moving_count_20250131.json", [mvbench_row("video_1.mp4"), mvbench_row("video_1.mp4")])
    write_json(tmp_path / "json/readme.json", [])
    touch(tmp_path, "video/star/Charades_v1_480/QQ1AB.mp4", "video/ssv2_video_mp4/77.mp4")
    touch(tmp_path, "video/data0613/clevrer/video_validation/video_1.mp4")

    loaded = load_benchmark("mvbench", tmp_path)

    sequence, antonym, one, other = loaded.samples
    assert (sequence.video, sequence.clip) == ("video/star/Charades_v1_480/QQ1AB.mp4", Span(3.5, 9.0))
    assert (antonym.video, antonym.clip) == ("video/ssv2_video_mp4/77.mp4", None)
    assert one.video == "video/data0613/clevrer/video_validation/video_1.mp4"
    assert other == one.model_copy(update={"key": f"{one.key}-2"})  # a row that is repeated counts twice
    assert sequence.slices == {"type": "action sequence"}
    assert sequence.letter == "C"
    problems = shown(loaded)
    assert sum("the file of this task is missing" in problem for problem in problems) == 17
    assert "json/action_sequence.json, row 2: the part from 9 to 3.5 s is none" in problems
    assert any("row 3: the answer 'swims' is none of the options" in problem for problem in problems)


def test_mvbench_videos_that_are_cut_already_are_asked_about_as_a_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "json/action_localization.json", [mvbench_row("a_1.mp4", start=3, end=9)])
    touch(tmp_path, "sta/sta_video_segment/a_1.mp4")
    sample = load_benchmark("mvbench", tmp_path).samples[0]
    assert (sample.video, sample.clip) == ("sta/sta_video_segment/a_1.mp4", None)


def test_mvbench_folders_of_frames_must_be_made_videos(tmp_path: Path) -> None:
    rows = [mvbench_row(f"show_clip_{number}", start=1.0, end=6.0, fps=3) for number in range(3)]
    file = write_json(tmp_path / "json/episodic_reasoning.json", rows)
    touch(tmp_path, "video/tvqa/frames_fps3_hq/show_clip_0/00001.jpg", "video/tvqa/frames_fps3_hq/show_clip_1.mp4")

    loaded = load_benchmark("mvbench", file, videos=tmp_path)

    assert [sample.clip for sample in loaded.samples] == [Span(1.0, 6.0)] * 2
    assert loaded.samples[0].video == "video/tvqa/frames_fps3_hq/show_clip_1.mp4"
    frames, missing = shown(loaded)
    assert frames.startswith(
        "episodic_reasoning.json, row 1: video/tvqa/frames_fps3_hq/show_clip_0 is a folder of frames"
    )
    assert "ffmpeg -framerate 3 -i video/tvqa/frames_fps3_hq/show_clip_0/%05d.jpg" in frames
    assert missing.startswith("video/tvqa/video_fps3_hq/show_clip_2.mp4: the video is missing")


# --- EgoSchema -------------------------------------------------------------------------------------------------------


def ego_row(key: str) -> dict[str, Any]:
    options = {f"option {number}": f"C does thing {number}." for number in range(5)}
    return {"q_uid": key, "google_drive_id": "1x", "question": "What does C do most?", **options}


def test_egoschema_keeps_most_answers_back(tmp_path: Path) -> None:
    early = ego_row("0a-3")  # an early release had no questions
    del early["question"]
    write_json(tmp_path / "questions.json", [ego_row("0a-1"), ego_row("0a-2"), early, ego_row("0a-4")])
    touch(tmp_path, "videos/0a-1.mp4", "videos/0a-2.mp4", "videos/0a-4.mp4")

    with pytest.raises(InputError, match=r"no subset_answers\.json") as failure:
        load_benchmark("egoschema", tmp_path)
    assert "github.com/egoschema" in failure.value.hint
    write_json(tmp_path / "subset_answers.json", {"0a-2": 3, "0a-3": 1, "0a-4": 7})
    subset, test = load_benchmark("egoschema", tmp_path), load_benchmark("egoschema", tmp_path, split="test")

    assert [(sample.key, sample.letter) for sample in subset.samples] == [("0a-2", "D")]
    assert subset.samples[0].duration_seconds == 180.0
    assert shown(subset) == [
        "questions.json, row 3: question is missing",
        "questions.json, row 4: the answer 7 is no number from 0 to 4",
    ]
    assert [(sample.key, sample.letter) for sample in test.samples] == [("0a-1", None), ("0a-2", "D")]


def test_egoschema_as_the_hub_has_it(tmp_path: Path) -> None:
    row = {
        "question_idx": "4",
        "question": "What does C do most?",
        "video_idx": "0a-2",
        "option": [f"{letter}. C does thing {number}." for number, letter in enumerate("ABCDE")],
        "answer": "3",
    }
    write_parquet(tmp_path / "Subset/test-00000-of-00001.parquet", [row])
    write_json(tmp_path / "questions/questions.json", [ego_row("0a-2")])
    write_json(tmp_path / "questions/subset_answers.json", {"0a-2": 3})
    hub, authors = load_benchmark("egoschema", tmp_path), load_benchmark("egoschema", tmp_path / "questions")
    assert hub.samples == authors.samples


# --- NExT-QA and NExT-GQA --------------------------------------------------------------------------------------------

HEAD = "frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"


def test_nextqa(tmp_path: Path) -> None:
    write(
        tmp_path / "nextqa/val.csv",
        f"video,{HEAD}\n"
        '123,300,640,480,"why, then, does it run",1,4,CW,play,eat,sleep,hide,look\n'
        "124,300,640,480,what came before,0,2,TP,jump,sit,2,hop,lie\n"
        "124,300,640,480,how many,7,3,DC,1,2,3,4,5\n"
        "124,300,640,480,too short,1\n",
    )
    write_json(tmp_path / "nextqa/map_vid_vidorID.json", {"123": "1164/123"})
    touch(tmp_path, "NExTVideo/1164/123.mp4", "videos/124.mp4")

    loaded = load_benchmark("NExT-QA", tmp_path)

    first, second = loaded.samples
    assert (first.key, first.video, first.letter, first.answer) == ("123_4", "NExTVideo/1164/123.mp4", "B", "eat")
    assert first.question == "why, then, does it run"
    assert first.slices == {"type": "CW", "group": "causal"}
    assert (second.video, second.letter) == ("videos/124.mp4", "A")
    assert second.slices == {"type": "TN", "group": "temporal"}
    assert shown(loaded) == [
        "nextqa/val.csv, line 4: the answer '7' is no number from 0 to 4",
        "nextqa/val.csv, line 5: 6 cells where the header has 13",
    ]


def test_nextqa_as_the_hub_has_it(tmp_path: Path) -> None:
    row = {"video": 123, "question": "why", "answer": 4, "qid": 6, "type": "CH", "a0": "a", "a1": "b", "a2": "c"}
    write_parquet(tmp_path / "MC/test-00000-of-00001.parquet", [{**row, "a3": "d", "a4": "e"}])
    sample = load_benchmark("nextqa", tmp_path, split="test").samples[0]
    assert (sample.key, sample.letter, sample.video) == ("123_6", "E", "NExTVideo/123.mp4")


def test_nextgqa_has_the_answer_in_words_and_spans(tmp_path: Path) -> None:
    rows = f"video_id,{HEAD}\n123,9,6,4,how many,2,4,TC,1,2,3,4,5\n123,9,6,4,why,eat,5,CW,play,eat,sleep,hide,look\n"
    write(tmp_path / "datasets/nextgqa/val.csv", f"{rows}9,9,6,4,why,eat,5,CW,play,eat,sleep,hide,look\n")
    with pytest.raises(InputError, match=r"no gsub_val\.json"):
        load_benchmark("nextgqa", tmp_path)
    spans = {"123": {"duration": 34, "location": {"4": [[1.2, 5.8], [7, 9.5]]}, "fps": 29.97}}
    write_json(tmp_path / "datasets/nextgqa/gsub_val.json", spans)

    loaded = load_benchmark("nextgqa", tmp_path)

    sample = loaded.samples[0]
    assert (sample.letter, sample.answer, sample.duration_seconds) == ("B", "2", 34.0)
    assert sample.spans == (Span(1.2, 5.8), Span(7.0, 9.5))
    assert shown(loaded)[:2] == [
        "datasets/nextgqa/val.csv, line 3: gsub_val.json has no span for question 5",
        "datasets/nextgqa/val.csv, line 4: gsub_val.json does not have its video",
    ]


@pytest.mark.parametrize("location", [["4"], {"4": 3}, "4"])
def test_nextgqa_with_damaged_spans(tmp_path: Path, location: object) -> None:
    write(tmp_path / "datasets/nextgqa/val.csv", f"video_id,{HEAD}\n123,9,6,4,how many,2,4,TC,1,2,3,4,5\n")
    write_json(tmp_path / "datasets/nextgqa/gsub_val.json", {"123": {"duration": 34, "location": location}})
    with pytest.raises(InputError, match=r"line 2: gsub_val\.json has no span for question 4"):
        load_benchmark("nextgqa", tmp_path)


# --- CG-Bench --------------------------------------------------------------------------------------------------------


def test_cgbench(tmp_path: Path) -> None:
    row = {
        "qid": 41,
        "video_uid": "Uv-1_2",
        "question": "What is on the hat?",
        "answer": "a bird",
        "choices": ["a bird", "a star", "a leaf", "a bell", "a ship", "a moon", "a fish"],
        "right_answer": "A",
        "clue_intervals": [[90, 100], [120.5, 121]],
        "domain": "Art & Culture",
        "sub_category": "Entity Perception",
        "duration": 1477,
    }
    write_json(tmp_path / "cgbench_mini.json", [row, {**row, "qid": 42, "clue_intervals": [[100, 90]]}, row])
    touch(tmp_path, "cg_videos_720p/Uv-1_2.mp4", "cg_subtitles/Uv-1_2.srt")

    loaded = load_benchmark("cgbench", tmp_path)

    sample, damaged = loaded.samples
    assert (damaged.key, damaged.spans) == ("42", ())
    assert (sample.key, sample.letter, sample.answer) == ("41", "A", "a bird")
    assert len(sample.options or ()) == 7
    assert sample.spans == (Span(90.0, 100.0), Span(120.5, 121.0))
    assert sample.slices == {"type": "Entity Perception", "source": "Art & Culture"}
    assert (sample.video, sample.subtitles) == ("cg_videos_720p/Uv-1_2.mp4", "cg_subtitles/Uv-1_2.srt")
    assert shown(loaded) == [
        "cgbench_mini.json, row 2: clue_intervals has a span from 100 to 90 s",
        "cgbench_mini.json, row 3: the key '41' was used in cgbench_mini.json, row 1",
    ]


# --- Grounding -------------------------------------------------------------------------------------------------------


def test_charades_sta(tmp_path: Path) -> None:
    lines = ["AB12C 0.0 7.25##a person opens a window.", "AB12C 9.0##person sits.", "AB12C 0.0 7.25##a person sneezes."]
    write_lines(tmp_path / "charades_sta_test.txt", lines)
    touch(tmp_path, "Charades_v1_480/AB12C.mp4")

    loaded = load_benchmark("charades-sta", tmp_path)

    first, second = loaded.samples
    assert (first.task, first.question, first.video) == (
        "grounding",
        "a person opens a window.",
        "Charades_v1_480/AB12C.mp4",
    )
    assert first.spans == (Span(0.0, 7.25),)
    assert first.key != second.key
    assert shown(loaded) == [
        "charades_sta_test.txt, line 2: no line of the form VIDEO START END##QUERY but 'AB12C 9.0##person sits.'"
    ]

    row = {"video": "AB12C.mp4", "caption": "a person sneezes.", "timestamp": [0.0, 7.25]}
    write_parquet(tmp_path / "hub/data/test-00000-of-00001.parquet", [row])
    hub = load_benchmark("charades-sta", tmp_path / "hub", videos=tmp_path / "Charades_v1_480")
    assert hub.samples[0].key == second.key
    assert hub.video_path(hub.samples[0]) == tmp_path / "Charades_v1_480/AB12C.mp4"


def test_qvhighlights(tmp_path: Path) -> None:
    row = {
        "qid": 77,
        "query": "A man feeds a goat",
        "duration": 150,
        "vid": "a-b_c_60.0_210.0",
        "relevant_windows": [[0, 4]],
        "relevant_clip_ids": [0, 1],
        "saliency_scores": [[4, 1, 1], [3, 2, 2]],
    }
    broken = {**row, "qid": 78, "saliency_scores": [[4, 1, 1]]}
    write_lines(tmp_path / "data/highlight_val_release.jsonl", [row, broken])
    touch(tmp_path, "videos/a-b_c_60.0_210.0.mp4")

    loaded = load_benchmark("qvhighlights", tmp_path)

    (sample,) = loaded.samples
    assert (sample.key, sample.task, sample.video) == ("77", "highlights", "videos/a-b_c_60.0_210.0.mp4")
    assert sample.spans == (Span(0.0, 4.0),)
    assert sample.extra == {"relevant_clip_ids": [0, 1], "saliency_scores": [[4, 1, 1], [3, 2, 2]]}
    assert "no lists of one length" in shown(loaded)[0]

    hidden = {name: row[name] for name in ("qid", "query", "duration", "vid")}
    write_lines(tmp_path / "highlight_test_release.jsonl", [hidden])
    assert load_benchmark("qvhighlights", tmp_path, split="test").samples[0].spans == ()


def test_activitynet_captions(tmp_path: Path) -> None:
    videos = {
        "v_aB-1": {
            "duration": 82.7,
            "timestamps": [[0.8, 19.9], [60.8, 40.0]],
            "sentences": [" She waves. ", "He nods."],
        },
        "v_cD-2": {"duration": 10.0, "timestamps": [[0, 1]], "sentences": []},
        "v_eF-3": "gone",
    }
    write_json(tmp_path / "captions/val_2.json", videos)
    touch(tmp_path, "videos/aB-1.mkv")

    loaded = load_benchmark("activitynet-captions", tmp_path)

    (sample,) = loaded.samples
    assert (sample.key, sample.question, sample.video) == ("v_aB-1_0", "She waves.", "videos/aB-1.mkv")
    assert (sample.spans, sample.duration_seconds) == ((Span(0.8, 19.9),), 82.7)
    assert shown(loaded) == [
        "captions/val_2.json, v_aB-1, sentence 2: timestamps has a span from 60.8 to 40 s",
        "captions/val_2.json, v_cD-2: timestamps and sentences are no lists of one length",
        "captions/val_2.json, v_eF-3: no object with fields but 'gone'",
    ]


# --- The synthetic world ---------------------------------------------------------------------------------------------


def test_world(tmp_path: Path) -> None:
    question = WorldQuestion(
        key="test-000001/0",
        video="test-000001.mp4",
        question="What shape is the red object?",
        options=("star", "heart", "ring", "cross"),
        answer="ring",
        kind="search",
        template="shape",
        held_out=True,
        spans=(Span(3.0, 5.0),),
        frame_count=1200,
        calls=(),
    )
    words = question.model_copy(update={"key": "test-000001/1", "options": None})
    guess = question.model_copy(update={"key": "test-000001/2", "kind": "unanswerable"})
    lines = [one.model_dump_json() for one in (question, words, guess)]
    write_lines(tmp_path / "questions.jsonl", [*lines, {"key": "x"}, "[]"])
    touch(tmp_path, "test-000001.mp4")

    loaded = load_benchmark("world", tmp_path)

    choice, in_words = loaded.samples
    assert (choice.letter, choice.duration_seconds, choice.video) == ("C", 120.0, "test-000001.mp4")
    assert choice.slices == {"type": "search", "template": "shape", "form": "choice", "pair": "held out"}
    assert (in_words.task, in_words.answer) == ("open", "ring")
    assert WorldQuestion.model_validate(in_words.extra["world"]).accepts("It is a ring.")
    assert [problem.where for problem in loaded.problems] == ["questions.jsonl, line 4", "questions.jsonl, line 5"]
    (nobody_knows,) = load_benchmark("world", tmp_path, split="unanswerable").samples
    assert (nobody_knows.key, nobody_knows.answer, nobody_knows.letter) == ("test-000001/2", None, None)
    assert not scores_itself(nobody_knows.model_copy(update={"task": "open", "options": None}))
    assert (loaded.keys, load_benchmark("world", tmp_path, split="unanswerable").keys) == (None, None)  # unread rows
