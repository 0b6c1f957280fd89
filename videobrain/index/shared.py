"""An asynchronous front for a frame encoder: loaded once, used by one caller at a time, cancellable between frames."""

from __future__ import annotations

import atexit
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt

from videobrain.errors import EncoderUnavailableError, MissingDependencyError
from videobrain.index.encoder import Embeddings, FrameEncoder
from videobrain.video.frame import Pixels

_SLICE_SECONDS = 0.25
"""Work done between two looks at the cancel flag, and the time another caller waits for its turn."""
_MOST_AT_ONCE = 64
_POLL_SECONDS = 0.02
_TEXTS_KEPT = 512
"""Embeddings of texts: models ask for the same few things again and again, of one video and of many."""
_EXIT_SECONDS = 5.0
"""What the interpreter's end waits for a download that nobody needs any more."""


class SharedEncoder:
    """Lets many tasks share one blocking `FrameEncoder`.

    Calls run in a worker thread, one at a time and in the order they were made. A call that is cancelled ends after the
    frame (or batch) it is at. A failure to load is remembered: the next caller hears of it at once.

    Args:
        encoder: The encoder to share.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self._turn = anyio.Lock()
        self._busy = threading.Lock()
        self._threads = anyio.CapacityLimiter(2)
        self._loading: threading.Thread | None = None
        self._loaded = False
        self._failure: BaseException | None = None
        self._seconds_per_frame: float | None = None
        self._texts: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()

    def __repr__(self) -> str:
        state = "loaded" if self._loaded else "failed" if self._failure is not None else "not loaded"
        return f"SharedEncoder({self.name!r}, {state})"

    @property
    def name(self) -> str:
        """For people: logs, traces, listings."""
        return self._encoder.name

    @property
    def weights_local(self) -> bool:
        """Whether loading needs no network."""
        return self._encoder.weights_local

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded

    @property
    def fingerprint(self) -> str:
        """Identifies weights and preprocessing; valid after `load`."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of an embedding; valid after `load`."""
        return self._encoder.dimension

    @property
    def seconds_per_frame(self) -> float | None:
        """What embedding a frame has cost lately; None until one was embedded."""
        return self._seconds_per_frame

    async def load(self) -> None:
        """Load the encoder once; later calls return, wait for the first, or raise what it raised.

        A call that is cancelled leaves the loading to go on in its thread, since neither imports nor downloads can be
        stopped. The interpreter's end waits for it, though not for a whole download: a thread that Python stops while
        it is in C++ code, as the import of torch is, takes the process down with it.

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded, now or when it was first tried.
        """
        if not self._loaded and self._failure is None:
            if self._loading is None:
                self._loading = threading.Thread(target=self._load, name="videobrain-encoder", daemon=True)
                self._loading.start()
                atexit.register(self._await_loading, self._loading)
            while self._loading.is_alive():  # noqa: ASYNC110 - those who wait may live in different event loops
                await anyio.sleep(_POLL_SECONDS)
        match self._failure:
            case None:
                return
            case EncoderUnavailableError() | MissingDependencyError() as failure:
                # A new object each time: a raised one would gather a longer traceback with every caller.
                raise EncoderUnavailableError(failure.message, hint=failure.hint) from failure
            case failure:
                raise failure

    def _load(self) -> None:
        try:
            with self._busy:
                self._encoder.load()
        except BaseException as error:  # noqa: BLE001 - carried to the tasks that wait
            self._failure = error
        else:
            self._loaded = True

    def _await_loading(self, thread: threading.Thread) -> None:
        thread.join(None if not thread.is_alive() or self.weights_local else _EXIT_SECONDS)

    async def embed_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Embed RGB images; shape (len(images), dimension).

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded.
        """
        await self.load()
        cancelled = threading.Event()

        def work() -> Embeddings:
            parts = [np.empty((0, self.dimension), np.float32)]
            start = 0
            with self._busy:
                while start < len(images) and not cancelled.is_set():
                    count = self._slice()
                    begun = time.perf_counter()
                    parts.append(self._encoder.embed_images(images[start : start + count]))
                    self._note(time.perf_counter() - begun, len(images[start : start + count]))
                    start += count
            return np.concatenate(parts)

        vectors = await self._run(work, cancelled)
        self._check(vectors, len(images))
        return vectors

    async def embed_text(self, text: str) -> npt.NDArray[np.float32]:
        """Embed one text; shape (dimension,), read-only. The texts embedded last are kept.

        Raises:
            EncoderUnavailableError: The encoder cannot be loaded.
        """
        await self.load()
        known = self._texts.pop(text, None)
        if known is None:

            def work() -> Embeddings:
                with self._busy:
                    return self._encoder.embed_texts([text])

            vectors = await self._run(work, threading.Event())
            self._check(vectors, 1)
            known = np.asarray(vectors[0])
            known.flags.writeable = False
        self._texts[text] = known
        while len(self._texts) > _TEXTS_KEPT:
            self._texts.popitem(last=False)
        return known

    async def _run(self, work: Callable[[], Embeddings], cancelled: threading.Event) -> Embeddings:
        # The asynchronous lock keeps the order and costs waiting tasks no thread; the one in the thread holds off the
        # next caller while a cancelled call finishes its slice.
        async with self._turn:
            try:
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
            finally:
                cancelled.set()

    def _slice(self) -> int:
        if not self._seconds_per_frame:
            return 1
        return max(1, min(_MOST_AT_ONCE, int(_SLICE_SECONDS / self._seconds_per_frame)))

    def _note(self, seconds: float, frames: int) -> None:
        cost = seconds / frames
        before = self._seconds_per_frame
        # The first frame pays for allocations and compiled kernels, so it is soon outweighed.
        self._seconds_per_frame = cost if before is None else 0.5 * (before + cost)

    def _check(self, vectors: Embeddings, count: int) -> None:
        if vectors.shape != (count, self.dimension):
            raise ValueError(
                f"The frame encoder {self.name} gave embeddings of shape {vectors.shape} for {count} inputs; "
                f"its dimension is {self.dimension}."
            )
