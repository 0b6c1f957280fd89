"""Which videobrain this is."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "0+unknown"


@functools.cache
def installed_version() -> str:
    """The version of the installed package; `UNKNOWN` for a checkout on the path of a process, as trainings use it."""
    try:
        return version("videobrain")
    except PackageNotFoundError:
        return UNKNOWN
