"""Which of several servers of one model a request goes to. No I/O.

Each conversation has the servers in an order of its own, made of what it begins with (rendezvous hashing): the
conversations about one video have the same order, so that one server keeps their prefixes and images, and a server
that comes or goes moves only its own share. A server that is much busier than the others, or that failed and rests,
is passed over.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from videobrain.models.endpoint import Endpoint
from videobrain.models.messages import ChatRequest
from videobrain.models.retry import PassingFailure

_LOGGER = logging.getLogger(__name__)

_EASY, _BUSIER = 4, 1.5
"""A server is too busy for one more request from so many on, and from so many times the mean of all on."""
_REST_SECONDS, _LONGEST_REST_SECONDS = 1.0, 60.0
"""A server that failed rests; each failure in a row doubles the time."""
_OF_THE_REQUEST = frozenset({408, 409, 425, 500})
"""Statuses that may be owed to the one request: another server is asked, and this one does not rest."""


def addresses(base_url: str | Sequence[str] | None) -> list[str | None]:
    """The addresses that are meant, each once: one or several, or a text with commas or spaces between them.

    Where none is given they are those of ``OPENAI_BASE_URL``, else a single None.
    """
    given = [base_url] if isinstance(base_url, str) else list(base_url or ())
    for texts in (given, [os.environ.get("OPENAI_BASE_URL", "")]):
        found = list(dict.fromkeys(url for text in texts for url in re.split(r"[,\s]+", text) if url))
        if found:
            return [*found]
    return [None]


def affinity_key(request: ChatRequest) -> str:
    """What the conversations about one video begin with, and others do not: the first frames.

    Messages up to the first of the user count, since all turns of a conversation share them. Where they show no
    frames, their words count.
    """
    beginning = []
    for message in request.messages:
        beginning.append(message)
        if message.role == "user":
            break
    frames = [frame.digest for message in beginning for frame in message.frames]
    return "\n".join(frames or [message.text for message in beginning])


class ServerState(NamedTuple):
    """What is known of a server."""

    address: str
    """Without its query, which may hold a secret."""
    in_flight: int
    """Requests of ours that it works on."""
    problem: str
    """Why it rests, or is not trusted yet; empty where nothing is wrong."""


class Server:
    """One of the servers.

    Attributes:
        endpoint: Where it is.
        in_flight: Requests that it works on.
        failures: So many in a row; it has to be looked at before it is used again.
        failed_at: Time of the last one that counted.
        rests_until: Until then it is passed over.
        problem: What the last failure was.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.in_flight = 0
        self.failures = 0
        self.failed_at = self.rests_until = float("-inf")
        self.problem = ""

    def is_ready(self, now: float) -> bool:
        """Whether it may be asked. One that failed gets a single request to show that it is back."""
        return not self.failures or (self.rests_until <= now and not self.in_flight)


class Servers:
    """All servers of a model, with what is known of each. Threads may share it.

    Args:
        endpoints: Where they are, at least one.
        clock: Monotonic time in seconds.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, clock: Callable[[], float]) -> None:
        self._all = [Server(endpoint) for endpoint in endpoints]
        self._clock = clock
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Server]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __str__(self) -> str:
        if not self.several:
            return str(self._all[0].endpoint)
        return f"The model servers {', '.join(self.addresses)}"

    @property
    def several(self) -> bool:
        """Whether there is a choice. A single server neither rests nor is passed over."""
        return len(self._all) > 1

    @property
    def addresses(self) -> list[str]:
        """Those of all, for people."""
        return [server.endpoint.shown_url for server in self._all]

    @property
    def states(self) -> tuple[ServerState, ...]:
        """What is known of each."""
        return tuple(ServerState(one.endpoint.shown_url, one.in_flight, one.problem) for one in self._all)

    def route(self, key: str) -> Route:
        """The way of one request.

        Args:
            key: What it has in common with those that should go to the same server; see `affinity_key`.
        """
        return Route(self, sorted(self._all, key=lambda server: _weight(server, key)))

    def take(self, left: Sequence[Server]) -> Server:
        """The server among those `left` that a request goes to; it counts as in flight until `give_back`.

        The first that is ready and not too busy; else the least busy that is ready; else the one that has rested most.
        """
        with self._lock:
            now = self._clock()
            ready = [server for server in left if server.is_ready(now)]
            if ready:
                room = self._room()
                easy = (server for server in ready if server.in_flight < room)
                chosen = next(easy, None) or min(ready, key=lambda server: server.in_flight)
            else:
                chosen = min(left, key=lambda server: server.rests_until)
            chosen.in_flight += 1
            return chosen

    def give_back(self, server: Server) -> None:
        """A request has left the server."""
        with self._lock:
            server.in_flight -= 1

    def succeeded(self, server: Server) -> None:
        """It replied."""
        with self._lock:
            failures, server.failures = server.failures, 0
            server.problem, server.rests_until = "", float("-inf")
        if failures:
            _LOGGER.info("%s is back.", server.endpoint)

    def failed(self, server: Server, failure: PassingFailure, *, sent_at: float) -> None:
        """It did not reply to a request that was sent at that time, for a reason that may pass."""
        if not self.several:
            return
        with self._lock:
            if sent_at < server.failed_at:  # what was under way then fails with it, and says nothing new
                return
            server.failures += 1
            server.problem = failure.message
            server.failed_at = self._clock()
            rest = min(_LONGEST_REST_SECONDS, _REST_SECONDS * 2.0 ** min(server.failures - 1, 30))
            rest = max(rest, failure.retry_after_seconds or 0.0)
            server.rests_until = server.failed_at + rest
        _LOGGER.info("%s is left alone for %.0f s: %s", server.endpoint, rest, failure.message)

    def now(self) -> float:
        """Time by the clock."""
        return self._clock()

    def _room(self) -> int:
        """Requests from which on a server is too busy for one more."""
        trusted = [server for server in self._all if not server.failures] or self._all
        in_flight = sum(server.in_flight for server in trusted)
        return max(_EASY, math.ceil(_BUSIER * (in_flight + 1) / len(trusted)))


class Route:
    """The servers as one request meets them, in its own order; once all have failed it begins again.

    Args:
        servers: All of them.
        order: The same, the ones to ask first ahead.
    """

    def __init__(self, servers: Servers, order: Sequence[Server]) -> None:
        self._servers = servers
        self._order = order
        self._failures: dict[Server, PassingFailure] = {}  # of this round
        self._current: Server | None = None

    def __str__(self) -> str:
        return str(self._current.endpoint if self._current else self._servers)

    @contextmanager
    def server(self) -> Iterator[Server]:
        """The server whose turn it is, for the time of one try.

        A `PassingFailure` of the try is told whether there is a server left to ask at once. Where it is the last one,
        it speaks for all of them.
        """
        server = self._current = self._servers.take([one for one in self._order if one not in self._failures])
        sent_at = self._servers.now()
        try:
            yield server
        except PassingFailure as failure:
            if failure.status not in _OF_THE_REQUEST:
                self._servers.failed(server, failure, sent_at=sent_at)
            self._failures[server] = failure
            failure.elsewhere = len(self._failures) < len(self._order)
            if not failure.elsewhere:
                speak_for_all(failure, [self._failures[one] for one in self._order])
                self._failures.clear()
            raise
        else:
            self._servers.succeeded(server)
        finally:
            self._servers.give_back(server)


def speak_for_all(last: PassingFailure, failures: Sequence[PassingFailure]) -> None:
    """Make the last of several failures tell all of them."""
    if len(failures) < 2:
        return
    last.message = f"None of the {len(failures)} model servers replied. " + " ".join(one.message for one in failures)
    waits = [one.retry_after_seconds for one in failures]
    known = [wait for wait in waits if wait is not None]
    last.retry_after_seconds = min(known) if len(known) == len(waits) else None


def _weight(server: Server, key: str) -> bytes:
    return hashlib.blake2b(f"{server.endpoint.base_url}\n{key}".encode(), digest_size=8).digest()
