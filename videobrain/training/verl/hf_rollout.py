"""A rollout engine for verl on transformers, for small machines: one actor that samples in batches.

verl's own engines are servers such as vLLM. Importing this module registers ours under the name ``hf`` as verl's
processes look it up; `GrpoConfig` has them import it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import ray
import torch
from verl.utils.device import get_resource_name
from verl.workers.rollout import base
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

from videobrain.training.generation import BatchedGenerator
from videobrain.training.token_model import Sampling

if TYPE_CHECKING:
    from PIL import Image

ENGINE = "hf"
"""Name under which verl knows it."""


def _server_name(rank: int) -> str:
    return f"videobrain_hf_server_{rank}"


class HfAdapter(BaseRollout):  # type: ignore[misc]
    """The side of the trainer's worker: hands new weights to the server."""

    async def resume(self, tags: list[str]) -> None:
        """Nothing was released."""

    async def release(self) -> None:
        """The server keeps its weights."""

    async def update_weights(
        self,
        weights: Generator[tuple[str, torch.Tensor], None, None],
        wire_format: str = "named_tensors",
        global_steps: int | None = None,
        **_options: Any,
    ) -> None:
        """Send all weights in one piece."""
        if wire_format != "named_tensors":
            raise NotImplementedError(f"the rollout engine {ENGINE} takes no weights as {wire_format}")
        state = {name: weight.detach().cpu().clone() for name, weight in weights}
        rank = torch.distributed.get_rank()
        await ray.get_actor(_server_name(rank)).load.remote(state, global_steps)


class HfServer:
    """The actor that holds the model and samples."""

    def __init__(self, model: str, config: Any, rank: int) -> None:
        import transformers

        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
        dtype = torch.float32 if device is None or device.type == "cpu" else torch.bfloat16
        loaded = transformers.AutoModelForImageTextToText.from_pretrained(model, dtype=dtype)
        processor = transformers.AutoProcessor.from_pretrained(model)
        self._generator = BatchedGenerator(loaded.to(device), processor, most=int(config.max_num_seqs))
        self._seed = (int(config.seed), rank)
        self._steps: int | None = None

    async def load(self, weights: dict[str, torch.Tensor], steps: int | None) -> None:
        """Take new weights."""
        # Of the step too: a training that goes on must not sample again what it sampled first.
        seed = hash((*self._seed, steps or 0)) % 2**63
        await asyncio.to_thread(self._generator.load, weights, seed=seed)
        self._steps = steps

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling_params: dict[str, Any],
        request_id: str,
        image_data: Sequence[Image.Image] | None = None,
        **_options: Any,
    ) -> TokenOutput:
        """Continue a conversation."""
        sampled = await self._generator.generate(
            prompt_ids,
            image_data or (),
            Sampling(int(sampling_params["max_tokens"]), float(sampling_params.get("temperature", 1.0))),
            top_p=float(sampling_params.get("top_p", 1.0)),
            top_k=int(sampling_params.get("top_k", 0)),
        )
        return TokenOutput(
            token_ids=list(sampled.token_ids),
            log_probs=list(sampled.log_probs or ()),
            stop_reason="completed",
            extra_fields={"global_steps": self._steps},
        )

    async def nothing(self) -> None:
        """What verl asks of a server with a cache to free, to fill or to profile; this one has none."""

    wake_up = sleep = clear_kv_cache = resume_generation = release_kv_cache = resume_kv_cache = stop_profile = nothing

    async def abort_all_requests(self, reject_request: bool = False) -> None:
        """Requests end by themselves; verl aborts none in its synchronous trainer."""

    async def start_profile(self, **_options: Any) -> None:
        """There is no profiler."""


class HfReplica(RolloutReplica):  # type: ignore[misc]
    """The side of verl's controller: starts the server beside the worker whose weights it takes."""

    async def launch_servers(self) -> None:
        """Start the server."""
        node, device = await self.workers[0].__ray_call__.remote(_place)
        options: dict[str, Any] = {"name": _server_name(self.replica_rank), "max_concurrency": self.max_concurrency}
        if torch.accelerator.is_available():
            # It shares the worker's device, which Ray has given away already.
            options["runtime_env"] = {
                "env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": device}
            }
        beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        server = (
            ray.remote(HfServer)
            .options(scheduling_strategy=beside, **options)
            .remote(self.model_config.path, self.config, self.replica_rank)
        )
        await server.nothing.remote()
        self.servers = [server]
        self._server_handle = server
        self._server_address = _server_name(self.replica_rank)


def _place(_worker: Any) -> tuple[str, str]:
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_accelerator_ids()[get_resource_name()][0]


RolloutReplicaRegistry.register(ENGINE, lambda: HfReplica)
# verl has no function for this table, as it has one for the other.
base._ROLLOUT_REGISTRY[(ENGINE, "async")] = f"{__name__}.HfAdapter"
