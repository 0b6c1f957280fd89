"""The model that comes with the package: what its name and an empty configuration mean."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from videobrain.errors import ConfigurationError, MissingDependencyError
from videobrain.models import bundled, resolve_model
from videobrain.models.local import LocalModel
from videobrain.models.resolve import own_encoder
from videobrain.settings import Settings


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "VIDEOBRAIN_MODEL"):
        monkeypatch.delenv(name, raising=False)
    bundled.announce.cache_clear()
    yield
    bundled.announce.cache_clear()


@pytest.fixture
def tiny(untrained_tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bundled, "DIRECTORY", untrained_tiny_model)
    return untrained_tiny_model


@pytest.mark.parametrize("by_setting", [True, False])
def test_its_name_means_its_directory(by_setting: bool, tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = resolve_model(None, settings=Settings(model=" tiny ")) if by_setting else resolve_model("tiny")
    assert isinstance(model, LocalModel)
    assert model.name == "tiny"
    assert model.profile == LocalModel(str(tiny)).profile
    assert not caplog.records


def test_with_nothing_configured_it_answers_and_says_so_once(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert [resolve_model(spec).name for spec in (None, "", None)] == ["tiny"] * 3
    (record,) = caplog.records
    assert record.name.startswith("videobrain")
    for said in ("No model is configured", "'tiny'", "synthetic world", "VIDEOBRAIN_MODEL", "OPENAI_BASE_URL"):
        assert said in record.getMessage()


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "api_key"])
def test_a_lone_key_is_no_empty_configuration(variable: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable == "OPENAI_API_KEY":
        monkeypatch.setenv(variable, "sk-secret")
    with pytest.raises(ConfigurationError, match="API key alone"):
        resolve_model(api_key="sk-secret" if variable == "api_key" else None)


@pytest.mark.parametrize("holds", [(), ("config.json",), ("model.safetensors",)])
def test_where_it_is_missing(holds: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "DIRECTORY", tmp_path / "tiny")
    for name in holds:
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / name).touch()
    for spec, begins in (("tiny", "The bundled"), (None, "No model is configured. The bundled")):
        with pytest.raises(ConfigurationError, match=rf"^{begins} model is missing: {tmp_path}.*train tiny.*--model"):
            resolve_model(spec)
    with pytest.raises(ConfigurationError, match="is missing"):
        own_encoder("tiny")


def test_without_the_packages_that_run_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for spec, begins in (("tiny", "The bundled"), (None, "No model is configured. The bundled")):
        with pytest.raises(MissingDependencyError, match=rf"^{begins} model tiny needs torch") as caught:
            resolve_model(spec)
        assert "pip install 'videobrain[local]'" in caught.value.hint
        assert "OPENAI_BASE_URL" in caught.value.hint
        assert caught.value.extra == "local"


def test_the_encoder_of_a_model_string(tiny: Path, tmp_path: Path) -> None:
    mine = str(tiny / "encoder")
    assert [own_encoder(spec) for spec in ("tiny", f"local:{tiny}", f" vllm: {tiny} ")] == [mine] * 3
    assert own_encoder(f"local:{tmp_path}") is None
    assert own_encoder("vllm:Qwen/Qwen3-VL-8B-Instruct") is None
    assert own_encoder(f"openai:{tiny}") is None
    with pytest.raises(ConfigurationError, match="no model string"):
        own_encoder("gpt")


def test_meaning_it_imports_no_framework(tiny: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from videobrain import VideoBrain
from videobrain.models import bundled
bundled.DIRECTORY = Path({str(tiny)!r})
VideoBrain("tiny")
print([name for name in ("torch", "transformers", "open_clip") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
