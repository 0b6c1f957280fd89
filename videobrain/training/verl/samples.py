"""verl's dataset of questions to learn from: a file of samples as `write_samples` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from videobrain.training.sample import TrainingSample, read_samples

AGENT = "videobrain"
"""Name under which verl knows our agent loop."""


class SampleDataset(Dataset):  # type: ignore[misc]
    """Questions as verl's rows. The prompt is made by the agent loop, so that what verl wants of one is the question.

    Args:
        data_files: Files of samples.
        tokenizer: Not needed.
        config: verl's configuration of its data; not needed.
        processor: Not needed.
        max_samples: Take so many of the first; all where it is negative.
    """

    def __init__(
        self, data_files: str | Sequence[str], tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1
    ) -> None:
        files = [data_files] if isinstance(data_files, str) else list(data_files)
        samples = [sample for file in files for sample in read_samples(file)]
        self.samples = samples[:max_samples] if max_samples >= 0 else samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return row_of(self.samples[number], number)


def row_of(sample: TrainingSample, number: int) -> dict[str, Any]:
    """A sample as verl's row."""
    return {
        "raw_prompt": [{"role": "user", "content": sample.question}],
        "sample": sample.model_dump_json(),
        "agent_name": AGENT,
        # verl breaks figures of validation down by it
        "data_source": sample.question_class or "unclassified",
        "reward_model": {"style": "rule", "ground_truth": sample.answer or sample.letter or ""},
        "extra_info": {"index": number},
        "index": number,
        "dummy_tensor": torch.tensor([0], dtype=torch.uint8),  # verl wants one tensor in a row
    }
