"""The training matrix of a log: the rows that the live kernel would push, and what followed them.

The rows come from the live kernel itself, fed with what the live decoder makes of the log and with
its definitions in their places; only the labels look ahead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from engine.core.errors import ConfigError, InputFileError
from engine.core.records import Bars, Instruments, Schema, Ticks
from feeds.log_reader import LogReader
from replay.bursts import LogBursts, count_records
from replay.export.feature_labels import NEVER_NS, UNKNOWN, Labels, make_labels
from replay.export.feature_spec import Horizon
from replay.export.files import TableFile
from replay.export.table import Batch, Column, Kind, Table, text_column, time_column
from strategies.bar_spec import BarSpec
from strategies.feature_matrix import FeatureMatrix, feature_matrix
from strategies.labels import Floats
from strategies.model_spec import ModelWindow
from strategies.registry import Registry

PriceChoice = Literal["auto", "mid", "close"]
_ROWS_A_WRITE: Final = 65_536
_OWN: Final = frozenset(
    {
        "ts_event", "symbol", "instrument", "session", "run", "close", "mid", "move_bps", "label",
        "label_ts", "crosses_break", "crosses_session",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """What labels are to be.

    Attributes:
        horizon: How far ahead they look.
        band_bps: A move within it has the label 0.
        price: Whose moves: the mid, the close, or the mid where every row has one.
    """

    horizon: Horizon
    band_bps: float = 0.0
    price: PriceChoice = "auto"


@dataclass(frozen=True)
class FeatureTable:
    """A matrix with its labels, ready to be written."""

    matrix: FeatureMatrix
    model: ModelWindow
    symbols: tuple[str, ...]
    labels: Labels | None
    facts: dict[str, Any]

    @property
    def table(self) -> Table:
        """The columns."""
        columns = [
            time_column("ts_event", "event time of the sample: of a bar its close"),
            text_column("symbol", 32, "SYMBOL.VENUE"),
            Column("instrument", "<u4", "", "id in the log"),
            Column("session", "<i4", "days since 1970-01-01 at the venue", "the trading day"),
            Column("run", "<i8", "rows", "rows of the instrument up to here without a break"),
            Column("close", "<f8", "price", "of the sample"),
            Column("mid", "<f8", "price", "half of bid plus ask at the sample; NaN: no book"),
            *(Column(one.name, "<f4", "", _told(one)) for one in self.model.features),
        ]
        if self.labels is not None:
            columns += [
                Column("move_bps", "<f8", "bps", f"move over {self.facts['horizon']}"),
                Column("label", "i1", "", "sign of the move beyond the band", null=UNKNOWN),
                Column(
                    "label_ts", "<i8", "ns since 1970-01-01 UTC", "when the label was known",
                    Kind.TIME, NEVER_NS,
                ),
                Column("crosses_break", "?", "", "rows are missing on the way", Kind.BOOL),
                Column("crosses_session", "?", "", "ends on another day", Kind.BOOL),
            ]  # fmt: skip
        return Table(tuple(columns), self.facts)

    def write(
        self,
        file: TableFile,
        *,
        usable: bool = False,
        across_days: bool = False,
        window: int = 1,
    ) -> None:
        """Write the rows in the order in which they were pushed.

        Args:
            file: Where to.
            usable: Only those whose label is.
            across_days: Whether a label on another trading day is.
            window: Only those that end this many rows without a break.
        """
        keep = self.matrix.run >= window
        if usable and self.labels is not None:
            keep &= self.labels.usable(across_days=across_days)
        places = np.flatnonzero(keep)
        for at in range(0, len(places), _ROWS_A_WRITE):
            file.write(self._rows(places[at : at + _ROWS_A_WRITE]))

    def _rows(self, at: np.ndarray[Any, Any]) -> Batch:
        matrix, rows = self.matrix, self.table.empty(len(at))
        for name in ("ts_event", "instrument", "session", "run", "mid"):
            rows[name] = getattr(matrix, name)[at]
        rows["close"] = matrix.price[at]
        rows["symbol"] = np.array(self.symbols, "S32")[matrix.instrument[at]]
        for column, feature in enumerate(self.model.features):
            rows[feature.name] = matrix.rows[at, column]
        if self.labels is not None:
            labels = self.labels
            rows["move_bps"], rows["label"] = labels.move_bps[at], labels.sign[at]
            rows["label_ts"] = labels.until_ns[at]
            rows["crosses_break"] = labels.crosses_break[at]
            rows["crosses_session"] = labels.crosses_session[at]
        return rows


def feature_table(
    log: Path,
    model: ModelWindow,
    bars: tuple[BarSpec, ...],
    registry: Registry,
    labels: LabelOptions | None = None,
) -> FeatureTable:
    """Make the table of a log.

    Args:
        log: A tick log.
        model: Clock and features.
        bars: What the clock may be.
        registry: The indicators there are.
        labels: What labels are to be; None for none.

    Raises:
        InputFileError: a log that is missing or gives no row.
        LogError: a log that is damaged beyond a torn tail.
        ConfigError: an unknown indicator, clock, output or parameter, a feature with the name of
            another column, or no mid where the label is to be of it.
    """
    taken = sorted(_OWN & {one.name for one in model.features})
    if taken:
        expected = "another name: the table has a column of this one"
        raise ConfigError("command line", "--feature", taken[0], expected)
    with LogReader(log) as reader:
        if not count_records(reader, Schema.TICK, Schema.BAR):
            raise InputFileError(log, "it holds no tick and no bar")
        defined: list[Instruments] = []
        bursts = LogBursts(reader, 4096, lambda rows: defined.append(rows.copy()))
        fed = _in_order(bursts, defined)
        matrix = feature_matrix(fed, model, bars, registry, reader.instruments)
        symbols = tuple(row["symbol"].decode() for row in reader.instruments)
    if not len(matrix.rows):
        problem = f"it gives no row on the clock {model.clock!r}: no sample had every feature ready"
        raise InputFileError(log, problem)
    facts: dict[str, Any] = {
        "source": str(log),
        "clock": model.clock,
        "features": {one.name: _told(one) for one in model.features},
        "bad_input": bursts.faults(),
    }
    if labels is None:
        return FeatureTable(matrix, model, symbols, None, facts)
    name, price = _price(matrix, labels.price)
    facts |= {
        "horizon": labels.horizon.text,
        "horizon_ns": labels.horizon.ns,
        "horizon_rows": labels.horizon.rows,
        "band_bps": labels.band_bps,
        "label_price": name,
    }
    made = make_labels(matrix, price, labels.horizon, labels.band_bps)
    return FeatureTable(matrix, model, symbols, made, facts)


def _price(matrix: FeatureMatrix, choice: PriceChoice) -> tuple[str, Floats]:
    whole = not np.isnan(matrix.mid).any()
    if choice == "mid" and not whole:
        missing = int(np.isnan(matrix.mid).sum())
        expected = f"{missing} rows have no mid; use --label-price close"
        raise ConfigError("command line", "--label-price", choice, expected)
    if choice == "close" or not whole:
        return "close", matrix.price
    return "mid", matrix.mid


def _in_order(
    bursts: LogBursts, defined: list[Instruments]
) -> Iterator[Ticks | Bars | Instruments]:
    """Yield records, and what was defined before them, in the order of the log."""
    for burst in bursts:
        yield from defined
        defined.clear()
        yield burst.records[: burst.size]


def _told(feature: Any) -> str:
    params = ", ".join(f"{name}={value}" for name, value in feature.use.params.items())
    output = f".{feature.output}" if feature.output else ""
    return f"{feature.use.indicator}({params}){output}"
