"""What is known of model families."""

from __future__ import annotations

import pytest

from videobrain.models.profiles import DEFAULT_PROFILE, profile_for


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
