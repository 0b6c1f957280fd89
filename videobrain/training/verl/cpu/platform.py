"""The CPU as one of verl's platforms. Importing this module registers it; see `cpu_environment`."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _nothing(*_args: Any, **_options: Any) -> None:
    """What a call comes to that only a device with memory of its own would answer."""


def _device_module() -> types.ModuleType:
    """What verl calls of ``torch.cuda``, for a device that shares the memory of the machine."""
    module = types.ModuleType("videobrain_verl_cpu")
    answers: dict[str, Any] = {
        "is_available": lambda: False,
        "device_count": lambda: 1,
        "current_device": lambda: "cpu",
        "get_device_name": lambda *_: "cpu",
        "mem_get_info": lambda *_: (0, 0),
        "device": torch.device,
        "Stream": torch.cpu.Stream,
        "current_stream": torch.cpu.current_stream,
        "stream": torch.cpu.stream,
    }
    answers |= {name: lambda *_: 0 for name in ("memory_allocated", "memory_reserved")}
    answers |= {name: lambda *_: 0 for name in ("max_memory_allocated", "max_memory_reserved")}
    for name in ("set_device", "synchronize", "empty_cache", "ipc_collect", "reset_peak_memory_stats", "manual_seed"):
        answers[name] = _nothing
    vars(module).update(answers)
    return module


_DEVICE_MODULE = _device_module()


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):  # type: ignore[misc]
    """One device that is the machine itself, with gloo between processes."""

    @property
    def device_name(self) -> str:
        """What torch calls it."""
        return "cpu"

    @property
    def vendor_name(self) -> str:
        """Of no maker."""
        return "cpu"

    @property
    def device_module(self) -> types.ModuleType:
        """Stands where ``torch.cuda`` does."""
        return _DEVICE_MODULE

    def is_available(self) -> bool:
        """No accelerator is there."""
        return False

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """Never found by looking: only ``VERL_PLATFORM=cpu`` chooses it."""
        return False

    def current_device(self) -> torch.device:
        """The one that there is. verl wants an index, and hands it on to torch, for which the CPU has none."""
        return torch.device("cpu")

    def device_count(self) -> int:
        """One, whatever the number of cores."""
        return 1

    def set_device(self, device_index: int) -> None:
        """There is nothing to choose from."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Everything is done when its call returns."""

    def manual_seed(self, seed: int) -> None:
        """Seed torch's one generator."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed torch's one generator."""
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """The system's allocator has none."""

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        """A CPU has no such number."""
        return None, None

    def communication_backend_name(self) -> str:
        """gloo runs everywhere."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """What Ray sets for the devices that it believes in; see `ray_resource_name`."""
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        """No profiler listens."""
        yield

    def profiler_start(self) -> None:
        """No profiler listens."""

    def profiler_stop(self) -> None:
        """No profiler listens."""

    def ray_resource_name(self) -> str:
        """verl looks the name up among Ray's own kinds of accelerators, so it must be one of them."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """Ray may set what it likes."""
        return []

    def is_ipc_supported(self) -> bool:
        """Weights go to the rollout through shared memory instead."""
        return False

    def cudart(self) -> None:
        """There is none."""
