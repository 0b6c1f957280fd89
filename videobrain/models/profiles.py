"""What is known of model families, as data.

Image costs are estimates for planning how many frames fit; the server has the last word. Sources: the image processors
of transformers 5.23 (`qwen2_vl`, `internvl`, `gemma3`) with the released preprocessor settings of each family, and the
image token rules in OpenAI's and Google's API documentation.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from videobrain.errors import ConfigurationError
from videobrain.models.protocol import ModelProfile
from videobrain.settings import Settings
from videobrain.text import misfits

DEFAULT_PROFILE = ModelProfile()
PROFILE_FILE = "videobrain.json"
"""File in a model's directory: ``{"profile": {…}}`` with fields of `ModelProfile`."""

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


class _ModelFile(BaseModel):
    """The content of `PROFILE_FILE`."""

    model_config = ConfigDict(extra="forbid")

    profile: ModelProfile = DEFAULT_PROFILE


class Manner(NamedTuple):
    """How a model is asked."""

    prompts: str
    """Name of its prompt profile."""
    constrain_replies: bool
    """Replies are to be held to the grammar, where that is possible."""


def manner_of(profile: ModelProfile, settings: Settings) -> Manner:
    """How a model is asked: as the user chose, else as its profile says."""
    chosen = settings.constrain_replies
    return Manner(settings.prompts or profile.prompts, profile.constrain_replies if chosen is None else chosen)


def profile_for(model: str) -> ModelProfile:
    """The profile of a model by its name or directory; `DEFAULT_PROFILE` where the family is not known.

    A directory's ``config.json`` tells the family better than its name, and what its ``videobrain.json`` states wins.
    Both are small, and are read at each call.

    Raises:
        ConfigurationError: The directory's ``videobrain.json`` cannot be used.
    """
    if not _is_directory(model):
        return _of_family(model)
    family = _of_family(_model_type(Path(model)))
    if family is DEFAULT_PROFILE:
        family = _of_family(model)
    stated = stated_profile(model)
    return family.model_copy(update=stated) if stated else family


def stated_profile(model: str) -> dict[str, Any]:
    """The fields of `ModelProfile` that a model's directory states in its ``videobrain.json``; none without the file.

    An `encoder` that is a directory in the model's directory is given with its whole path.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    path = Path(model) / PROFILE_FILE
    if not _is_directory(model) or not path.exists():
        return {}
    try:
        stated = _ModelFile.model_validate_json(path.read_bytes()).profile.model_dump(exclude_unset=True)
    except (OSError, ValidationError) as error:
        hint = f'It must hold {{"profile": {{…}}}} with fields of ModelProfile: {", ".join(ModelProfile.model_fields)}.'
        raise ConfigurationError(f"{path} cannot be used: {_reason(error)}.", hint=hint) from error
    encoder = stated.get("encoder")
    if encoder and (path.parent / encoder).is_dir():
        stated["encoder"] = str((path.parent / encoder).absolute())
    return stated


def _of_family(name: str) -> ModelProfile:
    name = name.lower()
    return next((profile for pattern, profile in _FAMILIES if pattern.search(name)), DEFAULT_PROFILE)


def _is_directory(model: str) -> bool:
    try:
        return bool(model) and Path(model).is_dir()
    except OSError:  # a name too long for a path, for instance
        return False


def _model_type(directory: Path) -> str:
    """What the directory's configuration calls its kind of model; nothing where it does not say."""
    try:
        return str(json.loads((directory / "config.json").read_text("utf-8")).get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return misfits(error, whole="content")
