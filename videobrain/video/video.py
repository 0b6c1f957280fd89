"""One open video: frames by index, decoded, resized and encoded off the event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from videobrain.result import SubtitleSource
from videobrain.video.cache import FrameKey
from videobrain.video.decoders import Decoder
from videobrain.video.frame import EncodedFrame, Frame, FrameSize, resize
from videobrain.video.pyav import PyAVDecoder
from videobrain.video.sampling import unique_sorted
from videobrain.video.source import MediaSource
from videobrain.video.subtitle_reading import SubtitleShelf, check_subtitle_source
from videobrain.video.subtitles import Subtitles
from videobrain.video.table import FrameTable, MissingFrames, Scan, VideoInfo
from videobrain.video.torchcodec import TorchcodecDecoder, TorchcodecMismatchError, can_read, same_pixels
from videobrain.video.work import Job

if TYPE_CHECKING:
    from videobrain.video.pool import VideoPool

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class Video:
    """A video of a `VideoPool`, which makes it. Its methods may be called by many tasks at once.

    Attributes:
        key: Key of the content and the stream.
        info: What is known about the video.
        table: Which frames there are, and when.
    """

    def __init__(self, pool: VideoPool, source: MediaSource, scan: Scan) -> None:
        self.info: VideoInfo = scan.info
        self.table: FrameTable = scan.table
        self.key = scan.info.key
        self._pool = pool
        self._source = source
        self._scan = scan
        self._undecodable: set[int] = set()
        self._decoder: Literal["torchcodec", "pyav"] | None = None  # None: nothing has been decoded yet
        self._verified = False
        self._subtitles = SubtitleShelf()

    def __repr__(self) -> str:
        info = self.info
        return f"Video({info.source!r}, {info.width}x{info.height}, {len(self)} frames, {info.duration_seconds:.2f} s)"

    def __len__(self) -> int:
        return len(self.table)

    @property
    def decoder(self) -> str | None:
        """Which decoder reads this video, ``torchcodec`` or ``pyav``; None before its first frame."""
        return self._decoder

    @property
    def in_memory(self) -> bool:
        """Whether the file itself is held in memory: the video was given as bytes."""
        return self._source.data is not None

    @property
    def comment(self) -> str:
        """The comment in the container's metadata; empty where there is none."""
        return self._scan.comment

    @property
    def missing(self) -> tuple[MissingFrames, ...]:
        """What should be there and cannot be decoded, in order of time; grows as decoding finds more."""
        found: list[MissingFrames] = []
        runs: list[list[int]] = []
        for index in sorted(self._undecodable):
            if runs and index == runs[-1][1]:
                runs[-1][1] += 1
            else:
                runs.append([index, index + 1])
        seconds = self.table.timestamps_seconds
        for start, end in runs:
            end_seconds = float(seconds[end]) if end < len(seconds) else self.table.duration_seconds
            found.append(
                MissingFrames(
                    start_seconds=float(seconds[start]),
                    end_seconds=end_seconds,
                    reason="damaged packets that cannot be decoded",
                    start_frame=start,
                    end_frame=end,
                )
            )
        return tuple(sorted((*self._scan.missing, *found), key=lambda part: part.start_seconds))

    async def frames(
        self, indices: Sequence[int], *, size: FrameSize | None = None, timeout: float | None = None
    ) -> list[Frame]:
        """Decode frames, in one batch sorted by time, each once.

        Args:
            indices: Frames in any order; duplicates count once.
            size: Box to fit the frames into; by default they keep their own size.
            timeout: Seconds it may take; by default ``Settings.decode_timeout_seconds``.

        Returns:
            RGB frames in order of their index. Undecodable ones are left out and from then on stand in `missing`.

        Raises:
            IndexError: There is no frame of such an index.
            DecodeTimeoutError: It took too long.
        """
        wanted = self._check(indices)
        if not wanted:
            return []
        return await self._run(timeout, lambda job: self._decode(wanted, size, job, lambda frame: frame))

    async def encoded(
        self, indices: Sequence[int], *, size: FrameSize, timeout: float | None = None
    ) -> list[EncodedFrame]:
        """The same as JPEG, from the pool's cache where they are there. A frame that several ask for is made once."""
        wanted = self._check(indices)
        quality = self._pool.settings.jpeg_quality
        keys = [FrameKey(self.key, index, size, quality) for index in wanted]

        async def make(keys: list[FrameKey]) -> dict[FrameKey, EncodedFrame]:
            mine = [key.frame_index for key in keys]
            made = await self._run(
                timeout,
                lambda job: self._decode(mine, size, job, lambda frame: EncodedFrame.encode(frame, quality=quality)),
            )
            return {FrameKey(self.key, frame.frame_index, size, quality): frame for frame in made}

        found = await self._pool.cache.get_many(keys, make)
        return [found[key] for key in keys if key in found]

    async def subtitles(
        self, source: SubtitleSource, *, start_seconds: float = 0.0, timeout: float | None = None
    ) -> Subtitles:
        """Read subtitles for this video, in a worker thread; those that were read last are kept.

        Args:
            source: Path of an SRT, WebVTT or LongVideoBench JSON file; or ``"embedded"`` for the video's own stream of
                text, ``"embedded:eng"`` for one of a language, ``"embedded:2"`` for the stream of an index.
            start_seconds: Time of the subtitles at which the video begins: it is a part of what they were written for.
            timeout: Seconds it may take; by default ``Settings.decode_timeout_seconds``.

        Raises:
            SubtitleError: They are not there, cannot be read, or are no text. That no line is in them is a warning.
            ConfigurationError: `source` or `start_seconds` is of another kind.
            DecodeTimeoutError: It took too long.
        """
        check_subtitle_source(source, start_seconds)
        return await self._read_subtitles(self.key, self.table, source, start_seconds, timeout)

    async def _read_subtitles(
        self, key: str, table: FrameTable, source: SubtitleSource, start_seconds: float, timeout: float | None
    ) -> Subtitles:
        """Subtitles for this video or a part of it, whose key and table these are."""
        seconds = self._pool.settings.decode_timeout_seconds if timeout is None else timeout

        def read(job: Job) -> Subtitles:
            return self._subtitles.read(
                self._source,
                table,
                source,
                job,
                key=key,
                container_start_seconds=self.info.start_seconds,
                start_seconds=start_seconds,
            )

        return await self._pool.run(Job(seconds, f"Reading subtitles of {self.info.source}"), read)

    def _check(self, indices: Sequence[int]) -> list[int]:
        wanted = unique_sorted(indices)
        if wanted and (wanted[0] < 0 or wanted[-1] >= len(self)):
            bad = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise IndexError(f"There is no frame {bad} in {self.info.source}: it has {len(self)}.")
        return [index for index in wanted if index not in self._undecodable]

    async def _run(self, timeout: float | None, work: Callable[[Job], T]) -> T:
        seconds = self._pool.settings.decode_timeout_seconds if timeout is None else timeout
        return await self._pool.run(Job(seconds, f"Decoding frames of {self.info.source}"), work)

    def _decode(
        self, wanted: list[int], size: FrameSize | None, job: Job, finish: Callable[[Frame], T]
    ) -> list[T]:  # in a worker thread
        done: list[T] = []
        seen: set[int] = set()
        while True:
            rest = [index for index in wanted if index not in seen]
            try:
                with self._pool.decoders.borrow(self.key, wanted[0], self._open_decoder) as decoder:
                    self._verify(decoder, wanted[len(wanted) // 2], job)
                    for index, pixels in decoder.read(rest, job):
                        job.check()
                        seen.add(index)
                        fitted = resize(pixels, size, pixel_aspect=self._upright_aspect)
                        done.append(finish(Frame(index, float(self.table.timestamps_seconds[index]), fitted)))
            except TorchcodecMismatchError as error:
                _LOGGER.info("%s is read by PyAV: torchcodec: %s", self.info.source, error)
                self._decoder = "pyav"
                self._pool.decoders.forget(self.key)
                continue
            break
        self._undecodable.update(set(wanted) - seen)
        return done

    def _verify(self, decoder: Decoder, index: int, job: Job) -> None:
        """Compare one frame of torchcodec with PyAV's before its first use on this video."""
        if decoder.name != "torchcodec" or self._verified:
            return
        reference = PyAVDecoder(self._source, self._scan)
        try:
            expected = dict(reference.read([index], job)).get(index)
        finally:
            reference.close()
        for _, pixels in decoder.read([index], job):
            if expected is None or not same_pixels(expected, pixels):
                raise TorchcodecMismatchError(f"pixels of frame {index} are not PyAV's")
        self._verified = True

    @property
    def _upright_aspect(self) -> float:
        """Pixel aspect after rotation."""
        aspect = self.info.pixel_aspect
        return 1 / aspect if self.info.rotation in (90, 270) else aspect

    def _open_decoder(self) -> Decoder:
        self._source.check_unchanged()
        if self._decoder is None:
            usable = can_read(self._source, self._scan) and self._pool.torchcodec_works()
            self._decoder = "torchcodec" if usable else "pyav"
        if self._decoder == "torchcodec":
            return TorchcodecDecoder(self._source, self._scan)
        return PyAVDecoder(self._source, self._scan)

    def replace_source(self, source: MediaSource) -> None:
        """Read from here from now on: the same content was found at another place, or at the same place anew."""
        if source.data is None or self._source.path is None or not self._source.path.exists():
            self._source = source
