"""Trials on a Ray cluster: the same benches, as actors.

The recording goes into the cluster's object store once and is mapped by all workers of a machine.
Every machine needs this package, and the plugins and model bundles at the same paths.
"""

import os
import socket
from collections import deque
from importlib.util import find_spec
from typing import Any, Final

from engine.core.errors import ConfigError
from replay.sweep.pools import MAX_DEATHS, Wanted, WorkersDiedError
from replay.sweep.trial import Bench, Outcome, Task

LOCAL: Final = "local"
"""Address of a cluster that is started on this machine, and ends with the sweep."""
_TRIES: Final = 2
_CONNECT_S: Final = 10.0


def _check_answers(address: str) -> None:
    """Refuse an address at which nobody listens; Ray itself tries for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if address in (LOCAL, "auto"):
        return
    if not host or not port.isdigit():
        fix = f"give HOST:PORT, ray://HOST:PORT, auto, or {LOCAL}"
        raise ConfigError("command line", "--ray", address, fix)
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None
    if address.startswith("ray://") and find_spec("grpc") is None:
        fix = 'Ray\'s client is not installed: pip install "ray[client]", or give HOST:PORT'
        raise ConfigError("command line", "--ray", address, fix)


def _no_cluster(address: str, error: Exception) -> ConfigError:
    fix = f"no cluster answers there: {_told(error)}; `{LOCAL}` starts one on this machine"
    return ConfigError("command line", "--ray", address, fix)


def _not_joined(address: str, error: Exception) -> ConfigError:
    fix = (
        f"Ray could not join it: {_told(error)}; where a cluster wants a token, "
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
    )
    return ConfigError("command line", "--ray", address, fix)


def _told(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class Cluster:
    """A connection to a cluster, one a process.

    Args:
        address: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``, or ``local``.
        size: Workers wanted; None for as many as it has processors.

    Attributes:
        size: How many there will be.

    Raises:
        ConfigError: no cluster answers at the address, or Ray cannot join it.
    """

    def __init__(self, address: str, size: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self.ray: Any = ray
        _check_answers(address)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == LOCAL:
            options |= {"num_cpus": size, "include_dashboard": False}
        try:
            ray.init(address=address, **options)
        except (
            ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError
        ) as error:  # fmt: skip
            refusal = _no_cluster if address in (LOCAL, "auto") else _not_joined
            raise refusal(address, error) from None
        self.size = size or max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def close(self) -> None:
        """Let go of it; one that was started here ends."""
        self.ray.shutdown()


class RayPool:
    """Workers of a cluster, one a processor.

    A worker that is lost, with its machine perhaps, is replaced, and its trial tried again; a trial
    that costs two workers is an outcome with that error.

    Args:
        task: What to run.
        recording: What it plays, loaded.
        cluster: Where; is closed by whoever made it.
        size: How many workers.
    """

    def __init__(self, task: Task, recording: Any, cluster: Cluster, size: int) -> None:
        self.size = size
        self._ray = cluster.ray
        self._queue: deque[Wanted] = deque()
        self._under_way: dict[Any, tuple[int, Wanted]] = {}
        self._tries: dict[int, int] = {}
        self._deaths = 0
        self._bench = self._ray.remote(num_cpus=1)(Bench)
        self._given = self._ray.put(task), self._ray.put(recording)
        self._actors = [self._bench.remote(*self._given) for _ in range(size)]
        self._idle = deque(range(size))

    def submit(self, wanted: Wanted) -> None:
        """Queue a trial, or give it to a worker that has nothing to do."""
        self._queue.append(wanted)
        self._feed()

    def take(self) -> list[Outcome]:
        """Wait for workers.

        Raises:
            WorkersDiedError: they keep dying.
        """
        outcomes: list[Outcome] = []
        while not outcomes:
            ready, _ = self._ray.wait(list(self._under_way), num_returns=1)
            for answer in ready:
                outcomes += self._hear(answer, *self._under_way.pop(answer))
            self._feed()
        return outcomes

    def close(self) -> None:
        """End the workers; what they were at is lost."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _feed(self) -> None:
        while self._queue and self._idle:
            wanted, at = self._queue.popleft(), self._idle.popleft()
            self._under_way[self._actors[at].run.remote(*wanted)] = at, wanted

    def _hear(self, answer: Any, at: int, wanted: Wanted) -> list[Outcome]:
        try:
            outcome: Outcome = self._ray.get(answer)
        except (
            self._ray.exceptions.RayActorError, self._ray.exceptions.RayTaskError
        ) as error:  # fmt: skip
            return self._replace(at, wanted, error)
        self._deaths = 0
        self._idle.append(at)
        return [outcome]

    def _replace(self, at: int, wanted: Wanted, error: Exception) -> list[Outcome]:
        self._deaths += 1
        told = _told(error)
        if self._deaths > MAX_DEATHS:
            raise WorkersDiedError(f"{self._deaths} workers were lost in a row; the last: {told}")
        self._actors[at] = self._bench.remote(*self._given)
        self._idle.append(at)
        number, params = wanted
        self._tries[number] = self._tries.get(number, 0) + 1
        if self._tries[number] < _TRIES:
            self._queue.appendleft(wanted)
            return []
        return [Outcome(number, params, error=f"its worker was lost, twice: {told}")]
