"""Training through verl: typed configurations that become verl's own, and what verl's processes load of ours.

Nothing here imports verl or torch when it is imported, but the modules that verl's processes load: `dataset` and
`frozen_vision`; `agent_loop`, `grpo_main`, `hf_rollout`, `samples` and `trainer`; and those of `cpu`.
"""

from __future__ import annotations
