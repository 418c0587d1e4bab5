"""Records that workers map are of the type that a backtest compiles for: nothing is made twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_cases import TRADED, write_market

from engine.composition import resolve
from engine.core.records import Schema
from replay.backtest.prepared import Prepared
from replay.backtest.run import backtest
from replay.backtest.simulator import run_entry
from replay.sweep.parcel import Parcel, open_parcel


def test_mapped_records_need_no_second_compilation(tmp_path: Path) -> None:
    blueprint = resolve(TRADED, share=False)
    prepared = Prepared.load([write_market(tmp_path / "market.hql", 500)])
    parcel = Parcel(prepared)
    mapped = open_parcel(parcel.path)
    parcel.close()
    with pytest.raises(ValueError, match="read-only"):
        mapped.segments[0].records["price"] = 1.0
    own, theirs = backtest(prepared, blueprint), backtest(mapped, blueprint)
    assert len(own.fills) > 0
    assert np.array_equal(own.fills, theirs.fills)
    entry: Any = run_entry(Schema.TICK)
    assert len(entry.signatures) == 1
