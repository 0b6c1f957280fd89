"""Doubles for the tests of your own application: a model, a model server, a video. No extra is needed."""

from __future__ import annotations

from videobrain.testing.faults import Fault
from videobrain.testing.scripted import ScriptedModel
from videobrain.testing.server import FakeServer, ServerRequest
from videobrain.testing.video import make_video, read_frame_index

__all__ = ["FakeServer", "Fault", "ScriptedModel", "ServerRequest", "make_video", "read_frame_index"]
