"""From a model string to a model."""

from __future__ import annotations

import pytest

from videobrain.errors import ConfigurationError
from videobrain.models import ChatModel, OpenAIModel, resolve_model
from videobrain.settings import Settings
from videobrain.testing import FakeServer, ScriptedModel

URL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "VIDEOBRAIN_MODEL"):
        monkeypatch.delenv(name, raising=False)


def test_a_model_is_returned_as_it_is() -> None:
    model = ScriptedModel([])
    assert resolve_model(model) is model
    assert isinstance(model, ChatModel)


@pytest.mark.parametrize(
    ("spec", "name"), [("openai:gpt-4o", "openai:gpt-4o"), (" openai:Qwen/Qwen3-VL ", "openai:Qwen/Qwen3-VL")]
)
def test_openai_strings(spec: str, name: str) -> None:
    model = resolve_model(spec, base_url=URL)
    assert isinstance(model, OpenAIModel)
    assert isinstance(model, ChatModel)
    assert model.name == name


def test_the_setting_names_the_model_where_no_string_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model(None, base_url=URL, settings=Settings(model="openai:a")).name == "openai:a"
    monkeypatch.setenv("VIDEOBRAIN_MODEL", "openai:b")
    assert resolve_model(base_url=URL).name == "openai:b"
    assert resolve_model("openai:c", base_url=URL).name == "openai:c"


@pytest.mark.anyio
@pytest.mark.parametrize("by_environment", [True, False])
async def test_a_lone_server_gives_its_one_model(by_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as server:
        if by_environment:
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        model = resolve_model(None, base_url=None if by_environment else server.base_url)
        assert (await model.capacity()).model == "fake-model"
        await model.aclose()


@pytest.mark.parametrize("url", [None, ""])
def test_a_lone_key_sends_no_video_to_a_paid_service(url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    if url is not None:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    for spec in (None, "", "openai:"):
        with pytest.raises(ConfigurationError, match="--model") as caught:
            resolve_model(spec)
        assert "sk-secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="--model"):
        resolve_model(None, api_key="sk-secret")
    named = resolve_model("openai:gpt-4o")
    assert repr(named) == "OpenAIModel('gpt-4o', base_url='https://api.openai.com/v1')"


def test_a_name_alone_says_where_to_find_its_server() -> None:
    with pytest.raises(ConfigurationError, match=r"OPENAI_BASE_URL.*OPENAI_API_KEY"):
        resolve_model("openai:gpt-4o")


@pytest.mark.parametrize("spec", ["gpt-4o", "vllm:", "local: ", "http://h/v1", "anthropic:x", ":", "tiny:", "Tiny"])
def test_strings_that_are_none(spec: str) -> None:
    with pytest.raises(ConfigurationError, match=r"openai:NAME.*tiny \(the bundled model\)"):
        resolve_model(spec, base_url=URL)


def test_a_bare_name_is_suggested_not_guessed() -> None:
    with pytest.raises(ConfigurationError, match=r"Perhaps openai:gpt-4o\?"):
        resolve_model("gpt-4o", base_url=URL)


@pytest.mark.parametrize("spec", ["vllm:Qwen/Qwen3-VL-8B", "local:some/dir", "tiny"])
def test_models_on_this_machine_take_no_address(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="takes no base URL"):
        resolve_model(spec, base_url=URL)


@pytest.mark.parametrize(
    ("spec", "module", "kind"),
    [
        ("local:some/dir", "videobrain.models.local", "LocalModel"),
        ("vllm:some/dir", "videobrain.models.vllm", "ManagedVLLM"),
    ],
)
def test_models_on_this_machine(spec: str, module: str, kind: str) -> None:
    kinds = pytest.importorskip(module)
    assert isinstance(resolve_model(spec), getattr(kinds, kind))
