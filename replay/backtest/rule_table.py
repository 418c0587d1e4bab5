"""The rulebook and the configured fees as tables that the compiled simulator reads."""

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.backtest_config import BacktestConfig
from engine.config import Config
from engine.core.errors import ConfigError
from engine.core.records import Board
from engine.risk.rulebook import Rulebook
from engine.risk.rulebook_table import Fee
from replay.backtest.sim_records import BOARD, FEE, MAX_FEES, RULE

_EPOCH: Final = date(1970, 1, 1)
_E8: Final = 10**8
_KINDS: Final = {"duty": 1, "tax": 1, "transfer": 2}

Side = Literal["buy", "sell"]
_SIDES: Final[tuple[Side, Side]] = ("buy", "sell")


class RuleTables(NamedTuple):
    """Rules by board and day.

    Attributes:
        numbers: Row in ``boards`` of each board.
        boards: BOARD.
        rules: RULE.
        fees: FEE, shape (rules, 2, MAX_FEES).
    """

    numbers: dict[Board, int]
    boards: npt.NDArray[np.void]
    rules: npt.NDArray[np.void]
    fees: npt.NDArray[np.void]


def make_rules(boards: Iterable[Board], rulebook: Rulebook, config: Config) -> RuleTables:
    """Lay out what holds on each board from which day on.

    Raises:
        ConfigError: a board has more fees on one side than there is room for.
    """
    numbers = {board: number for number, board in enumerate(sorted(set(boards)))}
    table = np.zeros(len(numbers), BOARD)
    rules: list[npt.NDArray[np.void]] = []
    fees: list[npt.NDArray[np.void]] = []
    for board, number in numbers.items():
        days = _days_of(board, rulebook)
        table[number] = len(rules), len(rules) + len(days)
        for day in days:
            rules.append(_rule(board, day, rulebook))
            fees.append(_fees(board, day, rulebook, config))
            counts = [int(np.count_nonzero(side["kind"] >= 0)) for side in fees[-1]]
            rules[-1]["buy_fees"], rules[-1]["sell_fees"] = counts
    return RuleTables(numbers, table, np.concatenate(rules), np.stack(fees))


def _days_of(board: Board, rulebook: Rulebook) -> list[date]:
    """Return the days on which something about a board changes, with one before all of them."""
    table = rulebook.table
    kinds: Sequence[Sequence[object]] = (
        table.price_limit, table.listing, table.lot, table.settlement, table.fee
    )  # fmt: skip
    days = {date.min}
    for entries in kinds:
        days |= {entry.since for entry in entries if board in entry.boards}  # type: ignore[attr-defined] # each has both
    return sorted(days)


def _rule(board: Board, day: date, rulebook: Rulebook) -> npt.NDArray[np.void]:
    rule = np.zeros(1, RULE)
    rule["since"] = (day - _EPOCH).days
    limits = rulebook.limits(board, day)
    if limits is not None:
        rule["limited"] = 1
        rule["up_ppm"], rule["down_ppm"] = _ppm(limits.up_frac), _ppm(limits.down_frac)
    listing = [one for one in rulebook.table.listing if board in one.boards and one.since <= day]
    if listing:
        newest = max(listing, key=lambda one: one.since)
        rule["first_days"] = newest.first_days
        if newest.up_pct is not None and newest.down_pct is not None:
            rule["first_limited"] = 1
            rule["first_up_ppm"] = _ppm(newest.up_pct / 100)
            rule["first_down_ppm"] = _ppm(newest.down_pct / 100)
    lot = rulebook.lot(board, day)
    if lot is not None:
        rule["has_lot"], rule["lot_minimum"], rule["lot_step"] = 1, lot.minimum, lot.step
    settlement = rulebook.settlement(board, day)
    if settlement is not None:
        rule["t_plus"], rule["long_only"] = settlement.days, not settlement.short
    return rule


def _ppm(fraction: Decimal) -> int:
    return int(fraction * 1_000_000)


def _fees(board: Board, day: date, rulebook: Rulebook, config: Config) -> npt.NDArray[np.void]:
    """Return the fees of both sides, FEE, shape (2, MAX_FEES); kind -1 where there is none."""
    found = np.zeros((2, MAX_FEES), FEE)
    found["kind"] = -1
    if not config.backtest.fees:
        return found
    for row, side in enumerate(_SIDES):
        made = _fees_of_side(side, board, day, rulebook, config)
        if len(made) > MAX_FEES:
            what = f"{len(made)} fees on one side of {board.name}"
            raise ConfigError("rulebook", "fee", what, f"at most {MAX_FEES} fit")
        found[row, : len(made)] = made
    return found


def _fees_of_side(
    side: Side, board: Board, day: date, rulebook: Rulebook, config: Config
) -> list[tuple[int, float, int, int]]:
    listed = rulebook.fees(side, board, day)
    stated = config.risk.cost.fees.of(board)
    own = _own_commission(config.backtest, exact=bool(listed))
    if stated is not None:
        bps = stated.buy_bps if side == "buy" else stated.sell_bps
        return [own] if own else [(round(bps * _E8 / 10_000), 0.0, 0, 0)]
    made = [_of_rulebook(fee) for fee in listed]
    if own:
        made = [own, *(fee for fee in made if fee[2] != 0)]
    return made


def _own_commission(settings: BacktestConfig, *, exact: bool) -> tuple[int, float, int, int] | None:
    if settings.commission_bps is None:
        return None
    rate_e8 = round(settings.commission_bps * _E8 / 10_000)
    return rate_e8, settings.commission_minimum, 0, int(exact)


def _of_rulebook(fee: Fee) -> tuple[int, float, int, int]:
    kind = next((kind for word, kind in _KINDS.items() if word in fee.name.lower()), 0)
    return int(fee.rate_bps * _E8 / 10_000), float(fee.minimum), kind, 1
