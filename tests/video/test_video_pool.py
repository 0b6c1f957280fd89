"""Videos through the public face of the room: errors, caching, sharing, cancellation, deadlines."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest

from videobrain.errors import (
    ConfigurationError,
    DecodeTimeoutError,
    MissingDependencyError,
    NoFramesError,
    NotAVideoError,
    NoVideoStreamError,
    VideoError,
    VideoNotFoundError,
)
from videobrain.settings import Settings
from videobrain.video import FRAME_SIZES, FrameSize, Video, VideoPool, probe, work
from videobrain.video import video as video_module
from videobrain.video.decoders import DecoderPool
from videobrain.video.work import Job, run_job

pytestmark = pytest.mark.anyio


def grey(video: Video, pixels: np.ndarray) -> int:
    """Number that `write_video` has painted."""
    return round(float(pixels.mean()) / 8)


@pytest.fixture
async def pyav_pool() -> AsyncIterator[VideoPool]:
    async with VideoPool(Settings(decoder="pyav")) as pool:
        yield pool


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Indices of all frames that any decoder gave, in the order given."""
    given: list[int] = []
    real = video_module.Frame

    def frame(index: int, *rest: object) -> object:
        given.append(index)
        return real(index, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(video_module, "Frame", frame)
    return given


async def test_probe_tells_header_from_content(videos: Path) -> None:
    info = await probe(videos / "annex-b.mp4")
    assert (info.frame_count, info.header_frame_count) == (6, 745)
    assert info.duration_seconds == pytest.approx(0.5)
    assert info.header_duration_seconds == pytest.approx(35.229)
    assert (await probe(videos / "cursed-vfr.mp4")).variable_frame_rate
    steady = await probe(videos / "flower.webm")
    assert not steady.variable_frame_rate
    assert steady.fps == pytest.approx(29.97, abs=0.01)
    assert (await probe(videos / "0.ts")).start_seconds == pytest.approx(10.012)


async def test_what_is_missing_is_listed(pool: VideoPool, videos: Path) -> None:
    cut = (await pool.open(videos / "annex-b.mp4")).missing
    assert [(m.start_seconds, m.end_seconds) for m in cut] == [(pytest.approx(0.5), pytest.approx(35.229))]
    assert "745" in str(cut[0])
    (hole,) = (await pool.open(videos / "corrupted.mp4")).missing
    assert (hole.start_seconds, hole.end_seconds) == (pytest.approx(3.0), pytest.approx(3.1))
    for name in ("cursed-vfr.mp4", "car-detection.mp4", "segment001.ts", "stream-of-water.webm", "book.mkv"):
        assert (await pool.open(videos / name)).missing == ()


async def test_a_hole_in_a_large_file_keeps_its_number(
    pool: VideoPool, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videobrain.video.scan._VERIFY_PIXELS", 0)
    video = await pool.open(videos / "corrupted.mp4")
    assert len(video) == 50
    assert video.missing == ()
    frames = await video.frames(range(28, 33))
    assert [frame.frame_index for frame in frames] == [28, 29, 31, 32]
    (hole,) = video.missing
    assert (hole.start_frame, hole.end_frame) == (30, 31)
    assert "frame 30, 3.00 to 3.10 s" in str(hole)
    assert await video.frames([30]) == []
    assert video.decoder == "pyav"


async def test_a_cut_transport_stream_and_matroska_give_what_they_have(
    pool: VideoPool, videos: Path, tmp_path: Path
) -> None:
    for name in ("0.ts", "av1_video.mkv", "flower.webm"):
        path = tmp_path / name
        path.write_bytes((videos / name).read_bytes()[: (videos / name).stat().st_size // 2])
        video = await pool.open(path)
        assert 10 < len(video) < 300
        got = await video.frames(range(len(video)), size=FRAME_SIZES[2])
        assert len(got) == len(video) - sum((m.end_frame or 0) - (m.start_frame or 0) for m in video.missing)
        assert len(got) >= len(video) - 1
        if name != "0.ts":  # a transport stream has no header that could promise more
            assert "cut off" in str(video.missing[-1])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path / "nothing.mp4", VideoNotFoundError),
        (lambda path: path, VideoNotFoundError),
        (lambda path: b"", NotAVideoError),
        (lambda path: b"no video at all", NotAVideoError),
        (lambda path: "a\0b", VideoNotFoundError),
        (lambda path: "concat:a.mp4|b.mp4", VideoNotFoundError),
        (lambda path: "rtsp://127.0.0.1:1/x", VideoNotFoundError),
        (lambda path: "/dev/zero", VideoNotFoundError),
    ],
)
async def test_what_is_no_video_is_refused(
    make: Callable[[Path], Path | bytes | str], error: type[VideoError], pool: VideoPool, tmp_path: Path
) -> None:
    with pytest.raises(error):
        await pool.open(make(tmp_path))


async def test_text_and_empty_and_playlist_files_are_refused(pool: VideoPool, tmp_path: Path) -> None:
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n"
    contents = {"notes.txt": "hello\n" * 99, "empty.mp4": "", "list.m3u8": playlist, "text.mp4": "hello " * 999}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError) as caught:
            await pool.open(tmp_path / name)
        assert name in str(caught.value)


async def test_sound_alone_is_refused_soon(pool: VideoPool, videos: Path) -> None:
    with anyio.fail_after(5), pytest.raises(NoVideoStreamError, match=r"multiple-aac-tracks\.mp4 has no video stream"):
        await pool.open(videos / "multiple-aac-tracks.mp4")


async def test_a_video_without_a_decodable_frame_is_refused(pool: VideoPool, write_video: Callable[..., Path]) -> None:
    path = write_video(frames=3)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    with pytest.raises(NoFramesError):
        await pool.open(bytes(data))


async def test_a_stream_that_is_none_is_refused(videos: Path) -> None:
    async with VideoPool(Settings(video_stream=1)) as pool:
        with pytest.raises(ConfigurationError, match="0, 3"):
            await pool.open(videos / "nasa_13013.mp4")


async def test_urls_need_leave_and_their_secrets_are_not_told(pool: VideoPool) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await pool.open("http://user:secret@127.0.0.1:1/film.mp4?token=secret")
    assert "secret" not in str(caught.value)
    assert "ALLOW_REMOTE" in str(caught.value)
    async with VideoPool(Settings(allow_remote=True)) as remote:
        with pytest.raises(VideoNotFoundError, match="cannot be fetched"):
            await remote.open("http://127.0.0.1:1/film.mp4")
        for wrong in ("http://user:secret@[1/film.mp4", "http://user:secret@host:port/film.mp4"):
            with pytest.raises(VideoError) as caught_too:
                await remote.open(wrong)
            assert "secret" not in str(caught_too.value)


async def test_bytes_and_copies_are_the_same_video(pool: VideoPool, videos: Path, tmp_path: Path) -> None:
    path = videos / "unordered.mov"
    video = await pool.open(path)
    assert await pool.open(str(path)) is video
    assert await pool.open(path.read_bytes()) is video
    copy = Path(shutil.copy(path, tmp_path / "copy.mov"))
    assert await pool.open(copy) is video
    assert await pool.open(videos / "video_0.mov") is not video
    assert len(await video.frames([0, 3])) == 2


async def test_a_file_that_changes_is_noticed(pyav_pool: VideoPool, write_video: Callable[..., Path]) -> None:
    path = write_video()
    video = await pyav_pool.open(path)
    write_video(frames=9)
    with pytest.raises(VideoError, match="was changed"):
        await video.frames([3])
    assert len(await pyav_pool.open(path)) == 9


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("options", [{"bf": "3", "g": "7"}, {"bf": "0", "g": "1"}, {"bf": "2", "g": "250"}])
async def test_every_index_gives_its_own_picture(
    decoder: str, options: dict[str, str], write_video: Callable[..., Path]
) -> None:
    pts = [n + n * n // 4 for n in range(30)]  # frames come ever slower
    path = write_video(pts=pts, options=options)
    async with VideoPool(Settings(decoder=decoder)) as pool:  # type: ignore[arg-type]
        video = await pool.open(path)
        assert video.info.variable_frame_rate
        assert video.table.timestamps_seconds == pytest.approx(np.array(pts) / 25)
        for index in np.random.default_rng(0).permutation(30):
            (frame,) = await video.frames([int(index)])
            assert grey(video, frame.pixels) == index == video.table.index_at(frame.timestamp_seconds)
        many = await video.frames([9, 2, 2, 28, 9])
        assert [grey(video, frame.pixels) for frame in many] == [2, 9, 28]


async def test_a_stream_without_times_is_counted(pool: VideoPool, write_video: Callable[..., Path]) -> None:
    video = await pool.open(write_video("raw.h264", options={"bf": "2"}))
    assert len(video) == 30
    assert [grey(video, f.pixels) for f in await video.frames([29, 4, 17])] == [4, 17, 29]
    assert [grey(video, f.pixels) for f in await video.frames([11])] == [11]


async def test_frames_are_fitted_and_never_enlarged(pool: VideoPool, videos: Path) -> None:
    video = await pool.open(videos / "sar_2x1.mp4")
    assert (await video.frames([0], size=FrameSize(448, 252)))[0].pixels.shape == (126, 448, 3)
    small = await pool.open(videos / "unordered.mov")
    (frame,) = await small.encoded([1], size=FRAME_SIZES[0])
    assert (frame.width, frame.height) == (50, 50)
    assert frame.jpeg[:2] == b"\xff\xd8"


async def test_frames_out_of_range_are_an_error(pool: VideoPool, videos: Path) -> None:
    video = await pool.open(videos / "unordered.mov")
    assert await video.frames([]) == []
    for index in (-1, 4):
        with pytest.raises(IndexError, match="has 4"):
            await video.frames([0, index])


async def test_frames_are_encoded_once(pool: VideoPool, videos: Path, decoded: list[int]) -> None:
    video = await pool.open(videos / "friday.mp4")
    size = FRAME_SIZES[1]
    results: dict[int, list[bytes]] = {}

    async def ask(number: int, indices: list[int]) -> None:
        results[number] = [frame.jpeg for frame in await video.encoded(indices, size=size)]

    async with anyio.create_task_group() as group:
        group.start_soon(ask, 0, [1, 50, 100])
        group.start_soon(ask, 1, [100, 1, 150])
        group.start_soon(ask, 2, [150])
    assert sorted(decoded) == [1, 50, 100, 150]
    assert results[0][0] == results[1][0]
    await video.encoded([1, 50, 100, 150], size=size)
    assert len(decoded) == 4
    await video.encoded([1], size=FRAME_SIZES[2])
    assert len(decoded) == 5


async def test_who_waits_for_a_cancelled_request_makes_the_frame(pool: VideoPool, videos: Path) -> None:
    video = await pool.open(videos / "0.ts")
    got: list[int] = []

    async def ask(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            got.extend(frame.frame_index for frame in await video.encoded([290], size=FRAME_SIZES[2]))

    async with anyio.create_task_group() as group:
        group.start_soon(ask, 0.02)
        await anyio.sleep(0.001)
        group.start_soon(ask, 20)
    assert got == [290]


async def test_the_cache_keeps_its_bound(videos: Path) -> None:
    for bound in (0, 60_000):
        async with VideoPool(Settings(frame_cache_bytes=bound)) as pool:
            video = await pool.open(videos / "friday.mp4")
            frames = await video.encoded(range(0, 180, 10), size=FRAME_SIZES[0])
            assert len(frames) == 18
            assert sum(len(frame.jpeg) for frame in frames) > 60_000
            assert pool.cache.size_bytes <= bound
            assert (len(pool.cache) > 0) == (bound > 0)


async def test_decoders_stay_within_their_bound(videos: Path) -> None:
    names = ["flower.mp4", "flower.webm", "friday.mp4", "video.mp4", "book.mkv"]
    pool = VideoPool(Settings(open_decoders=2, decoder="pyav"))
    most = 0
    async with pool:
        opened = [await pool.open(videos / name) for name in names]

        async def read(video: Video) -> None:
            nonlocal most
            for index in (40, 3, 80):
                assert len(await video.frames([index])) == 1
                most = max(most, pool.decoders.open_count)

        async with anyio.create_task_group() as group:
            for video in opened * 2:
                group.start_soon(read, video)
        assert 1 <= pool.decoders.open_count <= most <= 2
    assert pool.decoders.open_count == 0


async def test_a_deadline_ends_decoding(pyav_pool: VideoPool, videos: Path) -> None:
    video = await pyav_pool.open(videos / "0.ts")
    with pytest.raises(DecodeTimeoutError, match=r"0\.ts took longer than 0\.02 s"):
        await video.frames(range(298), timeout=0.02)
    assert len(await video.frames([5])) == 1
    async with VideoPool(Settings(decode_timeout_seconds=0.001)) as hasty:
        with pytest.raises(DecodeTimeoutError):
            await hasty.open(videos / "bbb_448x252_av.mp4")


async def test_waiting_for_a_thread_is_not_slow_decoding() -> None:
    """One thread and five pieces of work, each within its deadline, all of them together far beyond it."""
    limiter, done = anyio.CapacityLimiter(1), []

    async def one(number: int) -> None:
        done.append(await run_job(Job(0.5, "Working"), lambda: time.sleep(0.3) or number, limiter=limiter))

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(one, number)
    assert done == list(range(5))


async def test_where_all_threads_hang_what_waits_for_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_GRACE_SECONDS", 0.1)
    limiter, end = anyio.CapacityLimiter(2), threading.Event()
    errors: list[str] = []

    async def one(name: str) -> None:
        with pytest.raises(DecodeTimeoutError) as caught:
            await run_job(Job(0.1, name), lambda: end.wait(20), limiter=limiter)
        errors.append(str(caught.value).partition(".")[0])

    try:
        async with anyio.create_task_group() as group:
            for name in ("first", "second", "third"):
                group.start_soon(one, name)
        begun, waiting = sorted(errors)[:2], sorted(errors)[2:]
        assert waiting == ["third could not begin: 2 threads hang in earlier work on videos"]
        assert begun == ["first took longer than 0", "second took longer than 0"]
    finally:
        end.set()
    assert await run_job(Job(5, "fourth"), lambda: "done", limiter=limiter) == "done"  # once they end, all is well


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
async def test_a_cancelled_decode_leaves_no_busy_thread(decoder: str, videos: Path) -> None:
    async with VideoPool(Settings(decoder=decoder)) as pool:  # type: ignore[arg-type]
        await pool.prepare()
        video = await pool.open(videos / "bbb_448x252_av.mp4")
        await video.frames([0])
        with anyio.move_on_after(0.3):
            await video.frames(range(14000))
            pytest.fail("decoding the film should have been cancelled")
        assert pool._limiter.borrowed_tokens == 1  # the thread has not heard of it yet
        begin = time.monotonic()
        while pool._limiter.borrowed_tokens:  # noqa: ASYNC110 - nothing tells when a thread has ended
            await anyio.sleep(0.01)
        assert time.monotonic() - begin < 2
        assert len(await video.frames([14000])) == 1


async def test_closing_the_pool_ends_what_runs(videos: Path) -> None:
    pool = VideoPool(Settings(decoder="pyav"))
    video = await pool.open(videos / "bbb_448x252_av.mp4")
    ended = []

    async def read() -> None:
        with pytest.raises(VideoError, match="closed"):
            await video.frames(range(14000))
        ended.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(0.2)
        await pool.aclose()
    assert ended
    assert pool.decoders.open_count == 0
    with pytest.raises(VideoError, match="closed"):
        await video.frames([0])


async def test_closing_the_pool_waits_for_threads_whose_callers_are_gone(videos: Path) -> None:
    pool = VideoPool(Settings(decoder="pyav"))
    video = await pool.open(videos / "bbb_448x252_av.mp4")
    with anyio.move_on_after(0.2):
        await video.frames(range(14000))
    assert pool.decoders.open_count == 1
    await pool.aclose()
    assert pool.decoders.open_count == 0
    begin = time.monotonic()
    await pool.aclose()
    assert time.monotonic() - begin < 1


async def test_the_event_loop_stays_free(pool: VideoPool, videos: Path) -> None:
    await pool.prepare()
    late: list[float] = []

    async def tick() -> None:
        while True:
            begin = time.thread_time()
            await anyio.sleep(0.001)
            late.append(time.thread_time() - begin)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        video = await pool.open(videos / "bbb_448x252_av.mp4")
        await video.encoded(range(0, 14000, 400), size=FRAME_SIZES[0])
        group.cancel_scope.cancel()
    assert len(late) > 20
    assert max(late) < 0.05  # the loop thread's own time


def test_a_decoder_that_failed_is_not_lent_again() -> None:
    class Broken:
        name = "broken"
        closed = threading.Event()

        def cost(self, index: int) -> int:
            return 0

        def read(self, indices: object, job: object) -> object:
            return iter(())

        def close(self) -> None:
            self.closed.set()

    pool = DecoderPool(2)
    with pytest.raises(RuntimeError), pool.borrow("video", 0, Broken):  # type: ignore[arg-type]
        raise RuntimeError
    assert Broken.closed.is_set()
    assert pool.open_count == 0


async def test_threads_that_ask_at_once_agree_that_torchcodec_does_not_work(
    pool: VideoPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_slowly() -> None:
        time.sleep(0.3)
        raise MissingDependencyError("torchcodec finds no FFmpeg libraries.")

    monkeypatch.setattr("videobrain.video.pool.import_torchcodec", fail_slowly)
    found: list[bool] = []

    async def ask(after_seconds: float) -> None:
        await anyio.sleep(after_seconds)
        found.append(await anyio.to_thread.run_sync(pool.torchcodec_works))

    async with anyio.create_task_group() as group:
        group.start_soon(ask, 0)
        group.start_soon(ask, 0.1)
    assert found == [False, False]


WITHOUT_FFMPEG = """
import sys, anyio, torch
from videobrain.errors import MissingDependencyError
from videobrain.settings import Settings
from videobrain.video import VideoPool

load = torch.ops.load_library

def load_library(path):
    if "torchcodec_core" in str(path):
        raise OSError("libavcodec.so: cannot open shared object file")
    return load(path)

torch.ops.load_library = load_library

async def main():
    async with VideoPool(Settings()) as pool:
        video = await pool.open(sys.argv[1])
        assert len(await video.frames([0, 2])) == 2
        assert video.decoder == "pyav", video.decoder
    async with VideoPool(Settings(decoder="torchcodec")) as pool:
        video = await pool.open(sys.argv[1])
        try:
            await video.frames([0])
        except MissingDependencyError as error:
            assert "FFmpeg" in str(error)
        else:
            raise SystemExit("torchcodec should be missing")

anyio.run(main)
"""


async def test_pyav_serves_where_torchcodec_finds_no_ffmpeg(videos: Path) -> None:
    pytest.importorskip("torchcodec")
    command = [sys.executable, "-c", WITHOUT_FFMPEG, str(videos / "unordered.mov")]
    done = await anyio.run_process(command, check=False)
    assert done.returncode == 0, done.stderr.decode()


async def test_pyav_serves_where_torchcodec_is_not_installed(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    async with VideoPool(Settings()) as pool:
        video = await pool.open(videos / "unordered.mov")
        assert len(await video.frames([3])) == 1
        assert video.decoder == "pyav"
    async with VideoPool(Settings(decoder="torchcodec")) as strict:
        with pytest.raises(MissingDependencyError, match="videobrain\\[local\\]"):
            await strict.prepare()
