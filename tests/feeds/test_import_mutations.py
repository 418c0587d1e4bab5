"""Files whose bytes were changed anywhere: imported as far as rows go, or told, never a crash."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from importing import run_import

from engine.core.errors import InputFileError

changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6)
BUY, SELL, LOCAL = 1 << 29, 1 << 28, 1 << 30
NOW = 1_609_160_400_000_000_000


def mutated(data: bytes, changes: list[tuple[float, int]], keep: float) -> bytes:
    wrong = bytearray(data)
    for where, bits in changes:
        wrong[int(where * len(wrong))] ^= bits
    return bytes(wrong[: max(1, round(keep * len(wrong)))])


def try_import(kind: str, name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            run_import(kind, [path], Path(folder) / "out.hql", venue="X", depth=5)
        except InputFileError:
            assert not (Path(folder) / "out.hql").exists()


def dbn_bytes() -> bytes:
    dbn = pytest.importorskip("databento_dbn", reason="databento-dbn is not installed")
    head = dbn.Metadata(
        "GLBX.MDP3", NOW, dbn.SType.RAW_SYMBOL, dbn.SType.INSTRUMENT_ID, None, symbols=["ES"]
    )
    level = dbn.BidAskPair(9 * 10**9, 10**10, 1, 1)
    said = {
        "publisher_id": 1, "instrument_id": 1, "ts_event": NOW, "price": 10**10, "size": 1,
        "action": dbn.Action("T"), "side": dbn.Side("B"), "depth": 0, "ts_recv": NOW,
    }  # fmt: skip
    parts = [
        head,
        dbn.TradeMsg(**said),
        dbn.MBP1Msg(**said, levels=level),
        dbn.MBP10Msg(**said, levels=[level] * 10),
        dbn.SymbolMappingMsg(
            1, 1, NOW, dbn.SType.RAW_SYMBOL, "ES", dbn.SType.RAW_SYMBOL, "ES", NOW, NOW + 1
        ),
    ]
    return b"".join(map(bytes, parts))


def array_bytes() -> bytes:
    fields = [("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8")]
    events = np.zeros(6, fields)
    events["ev"] = [LOCAL | kind for kind in (1 | BUY, 1 | SELL, 2 | BUY, 3, 4 | SELL, 5 | BUY)]
    events["exch_ts"] = events["local_ts"] = NOW + np.arange(6) // 2
    events["px"], events["qty"] = np.arange(1, 7), 1.0
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "x.npy", events)
        return (Path(folder) / "x.npy").read_bytes()


@settings(max_examples=200, deadline=None)
@given(changes, st.just(1.0) | st.floats(0, 1))
def test_a_dbn_file_with_wrong_bytes_never_crashes(
    changes: list[tuple[float, int]], keep: float
) -> None:
    try_import("dbn", "x.dbn", mutated(dbn_bytes(), changes, keep))


@settings(max_examples=200, deadline=None)
@given(changes, st.just(1.0) | st.floats(0, 1))
def test_an_event_array_with_wrong_bytes_never_crashes(
    changes: list[tuple[float, int]], keep: float
) -> None:
    try_import("event-array", "x.npy", mutated(array_bytes(), changes, keep))
