"""A run of `videobrain eval` that is killed at random moments and continued each time, beside one that is left alone.

    python -m tests.benchmarks.kills [--questions N] [--kills N] [--model MODEL]

Without a model a `FakeServer` answers, which says the same to the same conversation: then the two runs have to be
equal but for times and the order of lines. With a model, which a server has that is running, the share of questions
with an equal outcome counts, and no question may fail; a run that does not count comes first, so that all others find
frames and indexes. It fails where anything is lost or stands there twice, where a trace does not open, and where no
kill struck a run at work.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.machine import describe
from tests.evaluation.killed_runs import (
    AT_ONCE,
    MOST_REQUESTS,
    TIMES,
    Answering,
    Trial,
    agreement,
    between,
    differences,
    kill_again_and_again,
    losses,
    timeless,
    write_world,
)
from videobrain.testing import FakeServer

TARGET = 0.99
"""Share of equal outcomes: a server that batches does not always give the same words to the same request."""
SERVED_AT_ONCE = 8
"""Questions at once with a model."""
SHOWN = 10


def measure(home: Path, *, questions: int, kills: int, seed: int, model: str | None, more: list[str]) -> bool:
    answering, at_once = Answering(seconds=0.02), AT_ONCE
    with ExitStack() as stack:
        file = write_world(home / "world", questions, seed=seed)
        arguments, environment, start_seconds = ["--max-errors", "0", *more], dict(os.environ), 7200.0
        if model is None:
            server = stack.enter_context(FakeServer(answering))
            arguments += ["--base-url", server.base_url, "--model", "openai:fake-model", "--concurrency", str(AT_ONCE)]
            arguments += ["--tool", "uniform_sample"]
            environment = {name: value for name, value in environment.items() if not name.startswith("VIDEOBRAIN_")}
            environment |= {"VIDEOBRAIN_DECODER": "pyav", "VIDEOBRAIN_WARM_INDEX": "false", "OPENAI_API_KEY": "none"}
            start_seconds = 1200.0
        else:
            at_once = SERVED_AT_ONCE
            arguments += ["--model", model, "--concurrency", str(at_once)]
            environment |= {
                "VIDEOBRAIN_CACHE_DIR": str(home / "cache"),
                "VIDEOBRAIN_REPLY_CACHE": "false",  # every start has to ask anew
                "VIDEOBRAIN_TOOL_TIMEOUT_SECONDS": "600",  # a search that a busy machine cuts short proves nothing
            }
        trial = Trial(file, arguments, environment, start_seconds)
        if model is not None:
            trial.end(home / "warm-up")

        began = time.monotonic()
        alone = trial.end(home / "alone")
        requests, answering.asked = answering.asked, 0
        print(f"left alone: {questions} questions in {time.monotonic() - began:.0f} s")
        struck = kill_again_and_again(
            trial, home / "killed", kills, like=alone, rng=random.Random(seed), at_once=at_once
        )
        ended = trial.end(home / "killed")

    problems = losses(trial, home / "killed", struck)
    at_work = between(struck, questions)
    print(f"{len(struck)} of {kills} kills struck, {at_work} of them between the first and the last line of a start:")
    print("  finished questions at each: " + ", ".join(f"{kill.finished} (+{kill.new})" for kill in struck))
    if at_work == 0:
        problems.append("no kill struck a run at work")
    if len(struck) < kills:
        problems.append("the run came to its end before the last kill")
    if model is None:
        problems += differences(home / "killed", home / "alone")
        if _figures(ended.scores) != _figures(alone.scores):
            problems.append("the figures of the two runs differ")
        spare = len(struck) * AT_ONCE * MOST_REQUESTS
        if answering.asked > requests + spare:
            problems.append(f"{answering.asked} requests and not {requests}: more was asked again than was under way")
        print(f"requests: {requests} left alone, {answering.asked} with kills")
        if not problems:
            print(f"the runs are equal, traces included, but for {', '.join(sorted(TIMES))} and the order of lines")
    else:
        agreed = agreement(home / "killed", home / "alone")
        share = agreed.outcomes / max(agreed.questions, 1)
        print(f"equal outcomes: {agreed.outcomes} of {agreed.questions} ({share:.1%}), target at least {TARGET:.0%}")
        print(f"equal answers: {agreed.answers} of {agreed.questions}")
        if agreed.errors:
            problems.append(f"{agreed.errors} questions failed")
        if share < TARGET:
            problems.append(f"only {share:.1%} of the outcomes are equal")
    for problem in problems[:SHOWN]:
        print(f"  {problem[:400]}")
    print(f"{len(problems)} problems" if problems else "nothing is lost, nothing stands there twice, every trace opens")
    return not problems


def _figures(scores: dict[str, object]) -> object:
    return timeless({name: value for name, value in scores.items() if name != "run"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the videos and of the moments")
    parser.add_argument("--model", help="openai:NAME; without one a deterministic server answers")
    parser.add_argument("--out", type=Path, help="an empty directory that keeps both runs")
    parser.add_argument("more", nargs="*", help="more options of videobrain eval, after --")
    arguments = parser.parse_args()
    print(describe("videobrain"))
    with tempfile.TemporaryDirectory() as temporary:
        passed = measure(
            arguments.out or Path(temporary),
            questions=arguments.questions,
            kills=arguments.kills,
            seed=arguments.seed,
            model=arguments.model,
            more=arguments.more,
        )
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
