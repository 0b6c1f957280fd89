"""Encoders of open_clip: small models with random weights, loaded as the big ones are."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.index.encoders import save_clip, save_siglip
from videobrain.errors import EncoderUnavailableError, MissingDependencyError
from videobrain.index import FrameEncoder, OpenClipEncoder, weights
from videobrain.settings import Settings
from videobrain.video.frame import Pixels

pytest.importorskip("open_clip", reason="the extra local is not installed")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_siglip(tmp_path_factory.mktemp("models") / "siglip")


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model hub's cache with nothing in it."""
    from huggingface_hub import constants

    path = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(path))
    return path


def pictures(count: int) -> list[Pixels]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (36 + i, 64, 3), dtype=np.uint8) for i in range(count)]


def loaded(name: object, **changes: object) -> OpenClipEncoder:
    encoder = OpenClipEncoder(str(name), settings=Settings(offline=True, **changes))
    encoder.load()
    return encoder


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_embeddings_are_those_of_open_clip(kind: str, request: pytest.FixtureRequest) -> None:
    import open_clip
    import torch
    from PIL import Image

    directory = request.getfixturevalue(kind)
    encoder = loaded(directory, encoder_dtype="float32")
    assert isinstance(encoder, FrameEncoder)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{directory}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{directory}")
    model.eval()
    images, texts = pictures(3), ["red and blue", "a green cyan"]
    with torch.no_grad():
        expected = model.encode_image(torch.stack([preprocess(Image.fromarray(i)) for i in images]), normalize=True)
        expected_texts = model.encode_text(tokenizer(texts), normalize=True)
    found, found_texts = encoder.embed_images(images), encoder.embed_texts(texts)
    assert found.dtype == found_texts.dtype == np.float32
    assert found.shape == (3, encoder.dimension)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(found_texts, expected_texts.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_embedding_depends_on_its_frame_alone(kind: str, batch: int, request: pytest.FixtureRequest) -> None:
    encoder = loaded(request.getfixturevalue(kind))
    encoder._batch = batch  # 4 as on an accelerator
    images = pictures(7)
    together = encoder.embed_images(images)
    alone = np.concatenate([encoder.embed_images([image]) for image in images])
    backwards = encoder.embed_images(images[::-1])[::-1]
    assert (together == alone).all()
    assert (together == backwards).all()
    assert encoder.embed_images([]).shape == (0, encoder.dimension)
    assert encoder.embed_texts([]).shape == (0, encoder.dimension)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_bfloat16_stays_close_to_float32(kind: str, request: pytest.FixtureRequest) -> None:
    exact = loaded(request.getfixturevalue(kind), encoder_dtype="float32")
    fast = loaded(request.getfixturevalue(kind), encoder_dtype="bfloat16")
    images = pictures(4)
    assert (exact.embed_images(images) * fast.embed_images(images)).sum(axis=1).min() > 0.999
    assert (exact.embed_texts(["red"]) * fast.embed_texts(["red"])).sum() > 0.999


def test_the_dtype_suits_the_processor(clip: Path) -> None:
    import torch

    encoder = loaded(clip, encoder_device="cpu")
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    assert str(encoder._dtype) == ("torch.bfloat16" if supported else "torch.float32")


def test_a_fingerprint_tells_what_would_give_other_embeddings(clip: Path, tmp_path: Path) -> None:
    first = loaded(clip, encoder_dtype="float32").fingerprint
    assert loaded(f"local-dir:{clip}", encoder_dtype="float32").fingerprint == first
    copy = shutil.copytree(clip, tmp_path / "copy")
    assert loaded(copy, encoder_dtype="float32").fingerprint == first
    assert loaded(clip, encoder_dtype="bfloat16").fingerprint != first
    assert loaded(save_clip(tmp_path / "other", seed=1), encoder_dtype="float32").fingerprint != first
    config = json.loads((copy / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["interpolation"] = "bilinear"
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    assert loaded(copy, encoder_dtype="float32").fingerprint != first


def test_nothing_is_valid_before_loading(clip: Path) -> None:
    encoder = OpenClipEncoder(str(clip))
    assert "not loaded" in repr(encoder)
    with pytest.raises(RuntimeError, match="load"):
        _ = encoder.fingerprint
    with pytest.raises(RuntimeError, match="load"):
        encoder.embed_images(pictures(1))


def test_offline_is_said_at_once(empty_hub: Path) -> None:
    encoder = OpenClipEncoder(settings=Settings(offline=True))
    assert not encoder.weights_local
    begun = time.monotonic()
    with pytest.raises(EncoderUnavailableError, match="stay offline"):
        encoder.load()
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_hubs_own_variable_means_offline(empty_hub: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(EncoderUnavailableError, match="stay offline"):
        OpenClipEncoder("siglip-so400m", settings=Settings(offline=False)).load()


def test_an_unreachable_hub_is_said_in_seconds(empty_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    begun = time.monotonic()
    with pytest.raises(EncoderUnavailableError, match="cannot be reached"):
        OpenClipEncoder(settings=Settings(offline=False)).load()
    assert time.monotonic() - begun < 5


def test_a_model_of_the_hub_loads_from_its_cache(empty_hub: Path, siglip: Path) -> None:
    name = "hf-hub:somebody/some-model"
    assert not OpenClipEncoder(name).weights_local
    _fill(empty_hub, "somebody/some-model", siglip, ["open_clip_config.json", "open_clip_model.safetensors"])
    assert not OpenClipEncoder(name).weights_local  # its tokenizer is in another repository
    tokenizer = [path.name for path in siglip.iterdir() if "token" in path.name]
    _fill(empty_hub, "somebody/some-tokenizer", siglip, tokenizer)
    assert OpenClipEncoder(name).weights_local
    assert loaded(name).fingerprint == loaded(siglip).fingerprint


def _fill(hub: Path, repository: str, source: Path, names: Sequence[str]) -> None:
    base = hub / f"models--{repository.replace('/', '--')}"
    snapshot = base / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text(snapshot.name)
    for name in names:
        shutil.copy(source / name, snapshot)


def test_an_architecture_with_a_file_of_weights(clip: Path, tmp_path: Path) -> None:
    import open_clip

    config = tmp_path / "a-small-clip.json"
    config.write_text(json.dumps(json.loads((clip / "open_clip_config.json").read_text())["model_cfg"]))
    open_clip.add_model_config(config)
    encoder = loaded(f"a-small-clip/{clip / 'open_clip_model.safetensors'}", encoder_dtype="float32")
    assert (encoder.embed_texts(["red"]) == loaded(clip, encoder_dtype="float32").embed_texts(["red"])).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no-such-model", "knows no model"),
        ("local-dir:no/such/directory", "holds no open_clip model"),
        ("hf-hub:a malformed/id", "stay offline"),
        ("ViT-B-32", "ViT-B-32/openai"),
        ("ViT-B/32/no-such-tag", "ViT-B-32/openai"),
        ("ViT-B/32/openai", "stay offline"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, said: str, empty_hub: Path) -> None:
    with pytest.raises(EncoderUnavailableError) as caught:
        loaded(name)
    assert said in str(caught.value)


def test_damaged_weights(clip: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clip, tmp_path / "copy")
    (copy / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        loaded(copy)
    (copy / "open_clip_model.safetensors").unlink()
    with pytest.raises(EncoderUnavailableError, match="no weights"):
        loaded(copy)


def test_a_missing_package_names_the_extra(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"videobrain\[local\]"):
        OpenClipEncoder(str(clip)).load()
