"""Stage latencies go into the .hlog an interval at a time, models' beside the engine's own."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from bundle_cases import make_bundle
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from live_cases import live_tree, wait_until
from typer.testing import CliRunner

from engine.cli.main import make_app
from engine.composition import resolve
from engine.config import Config
from engine.daemon import Engine
from engine.latency_log import LatencyLog, ModelTimes
from feeds.gateway import Gateway
from latency.histogram import StageHistograms
from latency.stages import MODEL_STAGES, STAGES, model_stage
from latency.stall import StallMeter
from runtime.manifest import Clock

INTERVAL_NS = 5_000_000
MODEL_TAGS = ("queue:tiny@cpu", "inference:tiny@cpu")


def library_totals(path: Path) -> Mapping[str, HdrHistogram]:
    """Add up the intervals of each tag with HdrHistogram's own reader."""
    reader = HistogramLogReader(str(path), HdrHistogram(1, 60_000_000_000, 3))
    totals: dict[str, HdrHistogram] = {}
    try:
        for interval in iter(reader.get_next_interval_histogram, None):
            empty = HdrHistogram(1, 60_000_000_000, 3)
            totals.setdefault(interval.get_tag(), empty).add(interval)
    finally:
        reader.close()
    return totals


class Watched:
    """A latency log over histograms that a test fills, run on a loop of its own."""

    def __init__(self, path: Path) -> None:
        self.stages = StageHistograms()
        self.models: dict[tuple[str, str], StageHistograms] = {}
        self.log = LatencyLog(path, INTERVAL_NS, self.stages, StallMeter(), self.of_models)

    def of_models(self) -> ModelTimes:
        return self.models

    def record(self, model: str, device: str, values_ns: tuple[int, int]) -> None:
        histograms = self.models.setdefault((model, device), StageHistograms(MODEL_STAGES))
        for stage, value_ns in enumerate(values_ns):
            histograms.record_value(stage, value_ns)


def test_a_models_stages_are_tagged_by_model_and_device(tmp_path: Path) -> None:
    path = tmp_path / "stages.hlog"

    async def main() -> None:
        watched = Watched(path)
        task = asyncio.create_task(watched.log.run())
        watched.record("tcn", "cpu", (1_000, 20_000))
        await wait_until(lambda: "queue:tcn@cpu" in watched.log.recent)
        watched.record("tcn", "dla:0", (3_000, 500_000))
        watched.record("tcn", "cpu", (2_000, 30_000))
        await wait_until(lambda: "inference:tcn@dla:0" in watched.log.recent)
        recent = watched.log.recent
        assert (recent["queue:tcn@cpu"].count, recent["queue:tcn@dla:0"].count) == (2, 1)
        watched.record("tcn", "cpu", (4_000, 40_000))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    totals = library_totals(path)
    assert set(totals) == {
        model_stage(stage, "tcn", device) for stage in MODEL_STAGES for device in ("cpu", "dla:0")
    }
    counts = {tag: one.get_total_count() for tag, one in totals.items()}
    assert counts["queue:tcn@cpu"] == counts["inference:tcn@cpu"] == 3
    assert counts["queue:tcn@dla:0"] == counts["inference:tcn@dla:0"] == 1
    assert totals["inference:tcn@cpu"].get_max_value() == pytest.approx(40_000, rel=1e-3)
    assert totals["queue:tcn@dla:0"].get_min_value() == pytest.approx(3_000, rel=1e-3)


def with_model(tree: dict[str, Any], bundle: Path) -> Config:
    tree["models"] = [{"name": "tiny", "bundle": str(bundle), "on": "20t"}]
    tree["strategies"] = [
        *tree["strategies"],
        {"name": "scored", "model": "tiny", "params": {"min_probability": 0.0}},
    ]
    tree["risk"]["cost"] = {"check_edge": False}
    return Config.model_validate(tree)


def test_an_engine_with_a_model_logs_its_waits_and_its_runs(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny", clock=Clock(kind="tick", size=20)).path
    config = with_model(live_tree(tmp_path), bundle)
    scores: list[int] = []

    async def main() -> None:
        gateway = Gateway(config.gateway)
        task = asyncio.create_task(gateway.run())
        async with Engine(resolve(config)) as engine:
            status = engine.board.status
            await wait_until(lambda: scored(status()) > 20)
        gateway.stop()
        await task
        scores.append(scored(status()))

    uvloop.run(main())
    assert config.engine.hlog is not None
    totals = library_totals(config.engine.hlog)
    assert {*STAGES, "loop", *MODEL_TAGS} <= set(totals)
    for tag in MODEL_TAGS:
        assert totals[tag].get_total_count() == scores[0]
    assert totals[MODEL_TAGS[1]].get_min_value() > 1_000
    assert_printed_and_drawn(config.engine.hlog)


def scored(status: Mapping[str, Any]) -> int:
    latency = status["models"]["latency"].get("tiny/cpu", {})
    return int(latency.get("inference", {}).get("count", 0))


def assert_printed_and_drawn(path: Path) -> None:
    picture = path.with_suffix(".svg")
    command = ["latency", str(path), "-o", str(picture)]
    result = CliRunner().invoke(make_app(), command, catch_exceptions=False)
    assert result.exit_code == 0
    drawn = picture.read_text()
    for tag in MODEL_TAGS:
        assert tag in result.stdout
        assert f"<!-- {tag} -->" in drawn
