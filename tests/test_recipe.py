"""What a `VideoBrain` is made of, written down and made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from videobrain import Limits, Settings, VideoBrain, tool
from videobrain.agent.strategies import VideoBrainStrategy
from videobrain.errors import ConfigurationError
from videobrain.recipe import Recipe, recipe_of
from videobrain.testing import ScriptedModel

SERVER = "http://server/v1"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "VIDEOBRAIN_MODEL", "VIDEOBRAIN_TEMPERATURE"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_made_of_a_recipe_has_the_same_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOBRAIN_TEMPERATURE", "0.5")
    brain = VideoBrain(
        "openai:m",
        base_url=SERVER,
        tools=["uniform_sample"],
        strategy="uniform-8",
        limits=Limits(turns=2, seconds=1.5),
        settings=Settings(cache_dir=tmp_path, seed=None, encoder="a/b"),
    )
    recipe = recipe_of(brain)
    assert recipe.settings == {"cache_dir": str(tmp_path), "seed": None, "encoder": "a/b", "temperature": 0.5}
    monkeypatch.delenv("VIDEOBRAIN_TEMPERATURE")
    again = VideoBrain(**Recipe.model_validate_json(recipe.model_dump_json()).arguments())
    assert recipe_of(again) == recipe
    assert (again.settings.temperature, again.settings.cache_dir, again.limits.turns) == (0.5, tmp_path, 2)
    assert ([each.name for each in again.tools], again.strategy.name) == (["uniform_sample"], "uniform-8")


def test_the_server_of_the_environment_is_named_where_the_model_is_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", SERVER)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert recipe_of(VideoBrain("openai:m")).base_url == recipe_of(VideoBrain()).base_url == SERVER
    assert recipe_of(VideoBrain("vllm:m")).base_url is None
    assert "secret" not in recipe_of(VideoBrain("openai:m")).model_dump_json()


def test_objects_and_keys_are_not_sent() -> None:
    @tool
    async def shout() -> str:
        """Shout."""
        return "!"

    for brain, what in (
        (VideoBrain(ScriptedModel([])), "The model 'scripted'"),
        (VideoBrain("openai:m", base_url=SERVER, tools=[shout]), "The tool 'shout'"),
        (
            VideoBrain("openai:m", base_url=SERVER, strategy=VideoBrainStrategy(min_calls=2)),
            "The strategy 'videobrain'",
        ),
        (VideoBrain("openai:m", base_url=SERVER, api_key="secret"), "OPENAI_API_KEY"),
        (VideoBrain(), "No model is named"),
    ):
        with pytest.raises(ConfigurationError, match=what) as refused:
            recipe_of(brain)
        assert "secret" not in str(refused.value)
