"""The videos that are open, and what they share: threads, decoders and the cache of encoded frames."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakValueDictionary

import anyio

from videobrain.errors import MissingDependencyError, VideoError
from videobrain.result import Clip, VideoSource
from videobrain.settings import Settings
from videobrain.video.cache import FrameCache
from videobrain.video.decoders import DecoderPool
from videobrain.video.part import VideoPart
from videobrain.video.scan import scan
from videobrain.video.source import MediaSource, display_name, resolve_source
from videobrain.video.table import Scan, VideoInfo
from videobrain.video.torchcodec import import_torchcodec
from videobrain.video.video import Video
from videobrain.video.work import Job, JobCancelledError, run_job

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_KEPT_VIDEOS = 64
"""Videos whose frame tables stay in memory though nobody uses them."""
_CLOSE_SECONDS = 5.0


class VideoPool:
    """Opens videos. Use it as an async context manager, or call `aclose`.

    Attributes:
        settings: Decoder, stream, deadlines and bounds.
        cache: Encoded frames of all videos.
        decoders: Open decoders of all videos.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.cache = FrameCache(self.settings.frame_cache_bytes)
        self.decoders = DecoderPool(self.settings.open_decoders)
        self._limiter = anyio.CapacityLimiter(self.settings.open_decoders)
        self._videos: WeakValueDictionary[str, Video] = WeakValueDictionary()
        self._recent: OrderedDict[str, Video] = OrderedDict()
        self._opening: dict[str, anyio.Lock] = {}
        self._jobs: set[Job] = set()
        self._closed = False
        self._torchcodec: bool | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self, source: VideoSource) -> Video:
        """Open a video and number its frames; the same content gives the same object.

        Raises:
            VideoNotFoundError: There is no such file, or it cannot be read.
            NotAVideoError: FFmpeg does not know what it is.
            NoVideoStreamError: It holds no (such) video stream.
            NoFramesError: Nothing in it can be decoded.
            ConfigurationError: A URL while ``allow_remote`` is off, or a stream index that is no video stream's.
            DecodeTimeoutError: It took longer than ``decode_timeout_seconds``.
        """
        if isinstance(source, Clip):
            return VideoPart(await self.open(source.video), source.start_seconds, source.end_seconds)
        job = Job(self.settings.decode_timeout_seconds, f"Opening {display_name(source)}")
        media = await self.run(job, lambda job: resolve_source(source, allow_remote=self.settings.allow_remote))
        lock = self._opening.setdefault(media.content_key, anyio.Lock())
        try:
            async with lock:  # of several that open it at once, one reads it
                video = self._videos.get(media.content_key)
                if video is None:
                    video = Video(self, media, await self._scan(media))
                    self._videos[media.content_key] = video
                else:
                    video.replace_source(media)
                if media.data is None:  # kept bytes would be whole files in memory
                    self._recent[media.content_key] = video
                    self._recent.move_to_end(media.content_key)
                while len(self._recent) > _KEPT_VIDEOS:
                    self._recent.popitem(last=False)
                return video
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._opening.pop(media.content_key, None)

    async def prepare(self) -> None:
        """Load the decoder's packages, which takes seconds and would count as time of the first frame otherwise.

        Raises:
            MissingDependencyError: ``decoder="torchcodec"``, and it does not work here.
        """
        await anyio.to_thread.run_sync(self.torchcodec_works)

    def torchcodec_works(self) -> bool:
        """Whether torchcodec is wanted and installed with the FFmpeg libraries it needs. Imports it; for threads.

        Raises:
            MissingDependencyError: ``decoder="torchcodec"``, and it does not work here.
        """
        if self._torchcodec is None:  # set once it is known: other threads may ask meanwhile
            self._torchcodec = self._try_torchcodec()
        return self._torchcodec

    def _try_torchcodec(self) -> bool:
        if self.settings.decoder == "pyav":
            return False
        try:
            import_torchcodec()
        except MissingDependencyError as error:
            if self.settings.decoder == "torchcodec":
                raise
            _LOGGER.info("PyAV decodes: %s", error)
            return False
        return True

    async def run(self, job: Job, work: Callable[[Job], T]) -> T:
        """Run blocking `work` in one of the pool's threads."""
        if self._closed:
            raise VideoError(
                "The video pool is closed.",
                hint="Use VideoBrain with `async with`, and its videos and indexes within it.",
            )
        self._jobs.add(job)
        try:
            return await run_job(job, lambda: work(job), limiter=self._limiter)
        except JobCancelledError as error:
            raise VideoError("The video pool was closed while a video was in use.") from error
        finally:
            self._jobs.discard(job)

    async def aclose(self) -> None:
        """End running work, close every decoder and forget the cached frames. May be called again."""
        if self._closed:
            return
        self._closed = True
        for job in tuple(self._jobs):
            job.cancel()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_CLOSE_SECONDS):
                for _ in range(self.settings.open_decoders):  # that is, until no thread works any more
                    await self._limiter.acquire_on_behalf_of(object())
            await anyio.to_thread.run_sync(self.decoders.close)
        self.cache.clear()
        self._recent.clear()

    async def _scan(self, media: MediaSource) -> Scan:
        job = Job(self.settings.decode_timeout_seconds, f"Reading {media.name}")
        return await self.run(job, lambda job: scan(media, self.settings.video_stream, job))


async def probe(source: VideoSource, *, settings: Settings | None = None) -> VideoInfo:
    """What is known about a video. It is read through once, as `VideoPool.open` does, and raises the same errors."""
    async with VideoPool(settings) as pool:
        return (await pool.open(source)).info
