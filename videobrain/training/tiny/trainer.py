"""The training loop of the tiny model: stages that can be killed and go on, a log, and accuracy by kind of word."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from videobrain.training.tiny.batches import Batches, StageName
from videobrain.training.tiny.examples import ExampleMaker
from videobrain.training.tiny.model import Batch, TinyShape, make_tiny_model, trained_logits
from videobrain.training.tiny.stages import JsonLines, write_atomically
from videobrain.training.tiny.tokenizer import make_tiny_processor
from videobrain.world import COLOURS, SHAPES
from videobrain.world.vocabulary import LETTERS, PATTERNS

_log = logging.getLogger(__name__)

_MUON_RATE = 4.0
"""Learning rate of Muon's matrices, as a multiple of the others'."""
_HELD_BACK = 10**9
"""Number of the first batch of the ones that accuracy is measured on; training never comes that far."""
_KINDS = {"colour": tuple(COLOURS), "shape": SHAPES, "pattern": PATTERNS, "letter": LETTERS, "nothing": ("nothing",)}


@dataclass(frozen=True, slots=True)
class VlmStage:
    """One stage of the curriculum.

    Attributes:
        name: What is learnt.
        steps: Optimizer steps of a round.
        frames: Frames in a batch.
        learning_rate: Highest learning rate, after the warm-up; it falls along a cosine.
        last_share: Share of it that is left at the end.
        enough: Share of words to be right at the end. Where fewer are, the steps are done once more, with other data:
            all that follows is built on what is learnt here, and the moment at which it is depends on luck.
        rounds: How often the steps are done at the most.
    """

    name: StageName
    steps: int
    frames: int = 160
    learning_rate: float = 2e-3
    last_share: float = 0.1
    enough: float = 0.0
    rounds: int = 1

    def end_of_round(self, step: int) -> int:
        """The last step of the round that a step, counted from 1, lies in."""
        return math.ceil(max(1, step) / self.steps) * self.steps


CURRICULUM: tuple[VlmStage, ...] = (
    VlmStage("copying", steps=500, frames=6, learning_rate=1e-3, last_share=0.5, enough=0.99, rounds=8),
    VlmStage("judging", steps=200, frames=32, learning_rate=1e-3, last_share=0.5, enough=0.95, rounds=6),
    VlmStage("conclusions", steps=700, frames=56, learning_rate=1e-3, last_share=0.5),
    VlmStage("captions", steps=1000, frames=96, learning_rate=1e-3, last_share=0.5),
    VlmStage("lookup", steps=1000, frames=96, learning_rate=1e-3, last_share=0.5),
    VlmStage("trajectories", steps=1700, frames=80, learning_rate=1e-3, last_share=0.02),
    VlmStage("refining", steps=210, frames=80, learning_rate=4e-4, last_share=0.05),
)


def train_stage(
    stage: VlmStage,
    directory: Path,
    *,
    start: Path | None = None,
    shape: TinyShape | None = None,
    seed: int = 0,
    workers: int = 1,
    report_steps: int = 100,
    checkpoint_seconds: float = 120.0,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train one stage, or what is left of it.

    Args:
        stage: What to learn and for how long.
        directory: Its checkpoint, its log ``log.jsonl`` and, in the end, its weights.
        start: Weights to begin with, as this function returns them; None for random ones.
        shape: Sizes of the model.
        seed: Seed of the data, and of the weights where none are given.
        workers: Processes that make batches; with 0 this one makes them.
        report_steps: Steps between two lines of the log.
        checkpoint_seconds: Time between two checkpoints.
        progress: Called with each line of the log.

    Returns:
        File of the weights, in float32.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed
    from torch.nn.functional import cross_entropy

    finished = directory / "weights.safetensors"
    if finished.is_file():
        return finished
    directory.mkdir(parents=True, exist_ok=True)
    set_seed(seed)
    accelerator = Accelerator(mixed_precision="bf16" if _computes_bfloat16() else "no")
    processor = make_tiny_processor()
    maker = ExampleMaker(processor)
    model = make_tiny_model(processor, shape, seed=seed)
    if start is not None:
        load_weights(model, start)
    optimizers = _optimizers(model, stage)
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: _rate(stage, step)) for each in optimizers]
    model, *prepared = accelerator.prepare(model, *optimizers, *schedules)
    checkpoint = directory / "checkpoint"
    done, seconds = _resume(accelerator, checkpoint)
    log = JsonLines(directory / "log.jsonl", lambda line: int(line["step"]) <= done)
    if done == 0:
        log.add(step=0, stage=asdict(stage), shape=asdict(shape or TinyShape()), seed=seed)
    batches = Batches(maker, stage.name, stage.frames, seed)
    held_back = [batches[_HELD_BACK + number] for number in range(2)]
    kinds = token_kinds(processor.tokenizer)
    model.train()
    reported = saved = time.monotonic()
    began = reported - seconds
    total, seen, since = 0.0, 0, done
    end = stage.steps * stage.rounds
    for number, batch in zip(range(done, end), _load(batches, done, end, workers), strict=True):
        with accelerator.autocast():
            logits, truth = trained_logits(model, batch.to(accelerator.device))
        loss = cross_entropy(logits, truth)
        accelerator.backward(loss)
        total, seen = total + float(loss.detach()), seen + len(batch.frames)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        for each in prepared:  # optimizers, then schedules
            each.step()
        model.zero_grad()
        step, now = number + 1, time.monotonic()
        whole_round = step % stage.steps == 0
        if step % report_steps == 0 or whole_round:
            accuracy = _accuracy(accelerator, model, held_back, kinds)
            line = {
                "step": step,
                "stage": stage.name,
                "loss": round(total / (step - since), 4),
                "seconds": round(now - began, 1),
                "steps_per_second": round((step - since) / (now - reported), 3),
                "frames_per_second": round(seen / (now - reported), 1),
                "accuracy": accuracy,
            }
            log.add(**line)
            if progress is not None:
                progress(line)
            if whole_round and accuracy["all"] >= stage.enough:
                break
            total, seen, since, reported = 0.0, 0, step, time.monotonic()
        if now - saved > checkpoint_seconds:
            _save_checkpoint(accelerator, checkpoint, _Done(step, round(now - began, 1)))
            saved = now
    _save_weights(accelerator.unwrap_model(model), finished)
    shutil.rmtree(checkpoint, ignore_errors=True)
    accelerator.free_memory()
    return finished


def token_kinds(tokenizer: Any) -> dict[int, str]:
    """Which kind of word a token is, for the tokens that say what a frame shows."""
    kinds: dict[int, str] = {}
    for kind, words in _KINDS.items():
        for word in words:
            for text in (word, f" {word}"):
                ids = tokenizer.encode(text, add_special_tokens=False)
                if len(ids) == 1:
                    kinds[ids[0]] = kind
    return kinds


def _accuracy(accelerator: Any, model: Any, batches: list[Batch], kinds: dict[int, str]) -> dict[str, float]:
    """Share of words of each kind that the model would write, the words before them given.

    ``whole`` is the share of sequences without any wrong word: greedy decoding would write them as they are.
    """
    import torch

    right: dict[str, list[bool]] = {"all": [], "whole": []}
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        for batch in batches:
            logits, truth = trained_logits(model, batch.to(accelerator.device))
            rows = torch.arange(len(batch.lengths)).repeat_interleave(batch.lengths)[batch.targets >= 0].tolist()
            wrong: set[int] = set()
            for row, token, said in zip(rows, truth.tolist(), logits.argmax(-1).tolist(), strict=True):
                right["all"].append(said == token)
                if token in kinds:
                    right.setdefault(kinds[token], []).append(said == token)
                if said != token:
                    wrong.add(row)
            right["whole"] += [row not in wrong for row in range(len(batch.lengths))]
    model.train()
    return {kind: round(sum(found) / len(found), 4) for kind, found in right.items() if found}


def _load(batches: Batches, first: int, end: int, workers: int) -> Iterator[Batch]:
    from torch.utils.data import DataLoader

    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, end),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    yield from loader


def _rate(stage: VlmStage, step: int) -> float:
    step %= stage.steps
    warm = max(1, min(100, stage.steps // 10))
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, stage.steps - warm)
    return stage.last_share + (1 - stage.last_share) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _optimizers(model: Any, stage: VlmStage) -> list[Any]:
    """Muon for the matrices within the layers of the vision tower, AdamW for all else.

    Perception is learnt sooner with Muon, but its steps would undo the heads that attend to a token's like. The first
    matrix of the merger, the largest by far, would cost it more than all others together.
    """
    import torch

    inner: list[Any] = []
    others: list[Any] = []
    for name, weights in model.named_parameters():
        hidden = weights.ndim == 2 and ".visual.blocks." in name
        (inner if hidden else others).append(weights)
    return [
        torch.optim.Muon(inner, lr=stage.learning_rate * _MUON_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _computes_bfloat16() -> bool:
    """Whether bfloat16 is fast here: on CPUs that lack it in hardware it is slower than float32."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class _Done(NamedTuple):
    """How far a stage has come, and how long that took."""

    step: int = 0
    seconds: float = 0.0


def _resume(accelerator: Any, checkpoint: Path) -> _Done:
    """Load the checkpoint where there is one."""
    old = checkpoint.with_name("checkpoint.old")
    if not checkpoint.exists() and old.exists():  # killed between the two renamings of a save
        old.rename(checkpoint)
    if not (checkpoint / "step.json").is_file():
        return _Done()
    accelerator.load_state(str(checkpoint))
    return _Done(**json.loads((checkpoint / "step.json").read_text("utf-8")))


def _save_checkpoint(accelerator: Any, checkpoint: Path, done: _Done) -> None:
    """Whole or not at all: a kill at any moment leaves the new one or the old one."""
    aside, old = checkpoint.with_name("checkpoint.new"), checkpoint.with_name("checkpoint.old")
    shutil.rmtree(aside, ignore_errors=True)
    accelerator.save_state(str(aside))
    (aside / "step.json").write_text(json.dumps(done._asdict()), "utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if checkpoint.exists():
        checkpoint.rename(old)
    aside.rename(checkpoint)
    shutil.rmtree(old, ignore_errors=True)
    _log.info("Checkpoint at step %d in %s", done.step, checkpoint)


def _save_weights(model: Any, path: Path) -> None:
    from safetensors.torch import save_file

    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    write_atomically(path, lambda aside: save_file(weights, aside))


def load_weights(model: Any, path: Path) -> None:
    """Give a model of the same shape the weights that `train_stage` wrote."""
    from safetensors.torch import load_file

    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:  # tied to the embeddings
        raise ValueError(f"{path} holds no weights of this model: {[*missing, *unexpected][:3]}")
