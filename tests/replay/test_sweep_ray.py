"""A Ray cluster: the same trials as processes of this machine, for every sampler."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import FAST, SLOW, TRADED, end_at_four, facts, write_market

from engine.core.errors import ConfigError
from replay.sweep.dimension import parse_dimension
from replay.sweep.ray_pool import Cluster, RayPool
from replay.sweep.sampling import SamplerName
from replay.sweep.session import Options, Session
from replay.sweep.space import make_space
from replay.sweep.trial import Outcome, Task

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # What Ray itself leaves behind and warns of is not this project's.
    pytest.mark.filterwarnings("default"),
]
GRID = (f"{FAST}=2:10:2", f"{SLOW}=6:18:3")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("logs") / "market.hql")


def ran(log: Path, sampler: SamplerName, **more: Any) -> list[Outcome]:
    options = Options(GRID, sampler=sampler, trials=15, objective="cumulative_return", **more)
    session = Session([log], TRADED, options, 2)
    try:
        return list(session.run().outcomes)
    finally:
        session.close()


@pytest.mark.parametrize("sampler", list(SamplerName))
def test_cluster_makes_the_trials_that_processes_make(log: Path, sampler: SamplerName) -> None:
    local = ran(log, sampler, jobs=2)
    cluster = ran(log, sampler, jobs=2, ray="local")
    assert facts(cluster) == facts(local)
    assert len({one.digest for one in local}) > 5
    assert sum(one.compiled for one in cluster) == 0


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """Start the head of a cluster that wants a token; give the environment that may join it."""
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Ray puts sockets there, whose paths may not be long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place:
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port=0",
            "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={place}",
            "--object-store-memory=200000000", "--disable-usage-stats",
        ]  # fmt: skip
        output = Path(place, "output")
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, env={**os.environ, **ours}, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        try:
            yield {**ours, "RAY_ADDRESS": address_of(process, Path(place), output)}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def address_of(process: subprocess.Popen[bytes], place: Path, output: Path) -> str:
    """Wait for a head, and return its HOST:PORT."""
    told = place / "ray_current_cluster"
    deadline = time.monotonic() + 120
    while not (told.is_file() and (address := told.read_text().strip())):
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.2)
    return address


def apart(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], do: Callable[..., Any], *args: Any
) -> Any:
    """Call in a process of its own: Ray reads tokens once a process."""
    with monkeypatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            return child.submit(do, *args).result()


def ran_on(log: Path, *addresses: str) -> list[list[Any]]:
    """Return what came of a sweep at each address."""
    return [facts(ran(log, SamplerName.TPE, jobs=2, ray=address)) for address in addresses]


def refusal(address: str) -> str:
    """Return why a cluster cannot be joined."""
    with pytest.raises(ConfigError) as refused:
        Cluster(address)
    return str(refused.value)


def test_running_cluster_is_joined_and_makes_the_same_trials(
    monkeypatch: pytest.MonkeyPatch, head: dict[str, str], log: Path
) -> None:
    local = facts(ran(log, SamplerName.TPE, jobs=2))
    joined = apart(monkeypatch, head, ran_on, log, head["RAY_ADDRESS"], "auto")
    assert joined == [local, local]


def test_cluster_that_wants_another_token_is_told(
    monkeypatch: pytest.MonkeyPatch, head: dict[str, str]
) -> None:
    wrong = {**head, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    told = apart(monkeypatch, wrong, refusal, head["RAY_ADDRESS"])
    assert "Ray could not join it" in told
    assert "RAY_AUTH_MODE=token" in told


def test_clients_address_without_the_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.sweep.ray_pool.find_spec", lambda name: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"--ray.*pip install \"ray\[client\]\""):
            Cluster(address)


def test_lost_worker_is_replaced_and_the_trial_kept_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    task = Task(make_space(TRADED, [parse_dimension(f"{FAST}=2:6")]), end_at_four)
    cluster = Cluster("local", 2)
    try:
        pool = RayPool(task, {}, cluster, 2)
        for fast in (2, 4, 6):
            pool.submit((fast, {FAST: fast}))
        outcomes: dict[int, Outcome] = {}
        while len(outcomes) < 3:
            outcomes.update((one.number, one) for one in pool.take())
        pool.close()
    finally:
        cluster.close()
    assert "its worker was lost, twice" in outcomes[4].error
    assert outcomes[2].metrics == outcomes[6].metrics == {"signals": 1.0}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "no cluster answers there"),
        ("ray://127.0.0.1:1", "no cluster answers there"),
        ("nowhere", "give HOST:PORT"),
        ("127.0.0.1:port", "give HOST:PORT"),
    ],
)
def test_address_without_a_cluster_is_told(address: str, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"--ray.*{told}"):
        Cluster(address)
