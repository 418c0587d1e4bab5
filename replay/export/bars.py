"""Bars that the live kernel builds from a log, with indicators beside them, as a table."""

from collections.abc import Iterator, Sequence

import numpy as np

from engine.core.records import Instruments, Schema
from feeds.log_reader import LogReader
from replay.bursts import LogBursts, MergedBursts, count_instruments
from replay.export.records import BAR_COLUMNS, BAR_NAMES, Batches, Symbols, open_bursts
from replay.export.table import Batch, Column, Table, fill, text_column
from strategies.bar_spec import BarSpec
from strategies.batch import label_of
from strategies.kernel import Kernel
from strategies.plan import Watch, make_plan
from strategies.registry import Registry
from strategies.spec import Use


class BarBuilder:
    """Builds one kind of bar from logs, in the order in which they close.

    Args:
        bar: Its name.
        bars: The bars there are; a bar may be built of bars.
        uses: Indicators that are told at each close, NaN until ready.
        registry: The indicators there are.

    Raises:
        ConfigError: there is no such bar, or an unknown indicator or parameter.
    """

    def __init__(
        self, bar: str, bars: Sequence[BarSpec], uses: Sequence[Use], registry: Registry
    ) -> None:
        watches = [Watch(bar, label_of(use), use) for use in uses]
        self.bar = bar
        self.plan = make_plan(registry, bars, [], watches, "command line")
        self.spec = [one.name for one in bars].index(bar)
        self.values = [name for name, _, _ in self.plan.columns(bar)]

    @property
    def table(self) -> Table:
        """The columns: symbol, the bar's, then each output of each indicator."""
        columns = (
            text_column("symbol", 32, "SYMBOL.VENUE"),
            Column("instrument", "<u4", "", "id in the log"),
            *BAR_COLUMNS,
            *(Column(name, "<f8", "", "at the close; NaN: not ready") for name in self.values),
        )
        return Table(columns, {"table": "bars", "bar": self.bar})

    def batches(self, readers: Sequence[LogReader]) -> Batches:
        """Return the bars of logs, played together in time order.

        Raises:
            InputFileError: several logs that cannot be merged, see ``MergedBursts``.
        """
        symbols = Symbols()
        kernel = Kernel(self.plan, max(1, count_instruments(readers)), frozenset((self.bar,)))
        kernel.warm_up(bars=True)

        def define(instruments: Instruments) -> None:
            symbols.define(instruments)
            kernel.define(instruments)

        bursts = open_bursts(readers, define)
        return Batches(self._closed(bursts, kernel, symbols), bursts.faults)

    def _closed(
        self, bursts: LogBursts | MergedBursts, kernel: Kernel, symbols: Symbols
    ) -> Iterator[Batch]:
        for burst in bursts:
            take = kernel.run_bars if burst.schema == Schema.BAR else kernel.run_ticks
            at = 0
            while at < burst.size:
                at = take(burst.records, at, burst.size)
                if kernel.n_bars:
                    yield self._rows(kernel, symbols)

    def _rows(self, kernel: Kernel, symbols: Symbols) -> Batch:
        own = np.flatnonzero(kernel.bars["spec"][: kernel.n_bars] == self.spec)
        closed = kernel.bars[own]
        rows = self.table.empty(len(own))
        fill(rows, closed, [*BAR_NAMES, "instrument"])
        rows["symbol"] = symbols.of(closed["instrument"])
        for column, name in enumerate(self.values):
            rows[name] = kernel.values[own, column]
        return rows
