"""The weights in a checkpoint of verl's: its shards put together, its adapters added to what they adapt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videobrain.errors import InputError
from videobrain.training.verl.run import checkpoint_of, last_step

if TYPE_CHECKING:
    import torch

_SHARDS = "model_world_size_*_rank_*.pt"
_LORA_FACTS = "lora_train_meta.json"
_ADAPTER = re.compile(r"(.+)\.lora_([AB])\.[\w-]+\.weight")
_WRAPPER = "base_model.model."  # what peft puts before the names of the model that it adapts


def find_checkpoint(source: Path) -> Path:
    """The directory of shards: of the last checkpoint of a training, or of a checkpoint that is named.

    Args:
        source: A training's directory, or a ``global_step_N`` in it.

    Raises:
        InputError: There is no checkpoint.
    """
    step = last_step(source)
    named = source if step is None else checkpoint_of(source, step)
    for place in (named, named / "actor"):  # of reinforcement learning the policy is the actor
        if any(place.glob(_SHARDS)):
            return place
    raise InputError(
        f"{source} holds no checkpoint of a training through verl.",
        hint="Name the directory of a training, or a global_step_N in its checkpoints.",
    )


def read_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The model's weights by name, on the CPU, adapters merged.

    Raises:
        InputError: A shard is missing or damaged, or adapters are there without their scale or without the model.
    """
    shards = _shards(checkpoint)
    names = list(shards[0])
    whole = {name: _joined(name, [shard[name] for shard in shards]) for name in names}
    return merged(whole, _scale(checkpoint)) if any(_ADAPTER.fullmatch(name) for name in names) else whole


def merged(weights: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """Weights as peft names them, each adapter multiplied out and added to the weight that it adapts.

    Args:
        weights: With names such as ``base_model.model.X.base_layer.weight``, and ``X.lora_A.default.weight`` for the
            adapter of the same.
        scale: Alpha divided by the rank.
    """
    found: dict[str, torch.Tensor] = {}
    adapters: dict[str, dict[str, torch.Tensor]] = {}
    for name, weight in weights.items():
        name = name.removeprefix(_WRAPPER)
        if adapter := _ADAPTER.fullmatch(name):
            adapters.setdefault(f"{adapter[1]}.weight", {})[adapter[2]] = weight
        else:
            found[name.replace(".base_layer.", ".")] = weight
    for name, pair in adapters.items():
        base = found.get(name)
        if base is None:
            raise InputError(
                f"The checkpoint holds an adapter of {name!r} without that weight.",
                hint="Train without verl's save_lora_only, which leaves the model out of its checkpoints.",
            )
        found[name] = (base.float() + scale * (pair["B"].float() @ pair["A"].float())).to(base.dtype)
    return found


def _shards(checkpoint: Path) -> list[dict[str, Any]]:
    import torch

    facts = checkpoint / "fsdp_config.json"
    try:
        count = int(json.loads(facts.read_text("utf-8"))["world_size"])
        paths = [checkpoint / f"model_world_size_{count}_rank_{rank}.pt" for rank in range(count)]
        # Mapped, so that a weight is read when it is joined. Shards hold more than plain tensors.
        return [torch.load(path, map_location="cpu", weights_only=False, mmap=True) for path in paths]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"The checkpoint {checkpoint} cannot be read: {error}.", hint="Name another checkpoint of the training."
        ) from error


def _joined(name: str, parts: list[Any]) -> torch.Tensor:
    import torch
    from torch.distributed.tensor import DTensor

    first = parts[0]
    if not isinstance(first, DTensor):
        return torch.as_tensor(first)
    # With several groups of devices the first dimension of the mesh repeats the weights, and the last one cuts them.
    placement = first.placements[-1]
    if any(each.is_shard() for each in first.placements[:-1]):
        raise InputError(f"The weight {name!r} is cut along several dimensions of devices, which cannot be joined.")
    if not placement.is_shard():
        return first.to_local()
    local = [part.to_local() for part in parts[: first.device_mesh.mesh.shape[-1]]]
    return torch.cat([each for each in local if each.numel()], dim=placement.dim)


def _scale(checkpoint: Path) -> float:
    path = checkpoint / _LORA_FACTS
    try:
        facts = json.loads(path.read_text("utf-8"))
        return float(facts["lora_alpha"]) / float(facts["r"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"The checkpoint has adapters, and {path} does not tell their scale: {error!r}.") from error
