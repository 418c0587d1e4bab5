"""Figures of a backtest's report: the account, the trades, prices with buys and sells."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replay.backtest.candles import Candles
from replay.backtest.metrics import daily_returns, underwater
from replay.backtest.records import BacktestResult
from replay.report_page import COLOURS, INK, Plot, stacked_figure, styled

_BLUE, _ORANGE, _GREEN = COLOURS[0], COLOURS[1], COLOURS[2]
_FEW: Final = 40
"""Days up to which each is drawn as a point."""
_BARS: Final = 50
_DAY_S: Final = 86_400
_MINUTE_S: Final = 60
_CANDLE_TICKS: Final = 9


def day_dates(yyyymmdd: npt.NDArray[Any]) -> list[str]:
    """Write trading days as plotly reads dates."""
    return [f"{day // 10_000:04d}-{day // 100 % 100:02d}-{day % 100:02d}" for day in yyyymmdd]


def account_plot(result: BacktestResult) -> Plot:
    """Draw the equity, under it how far it is below its highest, and how much is in positions."""
    rows = result.equity
    days = day_dates(rows["day"])
    mode = "lines+markers" if len(rows) <= _FEW else "lines"
    solvent = rows["equity"] > 0.0
    exposed = np.divide(rows["exposure"], rows["equity"], out=np.zeros(len(rows)), where=solvent)
    figure = stacked_figure([0.55, 0.25, 0.2], 620, showlegend=False)
    panels: tuple[tuple[str, npt.NDArray[np.float64], str, str | None], ...] = (
        ("equity", rows["equity"], _BLUE, None),
        ("drawdown", underwater(daily_returns(result)), _ORANGE, "tozeroy"),
        ("exposure", exposed, _GREEN, "tozeroy"),
    )
    for row, (name, values, colour, fill) in enumerate(panels, 1):
        figure.add_scatter(
            x=days, y=values, name=name, mode=mode, fill=fill, row=row, col=1,
            line={"color": colour, "width": 1.6},
        )  # fmt: skip
        form = ",.0f" if name == "equity" else ".1%"
        figure.update_yaxes(title_text=name, tickformat=form, row=row, col=1)
    figure.add_hline(y=result.cash, line={"color": INK, "width": 1, "dash": "dot"}, row=1, col=1)
    note = "At the end of each trading day; the dotted line is what the account began with."
    return Plot("Equity, drawdown and exposure", figure, note)


def trades_plot(result: BacktestResult) -> Plot:
    """Draw what the trades made together, in order of their ends, and how their returns spread."""
    from plotly.subplots import make_subplots

    trades = result.trades[np.argsort(result.trades["ts_exit"], kind="stable")]
    figure = styled(make_subplots(rows=1, cols=2, horizontal_spacing=0.1), 340, showlegend=False)
    figure.add_scatter(
        x=trades["ts_exit"].astype("datetime64[ns]"), y=np.cumsum(trades["pnl"]), mode="lines",
        line={"shape": "hv", "width": 1.6, "color": _BLUE}, name="profit", row=1, col=1,
    )  # fmt: skip
    figure.add_histogram(
        x=trades["return"], nbinsx=_BARS, marker={"color": _BLUE}, name="trades", row=1, col=2
    )
    figure.update_xaxes(title_text="end of the trade, UTC", row=1, col=1)
    figure.update_yaxes(title_text="profit, added up", row=1, col=1)
    figure.update_xaxes(title_text="return of a trade", tickformat=".1%", row=1, col=2)
    figure.update_yaxes(title_text="trades", row=1, col=2)
    return Plot("Trades", figure, "After fees and taxes; open trades at the last price.")


def candle_plot(result: BacktestResult, symbol: str, candles: Candles) -> Plot:
    """Draw one instrument's candles with every buy and every sell, and the volume below."""
    figure = stacked_figure([0.8, 0.2], 520, hovermode="x")
    labels = _labels(candles)
    figure.add_candlestick(
        x=labels, name=symbol, row=1, col=1,
        **{name: candles.rows[name] for name in ("open", "high", "low", "close")},
        increasing={"line": {"color": "#8a8a8a", "width": 1}, "fillcolor": "#ffffff"},
        decreasing={"line": {"color": "#8a8a8a", "width": 1}, "fillcolor": "#8a8a8a"},
    )  # fmt: skip
    number = result.symbols.index(symbol)
    fills = result.fills[result.fills["instrument"] == number]
    for side, name, marker, colour in (
        (1, "buy", "triangle-up", _BLUE),
        (-1, "sell", "triangle-down", _ORANGE),
    ):
        _add_marks(figure, result, fills[fills["side"] == side], candles, labels,
                   {"name": name, "symbol": marker, "colour": colour})  # fmt: skip
    figure.add_bar(
        x=labels, y=candles.rows["volume"], marker={"color": "#bbbbbb"}, name="volume",
        showlegend=False, row=2, col=1,
    )  # fmt: skip
    figure.update_xaxes(
        type="category", nticks=_CANDLE_TICKS, tickangle=0, rangeslider={"visible": False}
    )
    figure.update_yaxes(title_text="price", row=1, col=1)
    figure.update_yaxes(title_text="volume", row=2, col=1)
    begin = candles.starts_ns()[:1].astype("datetime64[ns]").astype("datetime64[D]")[0]
    note = (
        f"Candles of {_told(candles.interval_s)} from {begin} on, times in UTC, prices as recorded."
    )
    return Plot(f"{symbol}: {len(fills):,} fills", figure, note)


def _add_marks(
    figure: Any,
    result: BacktestResult,
    fills: npt.NDArray[np.void],
    candles: Candles,
    labels: list[str],
    style: dict[str, str],
) -> None:
    places = candles.at(fills["ts"])
    told = [
        f"{style['name']} {row['quantity']:,g} at {row['price']:,g}<br>"
        f"{np.datetime64(int(row['ts']), 'ns').astype('datetime64[ms]')} UTC<br>"
        f"{result.strategies[row['strategy']]}"
        for row in fills
    ]
    figure.add_scatter(
        x=[labels[place] for place in places], y=fills["price"], mode="markers",
        name=style["name"], hovertext=told, hoverinfo="text", row=1, col=1,
        marker={"symbol": style["symbol"], "size": 10, "color": style["colour"],
                "line": {"color": "#ffffff", "width": 1}},
    )  # fmt: skip


def _labels(candles: Candles) -> list[str]:
    """Write when each begins; the year is left out where they are shorter than days."""
    long = candles.interval_s >= _DAY_S
    unit = "D" if long else "m" if candles.interval_s >= _MINUTE_S else "s"
    starts = candles.starts_ns().astype("datetime64[ns]").astype(f"datetime64[{unit}]")
    return [str(start).replace("T", " ")[0 if long else 5 :] for start in starts]


def _told(interval_s: int) -> str:
    for size, name in ((_DAY_S, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if interval_s >= size:
            count = interval_s // size
            return f"one {name}" if count == 1 else f"{count} {name}s"
    return f"{interval_s} s"
