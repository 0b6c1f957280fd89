"""Reinforcement learning with our trainer: ``python -m videobrain.training.verl.grpo_main KEY=VALUE…``.

Beyond registering the trainer where it is looked up, this is what verl's own entry does.
"""

from __future__ import annotations

from typing import Any

import hydra
import ray
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device


class GroupRunner(TaskRunnerV1.__ray_metadata__.modified_class):  # type: ignore[misc]
    """verl's runner, in a process of its own, which knows our trainer."""

    def run(self, config: Any) -> None:
        """Train as the configuration says."""
        from videobrain.training.verl import trainer  # noqa: F401  # registers it in this process

        super().run(config)


@hydra.main(config_path="pkg://verl.trainer.config", config_name="ppo_trainer", version_base=None)  # type: ignore[untyped-decorator]
def main(config: Any) -> None:
    """Train as the configuration says."""
    auto_set_device(config)
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    run_ppo(config, task_runner_class=ray.remote(GroupRunner))


if __name__ == "__main__":
    main()
