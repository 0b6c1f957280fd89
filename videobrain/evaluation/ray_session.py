"""A connection to a Ray cluster: everything that calls Ray and blocks, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from videobrain.errors import ConfigurationError, MissingDependencyError

_KNOCK_SECONDS = 10.0
"""Time in which a cluster's address must take a connection. Ray itself tries for long, and may end the process then."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """What a run takes of a Ray cluster.

    The cluster is the one that this process is connected to; else that of ``RAY_ADDRESS``; else one that runs on this
    machine; else one of this machine alone is started for the time of the run.

    Attributes:
        workers: Processes that ask. By default one on each machine, or one for each GPU where workers have some.
        cpus: CPUs that Ray counts for a worker. It uses what it finds, as a run on one machine does.
        gpus: GPUs of a worker; by default 1 where the cluster has any, else 0. A worker sees no others.
        start_seconds: Time in which there has to be room for every worker.
    """

    workers: int | None = None
    cpus: float = 1
    gpus: float | None = None
    start_seconds: float = 300

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigurationError(f"There must be at least 1 worker, not {self.workers}.")
        if self.cpus <= 0 or (self.gpus is not None and self.gpus < 0) or self.start_seconds <= 0:
            raise ConfigurationError("The CPUs of a worker and its time to start must be more than 0, GPUs at least 0.")


class RaySession:
    """A connection to a cluster, from `open` to `close`.

    Its thread lives as long as it does: the kernel ends the processes of a cluster that was started here together with
    the thread that started them.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._own = False
        self._ray: Any = None

    async def open(self) -> None:
        """Connect.

        Raises:
            MissingDependencyError: Ray is not installed.
            ConfigurationError: There is no cluster, and none can be started.
        """
        try:
            await self._do(self._connect)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect where this object connected; ends a cluster that it started."""
        with anyio.CancelScope(shield=True):
            await self._do(self._disconnect)
        self._thread.shutdown(wait=False)

    async def machines(self) -> list[Mapping[str, float]]:
        """The resources of each machine of the cluster."""
        nodes = await self._do(self._ray.nodes)
        return [node["Resources"] for node in nodes if node["Alive"]]

    async def start(self, kind: type, arguments: Iterable[object], cluster: RayCluster, *, gpus: float) -> Any:
        """Start a process with one object of a class in it; gives its handle, before there need be room for it."""
        options = {"num_cpus": cluster.cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD", "max_restarts": 0}
        return await self._do(lambda: self._ray.remote(kind).options(**options).remote(*arguments))

    async def kill(self, actor: Any) -> None:
        """End a process at once."""
        await self._do(lambda: self._ray.kill(actor))

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """What a call raises whose process is gone, or whose answer went with its machine."""
        raised = self._ray.exceptions
        return (raised.RayActorError, raised.ObjectLostError, raised.OutOfMemoryError, raised.NodeDiedError)

    @property
    def any_error(self) -> type[Exception]:
        """Whatever a call may raise."""
        error: type[Exception] = self._ray.exceptions.RayError
        return error

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "Ray is not installed, which `ray` as the executor needs.", extra="ray"
            ) from error
        self._ray = ray
        if ray.is_initialized():
            return
        address = os.environ.get("RAY_ADDRESS", "").strip()
        try:
            _knock(address)
            # Workers' own output is in Ray's logs; here it would break the line of progress and the JSON of results.
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except Exception as error:  # what fails in its start, Ray raises as a bare Exception too
            where = (
                f"The Ray cluster at RAY_ADDRESS={address} cannot be reached" if address else "Ray cannot be started"
            )
            raise ConfigurationError(
                f"{where}: {_said(error)}",
                hint="Start one with `ray start --head` and set RAY_ADDRESS to its address. Without RAY_ADDRESS, Ray "
                "runs on this machine alone.",
            ) from error
        self._own = True

    def _disconnect(self) -> None:
        if self._own:
            self._own = False
            self._ray.shutdown()


def places(machines: Iterable[Mapping[str, float]], cluster: RayCluster, *, gpus: float) -> int:
    """How many workers there are to be.

    Args:
        machines: The resources of each machine.
        cluster: What was asked for.
        gpus: GPUs of a worker.

    Raises:
        ConfigurationError: There is no room for so many.
    """
    wants = {"CPU": cluster.cpus, "GPU": gpus}
    machines = list(machines)
    room = [int(min(has.get(name, 0.0) / want for name, want in wants.items() if want)) for has in machines]
    wanted = cluster.workers or max(1, sum(room) if gpus else sum(map(bool, room)))
    if wanted > sum(room):
        size = f"{cluster.cpus:g} CPUs and {gpus:g} GPUs"
        raise ConfigurationError(
            f"The Ray cluster has room for {sum(room)} workers of {size}, not for {wanted}; "
            f"it has {len(machines)} machines.",
            hint="Ask for fewer or smaller workers, or add machines with `ray start --address=…`.",
        )
    return wanted


def gpus_of(machines: Iterable[Mapping[str, float]], cluster: RayCluster) -> float:
    """How many GPUs a worker has."""
    if cluster.gpus is not None:
        return cluster.gpus
    return 1.0 if any(has.get("GPU", 0.0) >= 1 for has in machines) else 0.0


def _said(error: BaseException) -> str:
    """What an error says, and what it comes from: Ray wraps the want of a token in a failure to connect."""
    said: list[str] = []
    link: BaseException | None = error
    while link is not None:
        said += (str(link).strip() or type(link).__name__).splitlines()[:1]
        link = link.__cause__ or link.__context__
    return "; ".join(dict.fromkeys(said))


def _knock(address: str) -> None:
    """Fail where nobody listens at ``HOST:PORT``; whatever else may be an address is Ray's to judge."""
    match = re.fullmatch(r"([^:/]+):(\d+)", address)
    if match:
        socket.create_connection((match[1], int(match[2])), timeout=_KNOCK_SECONDS).close()
