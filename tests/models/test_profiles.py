"""What is known of model families."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from videobrain.errors import ConfigurationError
from videobrain.models import ModelProfile
from videobrain.models.local import LocalModel
from videobrain.models.profiles import DEFAULT_PROFILE, PROFILE_FILE, profile_for
from videobrain.models.vllm import ManagedVLLM


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl"),
        ("/models/qwen3_vl_2b", "qwen3-vl"),
        ("Qwen/Qwen2.5-VL-7B-Instruct-AWQ", "qwen2-vl"),
        ("Qwen2-VL-2B", "qwen2-vl"),
        ("zai-org/GLM-4.5V", "glm-4v"),
        ("OpenGVLab/InternVL3_5-8B", "internvl"),
        ("google/gemma-3-4b-it", "gemma"),
        ("gpt-4o-mini", "gpt"),
        ("openai/gpt-4.1", "gpt"),
        ("gpt-5", "gpt-reasoning"),
        ("openai/gpt-5.1-mini", "gpt-reasoning"),
        ("o3", "gpt-reasoning"),
        ("o4-mini", "gpt-reasoning"),
        ("models/gemini-2.5-pro", "gemini"),
        ("llava-hf/llava-onevision", "default"),
        ("foo3", "default"),
    ],
)
def test_families_by_name(name: str, family: str) -> None:
    assert profile_for(name).name == family


@pytest.mark.parametrize(
    ("name", "width", "height", "tokens"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", 640, 360, 20 * 11),  # round(11.25) = 11
        ("Qwen/Qwen3-VL-8B-Instruct", 448, 252, 14 * 8),
        ("Qwen/Qwen3-VL-8B-Instruct", 64, 64, 64),  # enlarged to 65,536 pixels
        ("Qwen/Qwen2.5-VL-7B-Instruct", 640, 360, 23 * 13),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 320, 180, 11 * 6),
        ("google/gemma-3-4b-it", 640, 360, 256),
        ("OpenGVLab/InternVL3-8B", 448, 252, 3 * 256),
    ],
)
def test_image_tokens(name: str, width: int, height: int, tokens: int) -> None:
    profile = profile_for(name)
    assert profile.image_tokens(width, height) == tokens + profile.image_extra_tokens


def test_qwen_image_tokens_are_those_of_its_image_processor() -> None:
    smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
    for name, factor, smallest in (("Qwen3-VL-8B", 32, 65536), ("Qwen2.5-VL-7B", 28, 3136)):
        profile = profile_for(name)
        for width, height in ((640, 360), (448, 252), (320, 180), (360, 640), (640, 272), (202, 360)):
            high, wide = smart_resize(height, width, factor=factor, min_pixels=smallest, max_pixels=16777216)
            expected = high * wide // factor**2
            tokens = profile.image_tokens(width, height) - profile.image_extra_tokens
            # Enlarging below the smallest size keeps the aspect, so it may round up by a row or a column.
            assert tokens == expected or (expected >= tokens == profile.image_min_tokens), (name, width, height)


def test_what_openais_models_want() -> None:
    assert profile_for("gpt-4o").max_tokens_field == "max_completion_tokens"
    assert profile_for("gpt-4o").sends_temperature
    assert not profile_for("gpt-5-mini").sends_temperature
    assert not profile_for("gpt-5-mini").sends_seed
    assert DEFAULT_PROFILE.max_tokens_field == "max_tokens"
    assert not any(profile_for(name).constrains for name in ("Qwen3-VL-8B", "gpt-4o", "x"))


# --- Directories -----------------------------------------------------------------------------------------------------


def directory_with(path: Path, *, model_type: str | None = None, **profile: object) -> str:
    path.mkdir(parents=True, exist_ok=True)
    if model_type is not None:
        (path / "config.json").write_text(json.dumps({"model_type": model_type}), "utf-8")
    if profile:
        (path / PROFILE_FILE).write_text(json.dumps({"profile": profile}), "utf-8")
    return str(path)


def test_a_directorys_configuration_tells_its_family_better_than_its_name(tmp_path: Path) -> None:
    assert profile_for(directory_with(tmp_path / "a", model_type="qwen2_5_vl")).name == "qwen2-vl"
    assert profile_for(directory_with(tmp_path / "gemma-3", model_type="qwen3_vl")).name == "qwen3-vl"
    assert profile_for(directory_with(tmp_path / "internvl", model_type="something_new")).name == "internvl"
    assert profile_for(directory_with(tmp_path / "b")) is DEFAULT_PROFILE


def test_what_a_directory_states_wins_and_the_rest_is_its_familys(tmp_path: Path) -> None:
    model = directory_with(tmp_path, model_type="qwen2_5_vl", name="mine", prompts="compact", max_images=9)
    family = profile_for("Qwen/Qwen2.5-VL-7B-Instruct")
    assert profile_for(model) == family.model_copy(update={"name": "mine", "prompts": "compact", "max_images": 9})


def test_an_encoder_of_its_own_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory_with(tmp_path / "m", encoder="encoder")
    (tmp_path / "m" / "encoder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert profile_for("m").encoder == str(tmp_path / "m" / "encoder")
    assert profile_for(directory_with(tmp_path / "n", encoder="hf-hub:a/b")).encoder == "hf-hub:a/b"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "Invalid JSON"),
        ("", "Invalid JSON"),
        ("[]", "content"),
        ('{"profile": {"promts": "compact"}}', "profile.promts: Extra inputs"),
        ('{"profile": {"image_patch": "wide"}}', "profile.image_patch: Input should be a valid integer"),
        ('{"profile": {"knows": "football"}}', "profile.knows: Input should be 'synthetic world'"),
        ('{"profiles": {}}', "profiles: Extra inputs"),
    ],
)
def test_a_broken_profile_is_told_with_its_file(content: str, cause: str, tmp_path: Path) -> None:
    file = tmp_path / PROFILE_FILE
    file.write_text(content, "utf-8")
    for make in (profile_for, LocalModel, ManagedVLLM):
        with pytest.raises(ConfigurationError) as caught:
            make(str(tmp_path))
        assert f"{file} cannot be used: " in caught.value.message
        assert cause in caught.value.message
        assert "image_patch" in caught.value.hint


def test_a_profile_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / PROFILE_FILE).mkdir()
    with pytest.raises(ConfigurationError, match="Is a directory"):
        profile_for(str(tmp_path))


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b"])
def test_names_that_can_be_no_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory_with(tmp_path, prompts="compact")
    monkeypatch.chdir(tmp_path)  # an empty path would mean it
    assert profile_for(name) is DEFAULT_PROFILE


@pytest.mark.anyio
async def test_a_directory_is_asked_alike_in_process_and_through_vllm(untrained_tiny_model: Path) -> None:
    local, served = LocalModel(str(untrained_tiny_model)), ManagedVLLM(str(untrained_tiny_model))
    assert local.profile == served.profile
    await local.capacity()  # what the processor says changes nothing
    assert local.profile == served.profile
    assert isinstance(local.profile, ModelProfile)
    assert (local.profile.prompts, local.profile.native_tools) == ("compact", False)
    assert local.profile.encoder == str(untrained_tiny_model / "encoder")
    assert local.profile.image_tokens(128, 128) == 4 + local.profile.image_extra_tokens
    await local.aclose()
