"""Batches of questions: what is asked, what is kept, what ends a run and how it goes on."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from evaluation.runs import ANSWER, Answers, Bench, brain_at, loaded, question

from tests.evaluation.test_results import full_disk
from videobrain import Settings, VideoBrain
from videobrain.agent import Trace
from videobrain.errors import (
    ConfigurationError,
    EncoderUnavailableError,
    EvaluationStoppedError,
    InputError,
    VideoError,
)
from videobrain.evaluation.asking import ask_sample
from videobrain.evaluation.concurrency import FIRST
from videobrain.evaluation.judge import Judge
from videobrain.evaluation.manifest import Manifest, told
from videobrain.evaluation.merging import merge_runs
from videobrain.evaluation.progress import Progress
from videobrain.evaluation.record import Prediction
from videobrain.evaluation.results import RunDirectory, read_manifest, read_results
from videobrain.evaluation.runner import evaluate
from videobrain.evaluation.sample import Sample
from videobrain.evaluation.scores import Scores, score_run
from videobrain.limits import Limits
from videobrain.models import OpenAIModel
from videobrain.result import Span
from videobrain.testing import FakeServer, Fault, ScriptedModel
from videobrain.tools import ToolError, tool
from videobrain.world import WorldQuestion

pytestmark = pytest.mark.anyio


# --- A whole run -----------------------------------------------------------------------------------------------------


async def test_a_whole_run_is_kept_and_scored(bench: Bench) -> None:
    bench.rows[4] |= {"video": "lost.mp4"}
    bench.rows[5] |= {"slices": {"type": "colour"}}
    scores = await bench.run()
    assert (scores.questions, scores.total.questions, scores.total.correct, scores.total.errors) == (11, 11, 7, 0)
    assert (scores.missing_videos, scores.missing_questions) == (1, 1)
    assert scores.slices["type"]["colour"].questions == 1
    assert scores.total.efficiency.frames == 4
    assert bench.answers.times == dict.fromkeys({*range(12)} - {4}, 1)

    records = read_results(bench.home / "run")
    assert {record.sample.key for record in records} == {f"q{number}" for number in range(12)} - {"q4"}
    one = next(record for record in records if record.sample.key == "q0")
    assert (one.benchmark, one.model, one.strategy) == ("plain", "openai:fake-model", "videobrain")
    assert one.prediction == Prediction(text="A", choice="A")
    assert (one.stop_reason, one.seen_seconds) == ("answered", (0.0, 0.25, 0.5, 0.75))
    assert one.usage.input_tokens == 10
    trace = Trace.load(bench.home / "run" / (one.trace or ""))
    assert trace.answer is not None
    assert trace.answer.choice == "A"
    assert not any(frame.jpeg for frame in trace.frames().values())

    manifest = read_manifest(bench.home / "run")
    assert (manifest.benchmark, manifest.split, manifest.model) == ("plain", "questions", "openai:fake-model")
    assert {record.settings for record in records} == {manifest.settings_digest}
    first, last = bench.moments[0], bench.moments[-1]
    assert (first.done, last.done, last.questions, last.correct, last.scored) == (0, 11, 11, 7, 11)
    assert last.accuracy == scores.total.accuracy.value if scores.total.accuracy else False
    assert (last.frames_per_question, last.missing_videos) == (4.0, 1)


async def test_questions_on_one_video_follow_each_other_and_so_many_run_at_once(bench: Bench) -> None:
    await bench.run(concurrency=1)
    assert bench.answers.asked == [*range(0, 12, 3), *range(1, 12, 3), *range(2, 12, 3)]
    assert bench.answers.most_at_once == 1
    bench.answers = Answers(seconds=0.2)
    await bench.run("three", concurrency=3)
    assert bench.answers.most_at_once == 3
    assert bench.essence("three") == bench.essence()


async def test_frames_are_kept_where_they_are_asked_for_and_a_brain_is_entered(bench: Bench) -> None:
    benchmark = loaded(bench.home, bench.videos, bench.rows[:1])
    with FakeServer(bench.answers) as server:
        brain = brain_at(server.base_url, bench.home)
        await evaluate(benchmark, brain, bench.home / "run", keep_frames=True)
        assert not brain.entered
        assert server.open_connections == 0
    (record,) = read_results(bench.home / "run")
    assert all(frame.jpeg for frame in Trace.load(bench.home / "run" / (record.trace or "")).frames().values())


async def test_nothing_of_a_finished_question_stays_in_memory(bench: Bench) -> None:
    alive: list[int] = []

    def count(progress: Progress) -> None:
        gc.collect()
        alive.append(sum(type(each) is Trace for each in gc.get_objects()))

    before = sum(type(each) is Trace for each in gc.get_objects())
    await bench.run(on_progress=count, concurrency=1)
    assert len(alive) == 13
    assert max(alive[1:]) <= before + 2  # the one that was just written, with and without its frames


async def test_strategies_by_name(bench: Bench) -> None:
    bench.rows = bench.rows[:3]
    for name, frames in (("uniform-2", 2), ("blind", 0)):
        scores = await bench.run(name, how={"strategy": name})
        assert (scores.strategy, scores.total.efficiency.frames) == (name, frames)


# --- Going on --------------------------------------------------------------------------------------------------------


async def test_a_run_whose_frames_cannot_be_searched_does_not_begin(bench: Bench) -> None:
    searching = {"tools": None, "encoder": str(bench.home / "no-encoder")}
    with pytest.raises(EncoderUnavailableError, match=r"no-encoder.*--tool uniform_sample"):
        await bench.run(how=searching)
    assert not bench.answers.asked
    await bench.run("blind", how={**searching, "strategy": "blind"})
    assert len(bench.essence("blind")) == len(bench.rows)


async def test_a_second_start_asks_only_what_is_missing(bench: Bench) -> None:
    await bench.run(limit=5)
    assert len(bench.answers.asked) == 5
    await bench.run()
    assert bench.answers.times == dict.fromkeys(range(12), 1)
    assert bench.moments[-1].earlier == 5
    whole = bench.essence()
    results = bench.home / "run" / "results.jsonl"
    written = results.read_bytes()
    results.write_bytes(written[: -len(written.splitlines()[-1]) // 2])
    await bench.run()
    assert len(bench.answers.asked) == 13
    assert bench.essence() == whole


async def test_another_setting_is_another_run(bench: Bench) -> None:
    await bench.run(limit=1)
    with pytest.raises(ConfigurationError, match=r"limits is .*\"turns\": 6.*, not .*\"turns\": 2"):
        await bench.run(how={"limits": Limits(turns=2)})
    with pytest.raises(ConfigurationError, match="the strategy is 'videobrain', not 'blind'"):
        await bench.run(how={"strategy": "blind"})
    assert len(bench.answers.asked) == 1


async def test_one_run_at_a_time_in_a_directory(bench: Bench) -> None:
    bench.answers.seconds = 0.3
    first = asyncio.create_task(bench.run(concurrency=1))
    while not (bench.home / "run" / "run.json").exists():  # noqa: ASYNC110  # the file system gives no events
        await asyncio.sleep(0.01)
    other = Bench(bench.home, bench.videos)
    with pytest.raises(ConfigurationError, match="Another process works on the run"):
        await other.run()
    await first
    assert (other.answers.asked, len(bench.essence())) == ([], 12)


async def test_a_cancelled_run_leaves_whole_lines_and_goes_on(bench: Bench) -> None:
    bench.answers.seconds = 0.05
    task = asyncio.create_task(bench.run(concurrency=2))
    while len(bench.answers.asked) < 5:  # noqa: ASYNC110  # they are counted in the server's threads
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    kept = bench.essence()
    assert 0 < len(kept) < 12
    assert not list((bench.home / "run").rglob("*.part"))
    finished = {int(key[1:]) for key in kept}
    await bench.run()
    assert len(bench.essence()) == 12
    assert all(bench.answers.times[number] == 1 for number in finished)


async def test_a_run_that_ran_out_of_time_lets_others_write(bench: Bench) -> None:
    bench.answers.seconds = 0.5
    with anyio.move_on_after(1):
        await bench.run(concurrency=1)
    assert len(bench.essence()) < 12
    bench.answers.seconds = 0.0
    await bench.run()
    assert len(bench.essence()) == 12


# --- Errors ----------------------------------------------------------------------------------------------------------


async def test_a_failed_question_is_a_record_and_is_asked_again_on_request(bench: Bench) -> None:
    bench.answers.faults = {1: [Fault.context_length()], 5: [Fault.status(400, "no")]}
    scores = await bench.run()
    assert (scores.total.errors, scores.total.questions) == (2, 12)
    failed = {record.sample.key: record for record in read_results(bench.home / "run") if record.error}
    assert set(failed) == {"q1", "q5"}
    assert "maximum context length is 4096" in (failed["q1"].error or "")
    assert (failed["q1"].error or "").startswith("ContextLengthError: ")
    assert Trace.load(bench.home / "run" / (failed["q1"].trace or "")).events[-1].kind == "failed"

    await bench.run()
    assert len(bench.answers.asked) == 12
    scores = await bench.run(retry_errors=True)
    assert bench.answers.times == {**dict.fromkeys(range(12), 1), 1: 2, 5: 2}
    assert (scores.total.errors, len(bench.essence())) == (0, 12)


async def test_a_question_whose_server_was_gone_is_asked_again_in_any_case(bench: Bench) -> None:
    bench.answers.faults = {1: [Fault.status(400, "out of paper")], 5: [Fault.disconnect(), Fault.disconnect()]}
    scores = await bench.run(how={"retries": 1})
    assert scores.total.errors == 2
    scores = await bench.run(how={"retries": 1})
    assert scores.total.errors == 1
    assert bench.answers.times == {**dict.fromkeys(range(12), 1), 5: 3}


async def test_too_many_errors_end_the_run_with_their_causes(bench: Bench) -> None:
    bench.answers.faults = {number: [Fault.status(400, "out of paper")] for number in range(12)}
    with pytest.raises(EvaluationStoppedError) as stopped:
        await bench.run(max_errors=3, concurrency=1)
    assert "3 of 3 questions failed" in str(stopped.value)
    assert '3 x RequestRejectedError: The server answered 400: "out of paper"' in str(stopped.value)
    assert "--retry-errors" in str(stopped.value)
    assert len(bench.answers.asked) == 3
    scores = await bench.run(retry_errors=True, max_errors=None)
    assert (scores.total.errors, scores.total.questions) == (9, 12)


async def test_a_few_failures_among_many_questions_do_not_end_a_run(bench: Bench) -> None:
    bench.rows = [question(number) for number in range(50)]
    bench.answers.faults = {number: [Fault.status(400, "out of paper")] for number in (44, 47)}  # the last two
    scores = await bench.run(max_errors=2, concurrency=1)
    assert (scores.total.questions, scores.total.errors, scores.passing_errors) == (50, 2, 0)


async def test_an_error_of_the_server_is_asked_again_and_counted_apart(bench: Bench) -> None:
    bench.answers.faults = {1: [Fault.status(503, "busy")], 2: [Fault.status(429, "slow")], 3: [Fault.status(400, "x")]}
    scores = await bench.run(how={"retries": 0})
    assert (scores.total.errors, scores.passing_errors) == (3, 2)
    scores = await bench.run(how={"retries": 0})
    assert (scores.total.errors, scores.passing_errors) == (1, 0)
    assert bench.answers.times == {**dict.fromkeys(range(12), 1), 1: 2, 2: 2}


async def test_a_tool_that_fails_is_seen_in_the_figures(bench: Bench) -> None:
    @tool
    async def look() -> str:
        """Look."""
        raise ToolError("The lens is broken.")

    call = '<thinking>t</thinking><tool_call>{"name": "look", "arguments": {}}</tool_call>'
    bench.answers.faults = {0: [call]}
    scores = await bench.run(how={"tools": [look]}, limit=2)
    assert (scores.failed_tools, scores.total.errors, scores.limit) == (1, 0, 2)
    (record,) = [record for record in read_results(bench.home / "run") if record.usage.failed_calls]
    assert record.warnings == ("look failed: The lens is broken.",)
    assert (await bench.run(how={"tools": [look]})).limit is None


async def test_a_cancelled_task_within_a_tool_is_that_questions_error(bench: Bench) -> None:
    class Lost:
        name = "lost"

        async def run(self, run: Any) -> Any:
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task

    scores = await bench.run(how={"strategy": Lost()}, limit=2)
    assert (scores.total.questions, scores.total.errors) == (2, 2)
    assert {record.error for record in read_results(bench.home / "run")} == {"CancelledError: "}


async def test_strategies_of_ones_own_are_told_apart_by_what_they_hold(bench: Bench) -> None:
    class Own:
        name = "own"

        def __init__(self, frames: int) -> None:
            self.frames = frames
            self.check = str.isalpha

        async def run(self, run: Any) -> Any:
            raise VideoError("no")

    await bench.run(how={"strategy": Own(4)}, limit=1)
    await bench.run(how={"strategy": Own(4)}, limit=1)  # another object, and the same strategy
    with pytest.raises(ConfigurationError, match=r'strategy is .*"frames": 4.*, not .*"frames": 5'):
        await bench.run(how={"strategy": Own(5)}, limit=1)


def test_what_a_value_is_has_no_address_and_copies_nothing() -> None:
    model = ScriptedModel([])
    loop: dict[str, Any] = {"path": Path("a/b"), "set": {2, 1}, "model": model, "read": partial(len, (1,))}
    loop["self"] = loop
    assert told([loop, asyncio.Lock]) == [
        {
            "path": "a/b",
            "set": [1, 2],
            "model": {"videobrain.testing.scripted.ScriptedModel": {"name": model.name}},
            "read": {"partial": ["builtins.len", [[1]], {}]},
            "self": "...",
        },
        "asyncio.locks.Lock",
    ]


async def test_an_error_of_all_questions_ends_the_run_at_once(bench: Bench) -> None:
    bench.answers.faults = {number: [Fault.unauthorized()] for number in range(12)}
    with pytest.raises(EvaluationStoppedError, match=r"Every question fails with AuthenticationError: .* API key"):
        await bench.run(concurrency=1)
    assert (len(bench.answers.asked), bench.essence()) == (1, {})


async def test_a_bug_in_a_tool_of_ones_own_is_that_questions_error(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name = "broken"

        async def run(self, run: Any) -> Any:
            return {}["frames"]

    scores = await bench.run(how={"strategy": Broken()}, limit=1)
    assert scores.total.errors == 1
    (record,) = read_results(bench.home / "run")
    assert record.error == "KeyError: 'frames'"
    assert "question 'q0' failed" in caplog.text


async def test_a_full_disk_stops_the_run_and_a_second_start_goes_on(bench: Bench) -> None:
    await bench.run("whole")
    await bench.run(limit=4)
    (bench.home / "cache").mkdir(exist_ok=True)
    with (
        full_disk((bench.home / "run" / "results.jsonl").stat().st_size + 10),
        pytest.raises(EvaluationStoppedError, match="cannot be written to"),
    ):
        await bench.run(concurrency=1)
    assert len(bench.essence()) == 4
    await bench.run()
    assert bench.essence() == bench.essence("whole")


async def test_what_cannot_be_asked(bench: Bench) -> None:
    bench.rows = [question(0, video="lost.mp4")]
    with pytest.raises(InputError, match="None of the 1 videos of Own questions is there"):
        await bench.run("other")
    for wrong in ({"concurrency": 0}, {"limit": 0}, {"max_errors": 0}, {"shard": "3/2"}):
        with pytest.raises(ConfigurationError):
            await bench.run("other", **wrong)  # type: ignore[arg-type]
    assert not (bench.home / "other").exists()


async def test_a_question_about_a_part_of_a_video(bench: Bench) -> None:
    bench.rows = [question(0, clip=[0.5, 1.0])]
    await bench.run()
    (record,) = read_results(bench.home / "run")
    assert record.seen_seconds == (0.5, 0.75)  # of the whole video


async def test_spans_are_seconds_of_the_whole_video(bench: Bench) -> None:
    bench.rows = [question(0, options=None, answer=None, spans=[[0.5, 0.75]], clip=[0.5, 1.0])]
    bench.answers.faults = {0: [ANSWER.format("[[0, 0.25]]")]}
    scores = await bench.run()
    assert (scores.total.correct, scores.total.errors) == (1, 0)
    (record,) = read_results(bench.home / "run")
    assert record.prediction is not None
    assert record.prediction.spans == ((0.5, 0.75),)


async def test_evidence_is_a_second_run_of_the_same_question(bench: Bench) -> None:
    sample = Sample(
        key="q", video="a.mp4", question="Which?", task="choice", options=("red", "blue"), clip=Span(0.5, 1.0)
    )
    manifest = Manifest(
        benchmark="b",
        split="test",
        model="m",
        strategy="videobrain",
        settings={"evidence": True},
        settings_digest="0",
    )
    model = ScriptedModel([ANSWER.format("A"), ANSWER.format("[[0, 0.25]]")])
    settings = Settings(decoder="pyav", cache_dir=bench.home / "cache", warm_index=False)
    async with model, VideoBrain(model, settings=settings) as brain:
        finished = await ask_sample(brain, sample, bench.videos / "a.mp4", manifest, on_event=lambda event: None)
    record = finished.record
    assert record.prediction == Prediction(text="A", choice="A", spans=(Span(0.5, 0.75),))
    assert (record.usage.turns, record.usage.frames, record.seen_seconds) == (2, 4, (0.5, 0.75))
    assert finished.trace is not None
    assert finished.trace.answer is not None
    assert finished.trace.answer.choice == "A"
    assert finished.evidence is not None
    assert finished.evidence.answer is not None
    assert finished.evidence.answer.spans == (Span(0, 0.25),)
    with RunDirectory(bench.home / "run", manifest) as run:
        written = run.write(record, finished.trace.dump(), finished.evidence.dump())
    merge_runs([bench.home / "run"], bench.home / "merged")
    assert written.trace != written.evidence_trace
    for name, trace in ((written.trace, finished.trace), (written.evidence_trace, finished.evidence)):
        assert (bench.home / "merged" / str(name)).read_bytes() == trace.dump()
    scores = score_run(bench.home / "merged")
    assert scores.own == {}  # the question has no true span here


async def test_evidence_is_asked_for_of_any_benchmark(bench: Bench) -> None:
    bench.rows = [question(0, spans=[[0, 0.25]])]
    bench.answers.faults = {0: [ANSWER.format("B"), ANSWER.format("[[0, 0.25]]")]}
    scores = await bench.run("asked", evidence=True)
    (record,) = read_results(bench.home / "asked")
    assert record.prediction == Prediction(text="B", choice="B", spans=(Span(0, 0.25),))
    assert record.evidence_trace
    assert scores.grounding is not None
    assert scores.grounding.miou.value == 1
    bench.answers.faults = {0: [ANSWER.format("B")]}
    await bench.run("not")
    assert read_results(bench.home / "not")[0].evidence_trace is None
    with pytest.raises(ConfigurationError, match="evidence is true, not false"):
        await bench.run("asked")


async def test_questions_are_asked_with_their_subtitles(bench: Bench) -> None:
    bodies: list[str] = []
    answers = bench.answers

    def listening(body: dict[str, Any]) -> str | Fault:
        bodies.append(json.dumps(body))
        return answers(body)

    bench.answers = cast(Answers, listening)
    subtitles = bench.home / "a.srt"
    cues = ["00:00:10,000 --> 00:00:10,400\nToo early.", "00:00:10,600 --> 00:00:10,900\nRed it is."]
    subtitles.write_text("\n\n".join(f"{number}\n{cue}" for number, cue in enumerate(cues, start=1)), "utf-8")
    bench.rows = [question(0, subtitles="a.srt", subtitles_start_seconds=10.0, clip=[0.5, 1.0])]
    scores = await bench.run()
    assert "Red it is." in bodies[0]
    assert "Too early." not in bodies[0]
    assert (scores.with_subtitles, scores.without_subtitles) == (1, 0)
    assert read_results(bench.home / "run")[0].warnings == ()

    assert (await bench.run("none", subtitles=False)).with_subtitles == 0
    assert "Red it is." not in bodies[1]
    with pytest.raises(ConfigurationError, match="subtitles is true, not false"):
        await bench.run(subtitles=False)
    bench.rows = [question(0, subtitles_start_seconds=10.0, clip=[0.5, 1.0])]  # it has none any more
    assert (await bench.run("none", subtitles=False)).total.questions == 1
    assert not (bench.home / "none" / "superseded.jsonl").exists()
    bench.rows = [question(0, subtitles="a.srt", subtitles_start_seconds=10.0, clip=[0.5, 1.0])]

    subtitles.write_text("no cue", "utf-8")
    scores = await bench.run("broken")
    (record,) = read_results(bench.home / "broken")
    assert (scores.with_subtitles, scores.without_subtitles) == (0, 1)
    assert (record.error, record.prediction) == (None, Prediction(text="A", choice="A"))
    assert record.warnings[0].startswith("Asked without its subtitles: ")
    assert len(bodies) == 3


async def test_a_run_that_ends_without_an_answer_is_unanswered(bench: Bench) -> None:
    for limits in (Limits(corrections=0), Limits(corrections=0, on_limit="raise")):
        bench.rows = [question(0)]
        bench.answers.faults = {0: ["Hm."]}
        scores = await bench.run(limits.on_limit, how={"limits": limits})
        assert (scores.total.unanswered, scores.total.errors) == (1, 0)
        assert read_results(bench.home / limits.on_limit)[0].stop_reason == "corrections"


# --- Concurrency -----------------------------------------------------------------------------------------------------


async def test_a_server_that_refuses_for_load_is_asked_less(bench: Bench) -> None:
    bench.answers = Answers({number: [Fault.rate_limit(0.01)] for number in (0, 3)}, seconds=0.1)
    await bench.run()
    assert bench.moments[0].concurrency == FIRST
    assert bench.moments[-1].concurrency in (FIRST // 2, FIRST // 4)
    assert len(bench.essence()) == 12


# --- Answers in words ------------------------------------------------------------------------------------------------


class Verdicts:
    """What a judge's `FakeServer` says: the answer to question 1 is right, others are wrong.

    Args:
        unsure: Numbers of questions about which it says nothing that can be used.
    """

    def __init__(self, *unsure: int) -> None:
        self.unsure = unsure
        self.asked: list[int] = []

    def __call__(self, body: dict[str, Any]) -> str:
        number = int(re.findall(r"Question (\d+)", json.dumps(body))[-1])
        self.asked.append(number)
        return "Well." if number in self.unsure else json.dumps({"reason": "So it is.", "correct": number == 1})


async def judged(bench: Bench, verdicts: Verdicts, *, name: str = "judge", up: bool = True) -> Scores:
    with FakeServer(verdicts, models=[name]) as server:
        address = server.base_url if up else "http://127.0.0.1:9/v1"
        model = OpenAIModel(name, base_url=address, settings=Settings(retries=0))
        async with aclosing(model):
            return await bench.run(judge=Judge(model, corrections=0))


async def test_a_judge_judges_answers_in_words_once(bench: Bench) -> None:
    bench.rows = [question(number, options=None, answer="red") for number in range(3)] + [question(3)]
    scores = await bench.run()
    assert (scores.total.unscored, scores.judged.causes if scores.judged else {}) == (3, {"not_judged": 3})

    first = Verdicts(0)
    scores = await judged(bench, first)
    assert sorted(first.asked) == [0, 1, 2]
    assert (scores.total.correct, scores.total.incorrect, scores.total.missing_verdicts) == (1, 2, 1)
    assert scores.judged is not None
    assert (scores.judged.judged, scores.judged.causes) == (2, {"unusable_reply": 1})
    last = bench.moments[-1]
    assert (last.to_judge, last.judged, last.missing_verdicts) == (3, 3, 1)
    assert scores.total.accuracy is not None
    assert last.accuracy == scores.total.accuracy.value

    second = Verdicts()
    scores = await judged(bench, second)
    assert (second.asked, scores.total.missing_verdicts) == ([0], 0)
    assert (bench.moments[-1].to_judge, bench.moments[-1].judged, bench.moments[-1].scored) == (1, 1, 4)
    assert (await judged(bench, Verdicts(), up=False)).total == scores.total  # nobody is asked
    assert len(bench.answers.asked) == 4

    merge_runs([bench.home / "run"], bench.home / "merged")
    assert score_run(bench.home / "merged").judged == scores.judged
    other = Verdicts(1)
    assert (await judged(bench, other, name="other")).total.missing_verdicts == 1
    assert sorted(other.asked) == [0, 1, 2]
    with pytest.raises(ConfigurationError, match=r"verdicts of 2 kinds: judge='openai:judge'.*--judge"):
        await bench.run()
    assert score_run(bench.home / "run", judge="openai:judge").total == scores.total


async def test_a_judge_that_is_away_costs_no_answer(bench: Bench) -> None:
    bench.rows = [question(number, options=None, answer="red") for number in range(2)]
    with pytest.raises(
        EvaluationStoppedError, match=r"openai:judge cannot judge them: ModelConnectionError.*judges them"
    ):
        await judged(bench, Verdicts(), up=False)
    assert len(bench.essence()) == 2
    assert (await judged(bench, Verdicts())).total.unscored == 0
    assert len(bench.answers.asked) == 2


async def test_questions_of_the_synthetic_world_score_themselves(bench: Bench) -> None:
    def world(number: int, truth: str) -> dict[str, Any]:
        made = WorldQuestion(
            key=f"q{number}", video="a.mp4", question="?", options=None, answer=truth, kind="direct", template="t",
            held_out=False, spans=(), frame_count=4, calls=(),
        )  # fmt: skip
        return question(number, options=None, answer=truth, extra={"world": made.model_dump(mode="json")})

    bench.rows = [world(0, "A"), world(1, "red")]
    scores = await bench.run(judge=Judge(ScriptedModel([])))  # which is not asked
    assert (scores.total.correct, scores.total.incorrect, scores.total.unscored) == (1, 1, 0)
    assert bench.moments[-1].correct == 1


async def test_reach_names_the_one_model_of_a_server(bench: Bench) -> None:
    benchmark = loaded(bench.home, bench.videos, bench.rows[:1])
    with FakeServer(bench.answers) as server:
        async with VideoBrain(
            "openai:",
            base_url=server.base_url,
            tools=["uniform_sample"],
            settings=brain_at(server.base_url, bench.home).settings,
        ) as b:
            assert (await b.reach()).model == "openai:fake-model"
            await evaluate(benchmark, b, bench.home / "run")
    assert json.loads((bench.home / "run" / "run.json").read_text())["model"] == "openai:fake-model"
