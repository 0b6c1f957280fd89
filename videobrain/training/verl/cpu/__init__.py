"""verl without an accelerator, for tests and small models only: slow, and not what verl is made for.

verl knows platforms of several makers and takes further ones from modules that ``VERL_USE_EXTERNAL_MODULES`` names.
`platform` registers the CPU as one, `sft` is an entry for supervised fine-tuning that needs no GPU's process group, and
`process_groups` does the same for the workers that Ray starts. `cpu_environment` switches it all on.
"""

from __future__ import annotations

PLATFORM_MODULE = "videobrain.training.verl.cpu.platform"
PROCESS_GROUPS_MODULE = "videobrain.training.verl.cpu.process_groups"
SFT_MODULE = "videobrain.training.verl.cpu.sft"


def cpu_environment(*, ray: bool = False) -> dict[str, str]:
    """Environment variables with which verl's processes run on the CPU.

    Args:
        ray: The training starts its workers through Ray, as reinforcement learning does.
    """
    modules = [PLATFORM_MODULE, PROCESS_GROUPS_MODULE] if ray else [PLATFORM_MODULE]
    variables = {
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": ",".join(modules),
        # verl's table of engines has no line for the CPU; that of CUDA's is written in plain torch.
        "VERL_ENGINE_DEVICE": "cuda",
    }
    if ray:
        # Workers that ask for no part of the declared device keep the environment that they were given.
        variables["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    return variables


def ray_overrides(processes: int) -> dict[str, int]:
    """verl's keys with which Ray believes in as many devices as there are processes.

    verl places workers by a resource that Ray must know by a name of its own, so a made-up one does not do.
    """
    return {"+ray_kwargs.ray_init.num_gpus": processes}
