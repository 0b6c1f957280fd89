"""Trajectories as verl's dataset for supervised fine-tuning. Loaded in verl's processes, by ``data.custom_cls``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from verl.models.transformers.qwen2_vl import get_rope_index

from videobrain.errors import InputError
from videobrain.models.engine import frame_image
from videobrain.training.tokens import ConversationTokenizer
from videobrain.training.verl.rows import TrajectoryRows


class TrajectoryDataset(Dataset):  # type: ignore[misc]
    """What verl trains on: the tokens that a rollout samples, in the context that it sees.

    Differences to verl's own dataset of conversations: the token after the end of a reply is not trained, which no
    rollout samples; frames go to the processor as they were shown, without being resized before; a trajectory that is
    too long is an error that names it.

    Args:
        parquet_files: Files of trajectories (JSON lines; the name is verl's).
        tokenizer: The model's; that of `processor` is used.
        config: verl's ``data``.
        processor: The model's processor.
        max_samples: Only so many, where it is positive.
    """

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: Any,
        config: Any,
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        if processor is None:
            raise InputError("The model has no processor for images.", hint="Train a vision-language model.")
        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        self._rows = TrajectoryRows([Path(file) for file in files], limit=max_samples if max_samples > 0 else None)
        self._processor = processor
        self._tokenize = ConversationTokenizer(processor)
        self._max_tokens = int(config["max_length"])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """A trajectory as verl's trainer takes it without padding.

        Raises:
            InputError: The trajectory cannot be used; the error names it.
        """
        tokens = self._rows.tokens(number, self._tokenize, max_tokens=self._max_tokens)
        input_ids = torch.tensor(tokens.input_ids, dtype=torch.long)
        item: dict[str, Any] = {
            "input_ids": input_ids,
            "loss_mask": torch.tensor(tokens.sampled, dtype=torch.long),
        }
        images: dict[str, Any] = {}
        if tokens.frames:
            pictures = [frame_image(frame) for frame in tokens.frames]
            images = dict(self._processor.image_processor(images=pictures, return_tensors="pt"))
        item["multi_modal_inputs"] = images  # in every item: verl's collation looks for the keys of the first one
        item["position_ids"] = self._positions(input_ids, images.get("image_grid_thw"))
        return item

    def _positions(self, input_ids: torch.Tensor, grid: torch.Tensor | None) -> torch.Tensor:
        """Positions in the text, and below them those in time, height and width."""
        seen = get_rope_index(
            self._processor, input_ids=input_ids, image_grid_thw=grid, attention_mask=torch.ones_like(input_ids)
        )
        return torch.cat((torch.arange(len(input_ids)).unsqueeze(0), seen), dim=0)
