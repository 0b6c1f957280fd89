"""The tiny models that come with the package: how they are made."""

from __future__ import annotations
