"""What a snapshot costs the loop thread: the copies between two bursts, by instruments.

python tests/bench/bench_snapshot.py
"""

import tempfile
import time
from pathlib import Path

from pipeline_cases import make_pipeline, market_ticks, origins_of

from engine.config import load_config
from engine.snapshot import JournalPlace, Snapshot, encode_snapshot
from engine.snapshot_file import SnapshotFiles

ROOT = Path(__file__).parents[2]
TICKS = 40_000
ROUNDS = 50


def main() -> None:
    """Print copy and write times, milliseconds, for the reference configuration's strategies."""
    config = load_config([ROOT / "configs" / "demo.toml"], {})
    tree = config.model_dump(exclude={"gateway", "link", "models"})
    tree["strategies"] = [one for one in tree["strategies"] if not (one["model"] or one["confirm"])]
    for instruments in (20, 200, 1_000):
        pipeline, _ = make_pipeline(tree, instruments)
        pipeline.run_ticks(market_ticks(TICKS, instruments), origins_of(TICKS), 0, TICKS)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter_ns()
            state = pipeline.export_state()
            times.append(time.perf_counter_ns() - began)
        snapshot = Snapshot(1, pipeline.kernel.key, "", [], None, JournalPlace(1, 1), state)
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter_ns()
            SnapshotFiles(Path(directory)).write(snapshot)
            written = time.perf_counter_ns() - began
        times.sort()
        print(  # noqa: T201 - the figure
            f"{instruments} instruments: copy {times[ROUNDS // 2] / 1e6:.3f} ms median, "
            f"{times[-1] / 1e6:.3f} ms most; {len(encode_snapshot(snapshot)) / 1e6:.2f} MB; "
            f"write {written / 1e6:.1f} ms"
        )


if __name__ == "__main__":
    main()
