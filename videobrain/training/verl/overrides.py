"""verl's configuration as dotted keys with values: written for its command line, and held against its own schema.

A key is written as hydra wants it: ``optim.lr`` sets one that the schema has, ``+engine.mixed_precision`` adds one that
verl reads and its schema leaves out.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from videobrain.errors import ConfigurationError, MissingDependencyError

Overrides = Mapping[str, JsonValue]
"""verl's keys and their values."""

_BARE = re.compile(r"[A-Za-z_./][A-Za-z0-9_./:@-]*")
_WORDS = {"null", "true", "false", "inf", "nan"}
"""What hydra's grammar reads as something else than a text."""
_REFUSED_KEY = re.compile(r"(?:Could not override|Could not append to config\. An item is already at) '([^']+)'")


def arguments(overrides: Overrides) -> list[str]:
    """The overrides as arguments of verl's command."""
    return [f"{key}={_written(value)}" for key, value in overrides.items()]


def _written(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            if _BARE.fullmatch(value) and value.lower() not in _WORDS:
                return value
            # Within quotes hydra takes every character as it is, but for quotes and the backslashes before them.
            return "'" + re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value) + "'"
        case list():
            return f"[{','.join(_written(each) for each in value)}]"
        case dict():
            return "{" + ",".join(f"{_written(key)}:{_written(each)}" for key, each in value.items()) + "}"


def schema_directory() -> Path:
    """Where the installed verl keeps the files of its configuration. verl itself is not imported.

    Raises:
        MissingDependencyError: verl is not installed.
    """
    found = importlib.util.find_spec("verl")
    places = found.submodule_search_locations if found is not None else None
    if not places or importlib.util.find_spec("hydra") is None:
        raise missing_verl()
    return Path(next(iter(places))) / "trainer" / "config"


def missing_verl() -> MissingDependencyError:
    """The error where verl is not installed."""
    if sys.version_info >= (3, 13):  # the extra `train` installs there, without verl
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        return MissingDependencyError(
            f"Training of large models needs verl 0.9, which Python {running} cannot run.",
            hint="Make an environment of Python 3.11 or 3.12, and: pip install 'videobrain[train]'",
            extra="train",
        )
    return MissingDependencyError("Training of large models needs verl.", extra="train")


def composed(schema: str, overrides: Overrides) -> Any:
    """verl's whole configuration (omegaconf) with the overrides in it.

    Args:
        schema: Name of a file of verl's configuration, such as ``sft_trainer_engine``.
        overrides: What is other than verl's default.

    Raises:
        ConfigurationError: The schema does not have a key; the error names it.
        MissingDependencyError: verl is not installed.
    """
    directory = schema_directory()
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    with hydra.initialize_config_dir(config_dir=str(directory), version_base=None):
        try:
            return hydra.compose(config_name=schema, overrides=arguments(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            refused = _REFUSED_KEY.search(str(error))
            if refused is None:
                raise ConfigurationError(f"verl's configuration cannot be composed: {error}") from error
            raise _refusal(refused[1], _keys(hydra.compose(config_name=schema))) from error


def _refusal(key: str, known: Sequence[str]) -> ConfigurationError:
    if key in known:
        return ConfigurationError(f"verl's configuration has {key!r} already.", hint=f"Set it without +: {key}.")
    close = get_close_matches(key, known, n=3)
    like = f"Similar ones: {', '.join(close)}. " if close else ""
    return ConfigurationError(
        f"verl's configuration has no key {key!r}.", hint=f"{like}Write +{key} if verl reads it all the same."
    )


def _keys(config: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name in config:
        node = config._get_node(name)
        found.append(prefix + str(name))
        if hasattr(node, "keys") and not node._is_none() and not node._is_interpolation():
            found += _keys(node, f"{prefix}{name}.")
    return found
