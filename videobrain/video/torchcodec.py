"""Decoding with torchcodec, frame by frame and by time, each frame checked against the frame table.

Asked by index, torchcodec counts what the file's own index says, which is not always what is shown (hidden frames, edit
lists). Asked by time it needs no scan of the file, is as fast as in one batch, and can be cancelled between frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from videobrain.errors import MissingDependencyError
from videobrain.video.container import DECODER_THREADS
from videobrain.video.frame import Pixels
from videobrain.video.source import MediaSource
from videobrain.video.table import FrameTable, Scan
from videobrain.video.work import Job

_STEP_PIXELS = 100_000_000
"""Pixels that one call may decode on its way to a frame (some 0.3 s): a call cannot be cancelled."""
_THREADED_PIXELS = 1280 * 720
"""Smaller pictures decode faster in one thread (8 frames of 448x252: 32 ms instead of 39 ms). Only sound files are read
here, whose pixels do not depend on it."""
_MAPPED_FRAMES = 100_000
"""Frames whose times torchcodec is told at the most (some 0.2 s)."""
_MEAN_DIFFERENCE = 1.0
_MAX_DIFFERENCE = 16
"""How far torchcodec's pixels may be from PyAV's, which may carry another version of FFmpeg. With the same version
sound 8-bit files give equal pixels; on 10-bit files torchcodec is off by more than 100."""


class TorchcodecMismatchError(Exception):
    """torchcodec does not read this file, or not as the frame table says. Never leaves the video room."""


def import_torchcodec() -> Any:
    """The class ``torchcodec.decoders.VideoDecoder``.

    Raises:
        MissingDependencyError: torchcodec, or the FFmpeg libraries that it needs, are not installed.
    """
    no_ffmpeg = MissingDependencyError(
        "torchcodec finds no FFmpeg libraries.",
        hint="Install FFmpeg (apt-get install ffmpeg), or set VIDEOBRAIN_DECODER=pyav.",
    )
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder
    except ImportError as error:
        raise MissingDependencyError(f"torchcodec cannot be imported: {error}.", extra="local") from error
    except (RuntimeError, OSError) as error:  # up to 0.16 or so, the import itself fails without FFmpeg
        raise no_ffmpeg from error
    if getattr(torchcodec, "ffmpeg_major_version", 0) is None:  # later, each call does
        raise no_ffmpeg
    return VideoDecoder


def can_read(source: MediaSource, scan: Scan) -> bool:
    """Whether torchcodec may be tried on a video.

    Not on URLs (it cannot be told what libav may open), not above 8 bits, not without real times, and not on damaged
    files: how damage looks depends on what the decoder has seen before, and only PyAV lets us begin anew.
    """
    if scan.open_gops and len(scan.table) > _MAPPED_FRAMES:
        return False
    return source.url is None and scan.info.bit_depth == 8 and not scan.table.ordinal and not scan.damaged


def same_pixels(first: Pixels, second: Pixels) -> bool:
    """Whether two decoders' images of a frame agree."""
    if first.shape != second.shape:
        return False
    difference = np.abs(first.astype(np.int16) - second)
    return bool(difference.max() <= _MAX_DIFFERENCE and difference.mean() <= _MEAN_DIFFERENCE)


def _mapping(table: FrameTable) -> str:
    """The table as the JSON that torchcodec takes in place of a scan."""
    durations = np.diff(table.pts, append=2 * table.pts[-1] - table.pts[-2]) if len(table) > 1 else np.ones(1, int)
    rows = zip(table.pts.tolist(), durations.tolist(), table.keyframes.astype(int).tolist(), strict=True)
    return json.dumps({"frames": [{"pts": p, "duration": d, "key_frame": k} for p, d, k in rows]})


class TorchcodecDecoder:
    """An open stream that gives frames by index. Raises `TorchcodecMismatchError` where it cannot be trusted."""

    name = "torchcodec"

    def __init__(self, source: MediaSource, scan: Scan) -> None:
        info = scan.info
        self._table = scan.table
        self._position: int | None = None
        pixels = info.coded_width * info.coded_height
        self._step = max(8, _STEP_PIXELS // pixels)
        # Its approximate mode needs no scan of the file, but misses leading pictures; told the keyframes, it does not.
        access = {"custom_frame_mappings": _mapping(scan.table)} if scan.open_gops else {"seek_mode": "approximate"}
        video_decoder = import_torchcodec()
        try:
            self._decoder = video_decoder(
                source.data if source.data is not None else f"file:{source.path}",
                stream_index=info.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=DECODER_THREADS if pixels >= _THREADED_PIXELS else 1,
                device="cpu",
                **access,
            )
        except (RuntimeError, ValueError, ImportError) as error:
            raise TorchcodecMismatchError(str(error)) from error

    def close(self) -> None:
        """Close the file."""
        self._decoder = None

    def cost(self, index: int) -> int:
        """Frames that have to be decoded to reach this one from where the decoder stands."""
        return self._table.cost(index, self._position)

    def read(self, indices: Sequence[int], job: Job) -> Iterator[tuple[int, Pixels]]:
        """RGB images, upright and with the stream's own pixel aspect, of sorted unique indices.

        Raises:
            TorchcodecMismatchError: A frame does not come, or another one does.
        """
        for index in indices:
            # Stepping stones bound what a single call decodes where keyframes are far apart.
            base = self._table.decoding_start(index, self._position)
            for stone in range(base + self._step, index, self._step):
                job.check()
                self._read(stone)
            job.check()
            yield index, self._read(index)

    def _read(self, index: int) -> Pixels:
        table = self._table
        seconds = float(table.pts[index] * table.time_base)
        following = float(table.pts[index + 1] * table.time_base) if index + 1 < len(table) else seconds + 0.002
        try:
            # Past the frame's very start, which rounding could put before it.
            frame = self._decoder.get_frame_played_at(seconds + min(0.001, (following - seconds) / 4))
        except (RuntimeError, IndexError, ValueError) as error:
            raise TorchcodecMismatchError(f"frame {index}: {error}") from error
        if abs(frame.pts_seconds - seconds) > max(1e-5, (following - seconds) / 4):
            raise TorchcodecMismatchError(f"frame {index} is at {seconds} s, it gave {frame.pts_seconds} s")
        self._position = index
        pixels: Pixels = frame.data.numpy()
        return pixels
