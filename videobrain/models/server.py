"""A server process of our own: started under a supervisor, watched, ended, and its log read."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio

from videobrain.errors import ConfigurationError
from videobrain.models import supervisor

_KEPT_LOGS = 20
_TAIL_BYTES = 4096
_STOP_SECONDS = 3 * supervisor.GRACE_SECONDS
_CAUSE = re.compile(r"^(?:.*\s)?((?:\w+\.)*\w*(?:Error|Exception)\b.*|.*\berror: .*)$")
_NO_CAUSE = re.compile(r"See root cause above|Engine core initialization failed")


class ServerProcess:
    """One run of a server's command.

    The supervisor holds a pipe to us; when it closes, be it because we were killed, every process of the server ends.

    Attributes:
        log: File with all that the server writes.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], log_dir: Path, name: str) -> None:
        self._name = name
        self._command = list(command)
        self._env = dict(env)
        self.log = log_dir / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6:06}.log"
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def start(self) -> None:
        """Start the command. Blocking, for milliseconds.

        Raises:
            ConfigurationError: The log cannot be written.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            for old in sorted(self.log.parent.glob(f"{self._name}-*.log"))[: 1 - _KEPT_LOGS]:
                old.unlink(missing_ok=True)
            output = self.log.open("wb")
        except OSError as error:
            raise ConfigurationError(
                f"The server's log {self.log} cannot be written: {error.strerror}.", hint="Set VIDEOBRAIN_CACHE_DIR."
            ) from error
        with output:
            # -I keeps this package's directory, where the script lies, out of the path of the standard library.
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", supervisor.__file__, *self._command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,  # Ctrl-C in a terminal is for us to handle
            )

    def status(self) -> int | None:
        """Exit status of the command; None while it runs."""
        return None if self._supervisor is None else self._supervisor.poll()

    def request_stop(self) -> None:
        """Have everything ended; returns at once. Idempotent."""
        self.stopping = True
        running = self._supervisor
        if running is not None and running.stdin is not None:
            running.stdin.close()
            running.terminate()  # a fork of ours may hold the pipe open

    def stop(self) -> None:
        """Have everything ended and wait for that: moments, or the supervisor's grace period. Blocking, idempotent."""
        self.request_stop()
        if self._supervisor is not None:
            try:
                self._supervisor.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()

    def tail(self) -> str:
        """The last lines that the server wrote."""
        try:
            with self.log.open("rb") as log:
                whole = log.seek(0, os.SEEK_END) <= _TAIL_BYTES
                log.seek(0 if whole else -_TAIL_BYTES, os.SEEK_SET if whole else os.SEEK_END)
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return (text if whole else text.partition("\n")[2]).strip()

    def cause(self) -> str:
        """The line of the log that most likely says why the server ended; the last one where none is telling."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        told = [match[1] for line in lines if not _NO_CAUSE.search(line) and (match := _CAUSE.match(line))]
        return (told or lines or ["it wrote nothing"])[-1]


def find_command(name: str) -> str | None:
    """Path of an executable, by name or path."""
    return shutil.which(str(Path(name).expanduser()))


def free_port() -> int:
    """A TCP port of this machine that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def answers_health(port: int, *, seconds: float = 5.0) -> bool:
    """Whether the server on this port of this machine answers ``GET /health`` with 200."""
    request = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    try:
        with anyio.fail_after(seconds):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(request.encode())
                return (await stream.receive()).split(b" ", 2)[1:2] == [b"200"]
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False
