"""Learning: models of the synthetic world, made from nothing."""

from __future__ import annotations
