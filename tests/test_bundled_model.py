"""`VideoBrain` with a model of the synthetic world: what it searches with, and what it says of other videos."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.index.encoders import ColourEncoder
from videobrain import Limits, ModelProfile, Settings, VideoBrain
from videobrain.agent import VideoBrainStrategy
from videobrain.errors import EncoderUnavailableError
from videobrain.models import bundled, profile_for, resolve
from videobrain.report import render_report
from videobrain.testing import FakeServer, ScriptedModel, make_video
from videobrain.world import World
from videobrain.world import files as world_files

ANSWER = "<thinking>The frames suffice.</thinking>\n<answer>red</answer>"
SEARCH = (
    "<thinking>Look.</thinking>\n<tool_call>"
    + json.dumps({"name": "clip_sample", "arguments": {"start_frame": 0, "end_frame": 40, "prompt": "a red star"}})
    + "</tool_call>"
)
GUESS = "This is a guess"


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, untrained_tiny_model: Path) -> Iterator[None]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "VIDEOBRAIN_MODEL", "VIDEOBRAIN_ENCODER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(bundled, "DIRECTORY", untrained_tiny_model)
    bundled.announce.cache_clear()
    yield
    bundled.announce.cache_clear()


@pytest.fixture(scope="module")
def world() -> World:
    return World(3, duration_seconds=120)


@pytest.fixture(scope="module")
def world_video(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("videos") / "world.mp4")


@pytest.fixture(scope="module")
def other_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("videos") / "other.mp4", seconds=4, fps=10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", decoder="pyav", warm_index=False)


# --- Guesses ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "path"])
@pytest.mark.parametrize("knows", ["synthetic world", None])
async def test_an_answer_about_another_kind_of_video_is_called_a_guess(
    as_bytes: bool, knows: str | None, world_video: Path, other_video: Path, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delattr(world_files, "_header")  # no file is opened a second time
    profile = ModelProfile.model_validate({"knows": knows})
    async with VideoBrain(ScriptedModel([ANSWER] * 3, profile=profile), settings=settings) as brain:
        for video, guess in ((world_video, False), (other_video, knows is not None)):
            answer = await brain.ask(video.read_bytes() if as_bytes else video, "Which colour?")
            assert [warning.startswith(GUESS) for warning in answer.warnings] == [True] * guess
            assert (GUESS in render_report(answer.trace)) == guess
            answer.trace.replay()


@pytest.mark.anyio
async def test_every_strategy_warns(other_video: Path, settings: Settings) -> None:
    profile = ModelProfile(knows="synthetic world")
    for strategy in ("videobrain", "uniform-4"):
        brain = VideoBrain(ScriptedModel([ANSWER], profile=profile), strategy=strategy, settings=settings)
        (warning,) = (await brain.ask(other_video, "Which colour?")).warnings
        assert warning.startswith(GUESS)


# --- Replies held to the grammar -------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wanted", "chosen", "held"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
)
async def test_a_profile_has_replies_held_to_the_grammar_unless_the_user_chose_otherwise(
    wanted: bool, chosen: bool | None, held: bool, other_video: Path, settings: Settings
) -> None:
    model = ScriptedModel([ANSWER], profile=ModelProfile(constrains=True, constrain_replies=wanted))
    brain = VideoBrain(model, settings=settings.model_copy(update={"constrain_replies": chosen}))
    async with brain:
        answer = await brain.ask(other_video, "Which colour?")
        assert (await brain.reach()).constrained == held
    assert (model.requests[0].pattern is not None) == held
    assert answer.warnings == ()


@pytest.mark.anyio
async def test_replies_that_cannot_be_held_are_a_warning_and_not_a_failure(
    other_video: Path, settings: Settings
) -> None:
    model = ScriptedModel([ANSWER], profile=ModelProfile(constrain_replies=True))
    async with VideoBrain(model, settings=settings) as brain:
        (warning,) = (await brain.ask(other_video, "Which colour?")).warnings
        assert not (await brain.reach()).constrained
    assert "cannot hold replies to a grammar" in warning
    assert model.requests[0].pattern is None


# --- The encoder -----------------------------------------------------------------------------------------------------


async def encoder_of_a_question(brain: VideoBrain, video: Path) -> str:
    """The encoder that a call of `clip_sample` used, by the index that it left on disk."""
    from videobrain.index import IndexStore

    async with brain:
        answer = await brain.ask(video, "Which colour?")
    assert answer.usage.tool_calls == {"clip_sample": 1}
    (entry,) = IndexStore(brain.settings).list()
    return entry.encoder


@pytest.mark.anyio
async def test_the_models_own_encoder_is_used_where_nobody_chose_one(
    untrained_tiny_model: Path, tiny_random_encoder: Path, other_video: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own, other = str(untrained_tiny_model / "encoder"), str(tiny_random_encoder)
    profile = profile_for(str(untrained_tiny_model))

    async def used(case: str, *, encoder: str | ColourEncoder | None = None, **chosen: str) -> str:
        settings = Settings(cache_dir=tmp_path / case, decoder="pyav", warm_index=False, **chosen)  # type: ignore[arg-type]
        model = ScriptedModel([SEARCH, ANSWER], profile=profile)
        return await encoder_of_a_question(VideoBrain(model, encoder=encoder, settings=settings), other_video)

    assert await used("nobody") == own
    assert await used("setting", encoder=None, **{"encoder_dtype": "float32"}) == own
    assert await used("argument", encoder=other) == other
    assert await used("object", encoder=ColourEncoder()) == ColourEncoder().name
    monkeypatch.setenv("VIDEOBRAIN_ENCODER", other)
    assert await used("environment") == other


@pytest.mark.anyio
async def test_a_setting_that_names_the_default_encoder_was_chosen_too(other_video: Path, settings: Settings) -> None:
    default = Settings.model_fields["encoder"].default
    chosen = settings.model_copy(update={"encoder": default, "offline": True, "cache_dir": settings.cache_dir / "none"})
    model = ScriptedModel([SEARCH, ANSWER], profile=ModelProfile(encoder="local-dir:/nowhere"))
    answer = await VideoBrain(model, settings=chosen).ask(other_video, "Which colour?")
    told = next(event.outcome.text for event in answer.trace.events if event.kind == "tool_finished")
    assert default.removeprefix("hf-hub:") in told
    assert "/nowhere" not in told


@pytest.mark.anyio
async def test_a_server_may_serve_the_directory(untrained_tiny_model: Path, other_video: Path, tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path / "cache", decoder="pyav", warm_index=False)
    with FakeServer([SEARCH, ANSWER], models=[str(untrained_tiny_model)]) as server:
        brain = VideoBrain(base_url=server.base_url, api_key="none", settings=settings)
        assert await encoder_of_a_question(brain, other_video) == str(untrained_tiny_model / "encoder")
        system = server.requests[0]["messages"][0]["content"]
    assert system.startswith("Answer a question about a video. Tools:")  # the compact prompts


@pytest.mark.anyio
async def test_searching_uses_the_encoder_of_the_model_that_is_named(
    untrained_tiny_model: Path, other_video: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = str(untrained_tiny_model / "encoder")
    looked_in: list[threading.Thread] = []

    def look() -> Path:
        looked_in.append(threading.current_thread())
        return untrained_tiny_model

    monkeypatch.setattr(resolve, "bundled_model", look)
    for model, setting in ((f"local:{untrained_tiny_model}", None), (None, "tiny")):
        async with VideoBrain(model, settings=settings.model_copy(update={"model": setting})) as brain:
            assert len(await brain.search(other_video, "a red star", k=2)) == 2
            assert (await brain.index(other_video)).encoder.name == own
    assert looked_in
    assert threading.current_thread() not in looked_in
    async with VideoBrain("tiny", settings=settings) as brain:
        assert (await brain.index(other_video)).encoder.name == own


@pytest.mark.anyio
async def test_searching_with_nothing_configured_is_not_left_to_the_bundled_model(
    other_video: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    brain = VideoBrain(settings=settings.model_copy(update={"offline": True}))
    with pytest.raises(EncoderUnavailableError, match="SigLIP2"):
        await brain.search(other_video, "a corner kick")
    assert not caplog.records


# --- The bundled model -----------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.timeout(240)
async def test_the_bundled_model_is_asked_where_none_is_configured(
    world: World, world_video: Path, other_video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(cache_dir=tmp_path, constrain_replies=True, text_characters=40, offline=True)
    question = next(question for question in world.questions if question.options)
    with caplog.at_level(logging.WARNING, "videobrain"):
        async with VideoBrain(strategy=VideoBrainStrategy(), limits=Limits(turns=1), settings=settings) as brain:
            ours = await brain.ask(world_video, question.question, options=question.options)
            others = await brain.ask(other_video, question.question, options=question.options)
    assert ours.trace.events[0].model == "tiny"
    assert [answer.choice in set("ABCD") for answer in (ours, others)] == [True, True]
    assert sum("No model is configured" in record.getMessage() for record in caplog.records) == 1
    assert not any(warning.startswith(GUESS) for warning in ours.warnings)
    assert any(warning.startswith(GUESS) for warning in others.warnings)
