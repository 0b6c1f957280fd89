"""verl's engine for FSDP with the vision tower left as it is. Importing this module makes verl use it.

verl 0.9 has a key for this (``freeze_vision_tower``) that its engine for FSDP does not read. verl takes further engines
from its registry; those for a maker's devices go before those for a kind of device, which is how this one comes first.
verl imports this module where ``model.external_lib`` names it.
"""

from __future__ import annotations

from typing import Any

from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

TOWERS = ("visual", "vision_tower", "vision_model")
"""What models call their vision tower."""


@EngineRegistry.register(
    model_type="language_model", backend=["fsdp", "fsdp2"], device="cuda", vendor=["nvidia", "amd", "cpu"]
)
class FrozenVisionEngine(FSDPEngineWithLMHead):  # type: ignore[misc]
    """Trains the language model alone."""

    def _build_module(self) -> Any:
        module = super()._build_module()
        towers = [tower for name, tower in module.named_modules() if name.rpartition(".")[2] in TOWERS]
        if not towers:
            raise ValueError(
                f"{type(module).__name__} has no module called {' or '.join(TOWERS)} that could be left as it is. "
                "Set train_vision."
            )
        for tower in towers:
            tower.requires_grad_(False)
        return module
