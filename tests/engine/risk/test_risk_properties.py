"""What no sequence of candidates can bring about, and that none can make the gate raise."""

from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from reference.risk_twin import least_distance, may_sell, most_in_a_window, units_of
from risk_cases import (
    CRYPTO,
    DAY_S,
    FREE,
    FUTURE,
    MORNING,
    SHARE,
    STAR,
    S,
    ask_gate,
    bookless,
    make_gate,
    universe,
)

from engine.core.candidates import Candidate
from engine.core.reasons import Reason
from engine.risk.config import RiskConfig
from engine.risk.gate import RiskGate

LIMITS = {
    "cool_down": "2s",
    "rate_window": "10s",
    "max_signals_per_instrument": 3,
    "max_signals_per_strategy": 4,
    "max_signals": 5,
    "max_position": 3,
    "max_gross": 4,
}
WINDOW = 10 * S
SHARES = (SHARE, STAR)

STEPS = st.lists(
    st.tuples(
        st.sampled_from([SHARE, STAR, CRYPTO, FREE]),
        st.integers(0, 1),
        st.sampled_from([1, -1]),
        st.sampled_from([0, 1, S, 3 * S, WINDOW, DAY_S * S // 1440]),
        st.booleans(),
    ),
    max_size=60,
)


def candidates_of_steps(
    steps: Iterable[tuple[int, int, int, int, bool]],
) -> list[Candidate]:
    """Make bookless candidates whose times do not decrease, some on the next trading day."""
    found = []
    offset, day = 0, 0
    for instrument, strategy, side, pause, next_day in steps:
        if next_day and day < 2:  # Wednesday to Friday
            day, offset = day + 1, 0
        offset += pause
        ts = MORNING + day * DAY_S * S + offset
        found.append(bookless(instrument, ts_event=ts, strategy=strategy, side=side))
    return found


def run_gate(gate: RiskGate, candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[str]]:
    accepted, verdicts = [], []
    for candidate in candidates:
        reason = ask_gate(gate, candidate)
        verdicts.append(reason or "")
        if reason is None:
            gate.accept(candidate)
            accepted.append(candidate)
    return accepted, [str(v) for v in verdicts]


def twin_reason(accepted: Sequence[Candidate], c: Candidate) -> Reason | None:
    """The verdict on a candidate of these tests, counted anew from what was accepted."""
    long_only = c.instrument in SHARES
    if c.side < 0 and long_only and not may_sell(accepted, c):
        return Reason.MARKET_T_PLUS_1
    same = [a for a in accepted if (a.instrument, a.strategy, a.side) == key_of(c)]
    if same and c.ts_recv - same[-1].ts_recv < 2 * S:
        return Reason.RISK_COOL_DOWN
    for limit, kept in (
        (3, [a for a in accepted if a.instrument == c.instrument]),
        (4, [a for a in accepted if a.strategy == c.strategy]),
        (5, list(accepted)),
    ):
        if sum(c.ts_recv - a.ts_recv < WINDOW for a in kept) >= limit:
            return Reason.RISK_RATE
    before = abs(units_of(accepted, c.instrument, long_only=long_only))
    after = abs(units_of([*accepted, c], c.instrument, long_only=long_only))
    if after > before and (after > 3 or gross([*accepted, c]) > 4):
        return Reason.RISK_EXPOSURE
    return None


def key_of(c: Candidate) -> tuple[int, int, int]:
    return c.instrument, c.strategy, c.side


def gross(accepted: Sequence[Candidate]) -> int:
    instruments = {c.instrument for c in accepted}
    return sum(abs(units_of(accepted, i, long_only=i in SHARES)) for i in instruments)


@given(STEPS)
def test_gate_decides_as_the_plain_twin_does(steps: list[tuple[int, int, int, int, bool]]) -> None:
    gate, accepted = make_gate(limits=LIMITS), list[Candidate]()
    for candidate in candidates_of_steps(steps):
        reason = ask_gate(gate, candidate)
        assert reason is twin_reason(accepted, candidate)
        if reason is None:
            gate.accept(candidate)
            accepted.append(candidate)
        assert gate.bookings.gross_units == gross(accepted)


@given(STEPS)
def test_no_sequence_breaks_settlement_rate_cool_down_or_exposure(
    steps: list[tuple[int, int, int, int, bool]],
) -> None:
    accepted, _ = run_gate(make_gate(limits=LIMITS), candidates_of_steps(steps))
    for n, signal in enumerate(accepted):
        if signal.side < 0 and signal.instrument in SHARES:
            assert may_sell(accepted[:n], signal)
        assert gross(accepted[: n + 1]) <= 4
    assert most_in_a_window([c.ts_recv for c in accepted], WINDOW) <= 5
    for instrument in (SHARE, STAR, CRYPTO, FREE):
        own = [c for c in accepted if c.instrument == instrument]
        assert most_in_a_window([c.ts_recv for c in own], WINDOW) <= 3
        for key in {key_of(c) for c in own}:
            distance = least_distance([c.ts_recv for c in own if key_of(c) == key])
            assert distance is None or distance >= 2 * S


@given(STEPS)
def test_same_candidates_get_the_same_verdicts(
    steps: list[tuple[int, int, int, int, bool]],
) -> None:
    candidates = candidates_of_steps(steps)
    first, second = (run_gate(make_gate(limits=LIMITS), candidates) for _ in range(2))
    assert first == second


INT64 = st.integers(-(2**63), 2**63 - 1)
NEAR = st.integers(MORNING - 2 * DAY_S * S, MORNING + 2 * DAY_S * S)
TIME = st.one_of(NEAR, INT64)
ANY = st.floats(allow_nan=True, allow_infinity=True)

ARBITRARY = st.builds(
    Candidate,
    row=INT64, ts_event=TIME, ts_recv=TIME, price=ANY, strength=ANY, confidence=ANY,
    edge_bps=ANY, bid=ANY, ask=ANY, bid_size=ANY, ask_size=ANY, pre_close=ANY,
    session_turnover=ANY, ts_quote=TIME, instrument=st.integers(0, 2**32 - 1) | st.integers(0, 6),
    strategy=st.integers(0, 2**16 - 1), flags=st.integers(0, 2**16 - 1) | st.just(0),
    side=st.integers(-128, 127) | st.sampled_from([1, -1]),
    session=st.integers(-(2**31), 2**31 - 1),
)  # fmt: skip

SHARED_UNIVERSE = universe()
SHARED = make_gate(data={"max_age": 0, "max_quote_age": 0, "max_late": 0})
"""One gate for all examples: its calendars need reading once only."""


@settings(max_examples=300)
@given(ARBITRARY, TIME, TIME)
def test_no_candidate_makes_the_gate_raise(c: Candidate, valid_until: int, now: int) -> None:
    verdict = SHARED.check(c, valid_until_ns=valid_until, now_wall_ns=now)
    assert (verdict.reason is None) == (verdict.gate is None)
    if verdict.reason is None:
        SHARED.accept(c)


PRICE = st.floats(0.01, 1000)
CLEAN = st.builds(
    Candidate,
    row=st.just(0), ts_event=NEAR, ts_recv=NEAR, price=PRICE, strength=st.just(1.0),
    confidence=st.floats(0, 1), edge_bps=st.floats(-10, 100), bid=PRICE, ask=PRICE | ANY,
    bid_size=st.floats(0, 1e6), ask_size=st.floats(0, 1e6), pre_close=PRICE | st.just(float("nan")),
    session_turnover=st.floats(0, 1e9), ts_quote=NEAR | st.just(0), instrument=st.integers(0, 5),
    strategy=st.just(0), flags=st.just(0) | st.integers(0, 255), side=st.sampled_from([1, -1]),
    session=st.integers(19_000, 21_000),
)  # fmt: skip
STRICT = make_gate(
    data={"max_age": 0, "max_quote_age": 0, "max_late": 0, "refuse_locked": True,
          "refuse_one_sided": True, "refuse_odd_condition": True, "refuse_halted": True},
    liquidity={"require_book": "always"},
)  # fmt: skip


@settings(max_examples=500)
@given(CLEAN)
def test_the_checks_left_out_for_clean_candidates_refuse_none(c: Candidate) -> None:
    shorter = STRICT.check(c, valid_until_ns=0, now_wall_ns=c.ts_recv)
    day = STRICT._day_of(c)
    assert day is not None
    chosen, day.clean_checks = day.clean_checks, day.checks
    assert len(chosen) <= len(day.checks) - 6
    assert STRICT.check(c, valid_until_ns=0, now_wall_ns=c.ts_recv) == shorter
    day.clean_checks = chosen


@given(
    st.sampled_from([CRYPTO, SHARE, FUTURE, STAR, FREE]),
    st.sampled_from([1, -1]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(allow_nan=True, allow_infinity=True),
)
def test_no_book_makes_the_rules_behind_the_data_gate_raise(
    instrument: int, side: int, bid: float, ask: float
) -> None:
    open_data = {f"refuse_{name}": False for name in ("crossed", "locked", "one_sided")}
    gate = RiskGate(
        RiskConfig.model_validate({"data": open_data}),
        SHARED_UNIVERSE,
        rulebook=SHARED.rulebook,
    )
    ask_gate(gate, bookless(instrument, side=side, bid=bid, ask=ask, ask_size=5.0, bid_size=5.0))
