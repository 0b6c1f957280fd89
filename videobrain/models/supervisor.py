"""Runs a command and sees to it that nothing of it outlives the program that asked for it.

Run as a script with the standard library alone, so that it is up at once:
``python -I supervisor.py COMMAND [ARGUMENT…]``, with a pipe as its standard input and the log as its output. It ends
the command and all that descends from it when the pipe closes (the program has ended, be it by SIGKILL), when its
parent changes (a fork of the program still holds the pipe), on SIGTERM, or when the command itself ends. Its exit
status is the command's.

Processes of the command cannot slip away by starting a session of their own: on Linux, whatever loses its parent
becomes a child of the supervisor. Elsewhere the command's process group is all that is known, and is ended.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GRACE_SECONDS = 5.0
"""Time between SIGTERM to the command's process group and SIGKILL to whatever is left of it."""

_POLL_SECONDS = 0.1
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_STDIN = 0
_NOT_FOUND = 127  # as shells say it


def main(command: Sequence[str]) -> int:
    """Run `command` until it or the program at the other end of standard input ends; its exit status."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: stopped.append(received))
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return _NOT_FOUND
    family = _Family(child)
    while family.reap() is None and not stopped and os.getppid() == parent:
        readable, _, _ = select.select([_STDIN], [], [], _POLL_SECONDS)
        if readable and not os.read(_STDIN, 1):
            break
    return family.end()


class _Family:
    """The command's first process and all that descends from it."""

    def __init__(self, first: subprocess.Popen[bytes]) -> None:
        self._first = first

    def reap(self) -> int | None:
        """Bury the dead, those of dead parents too; the first process's exit status once it has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._first.pid:
                self._first.returncode = os.waitstatus_to_exitcode(status)
        return self._first.returncode

    def end(self) -> int:
        """End every process; those that ignore SIGTERM by SIGKILL."""
        self._signal_group(signal.SIGTERM)
        patience = time.monotonic() + GRACE_SECONDS
        # Once the first process has ended, its helpers have nobody to wait for.
        while self.reap() is None and time.monotonic() < patience:
            time.sleep(_POLL_SECONDS)
        self._signal_group(signal.SIGKILL)
        patience = time.monotonic() + GRACE_SECONDS  # a process may belong to another user by now
        while (self.reap() is None or _descendants(os.getpid())) and time.monotonic() < patience:
            for pid in _descendants(os.getpid()):
                _signal(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS / 10)
        status = self._first.returncode
        return 1 if status is None else 128 - status if status < 0 else status

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._first.pid, number)
        except (ProcessLookupError, PermissionError):
            return


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _descendants(root: int) -> list[int]:
    """Processes below `root`; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]  # the name may hold anything
        except OSError:
            continue
        children.setdefault(int(parent), []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
