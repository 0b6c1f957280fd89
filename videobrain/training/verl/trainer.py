"""verl's synchronous trainer with groups as we count them. Importing this module registers it and its advantages.

What verl 0.9 does with a rollout that fails: those of its group that succeeded are trained on, and where none did the
step is padded. Its GRPO gives a lone survivor its whole reward as advantage. Here a group with fewer than two survivors
is dropped, and another question takes its place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import transfer_queue
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.workers.utils.padding import response_to_nested

from videobrain.errors import RolloutError
from videobrain.training.advantage import LEAST_GROUP, difficulty_weights, group_advantages
from videobrain.training.verl.figures import rollout_figures, validation_figures

TRAINER, ESTIMATOR = "videobrain", "videobrain_grpo"
"""Names under which verl knows them."""
VALIDATION_PARTITION = "val"
"""Where verl keeps the rollouts of a validation."""
MOST_DROPPED = 4
"""Batches' worth of groups that may be dropped in one step: more than bad luck, and the training would never end."""
MOST_EQUAL = 10
"""Batches' worth of groups of equal worth that may be replaced in one step, as many as in DAPO (arXiv 2503.14476)."""


@register_adv_est(ESTIMATOR)  # type: ignore[untyped-decorator]
def videobrain_grpo(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, index: Any, config: Any = None, **_options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """`group_advantages` as verl wants them: on each sampled token. Rows without one, such as padding, do not count.

    Args:
        token_level_rewards: (rollouts, tokens).
        response_mask: 1 for sampled tokens; (rollouts, tokens).
        index: The group of each rollout.
        config: verl's configuration of the algorithm.
    """
    advantages = group_advantages(
        token_level_rewards.sum(dim=-1).tolist(),
        list(index),
        counts=(response_mask.sum(dim=-1) > 0).tolist(),
        by_deviation=config is None or bool(config.get("norm_adv_by_std_in_grpo", True)),
    )
    spread = torch.tensor(advantages, dtype=torch.float32).unsqueeze(-1) * response_mask
    return spread, spread


class _NothingPlayedError(Exception):
    """Every rollout of a validation was left out."""


class GroupBuffer(ReplayBuffer):  # type: ignore[misc]
    """verl's buffer that drops groups with fewer than two survivors and has other questions asked in their place."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._dropped = self._equal = 0
        self._batch = 0

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> Any:
        """Wait for a batch of groups.

        Raises:
            RolloutError: So many groups were dropped that something is wrong beside the policy, or so many are all of
                one worth that there is nothing to learn.
        """
        self._dropped = self._equal = 0
        self._batch = max(batch_size, 4)
        batch, metrics = super().sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
        if partition_id == VALIDATION_PARTITION and not batch.keys:
            raise _NothingPlayedError
        return batch, metrics

    def _dapo_filtered_keys(self, partition_id: str) -> Any:
        # verl looks at the groups alone of which every rollout came to something.
        finished, failed = self.finished_keys[partition_id], self.failure_keys[partition_id]
        partly = failed - too_small(failed, self.partitions[partition_id])
        self.finished_keys[partition_id] = finished | partly
        try:
            return super()._dapo_filtered_keys(partition_id)
        finally:
            self.finished_keys[partition_id] = finished

    def _terminal_eviction_reasons(self, global_steps: int, partition_id: str) -> Any:
        stale, equal, failed, counts = super()._terminal_eviction_reasons(global_steps, partition_id)
        if partition_id == VALIDATION_PARTITION:
            return stale, equal, failed, counts
        ended = self.finished_keys[partition_id] | self.failure_keys[partition_id]
        small = too_small(ended, self.partitions[partition_id])
        self._equal += len(equal - small)
        if self._equal > MOST_EQUAL * self._batch:
            raise RolloutError(
                f"{self._equal} groups were replaced in one step, since all rollouts of each were worth the same.",
                hint="Give questions that the policy answers right at times, or set drop_equal_groups=false.",
            )
        self._dropped += len(small)
        if self._dropped > MOST_DROPPED * self._batch:
            raise RolloutError(
                f"{self._dropped} groups were dropped in one step, since fewer than {LEAST_GROUP} of their rollouts "
                "could be used.",
                hint="The log says of each rollout why it was left out: a video, the model's context, or the judge.",
            )
        return stale, equal - small, failed | small, counts


def too_small(groups: set[str], trajectories: Any) -> set[str]:
    """Those of the groups of which fewer than two rollouts are there.

    Args:
        groups: Names of groups.
        trajectories: verl's keys of trajectories, ``GROUP_SESSION_NUMBER``.
    """
    sessions = Counter(group for group, _ in {tuple(key.split("_")[:2]) for key in trajectories})
    return {group for group in groups if sessions[group] < LEAST_GROUP}


@register_trainer(TRAINER)
class GroupTrainer(PPOTrainerSync):  # type: ignore[misc]
    """verl's synchronous trainer with `GroupBuffer`, figures of rollouts and validation, and weights by difficulty."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.trainer_mode = "sync"  # what verl asks in many places, and what this is

    def _build_replay_buffer(self) -> ReplayBuffer:
        # As verl makes its own, which it has no other way to replace without losing its options.
        algorithm, sampler = self.config.algorithm, self.config.trainer.v1.sampler
        equal = self._resolve_filter_groups_metric()
        return GroupBuffer(
            trainer_mode="sync",
            trainer_config=self.config.trainer.v1.get("sync", {}),
            max_off_policy_threshold=sampler.max_off_policy_threshold,
            max_off_policy_strategy=sampler.max_off_policy_strategy,
            sampler_kwargs=sampler.sampler_kwargs,
            refill_fn=self._add_prompts_to_generate,
            filter_groups_metric=equal,
            sync_refill_failed_groups=True,
            train_batch_size=self.config.data.train_batch_size,
            gen_batch_size=1,
            max_inflight_gen_batches=algorithm.filter_groups.max_inflight_gen_batches if equal is not None else 1,
        )

    def _validate(self) -> dict[str, float]:
        try:
            validated: dict[str, float] = super()._validate()
        except _NothingPlayedError:  # verl itself would end the training
            return validation_figures([], asked=1)
        return validated

    def _val_metrics_update(
        self,
        data_sources: Any,
        sample_uids: Any,
        reward_extra_infos_dict: dict[str, list[Any]],
        sample_turns: Any,
        expected_acc_counts: dict[tuple[str, str], int],
    ) -> dict[str, float]:
        # verl's own names are of best-of-n and votes, for each figure and class; these are those of the rollouts.
        infos = [
            {name: values[number] for name, values in reward_extra_infos_dict.items() if values[number] is not None}
            for number in range(len(sample_uids))
        ]
        return validation_figures(infos, asked=sum(expected_acc_counts.values()))

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._compute_advantage(batch, metrics)
        data = transfer_queue.kv_batch_get(
            keys=batch.keys,
            partition_id=batch.partition_id,
            select_fields=[
                *("uid", "extra_fields", "advantages", "response_mask"),
                *("rollout_log_probs", "old_log_probs"),
            ],
        )
        metrics["rollout/log_prob_difference"] = _largest_difference(data)
        groups = _listed(data["uid"])
        infos = [dict(extra.get("reward_extra_info") or {}) for extra in _listed(data["extra_fields"])]
        counts = [not tag.get("is_padding", False) for tag in batch.tags]
        metrics.update(
            rollout_figures(
                [info for info, here in zip(infos, counts, strict=True) if here],
                [group for group, here in zip(groups, counts, strict=True) if here],
                group_size=int(self.config.actor_rollout_ref.rollout.n),
            )
        )
        strength = float(self.config.trainer.v1.get(TRAINER, {}).get("difficulty_weight", 0.0))
        if not strength:
            return batch
        accuracies = [float(info.get("accuracy", 0.0)) for info in infos]
        weights = difficulty_weights(accuracies, groups, strength=strength, counts=counts)
        mask = data["response_mask"]
        padded = torch.nested.to_padded_tensor(data["advantages"], 0.0)
        weighted = response_to_nested(padded * torch.tensor(weights, dtype=padded.dtype).unsqueeze(-1), mask)
        fields = TensorDict({"advantages": weighted, "returns": weighted}, batch_size=len(batch))
        return transfer_queue.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)


def _largest_difference(data: Any) -> float:
    """How far the log-probability of a sampled token was another for the rollout engine than it is for the trainer."""
    theirs, ours, sampled = (
        torch.nested.to_padded_tensor(data[name].float(), 0.0)
        for name in ("rollout_log_probs", "old_log_probs", "response_mask")
    )
    return float(((theirs - ours).abs() * sampled).max())


def _listed(values: Any) -> list[Any]:
    """What is no tensor comes back from verl's store in one of several kinds of lists."""
    return list(values.tolist() if hasattr(values, "tolist") else values)
