"""What is held against verl itself. Run by verl's Python: ``python verl_checks.py CHECK``; an error is a failure."""

from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest


def advantages() -> None:
    """Ours are verl's where all rollouts count, and 0 for lone survivors and padding."""
    import numpy
    import torch
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage, get_adv_estimator_fn

    from videobrain.training.verl.trainer import ESTIMATOR

    ours = get_adv_estimator_fn(ESTIMATOR)
    torch.manual_seed(0)
    mask = (torch.rand(9, 12) > 0.4).float()
    rewards = torch.zeros(9, 12)
    rewards[:, -1] = torch.rand(9)
    groups = numpy.array(list("aaaabbbbb"), dtype=object)
    for normalised in (True, False):
        config = {"norm_adv_by_std_in_grpo": normalised}
        expected, _ = compute_grpo_outcome_advantage(rewards, mask, groups, norm_adv_by_std_in_grpo=normalised)
        found, returns = ours(token_level_rewards=rewards, response_mask=mask, index=groups, config=config)
        assert torch.allclose(found, expected, atol=1e-5), (found, expected)
        assert found is returns
    alone = numpy.array(list("aaaabbbbc"), dtype=object)
    found, _ = ours(token_level_rewards=rewards, response_mask=mask, index=alone, config=config)
    theirs, _ = compute_grpo_outcome_advantage(rewards, mask, alone, norm_adv_by_std_in_grpo=False)
    assert found[8].abs().sum() == 0
    assert theirs[8].abs().sum() > 0  # what this is for: verl gives a lone survivor its whole reward
    mask[7] = 0
    found, _ = ours(token_level_rewards=rewards, response_mask=mask, index=groups, config=config)
    without = [0, 1, 2, 3, 4, 5, 6, 8]
    expected, _ = compute_grpo_outcome_advantage(
        rewards[without], mask[without], groups[without], norm_adv_by_std_in_grpo=False
    )
    assert torch.allclose(found[without], expected, atol=1e-5)


def groups() -> None:
    """Groups with fewer than two trajectories are dropped; too many of them, or of one worth, end the training."""
    import torch
    from verl.trainer.ppo.v1 import replay_buffer

    from videobrain.errors import RolloutError
    from videobrain.training.verl import trainer
    from videobrain.training.verl.trainer import GroupBuffer, too_small

    keys = ["a_0_0", "a_1_0", "b_0_0", "b_0_1", "c_3_0", "c_5_0", "c_6_0"]
    assert too_small({"a", "b", "c", "d"}, keys) == {"b", "d"}

    class Cleared(GroupBuffer):
        def _sync_metadata_from_transfer_queue(self) -> None:
            states = {"finished": self.finished_keys, "failure": self.failure_keys}
            for uid, (state, count) in self.there.items():
                for partition in ("train", "val"):
                    states[state][partition].add(uid)
                    self.partitions[partition].update({f"{uid}_{number}_0": {} for number in range(count)})

        def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
            self.cleared += sorted(uids)
            for uid in uids:
                self.there.pop(uid)
                self.finished_keys[partition_id].discard(uid)
                self.failure_keys[partition_id].discard(uid)

        def _materialize_batch(self, partition_id: str, selected: list[str], snapshot: dict[str, object]) -> Any:
            keys = [key for key in snapshot if key.split("_")[0] in selected]
            return SimpleNamespace(keys=keys, groups=sorted(selected))

    class Equal(Cleared):
        def _dapo_filtered_keys(self, partition_id: str) -> tuple[set[str], Counter[float]]:
            ended = set(self.finished_keys[partition_id])
            return ended, Counter({1.0: len(ended)})

    def a_buffer(refill: object, kind: type[Cleared] = Cleared, **options: object) -> Cleared:
        buffer = kind(
            trainer_mode="sync",
            trainer_config={},
            max_off_policy_threshold=8,
            max_off_policy_strategy="drop",
            sampler_kwargs={},
            poll_interval=0.01,
            refill_fn=refill,
            sync_refill_failed_groups=True,
            gen_batch_size=1,
            **options,
        )
        buffer.there, buffer.cleared = {}, []
        return buffer

    asked: list[int] = []

    def refill(count: int) -> None:
        asked.append(count)
        buffer.there |= {f"new{len(asked)}{number}": ("finished", 4) for number in range(count)}

    buffer = a_buffer(refill)
    buffer.there = {"whole": ("finished", 4), "some": ("failure", 2), "one": ("failure", 1), "none": ("finished", 0)}
    batch, metrics = buffer.sample(global_steps=1, partition_id="train", batch_size=4)
    assert batch.groups == ["new10", "new11", "some", "whole"]
    assert (buffer.cleared, asked) == (["none", "one"], [2])
    assert metrics["training/rollout_failure/evicted_samples"] == 2

    def hopeless(count: int) -> None:
        asked.append(count)
        buffer.there |= {f"bad{len(asked)}{number}": ("failure", 0) for number in range(count)}

    buffer = a_buffer(hopeless)
    buffer.there = {"a": ("failure", 0), "b": ("failure", 1)}
    with pytest.raises(RolloutError, match="groups were dropped in one step"):
        buffer.sample(global_steps=1, partition_id="train", batch_size=2)

    buffer = a_buffer(refill, Equal, filter_groups_metric="reward", train_batch_size=2, max_inflight_gen_batches=4)
    buffer.there = {"a": ("finished", 4), "b": ("finished", 4)}
    with pytest.raises(RolloutError, match="all rollouts of each were worth the same"):
        buffer.sample(global_steps=1, partition_id="train", batch_size=2)

    # A group that lost a rollout is looked at as whole ones are: verl would keep it, however equal it is.
    worths = {"a": [1.0, 1.0], "b": [1.0, 0.0], "c": [0.0, 0.0], "d": [1.0]}
    buffer = a_buffer(refill, filter_groups_metric="reward", train_batch_size=2, max_inflight_gen_batches=4)
    buffer.there = {"a": ("failure", 2), "b": ("failure", 2), "c": ("finished", 2), "d": ("failure", 1)}
    buffer._sync_metadata_from_transfer_queue()
    buffer._batch = 4

    def stored(keys: list[str], **_options: object) -> dict[str, list[torch.Tensor]]:
        return {"rm_scores": [torch.tensor([worths[key.split("_")[0]][int(key.split("_")[1])]]) for key in keys]}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replay_buffer.tq, "kv_batch_get", stored)
        _, equal, dropped, _ = buffer._terminal_eviction_reasons(1, "train")
    assert (equal, dropped) == ({"a", "c"}, {"d"})
    assert buffer.finished_keys["train"] == {"c"}

    # Of a validation nothing is asked anew; one without any rollout is no batch that verl could read.
    buffer = a_buffer(refill)
    buffer.there = {"a": ("finished", 1), "b": ("failure", 0)}
    assert buffer.sample(global_steps=1, partition_id="val", batch_size=2)[0].keys == ["a_0_0"]
    buffer = a_buffer(refill)
    buffer.there = {"a": ("failure", 0)}
    with pytest.raises(trainer._NothingPlayedError):
        buffer.sample(global_steps=1, partition_id="val", batch_size=1)


def configurations() -> None:
    """verl's schema has every key that ours become."""
    from videobrain.training.verl.grpo import RECIPES, GrpoConfig
    from videobrain.training.verl.objectives import OBJECTIVES

    shared = {"samples": ("s.jsonl",), "out": "out"}
    cases = [{"model": "m", **fields, "device": device} for fields in RECIPES.values() for device in ("cpu", "cuda")]
    cases += [{"model": "m", "objective": objective, "device": "cuda"} for objective in OBJECTIVES]
    cases += [
        {"model": "m", "rollout": rollout, "device": "cpu", "validate_on": ("v.jsonl",)} for rollout in ("hf", "vllm")
    ]
    for case in cases:
        text = GrpoConfig(**{**case, **shared}).check()
        assert "adv_estimator: videobrain_grpo" in text


if __name__ == "__main__":
    {"advantages": advantages, "groups": groups, "configurations": configurations}[sys.argv[1]]()
