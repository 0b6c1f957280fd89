"""Where the files of an open_clip model lie: a directory, the model hub's cache, or the hub itself."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videobrain.errors import EncoderUnavailableError, MissingDependencyError

SHORT_NAMES = {
    "siglip2": "hf-hub:timm/ViT-B-16-SigLIP2",
    "siglip-so400m": "hf-hub:timm/ViT-SO400M-14-SigLIP-384",
}
"""Names for the two encoders of the VideoBrain paper: of its inference code, and of its README."""

_HUB, _LOCAL = "hf-hub:", "local-dir:"
_CONFIG = "open_clip_config.json"
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
# In the order open_clip prefers them; one that is found ends the search, so no model is fetched in two formats.
_HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "*.model",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
)
_CONNECT_SECONDS = 3.0
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True, slots=True)
class Weights:
    """All that open_clip needs to build a model without asking anybody.

    Attributes:
        model: For `open_clip.create_model_from_pretrained`: ``local-dir:…`` or the name of an architecture it knows.
        checkpoint: The weights of a known architecture; None where the directory holds them.
        tokenizer: Directory of a Hugging Face tokenizer; None for open_clip's own byte-pair encoding.
        text_config: The ``text_cfg`` part of the model's configuration.
        tag: What open_clip knows about the weights of a known architecture, such as their normalisation.
    """

    model: str
    checkpoint: Path | None
    tokenizer: Path | None
    text_config: Mapping[str, Any]
    tag: Mapping[str, Any] = field(default_factory=dict)


def hub_is_off_limits(offline: bool) -> bool:
    """Whether the settings or the environment forbid asking the hub."""
    return offline or any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in _OFFLINE_VARIABLES)


def require(*packages: str) -> None:
    """Raise `MissingDependencyError` unless all packages are installed; imports none of them."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(f"The frame encoder needs the package {package}.", extra="local")


def find_weights(name: str, *, offline: bool) -> Weights:
    """Find the files of a model, fetching them from the hub where that is allowed and needed.

    Args:
        name: ``hf-hub:OWNER/MODEL``, ``local-dir:PATH``, a directory, one of `SHORT_NAMES`, or from open_clip's own
            table ``ARCHITECTURE/PRETRAINED`` or ``ARCHITECTURE``.
        offline: Look only on disk.

    Raises:
        EncoderUnavailableError: There is no such model, or it is not on disk and the hub cannot be asked.
        MissingDependencyError: The extra is not installed.
    """
    name = SHORT_NAMES.get(name.lower(), name)
    offline = hub_is_off_limits(offline)
    if name.startswith(_HUB):
        require("huggingface_hub")
        directory = _from_hub(name.removeprefix(_HUB), (_CONFIG, *_TOKENIZER_FILES), _HUB_WEIGHTS, offline)
        return _in_directory(directory, offline)
    if name.startswith(_LOCAL):
        return _in_directory(Path(name.removeprefix(_LOCAL)), offline)
    if Path(name).is_dir():
        return _in_directory(Path(name), offline)
    return _known_architecture(name, offline)


def weights_on_disk(name: str) -> bool:
    """Whether `find_weights` would succeed offline. Quick: imports no framework, so that for names of open_clip's own
    table the answer is no until open_clip has been imported.
    """
    short = SHORT_NAMES.get(name.lower(), name)
    known_name = not short.startswith((_HUB, _LOCAL)) and not Path(short).is_dir()
    if known_name and "open_clip" not in sys.modules:
        return False
    try:
        find_weights(name, offline=True)
    except (EncoderUnavailableError, MissingDependencyError):
        return False
    return True


def _in_directory(directory: Path, offline: bool) -> Weights:
    try:
        config = json.loads((directory / _CONFIG).read_text("utf-8"))
        text_config = config["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderUnavailableError(
            f"{directory} holds no open_clip model: {_CONFIG} cannot be read ({error}).",
            hint="Name a directory made by open_clip's push_to_hf_hub or save, with its configuration and weights.",
        ) from error
    if not any(path.suffix in _WEIGHT_SUFFIXES for path in directory.iterdir()):
        raise EncoderUnavailableError(f"{directory} holds an open_clip configuration but no weights.")
    return Weights(f"{_LOCAL}{directory}", None, _tokenizer(text_config, directory, offline), text_config)


def _known_architecture(name: str, offline: bool) -> Weights:
    require("open_clip")
    import open_clip
    from open_clip.pretrained import download_pretrained_from_url

    # Architectures may be written with a slash (ViT-B/32), and a pretrained tag may be a path: the longest name wins.
    cuts = [len(name), *(i for i in range(len(name) - 1, 0, -1) if name[i] == "/")]
    known = set(open_clip.list_models())
    cut = next((i for i in cuts if name[:i].replace("/", "-") in known), None)
    if cut is None:
        raise EncoderUnavailableError(
            f"open_clip knows no model {name!r}.",
            hint="Name one as hf-hub:OWNER/MODEL, local-dir:PATH or ARCHITECTURE/PRETRAINED; for the last form see "
            "open_clip.list_pretrained().",
        )
    architecture, tag_name = name[:cut].replace("/", "-"), name[cut + 1 :]
    text_config = open_clip.get_model_config(architecture)["text_cfg"]
    if tag_name and Path(tag_name).is_file():
        return Weights(architecture, Path(tag_name), _tokenizer(text_config, None, offline), text_config)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    tag_name = tag_name or (tags[0] if len(tags) == 1 else "")
    tag = open_clip.get_pretrained_cfg(architecture, tag_name) if tag_name else None
    if not tag:
        raise EncoderUnavailableError(
            f"{name!r} does not say which weights of {architecture} to use.",
            hint=f"open_clip has: {', '.join(f'{architecture}/{each}' for each in tags) or 'none'}.",
        )
    repository, _, file = str(tag.get("hf_hub", "")).rpartition("/")
    if repository:
        directory = _from_hub(repository, (), (file,) if file else _HUB_WEIGHTS, offline)
        checkpoint = next(path for path in map(directory.joinpath, (file, *_HUB_WEIGHTS)) if path.is_file())
    else:
        checkpoint = Path("~/.cache/clip").expanduser() / Path(tag["url"]).name
        if not checkpoint.is_file():
            if offline:
                raise _not_on_disk(name)
            checkpoint = Path(download_pretrained_from_url(tag["url"]))
    return Weights(architecture, checkpoint, _tokenizer(text_config, None, offline), text_config, tag)


def _tokenizer(text_config: Mapping[str, Any], directory: Path | None, offline: bool) -> Path | None:
    """Directory of the tokenizer: the model's own where it holds one, else the one on the hub that it names."""
    repository = text_config.get("hf_tokenizer_name")
    if not repository:
        return None
    require("transformers")
    if directory is not None and any((directory / name).is_file() for name in _TOKENIZER_FILES[:2]):
        return directory
    return _from_hub(repository, _TOKENIZER_FILES, _TOKENIZER_FILES[:2], offline)


def _from_hub(repository: str, files: tuple[str, ...], one_of: tuple[str, ...], offline: bool) -> Path:
    """Directory of a hub repository's snapshot with all of `files` that it has and the first it has of `one_of`."""
    from huggingface_hub import snapshot_download

    def snapshot(local_only: bool, patterns: tuple[str, ...]) -> Path | None:
        try:
            found = snapshot_download(repository, allow_patterns=list(patterns), local_files_only=local_only)
        except (OSError, ValueError) as error:  # the hub's own errors are OSErrors; a malformed id is a ValueError
            if local_only:
                return None
            raise EncoderUnavailableError(
                f"{repository} cannot be fetched from the model hub: {error}", hint="Check the name and the connection."
            ) from error
        directory = Path(found)
        return directory if any((directory / name).is_file() for name in one_of) else None

    directory = snapshot(True, files)
    # A snapshot that another program began may lack the configuration.
    if directory is not None and (_CONFIG not in files or (directory / _CONFIG).is_file()):
        return directory
    if offline:
        raise _not_on_disk(repository)
    _check_connection(repository)
    for name in one_of:
        directory = snapshot(False, (*files, name))
        if directory is not None:
            return directory
    raise EncoderUnavailableError(f"The hub's {repository} holds none of {', '.join(one_of)}.")


def _check_connection(repository: str) -> None:
    """Ask once, briefly: the hub's own client tries for half a minute when it cannot reach anything."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_CONNECT_SECONDS)
    except Exception as error:  # the session is of requests, httpx or httpx2, by version
        raise EncoderUnavailableError(
            f"{repository} is not in the model hub's cache on this machine, and {constants.ENDPOINT} cannot be reached "
            f"({error}).",
            hint="Connect once to fetch it, or name a directory with its files as local-dir:PATH.",
        ) from error


def _not_on_disk(name: str) -> EncoderUnavailableError:
    return EncoderUnavailableError(
        f"The weights of {name} are not on this machine, and videobrain is told to stay offline.",
        hint="Fetch them once without VIDEOBRAIN_OFFLINE and HF_HUB_OFFLINE, or name a directory as local-dir:PATH.",
    )
