"""What is looked at within verl's environment: ``python tests/training/in_verl.py WHAT …`` prints JSON.

Run as a program of its own, since the tests' environment has no verl.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any


def batch(model: str, trajectories: str) -> dict[str, Any]:
    """A batch as verl's trainer makes it, held against the tokenizer and the in-process model.

    With the loss that the latter gives: over the sampled tokens alone.
    """
    import torch
    from transformers import AutoModelForImageTextToText
    from verl.trainer.sft_trainer import create_sft_dataset
    from verl.utils import hf_processor, hf_tokenizer
    from verl.utils.dataset.dataset_utils import SFTTensorCollator

    from videobrain.models import ChatRequest
    from videobrain.models.engine import Engine
    from videobrain.training.tokens import ConversationTokenizer
    from videobrain.training.verl.overrides import composed
    from videobrain.training.verl.rows import TrajectoryRows
    from videobrain.training.verl.sft import SftConfig

    config = SftConfig(model=model, out=Path("unused"), train=(Path(trajectories),), device="cpu")
    data = composed("sft_trainer_engine", config.compile()).data
    dataset = create_sft_dataset(data.train_files, data, hf_tokenizer(model), hf_processor(model))
    held = SFTTensorCollator(data.pad_mode)([dataset[number] for number in range(len(dataset))])

    engine = Engine.load(model, offline=True, stop=threading.Event())
    rows = TrajectoryRows([Path(trajectories)])
    network = AutoModelForImageTextToText.from_pretrained(model)
    equal = {"ids": [], "mask": [], "pixels": [], "positions": []}
    sampled = []
    nats, count = 0.0, 0
    for number in range(len(rows)):
        found = rows.conversation(number)
        wanted = ConversationTokenizer(engine.processor)(found.messages, tools=found.tools)
        ids, mask = held["input_ids"][number], held["loss_mask"][number]
        equal["ids"].append(ids.tolist() == list(wanted.input_ids))
        equal["mask"].append(mask.tolist() == list(map(int, wanted.sampled)))
        sampled.append(engine.processor.tokenizer.decode(ids[mask.bool()]))
        seen = engine.encode(ChatRequest(messages=found.messages, tools=found.tools))
        given = held["multi_modal_inputs"][number]
        given = getattr(given, "data", given)
        equal["pixels"].append(
            torch.equal(given["pixel_values"], seen["pixel_values"])
            and torch.equal(given["image_grid_thw"], seen["image_grid_thw"])
        )
        kinds = (ids[None] == engine.processor.image_token_id).long()
        with torch.no_grad():
            logits = network(input_ids=ids[None], mm_token_type_ids=kinds, **given).logits[0]
        told = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
        nats += float(told[mask[1:].bool()].sum())
        count += int(mask.sum())
        positions, _ = network.model.get_rope_index(
            input_ids=ids[None],
            mm_token_type_ids=kinds,
            image_grid_thw=given["image_grid_thw"],
        )
        whole = torch.cat((torch.arange(len(ids))[None], positions[:, 0]))
        equal["positions"].append(torch.equal(held["position_ids"][number], whole))
    return {"equal": equal, "sampled": sampled, "loss": nats / count}


def weights(before: str, after: str) -> dict[str, float]:
    """How far each weight of a model has moved: the largest difference of its elements."""
    from transformers import AutoModelForImageTextToText

    old, new = (AutoModelForImageTextToText.from_pretrained(path).state_dict() for path in (before, after))
    assert old.keys() == new.keys()
    return {name: float((new[name].float() - old[name].float()).abs().max()) for name in old}


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    sys.stdout.write("\n" + json.dumps({"batch": batch, "weights": weights}[what](*arguments)) + "\n")
