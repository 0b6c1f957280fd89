"""What is known of model families, as data.

Image costs are estimates for planning how many frames fit; the server has the last word. Sources: the image processors
of transformers 5.23 (`qwen2_vl`, `internvl`, `gemma3`) with the released preprocessor settings of each family, and the
image token rules in OpenAI's and Google's API documentation.
"""

from __future__ import annotations

import re

from videobrain.models.protocol import ModelProfile

DEFAULT_PROFILE = ModelProfile()

_QWEN3_VL = ModelProfile(name="qwen3-vl", image_patch=32, image_min_tokens=64)  # patch 16 x merge 2, 65,536 pixels up
_QWEN2_VL = ModelProfile(name="qwen2-vl", image_patch=28)  # patch 14 x merge 2
# Tiles of 448 x 448 with 256 tokens each: two and a thumbnail for 16:9, whatever the frame size (4:3 takes up to 13).
_INTERNVL = ModelProfile(name="internvl", image_patch=28, image_min_tokens=768, image_max_tokens=3328)
_GEMMA = ModelProfile(name="gemma", image_min_tokens=256, image_max_tokens=256)
# Tiles of 512 x 512: 85 tokens and 170 a tile, from two tiles to six (where a small image is enlarged first).
_GPT = ModelProfile(
    name="gpt",
    image_min_tokens=425,
    image_max_tokens=1105,
    image_extra_tokens=0,
    max_tokens_field="max_completion_tokens",
)
_GPT_REASONING = _GPT.model_copy(update={"name": "gpt-reasoning", "sends_temperature": False, "sends_seed": False})
_GEMINI = ModelProfile(name="gemini", image_min_tokens=258, image_extra_tokens=0)

_FAMILIES: tuple[tuple[re.Pattern[str], ModelProfile], ...] = tuple(
    (re.compile(pattern), profile)
    for pattern, profile in (
        (r"qwen[-_.]?3", _QWEN3_VL),
        (r"qwen[-_.]?2|qvq", _QWEN2_VL),
        (r"glm-?4(\.\d)?v", _QWEN2_VL.model_copy(update={"name": "glm-4v"})),
        (r"internvl", _INTERNVL),
        (r"gemma-?[34]", _GEMMA),
        (r"gemini", _GEMINI),
        (r"(^|/)(gpt-[5-9]|o[1-9](-|$))", _GPT_REASONING),
        (r"(^|/)(chatgpt|gpt-4)", _GPT),
    )
)
"""First match wins, on the lower-case name."""


def profile_for(model_name: str) -> ModelProfile:
    """The profile of a model by its name or directory; `DEFAULT_PROFILE` where the family is not known."""
    name = model_name.lower()
    return next((profile for pattern, profile in _FAMILIES if pattern.search(name)), DEFAULT_PROFILE)
