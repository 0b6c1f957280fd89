"""vLLM without a GPU as verl's rollout engine. Importing this module replaces verl's own replica of the name ``vllm``.

vLLM's linear layers for the CPU repack their weights when they are loaded, and forget how to load further ones. So new
weights go through vLLM's reloading of a whole model instead of verl's loading of single tensors.
"""

from __future__ import annotations

from typing import Any

from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry


def _replica() -> type[RolloutReplica]:
    import ray
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica

    class CpuHttpServer(vLLMHttpServer):  # type: ignore[misc]
        def _get_worker_extension_cls(self) -> str:
            return "videobrain.training.verl.cpu.vllm_worker.CpuWorkerExtension"

    class CpuReplica(vLLMReplica):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.server_class = ray.remote(CpuHttpServer)

    return CpuReplica


RolloutReplicaRegistry.register("vllm", _replica)
