"""verl's supervised trainer in a process group of the CPU: ``torchrun -m videobrain.training.verl.cpu.sft KEY=VALUE…``.

verl's own entry joins "cpu:gloo" and the platform's device to one name of backends, and torch refuses one that has the
CPU twice. Beyond that group this is what its entry does.
"""

from __future__ import annotations

from typing import Any

import hydra
import torch.distributed
from verl.trainer.sft_trainer import SFTTrainer


@hydra.main(config_path="pkg://verl.trainer.config", config_name="sft_trainer_engine", version_base=None)  # type: ignore[untyped-decorator]
def main(config: Any) -> None:
    """Train as the configuration says."""
    torch.distributed.init_process_group("gloo")
    try:
        SFTTrainer(config=config).fit()
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
