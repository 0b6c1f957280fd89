"""Training through verl: typed configurations that become verl's own, and what verl's processes load of ours.

Nothing here imports verl or torch when it is imported, but the modules that verl's processes load: `dataset`,
`frozen_vision`, and those of `cpu`.
"""

from __future__ import annotations
