"""A run that is killed at random moments ends as one that was left alone."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from evaluation.killed_runs import (
    AT_ONCE,
    MOST_REQUESTS,
    Answering,
    Kill,
    Trial,
    agreement,
    between,
    differences,
    kill_again_and_again,
    losses,
    timeless,
    write_world,
)

from videobrain.evaluation.metrics import outcome
from videobrain.evaluation.record import Record
from videobrain.evaluation.results import RunDirectory, read_manifest, read_results
from videobrain.testing import FakeServer

pytestmark = pytest.mark.timeout(900)  # on a machine that is busy with other things; on an idle one it is half a minute
QUESTIONS, KILLS = 40, 6


class Runs:
    """The same questions twice, in `alone` and, with kills, in `killed`."""

    def __init__(self, home: Path) -> None:
        self.home, self.alone, self.killed = home, home / "alone", home / "killed"
        answering = Answering(seconds=0.02)
        bare = {"PATH": os.defpath, "HOME": str(home), "VIDEOBRAIN_CACHE_DIR": str(home / "cache")}
        bare |= {"VIDEOBRAIN_DECODER": "pyav", "VIDEOBRAIN_WARM_INDEX": "false", "OPENAI_API_KEY": "none"}
        with FakeServer(answering) as server:
            more = ["--max-errors", "0", "--concurrency", str(AT_ONCE), "--base-url", server.base_url]
            more += ["--tool", "uniform_sample"]
            self.trial = Trial(write_world(home / "world", QUESTIONS), more, bare)
            alone = self.trial.end(self.alone)
            self.requests_alone, answering.asked = answering.asked, 0
            self.kills = kill_again_and_again(self.trial, self.killed, KILLS, like=alone, rng=random.Random(1))
            ended = self.trial.end(self.killed)
            self.requests_killed = answering.asked
        self.scores_alone, self.scores_killed = alone.scores, ended.scores


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def test_nothing_is_lost_and_nothing_stands_there_twice(runs: Runs) -> None:
    assert len(runs.kills) == KILLS
    assert between(runs.kills, QUESTIONS) >= KILLS // 2
    assert losses(runs.trial, runs.killed, runs.kills) == []


def test_the_run_is_the_one_that_was_left_alone(runs: Runs) -> None:
    assert differences(runs.killed, runs.alone) == []
    assert timeless(runs.scores_killed | {"run": ""}) == timeless(runs.scores_alone | {"run": ""})
    assert agreement(runs.killed, runs.alone)[:3] == (QUESTIONS, QUESTIONS, QUESTIONS)
    # What was under way at a kill is asked again, and nothing else.
    assert runs.requests_killed <= runs.requests_alone + KILLS * AT_ONCE * MOST_REQUESTS


def test_the_questions_come_out_in_every_way(runs: Runs) -> None:
    """Else that the runs are equal would say little."""
    records = read_results(runs.alone)
    assert {outcome(one) for one in records if one.sample.task == "choice"} >= {"correct", "incorrect", "error"}
    assert {one.usage.turns for one in records} >= {0, 1, 2}
    assert any(one.usage.tool_calls for one in records)
    assert any(one.usage.corrections for one in records)


def test_what_is_wrong_is_found(runs: Runs) -> None:
    """The checks above see each kind of damage."""
    run = runs.home / "damaged"
    (run / "traces").mkdir(parents=True)
    lines = (runs.alone / "results.jsonl").read_bytes().splitlines(keepends=True)
    records = [Record.model_validate_json(line) for line in lines]
    for record in records[2:-1]:
        (run / str(record.trace)).write_bytes((runs.alone / str(record.trace)).read_bytes())
    other = next(record for record in records if record.sample.question != records[1].sample.question)
    (run / str(records[1].trace)).write_bytes((runs.alone / str(other.trace)).read_bytes())
    (run / "traces" / "spare.jsonl").touch()
    (run / "run.json").write_bytes((runs.alone / "run.json").read_bytes())
    changed = json.loads(lines[3]) | {"stop_reason": "max_turns"}
    kept = [*lines[:3], json.dumps(changed).encode() + b"\n", *lines[4:-1]]
    (run / "results.jsonl").write_bytes(b"".join(kept))

    found = losses(runs.trial, run, [Kill(1, 1, lines[1])])
    key = [record.sample.key for record in records]
    assert len(found) == 5, found
    assert found[0] == "what was finished at kill 1 does not stand there as it did"
    assert found[1] == f"{key[-1]} is lost"
    assert found[2].startswith(f"the trace of {key[0]} does not open")
    assert found[3] == f"the trace of {key[1]} is that of another question"
    assert found[4] == "traces/spare.jsonl belongs to no question"

    (run / str(records[0].trace)).write_bytes((runs.alone / str(records[0].trace)).read_bytes())
    different = differences(run, runs.alone)
    assert f"{key[-1]} is in one run only" in different
    assert f"the traces of {key[1]} differ" in different
    assert any(one.startswith(f"the records of {key[3]} differ") for one in different)
    (run / "results.jsonl").write_bytes(b"".join([*kept, lines[0]]))
    assert f"{key[0]} stands there 2 times" in losses(runs.trial, run, [])


def test_a_start_clears_what_a_kill_left(runs: Runs) -> None:
    left = [
        runs.alone / ".run.json.0a.part",
        runs.alone / ".results.jsonl.0a.part",
        runs.alone / "traces" / ".k.0a.part",
    ]
    others = runs.alone / ".somebody-else.0a.part"
    for path in (*left, others):
        path.write_text("half of it")
    before = read_results(runs.alone)
    with RunDirectory(runs.alone, read_manifest(runs.alone)):
        pass
    assert not any(path.exists() for path in left)
    assert others.exists()
    assert read_results(runs.alone) == before
