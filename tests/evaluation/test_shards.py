"""Runs in parts, and one run made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.runs import VIDEOS, Bench, question

from videobrain.errors import ConfigurationError, InputError
from videobrain.evaluation.merging import merge_runs
from videobrain.evaluation.results import read_manifest, read_results
from videobrain.evaluation.scores import score_run
from videobrain.evaluation.shards import Shard
from videobrain.testing import Fault

pytestmark = pytest.mark.anyio


async def test_shards_are_disjoint_by_video_and_their_merge_equals_the_whole(bench: Bench) -> None:
    bench.rows += [{**question(99), "key": f"gone{number}", "video": f"gone{number % 4}.mp4"} for number in range(6)]
    whole = await bench.run("whole")
    for number in (1, 2, 3):
        await bench.run(f"part-{number}", shard=f"{number}/3")
    parts = [bench.home / f"part-{number}" for number in (1, 2, 3)]
    held = [{record.sample.video for record in read_results(part)} for part in parts]
    assert sorted(video for names in held for video in names) == sorted(VIDEOS)
    merged = merge_runs(parts, bench.home / "merged")
    assert (merged.shard, merged.questions, merged.missing_videos, merged.missing_questions) == (None, 12, 4, 6)
    assert bench.essence("merged") == bench.essence("whole")
    assert all(
        (bench.home / "merged" / (record.trace or "")).is_file() for record in read_results(bench.home / "merged")
    )
    same = {"run", "total"}
    assert score_run(bench.home / "merged").model_dump(exclude=same) == whole.model_dump(exclude=same)

    merge_runs(parts[:2], bench.home / "two")
    assert read_manifest(bench.home / "two").shard == "1/3+2/3"
    asked = len(bench.answers.asked)
    await bench.run("two")  # the rest, without a shard
    assert bench.essence("two") == bench.essence("whole")
    assert len(bench.answers.asked) - asked == len(read_results(parts[2]))

    with pytest.raises(ConfigurationError, match=r"merged exists"):
        merge_runs(parts, bench.home / "merged")
    await bench.run("blind", how={"strategy": "blind"})
    with pytest.raises(ConfigurationError, match=r"does not belong to .*: the strategy is 'blind', not 'videobrain'"):
        merge_runs([parts[0], bench.home / "blind"], bench.home / "mixed")
    assert not (bench.home / "mixed").exists()


async def test_an_answer_goes_before_an_error_in_a_merge(bench: Bench) -> None:
    bench.answers.faults = {2: [Fault.status(400, "no")]}
    await bench.run("one")
    await bench.run("two", limit=3)
    merge_runs([bench.home / "one", bench.home / "two"], bench.home / "merged")
    merged = bench.essence("merged")
    assert (len(merged), merged["q2"]["error"]) == (12, None)


async def test_questions_that_read_otherwise_are_not_merged(bench: Bench) -> None:
    await bench.run("one")
    bench.rows[3]["question"] = "Question 3: which colour is it?"
    await bench.run("two")
    with pytest.raises(InputError, match=r"two and .*one asked 'q3' about another video or in other words"):
        merge_runs([bench.home / "one", bench.home / "two"], bench.home / "merged")
    assert not (bench.home / "merged").exists()


async def test_shards_are_the_same_wherever_the_videos_lie(bench: Bench, tmp_path: Path) -> None:
    for video in bench.videos.iterdir():
        (tmp_path / "moved" / "videos").mkdir(parents=True, exist_ok=True)
        (tmp_path / "moved" / "videos" / f"{video.stem}.mkv").symlink_to(video)
    await bench.run("one", shard="1/2")
    bench.videos = tmp_path / "moved"
    bench.rows = [{**row, "video": f"videos/{row['video'][0]}.mkv"} for row in bench.rows]
    await bench.run("two", shard="2/2")
    merged = merge_runs([bench.home / "one", bench.home / "two"], bench.home / "merged")
    assert (len(bench.essence("merged")), merged.questions, merged.shard) == (12, 12, None)
    assert bench.answers.times == dict.fromkeys(range(12), 1)


def test_a_shard_does_not_depend_on_other_videos() -> None:
    names = [f"{number}.mp4" for number in range(1000)]
    parts = [[name for name in names if Shard(number, 4).holds(name)] for number in (1, 2, 3, 4)]
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert all(200 < len(part) < 300 for part in parts)
    assert Shard.parse(" 2/4 ") == Shard(2, 4)
    for wrong in ("0/4", "5/4", "2", "a/b", "2/0"):
        with pytest.raises(ConfigurationError, match="is no shard"):
            Shard.parse(wrong)
