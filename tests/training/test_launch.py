"""A training's command is watched: its steps, its failure, its log, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from videobrain.errors import TrainingFailedError
from videobrain.training.verl.launch import Launch, StepDone, read_metrics, run_command, step_of

ROOT = Path(__file__).resolve().parents[2]


def launch(code: str) -> Launch:
    return Launch((sys.executable, "-u", "-c", code), {"VIDEOBRAIN_TEST_WORD": "heard"})


STEPS = """
import os, time
print("Total steps", os.environ["VIDEOBRAIN_TEST_WORD"])
for step in (1, 2):
    who = "\\x1b[36m(TaskRunner pid=7)\\x1b[0m"
    print(f"{who} step:{step} - train/loss:{3.5 / step} - actor/grad_norm:np.float64(1e-05)")
    time.sleep(0.1)
"""


def test_steps_are_told_as_they_are_done_and_kept(tmp_path: Path) -> None:
    told: list[StepDone] = []
    metrics = tmp_path / "metrics.jsonl"
    log = run_command(launch(STEPS), name="try", logs=tmp_path / "logs", metrics=metrics, on_step=told.append)
    assert [done.step for done in told] == [1, 2]
    assert told[1].metrics == {"train/loss": 1.75, "actor/grad_norm": 1e-05}
    assert read_metrics(metrics) == told
    assert "Total steps heard" in log.read_text("utf-8")


def test_metrics_of_a_step_that_was_done_again_count_once(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    for _ in range(2):
        run_command(launch(STEPS), name="try", logs=tmp_path / "logs", metrics=metrics)
    with metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "metr')
    assert [done.step for done in read_metrics(metrics)] == [1, 2]


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("step:3 - train/loss:nan", 3),
        ("Epoch 1/4: 0%|   | 0/2 [00:00<?]step:1 - loss:1", 1),
        ("global_step:1 - loss:1", None),
        ("the step:1 is said", None),
    ],
)
def test_only_lines_of_steps_are_steps(line: str, step: int | None) -> None:
    done = step_of(line)
    assert (None if done is None else done.step) == step


def test_a_failure_says_when_why_and_where(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingFailedError, match=r"after step 2 \(exit status 1\): ValueError: no such frame"
    ) as failed:
        run_command(launch(STEPS + "raise ValueError('no such frame')"), name="try", logs=tmp_path)
    assert failed.value.step == 2
    assert failed.value.log is not None
    assert str(failed.value.log) in str(failed.value)
    worker = "print('(AgentLoopWorkerTQ pid=7) av.error.InvalidDataError: broken.mp4')\n"
    with pytest.raises(TrainingFailedError, match="ValueError: no such frame"):
        run_command(launch(worker + "raise ValueError('no such frame')"), name="try", logs=tmp_path)
    with pytest.raises(TrainingFailedError, match=r"before its first step was done \(exit status 3\)") as early:
        run_command(launch("raise SystemExit(3)"), name="try", logs=tmp_path)
    assert early.value.step is None


def test_nothing_outlives_a_kill(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    inner = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    outer = f"""
import sys
from pathlib import Path
from videobrain.training.verl.launch import Launch, run_command
run_command(Launch((sys.executable, "-c", {inner!r}), {{}}), name="try", logs=Path({str(tmp_path)!r}))
"""
    program = subprocess.Popen([sys.executable, "-c", outer], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not pid_file.exists() or not pid_file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    child = int(pid_file.read_text())
    program.send_signal(signal.SIGKILL)
    program.wait()
    while _is_there(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_validation_belongs_to_its_step(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    code = "print('step:1 - train/loss:3.5'); print('step:1 - val/loss:3.25')"
    run_command(launch(code), name="try", logs=tmp_path / "logs", metrics=metrics)
    assert read_metrics(metrics) == [StepDone(1, {"train/loss": 3.5, "val/loss": 3.25})]
