"""Rollouts as applications ask, with what they are worth; and those that are left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from videobrain.agent import Trace
from videobrain.errors import ModelConnectionError, ModelError, RolloutError, VideoError
from videobrain.limits import Limits
from videobrain.recipe import Recipe
from videobrain.testing import make_video
from videobrain.training.player import Player, PlaySettings
from videobrain.training.reward_spec import RewardSpec, TermSpec
from videobrain.training.rollout import Rollout
from videobrain.training.sample import TrainingSample
from videobrain.training.token_model import Sampled, Sampling
from videobrain.training.verl.figures import rollout_figures, validation_figures

CALL = '<tool_call>{"name": "uniform_sample", "arguments": {"start_frame": 10, "end_frame": 60}}</tool_call>'
LOOKS = ["<thinking>Not enough.</thinking>" + CALL, "<thinking>Red.</thinking><answer>A</answer>"]
GUESSES = ["<thinking>I guess.</thinking><answer>B</answer>"]


def fails(rollout: Rollout) -> float:
    raise ZeroDivisionError("a bug")


@pytest.fixture(scope="module")
def processor(tiny_random_model: Path) -> Any:
    import transformers

    return transformers.AutoProcessor.from_pretrained(tiny_random_model)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> TrainingSample:
    video = make_video(tmp_path_factory.mktemp("videos") / "made.mp4", seconds=8, fps=10, size=(96, 64))
    return TrainingSample(
        key="q/1", video=str(video), question="Which?", task="choice", options=("red", "blue"), correct_option=0
    ).of_class("Active")


def settings_for(model: Path, directory: Path, **other: Any) -> PlaySettings:
    settings = {"initial_frames": 2, "warm_index": False, "offline": True, "cache_dir": str(directory)}
    recipe = Recipe(
        model=None,
        base_url=None,
        tools=("uniform_sample",),
        encoder=None,
        strategy="videobrain",
        limits=other.pop("limits", Limits()),
        settings=settings,
    )
    return PlaySettings(**{"model": str(model), "recipe": recipe, "traces": directory / "rollouts", **other})


@pytest.fixture
async def player(processor: Any, tiny_random_model: Path, tmp_path: Path) -> AsyncIterator[Player]:
    async with Player(processor, settings_for(tiny_random_model, tmp_path)) as player:
        yield player


def saying(processor: Any, replies: Sequence[str]) -> Any:
    left = iter(replies)

    async def generate(prompt: Sequence[int], images: Sequence[Any], sampling: Sampling) -> Sampled:
        tokenizer = processor.tokenizer
        ids = [*tokenizer.encode(next(left), add_special_tokens=False), tokenizer.eos_token_id]
        return Sampled(ids, [-1.0] * len(ids))

    return generate


@pytest.mark.anyio
async def test_a_rollout_and_what_it_is_worth(
    player: Player, processor: Any, sample: TrainingSample, tmp_path: Path
) -> None:
    looked, guessed = await asyncio.gather(
        player.play(sample, saying(processor, LOOKS), name="step-1/q/1-0"),
        player.play(sample, saying(processor, GUESSES), name="step-1/q/1-1"),
    )
    assert looked.worth.total == 1.55
    assert guessed.worth.total == 0.05
    assert len(looked.trajectory.images) == 10
    figures = looked.figures()
    assert (figures["class"], figures["tool_used"], figures["frames"], figures["reward_behaviour"]) == (
        "Active",
        1,
        10,
        0.5,
    )
    trace = Trace.load(tmp_path / "rollouts" / "step-1" / "q" / "1-0.jsonl")
    assert trace.answer is not None
    assert trace.answer.choice == "A"
    told = json.loads((tmp_path / "rollouts" / "step-1" / "q" / "1-1.reward.json").read_text("utf-8"))
    assert (told["reward"], told["accuracy"], told["violations"]) == (0.05, 0, [])

    logged = rollout_figures([figures, guessed.figures()], ["q", "q"], group_size=4)
    assert logged["rollout/accuracy"] == logged["rollout/Active/tool_used"] == 0.5
    assert logged["rollout/left_out"] == 0.5
    assert logged["rollout/groups_without_signal"] == 0
    cheaper = {**figures, "reward_behaviour": 0.0}  # as right, and worth less
    others = rollout_figures([figures, figures, figures, cheaper], ["q", "q", "r", "r"], group_size=2)
    assert others["rollout/groups_without_signal"] == 0.5
    assert logged["rollout/reward_behaviour"] == 0.25
    validated = validation_figures([figures, guessed.figures()], asked=3)
    assert validated["validation/accuracy"] == validated["validation/Active/tool_used"] == 0.5
    assert validated["validation/left_out"] == pytest.approx(1 / 3)
    assert validation_figures([], asked=2) == {"validation/left_out": 1}


@pytest.mark.anyio
async def test_names_keep_to_the_directory(
    player: Player, processor: Any, sample: TrainingSample, tmp_path: Path
) -> None:
    await player.play(sample, saying(processor, GUESSES), name="../../outside/a b")
    (written,) = await anyio.to_thread.run_sync(lambda: list(tmp_path.rglob("*.jsonl")))
    assert written.relative_to(tmp_path).parts[0] == "rollouts"


@pytest.mark.anyio
async def test_a_video_that_cannot_be_read(player: Player, processor: Any, sample: TrainingSample) -> None:
    other = sample.model_copy(update={"video": __file__})
    with pytest.raises(RolloutError, match="NotAVideoError") as failed:
        await player.play(other, saying(processor, GUESSES))
    assert isinstance(failed.value.__cause__, VideoError)


@pytest.mark.anyio
async def test_a_model_that_fails_leaves_its_trace(
    player: Player, processor: Any, sample: TrainingSample, tmp_path: Path
) -> None:
    async def generate(prompt: Sequence[int], images: Sequence[Any], sampling: Sampling) -> Sampled:
        raise ModelError("The server is gone.")

    with pytest.raises(RolloutError, match=r"The server is gone\."):
        await player.play(sample, generate, name="failed")
    told = json.loads((tmp_path / "rollouts" / "failed.reward.json").read_text("utf-8"))
    assert "The server is gone." in told["left_out"]
    assert Trace.load(tmp_path / "rollouts" / "failed.jsonl").answer is None


@pytest.mark.anyio
async def test_an_answer_that_nobody_can_judge(player: Player, processor: Any, sample: TrainingSample) -> None:
    words = TrainingSample(key="q2", video=sample.video, question="Which?", task="open", answer="red")
    with pytest.raises(RolloutError, match="how right the answer to 'q2' is"):
        await player.play(words, saying(processor, ["<thinking>Red.</thinking><answer>red</answer>"]))


@pytest.mark.anyio
async def test_a_run_that_the_clock_cuts(
    processor: Any, sample: TrainingSample, tiny_random_model: Path, tmp_path: Path
) -> None:
    first = saying(processor, LOOKS[:1])
    asked = 0

    async def generate(prompt: Sequence[int], images: Sequence[Any], sampling: Sampling) -> Sampled:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.sleep(60)
        return await first(prompt, images, sampling)

    settings = settings_for(tiny_random_model, tmp_path, limits=Limits(seconds=8))
    async with Player(processor, settings) as player:
        with pytest.raises(RolloutError, match="cut by the clock"):
            await player.play(sample, generate)


@pytest.mark.anyio
async def test_a_run_that_the_clock_makes_answer(
    processor: Any, sample: TrainingSample, tiny_random_model: Path, tmp_path: Path
) -> None:
    replies = saying(processor, [LOOKS[0], LOOKS[1]])

    async def generate(prompt: Sequence[int], images: Sequence[Any], sampling: Sampling) -> Sampled:
        if len(images) <= 2:
            await asyncio.sleep(5)  # of six seconds, which leaves time for an answer alone
        return await replies(prompt, images, sampling)

    settings = settings_for(tiny_random_model, tmp_path, limits=Limits(seconds=6))
    async with Player(processor, settings) as player:
        with pytest.raises(RolloutError, match="cut by the clock"):
            await player.play(sample, generate)


@pytest.mark.anyio
async def test_subtitles_that_cannot_be_read_are_left_away_as_in_an_evaluation(
    player: Player, processor: Any, sample: TrainingSample, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.srt"
    await anyio.Path(broken).write_bytes(bytes(range(256)))
    played = await player.play(
        sample.model_copy(update={"subtitles": str(broken)}), saying(processor, GUESSES), name="s"
    )
    assert played.trajectory.replies == 1
    assert "the subtitles of 'q/1' cannot be used" in caplog.text


@pytest.mark.anyio
async def test_a_reward_that_fails(
    processor: Any, sample: TrainingSample, tiny_random_model: Path, tmp_path: Path
) -> None:
    reward = RewardSpec(terms=(TermSpec(measure=f"{__name__}:fails"),))
    async with Player(processor, settings_for(tiny_random_model, tmp_path, reward=reward)) as player:
        with pytest.raises(RolloutError, match="ZeroDivisionError: a bug"):
            await player.play(sample, saying(processor, GUESSES), name="failed")
    told = json.loads((tmp_path / "rollouts" / "failed.reward.json").read_text("utf-8"))
    assert "ZeroDivisionError" in told["left_out"]


@pytest.mark.anyio
async def test_a_tool_that_fails_is_none_of_the_policys_doing(
    processor: Any, sample: TrainingSample, tiny_random_model: Path, tmp_path: Path
) -> None:
    settings = settings_for(tiny_random_model, tmp_path)
    recipe = settings.recipe.model_copy(update={"settings": {**settings.recipe.settings, "tool_timeout_seconds": 1e-6}})
    async with Player(processor, settings.model_copy(update={"recipe": recipe})) as player:
        with pytest.raises(RolloutError, match="A tool of the run of 'q/1' failed: "):
            await player.play(sample, saying(processor, LOOKS))


@pytest.mark.anyio
async def test_rollouts_that_cannot_be_kept_count(
    processor: Any, sample: TrainingSample, tiny_random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "rollouts").write_text("a file in the place of the directory", "utf-8")
    async with Player(processor, settings_for(tiny_random_model, tmp_path)) as player:
        played = await player.play(sample, saying(processor, GUESSES), name="kept")
    assert played.rollout.answer == "B"


@pytest.mark.anyio
async def test_a_judge_that_cannot_be_asked_ends_a_training_at_once(
    processor: Any, tiny_random_model: Path, tmp_path: Path
) -> None:
    nobody = {"judge": "openai:judge", "judge_base_url": "http://127.0.0.1:9/v1"}
    settings = settings_for(tiny_random_model, tmp_path, **nobody)
    recipe = settings.recipe.model_copy(update={"settings": {**settings.recipe.settings, "retries": 0}})
    with pytest.raises(ModelConnectionError):
        async with Player(processor, settings.model_copy(update={"recipe": recipe})):
            pass
