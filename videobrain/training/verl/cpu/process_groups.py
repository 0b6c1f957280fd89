"""Process groups of the workers that Ray starts, on the CPU. Loaded by verl's processes; see `cpu_environment`.

verl joins "cpu:gloo" and the platform's own device to one name of backends, and torch refuses one that has the CPU
twice. Its function takes a backend, which its callers do not give; this is the one place where a function of verl's is
replaced.
"""

from __future__ import annotations

import functools

from verl.utils import distributed

distributed.initialize_global_process_group_ray = functools.partial(
    distributed.initialize_global_process_group_ray, backend="gloo"
)
