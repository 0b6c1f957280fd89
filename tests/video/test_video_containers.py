"""Containers that number, seek or end their streams in odd ways; videos made on the spot say which frame is which."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import av
import numpy as np
import pytest

from videobrain.errors import DecodeTimeoutError, VideoError
from videobrain.settings import Settings
from videobrain.video import Frame, FrameTable, VideoPool, evenly_spaced
from videobrain.video.pyav import PyAVDecoder
from videobrain.video.scan import scan
from videobrain.video.source import resolve_source
from videobrain.video.work import Job

pytestmark = pytest.mark.anyio


def number(frame: Frame) -> int:
    """Number that `write_video` has painted."""
    return round(float(frame.pixels.mean()) / 8)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("made.ts", "libx264", {"g": "8", "bf": "2"}),
        ("made.mkv", "libx264", {"g": "8", "bf": "2"}),
        ("made.mkv", "libx264", {"g": "8", "bf": "2", "x264-params": "open-gop=1"}),
        ("made.mkv", "libx265", {"x265-params": "keyint=8:min-keyint=8:open-gop=1:log-level=none"}),
        ("made.avi", "mpeg4", {"g": "8", "qmin": "1", "qmax": "1"}),
        ("made.avi", "libx264", {"g": "8", "bf": "2"}),
        ("made.webm", "libvpx-vp9", {"g": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}),
        ("made.webm", "libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"}),
        ("made.flv", "libx264", {"g": "8", "bf": "2"}),
        ("made.mpg", "mpeg2video", {"g": "8", "bf": "2", "qmin": "1", "qmax": "1"}),
    ],
)
async def test_every_container_gives_each_frame_by_its_number(
    decoder: Any, name: str, codec: str, options: dict[str, str], write_video: Callable[..., Path]
) -> None:
    path = write_video(name, codec=codec, options=options)
    async with VideoPool(Settings(decoder=decoder)) as pool:
        video = await pool.open(path)
        assert len(video) == 30
        assert video.missing == ()
        assert np.diff(video.table.timestamps_seconds) == pytest.approx(np.full(29, 0.04), abs=0.0011)
        assert [number(frame) for frame in await video.frames(range(30))] == list(range(30))
        for index in np.random.default_rng(1).permutation(30):
            assert [number(frame) for frame in await video.frames([int(index)])] == [index]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_transport_stream_that_begins_within_a_group(
    whole: bool, write_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        monkeypatch.setattr("videobrain.video.scan._VERIFY_PIXELS", 0)
    data = write_video("made.ts", options={"g": "10", "bf": "0"}, size=(320, 240)).read_bytes()
    begin = len(data) // 188 // 5 * 188
    async with VideoPool(Settings()) as pool:
        video = await pool.open(data[begin:])
        frames = await video.frames(range(len(video)))
        first = number(frames[0])
        assert first in {10, 20}
        assert [number(frame) for frame in frames] == list(range(first, 30))
        assert [number(frame) for frame in await video.frames([len(video) - 1])] == [29]


async def test_what_an_edit_list_cuts_off_is_no_frame(write_video: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    with av.open(str(write_video(options={"g": "30", "bf": "0"}))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = (
                    int(t - 10 * Fraction(1, 25) / packet.time_base) for t in (packet.pts, packet.dts)
                )
                packet.stream = stream
                target.mux(packet)
    for decoder in ("auto", "pyav"):
        async with VideoPool(Settings(decoder=decoder)) as pool:  # type: ignore[arg-type]
            video = await pool.open(path)
            assert len(video) == 20
            assert video.table.timestamps_seconds[0] == pytest.approx(0)
            assert [number(f) for f in await video.frames([0, 7, 19])] == [10, 17, 29]
            assert [number(f) for f in await video.frames([3])] == [13]


async def test_a_seek_that_lies_is_found_out(write_video: Callable[..., Path]) -> None:
    class Liar:
        """Seeks two groups too far."""

        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def seek(self, pts: int, **options: Any) -> None:
            self._container.seek(pts + self._container.streams[0].duration // 2, **options)

    source = resolve_source(write_video(options={"g": "5", "bf": "0"}), allow_remote=False)
    job = Job(30, "test")
    decoder = PyAVDecoder(source, scan(source, None, job))
    try:
        for index in (29, 12, 3, 22, 8, 6, 28):
            if decoder._container is not None and not isinstance(decoder._container, Liar):
                decoder._container = Liar(decoder._container)
            ((found, pixels),) = decoder.read([index], job)
            assert found == index == round(float(pixels.mean()) / 8)
    finally:
        decoder.close()


async def test_stepping_stones_lead_to_the_same_frames(
    write_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videobrain.video.torchcodec._STEP_PIXELS", 0)
    path = write_video(options={"g": "250", "bf": "2"})
    async with VideoPool(Settings()) as pool:
        video = await pool.open(path)
        for index in (29, 28, 3, 20):
            assert [number(frame) for frame in await video.frames([index])] == [index]


@pytest.fixture
def server(videos: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(videos))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


async def test_urls_are_read_where_they_are_allowed(server: str) -> None:
    async with VideoPool(Settings(allow_remote=True)) as pool:
        video = await pool.open(f"{server}/friday.mp4?token=secret")
        assert len(video) == 185
        assert video.info.source == f"{server}/friday.mp4"
        assert video.info.size_bytes is None
        assert [frame.frame_index for frame in await video.frames([184, 3])] == [3, 184]
        assert video.decoder == "pyav"
        with pytest.raises(VideoError, match=r"nothing\.mp4"):
            await pool.open(f"{server}/nothing.mp4")


async def test_a_silent_server_meets_the_deadline() -> None:
    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            ended.wait(20)

    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as silent:
        thread = threading.Thread(target=silent.serve_forever, args=(0.05,))
        thread.start()
        begin = time.monotonic()
        async with VideoPool(Settings(allow_remote=True, decode_timeout_seconds=0.5)) as pool:
            with pytest.raises(DecodeTimeoutError) as caught:
                await pool.open(f"http://127.0.0.1:{silent.server_address[1]}/film.mp4?token=secret")
            assert "secret" not in str(caught.value)
            assert time.monotonic() - begin < 3
            ended.set()
        silent.shutdown()
        thread.join()
    await anyio.lowlevel.checkpoint()


async def test_a_playlist_opens_nothing_remote(server: str, tmp_path: Path) -> None:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:5", "#EXTINF:5,", f"{server}/0.ts", "#EXT-X-ENDLIST", ""]
    (tmp_path / "list.m3u8").write_text("\n".join(lines))
    async with VideoPool(Settings()) as pool:
        for source in (tmp_path / "list.m3u8", (tmp_path / "list.m3u8").read_bytes()):
            with pytest.raises(VideoError):
                await pool.open(source)


def test_times_and_indices_agree() -> None:
    seconds = np.array([0.0, 0.1, 0.5, 0.6])
    table = FrameTable(seconds, np.arange(4), np.array([True, False, True, False]), 0.7, Fraction(1, 10))
    assert [table.index_at(t) for t in (-1, 0, 0.05, 0.1, 0.49, 0.5, 9)] == [0, 0, 0, 1, 1, 2, 3]
    assert table.indices_between(0.1, 0.6) == range(1, 3)
    assert table.indices_between(0.2, 0.3) == range(2, 2)
    assert table.indices_between(9, 1) == range(4, 4)
    assert [table.keyframe_before(i) for i in range(4)] == [0, 0, 2, 2]
    with pytest.raises(ValueError, match="read-only"):
        table.pts[0] = 1


def test_evenly_spaced_frames() -> None:
    assert evenly_spaced(0, 100, 8) == [0, 14, 28, 42, 56, 70, 84, 99]
    assert evenly_spaced(5, 8, 8) == [5, 6, 7]
    assert evenly_spaced(7, 7, 8) == evenly_spaced(9, 7, 8) == evenly_spaced(0, 9, 0) == []
    assert evenly_spaced(3, 9, 1) == [3]
    for start, end, n in ((0, 14315, 16), (100, 20000, 128), (17, 99, 8)):
        exact = [Fraction(start) + Fraction(i * (end - 1 - start), n - 1) for i in range(n)]
        assert evenly_spaced(start, end, n) == sorted({int(x) for x in exact})
