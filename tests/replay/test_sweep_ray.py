"""A Ray cluster: the same trials as processes of this machine, for every sampler."""

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
