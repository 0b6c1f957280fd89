"""Fixtures around real models: a tiny random one, and a vLLM that serves it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from anyio.from_thread import start_blocking_portal

BUILD = Path(__file__).with_name("build.sh")
CPU_SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


class VLLMServer(NamedTuple):
    """A running vLLM that serves `tiny_random_model` and nothing else."""

    base_url: str
    api_key: str
    model: str


def default_environment() -> Path:
    """Where `build.sh` is told to build; kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videobrain-environments" / "verl-0.9.1"


@pytest.fixture(scope="session")
def tiny_random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random vision-language model, for ``local:`` and ``vllm:``."""
    pytest.importorskip("transformers")
    from videobrain.models.tiny_random import make_tiny_random_model

    return make_tiny_random_model(tmp_path_factory.mktemp("models") / "tiny-random")


@pytest.fixture(scope="session")
def tiny_random_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random frame encoder."""
    pytest.importorskip("open_clip")
    from videobrain.index.tiny_random import make_tiny_random_encoder

    return make_tiny_random_encoder(tmp_path_factory.mktemp("encoders") / "tiny-random")


@pytest.fixture(scope="session")
def untrained_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a model laid out as the bundled one, with its profile and its own encoder, and random weights."""
    pytest.importorskip("transformers")
    pytest.importorskip("open_clip")
    from videobrain.index.tiny_random import make_tiny_random_encoder
    from videobrain.training.tiny.model import TinyShape, make_tiny_model, save_tiny_model
    from videobrain.training.tiny.tokenizer import make_tiny_processor

    shape = TinyShape(text_hidden=64, text_layers=1, text_heads=2, text_key_heads=1, text_inner=64, vision_hidden=32)
    processor = make_tiny_processor()
    directory = tmp_path_factory.mktemp("models") / "untrained-tiny"
    save_tiny_model(make_tiny_model(processor, shape), processor, directory)
    make_tiny_random_encoder(directory / "encoder", seed=1)
    profile = {
        "name": "tiny",
        "image_min_tokens": 4,
        "image_max_tokens": 4,
        "native_tools": False,
        "prompts": "compact",
        "encoder": "encoder",
        "knows": "synthetic world",
    }
    (directory / "videobrain.json").write_text(json.dumps({"profile": profile}), "utf-8")
    return directory


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """Python of an environment with vLLM: VIDEOBRAIN_TEST_VLLM (it or its directory), else what `build.sh` built."""
    named = os.environ.get("VIDEOBRAIN_TEST_VLLM")
    place = Path(named) if named else default_environment()
    python = place / "bin" / "python" if place.is_dir() else place
    if (python.parent / "vllm").exists():
        return python
    if named:
        pytest.fail(f"VIDEOBRAIN_TEST_VLLM is {named}, and there is no vllm in it")
    pytest.skip(f"no vLLM in {place}; build it with {BUILD} {place}, or name another in VIDEOBRAIN_TEST_VLLM")


@pytest.fixture(scope="session")
def verl_python(vllm_python: Path) -> Path:
    """Python of an environment with verl: the same one; it finds videobrain where the tests do, by PYTHONPATH."""
    if not list(vllm_python.parent.parent.glob("lib/python3.*/site-packages/verl/version/version")):
        pytest.skip(f"no verl beside {vllm_python}; build an environment with {BUILD}")
    return vllm_python


@pytest.fixture(scope="session")
def vllm_command(vllm_python: Path) -> str:
    """For the setting `vllm_command`."""
    return str(vllm_python.parent / "vllm")


@pytest.fixture(scope="session")
def vllm_arguments() -> Iterator[str]:
    """For the setting `vllm_arguments`; while it is in use, environment variables make a small server on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CPU_SETTINGS.items():
            if name not in os.environ:
                patch.setenv(name, value)
        yield "--dtype bfloat16 --enforce-eager --max-num-seqs 8 --enable-auto-tool-choice --tool-call-parser hermes"


@pytest.fixture(scope="session")
def vllm_server(
    vllm_command: str, vllm_arguments: str, tiny_random_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VLLMServer]:
    """One real vLLM for all tests; it is up after 20 to 60 seconds."""
    from videobrain.models.vllm import ManagedVLLM
    from videobrain.settings import Settings

    key = "key-of-the-tests"
    settings = Settings(
        vllm_command=vllm_command,
        vllm_arguments=vllm_arguments,
        vllm_start_seconds=600,
        offline=True,
        cache_dir=tmp_path_factory.mktemp("vllm"),
    )
    model = ManagedVLLM(str(tiny_random_model), settings=settings)
    with start_blocking_portal() as portal:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VLLM_API_KEY", key)
            capacity = portal.call(model.capacity)
        try:
            assert model.base_url is not None
            yield VLLMServer(model.base_url, key, capacity.model)
        finally:
            portal.call(model.aclose)
