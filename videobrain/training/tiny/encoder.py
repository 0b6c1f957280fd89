"""The tiny encoder: an open_clip model of the synthetic world, small enough to be trained on a laptop.

``python -m videobrain.training.tiny.encoder --out DIR`` trains one, ``--evaluate DIR`` measures one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videobrain.errors import VideoBrainError
from videobrain.index.weights import require
from videobrain.training.tiny.pictures import Batch, Pictures, tokenizer
from videobrain.training.tiny.probes import Probes
from videobrain.training.tiny.stages import JsonLines, Stage, write_atomically
from videobrain.world.vocabulary import TAG

Log = Callable[[str], None]

VERSION = 1
"""Of all that the stage depends on and no recipe says: pictures, captions, loss. A stage of another is done anew."""
CURVE = "curve.jsonl"
"""Log of the training in the directory of its stage."""
_CONTEXT = 16
_CHECKPOINT = "checkpoint.pt"
_PROBE_BATCHES = 24


@dataclass(frozen=True)
class Recipe:
    """All that the trained encoder depends on, besides the minutes it may take.

    Attributes:
        side: Width and height of the pictures that the image tower sees.
        width: Of the image tower, an open_clip ModifiedResNet with one block per stage: attention pooling picks places.
        text_width: Of the text tower.
        text_layers: Of the text tower.
        dimension: Length of an embedding.
        steps: Batches of the whole training.
        batch: Pictures of a batch.
        captions: Captions of a batch, besides all search prompts.
        rate: Highest learning rate.
        decay: Weight decay.
        warm_up: Share of the training in which the learning rate rises.
        every: Steps between checkpoints; the curve has a point at each.
        seed: Seed of everything.
    """

    side: int = 64
    width: int = 16
    text_width: int = 96
    text_layers: int = 2
    dimension: int = 128
    steps: int = 3_000
    batch: int = 64
    captions: int = 8
    rate: float = 2e-3
    decay: float = 0.05
    warm_up: float = 0.05
    every: int = 250
    seed: int = 0


def model_config(recipe: Recipe) -> dict[str, Any]:
    """What ``open_clip_config.json`` says."""
    return {
        "model_cfg": {
            "embed_dim": recipe.dimension,
            # A sigmoid for each pair of picture and text, since many texts are true of a picture (SigLIP, 2303.15343).
            "init_logit_scale": math.log(10),
            "init_logit_bias": -5.0,
            "vision_cfg": {
                "image_size": recipe.side,
                "layers": [1, 1, 1, 1],
                "width": recipe.width,
                "head_width": recipe.width * 4,
            },
            "text_cfg": {
                "context_length": _CONTEXT,
                "vocab_size": len(tokenizer()),
                "hf_tokenizer_name": "videobrain/tiny",  # its files lie beside the weights; nothing is asked for it
                "width": recipe.text_width,
                "heads": 4,
                "layers": recipe.text_layers,
            },
        },
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    }


def train_encoder(
    out: Path,
    *,
    cache: Path,
    seed: int = 0,
    minutes: float | None = None,
    log: Log,
    recipe: Recipe | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train an encoder, or finish the training that was begun, and write it as an open_clip directory.

    Args:
        out: Directory of the result, for `OpenClipEncoder`.
        cache: Directory of checkpoints and of the curve; a second start with the same arguments goes on from there.
        seed: Seed of everything.
        minutes: End after so much time of training, at a lower learning rate as if that had been planned; by default
            the recipe's steps are done whatever they take, and the same seed gives about the same weights.
        log: Told how it goes, in lines of text.
        recipe: What to train; `seed` replaces its own.
        progress: Called with each point of the curve.

    Returns:
        `out`.

    Raises:
        MissingDependencyError: torch, open_clip or transformers is not installed.
    """
    require("torch", "open_clip", "transformers")
    recipe = Recipe(**{**asdict(recipe or Recipe()), "seed": seed})
    stage = encoder_stage(recipe, cache, minutes=minutes)
    if stage.done:
        log(f"The encoder is trained already: {stage.directory}")
    directory = stage.run(lambda directory: _Training(recipe, directory, log, progress).run(minutes))
    write_encoder(out, recipe, _load_checkpoint(directory)["model"])
    size = sum(path.stat().st_size for path in out.iterdir())
    log(f"Wrote the encoder to {out}: {size / 1e6:.1f} MB")
    return out


def encoder_stage(recipe: Recipe, cache: Path, *, minutes: float | None = None) -> Stage:
    """Where `train_encoder` trains an encoder."""
    config = {
        "version": VERSION,
        "world": TAG,
        "recipe": asdict(recipe),
        "minutes": minutes,
        "model": model_config(recipe),
    }
    return Stage("encoder", config, cache)


def write_encoder(out: Path, recipe: Recipe, weights: dict[str, Any]) -> None:
    """Write weights, rounded to bfloat16, with configuration and tokenizer as open_clip reads them."""
    import torch
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    rounded = {
        name: tensor.to(torch.bfloat16).contiguous() if tensor.is_floating_point() else tensor.contiguous()
        for name, tensor in weights.items()
    }
    tokenizer().save_pretrained(out)
    (out / "open_clip_config.json").write_text(json.dumps(model_config(recipe), indent=2), "utf-8")
    write_atomically(out / "open_clip_model.safetensors", lambda path: save_file(rounded, path))


def build_model(recipe: Recipe) -> Any:
    """The untrained model."""
    import open_clip

    return open_clip.CLIP(**model_config(recipe)["model_cfg"])


class _Training:
    """One training, from nothing or from its checkpoint."""

    def __init__(
        self, recipe: Recipe, directory: Path, log: Log, progress: Callable[[dict[str, Any]], None] | None
    ) -> None:
        import torch

        self._recipe, self._directory, self._log, self._progress = recipe, directory, log, progress
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        self._device = accelerator or torch.device("cpu")
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            model = build_model(recipe)
        self._model = model.to(self._device, memory_format=torch.channels_last)
        # Norms, biases and the like are one-dimensional and are not to shrink.
        decayed = [each for each in self._model.parameters() if each.ndim > 1]
        others = [each for each in self._model.parameters() if each.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
        self._tokenizer = tokenizer()
        self._step, self._seconds = 0, 0.0
        if (directory / _CHECKPOINT).is_file():
            state = _load_checkpoint(directory)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._step, self._seconds = state["step"], state["seconds"]
            log(f"Going on after step {self._step}")
        self._curve = JsonLines(directory / CURVE, lambda line: line["step"] <= self._step)

    def run(self, minutes: float | None) -> None:
        """Train to the end."""
        recipe = self._recipe
        parameters = sum(each.numel() for each in self._model.parameters())
        self._log(f"Training an encoder of {parameters / 1e6:.2f} M parameters on {self._device}")
        probes = Probes(_PROBE_BATCHES * recipe.batch, recipe.side)
        pictures = Pictures(recipe.side, recipe.batch, recipe.captions, recipe.seed)
        losses: list[float] = []
        begun = time.monotonic() - self._seconds
        while self._step < recipe.steps:
            progress = self._step / recipe.steps
            if minutes is not None:
                progress = max(progress, (time.monotonic() - begun) / 60 / minutes)
            if progress >= 1:
                break
            losses.append(self._learn(pictures[self._step], learning_rate(recipe, progress)))
            self._step += 1
            if self._step % recipe.every == 0:
                self._seconds = time.monotonic() - begun
                self._note(losses, probes)
                self._save()
                losses = []
        self._seconds = time.monotonic() - begun
        if losses:
            self._note(losses, probes)
        self._save()

    def _learn(self, batch: Batch, rate: float) -> float:
        import torch

        self._model.train()
        pixels = torch.from_numpy(batch.pixels).to(self._device)
        true = torch.from_numpy(batch.true).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            cut = len(batch.words) - self._recipe.captions
            texts = torch.cat([self._embed_texts(part) for part in (batch.words[:cut], batch.words[cut:]) if part])
            logits = self._logits(self._embed_pictures(pixels), texts)
        # Summed over texts: a mean would fade with every prompt that the world learns.
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, true.float(), reduction="none")
        loss = loss.sum(dim=1).mean()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        return float(loss.detach())

    def _embed_pictures(self, pixels: Any) -> Any:
        import torch

        inputs = ((pixels.float() / 255 - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        return self._model.encode_image(inputs, normalize=True)

    def _embed_texts(self, words: list[str]) -> Any:
        """The model's own `encode_text` without the padding, which is most of a text: nothing looks ahead to it."""
        import torch

        model = self._model
        tokens = self._tokenizer(words, padding=True, max_length=_CONTEXT, truncation=True, return_tensors="pt")
        ids = tokens["input_ids"].to(self._device)
        length = ids.shape[1]
        states = model.token_embedding(ids) + model.positional_embedding[:length]
        states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
        ends = states[torch.arange(len(ids), device=self._device), ids.argmax(dim=1)]
        return torch.nn.functional.normalize(ends @ model.text_projection, dim=-1)

    def _logits(self, pictures: Any, texts: Any) -> Any:
        return (self._model.logit_scale.exp() * (pictures @ texts.T) + self._model.logit_bias).float()

    def _note(self, losses: list[float], probes: Probes) -> None:
        import torch

        self._model.eval()
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16):
            texts = self._embed_texts([text.words for text in probes.texts])
            rows = [
                self._embed_pictures(torch.from_numpy(part).to(self._device)) @ texts.T
                for part in np.array_split(probes.pixels, 8)
            ]
        point = probes.measure(torch.cat(rows).float().cpu().numpy())
        loss = sum(losses) / len(losses)
        line = {"step": self._step, "seconds": round(self._seconds, 1), "loss": loss, **point._asdict()}
        self._curve.add(**line)
        if self._progress is not None:
            self._progress(line)
        self._log(
            f"Step {self._step} of {self._recipe.steps}, {self._seconds:.0f} s: loss {loss:.3f}, recall "
            f"{point.recall:.1%}, of held-out pairs {point.held_out:.1%}"
        )

    def _save(self) -> None:
        import torch

        state = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "seconds": self._seconds,
        }
        write_atomically(self._directory / _CHECKPOINT, lambda path: torch.save(state, path))


def learning_rate(recipe: Recipe, progress: float) -> float:
    """A linear rise, then half a cosine down to nothing; `progress` from 0 to 1."""
    rise = min(1.0, (progress + 1 / recipe.steps) / recipe.warm_up)
    return recipe.rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _load_checkpoint(directory: Path) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(directory / _CHECKPOINT, map_location="cpu", weights_only=True)
    return state


def main(arguments: list[str] | None = None) -> int:
    """Train or evaluate, by arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m videobrain.training.tiny.encoder", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="train an encoder into this directory")
    what.add_argument("--evaluate", type=Path, metavar="DIR", help="measure the encoder in this directory")
    parser.add_argument("--cache", type=Path, required=True, help="directory that keeps checkpoints and videos")
    parser.add_argument("--seed", type=int, default=0, help="of the training, or of the first video")
    parser.add_argument("--minutes", type=float, help="most minutes of training")
    parser.add_argument("--videos", type=int, default=200, help="videos of ten minutes to measure on")
    given = parser.parse_args(arguments)

    def log(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    try:
        if given.out is not None:
            train_encoder(given.out, cache=given.cache, seed=given.seed, minutes=given.minutes, log=log)
        else:
            from videobrain.training.tiny.recall import evaluate_encoder

            recall = evaluate_encoder(given.evaluate, cache=given.cache, videos=given.videos, seed=given.seed, log=log)
            sys.stdout.write(f"{recall.table()}\n")
    except (VideoBrainError, OSError) as error:
        log(str(error))
        return 2
    except KeyboardInterrupt:
        log("Interrupted. The same command goes on from here.")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
