"""``heqis select``: strategies chosen on one part of the data, reported on another."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.common import AsJson, ConfigFiles, make_directory, need, print_json
from engine.core.errors import ConfigError

if TYPE_CHECKING:
    from engine.config import Config
    from replay.backtest.folds import Fold
    from replay.backtest.selection import Selection, SelectionRules
    from replay.backtest.selection_run import Candidate
    from replay.backtest.trading_days import TradingDays


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="select")(select)


def select(
    logs: Annotated[
        list[Path], typer.Argument(help="Logs of ticks or bars, or Parquet files of daily bars.")
    ],
    config: ConfigFiles = None,
    candidate: Annotated[
        list[Path] | None,
        typer.Option(
            help="A TOML file laid over -c, as one candidate; give several. "
            "Without any, every strategy of the configuration is one."
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="KEY=LOW:HIGH:STEP or KEY=A,B,C: a candidate for every combination."),
    ] = None,
    validation: Annotated[int, typer.Option(min=1, help="Days to choose by.")] = 250,
    test: Annotated[int, typer.Option(min=1, help="Days to test what was chosen.")] = 60,
    embargo: Annotated[int, typer.Option(min=0, help="Days between, used for neither.")] = 5,
    anchored: Annotated[
        bool, typer.Option("--anchored", help="Choose by all days before, not by the last ones.")
    ] = False,
    objective: Annotated[str, typer.Option(help="What decides; more is better.")] = "sharpe",
    min_trades: Annotated[
        int, typer.Option(min=0, help="Finished trades a candidate needs to be chosen.")
    ] = 1,
    at_least: Annotated[
        float, typer.Option(help="Value of the objective a candidate needs.", show_default=False)
    ] = -math.inf,
    other_trials: Annotated[
        int, typer.Option(min=0, help="Trials made before to come to these candidates.")
    ] = 0,
    days_per_year: Annotated[float, typer.Option(min=1.0, help="To annualise by.")] = 252.0,
    out: Annotated[Path, typer.Option(help="Directory for what comes of it.")] = Path(
        "var/selection"
    ),
    json: AsJson = False,
) -> None:
    """Choose among strategies walk-forward, and report what was chosen on days nobody looked at.

    Each fold ranks all candidates over its validation days and runs only the best over the test
    days that follow, after an embargo. Trades still open when validation ends are purged from
    trade metrics only: by sharpe, the default, nothing is purged. Writes best_metrics.csv,
    selection.json, ranking.csv, the trades of the tests and report.html. Without -c,
    configs/replay.toml is used.

    Example: heqis select daily.hql -c config.toml --validation 250 --test 60 --embargo 5
    """
    for library in ("empyrical", "plotly"):
        need(library, "lab")
    from engine.config import CONFIGS, load_config
    from replay.backtest.bar_files import as_logs
    from replay.backtest.selection import SelectionRules
    from replay.backtest.selection_report import as_json, write_selection
    from replay.backtest.trading_days import trading_days

    rules = SelectionRules(_objective(objective), min_trades, at_least, days_per_year, other_trials)
    files = [Path(file) for file in config or (CONFIGS / "replay.toml",)]
    base = load_config(files)
    candidates = _candidates(files, base, candidate or (), param or ())
    with as_logs(logs) as given:
        prepared = given.load()
        days = trading_days(prepared)
        folds = _folds(len(days), validation, test, embargo, anchored)
        make_directory("--out", out)
        with _progress(len(folds) * (len(candidates) + 1)) as advance:
            chosen = _select(candidates, folds, prepared, days, rules, advance)
        write_selection(chosen, days.days, out, rules, given.paths)
    if json:
        print_json(as_json(chosen, days.days, rules))
    else:
        _print(chosen, days, rules, out)


def _select(
    candidates: "Sequence[Candidate]",
    folds: "Sequence[Fold]",
    prepared: Any,
    days: "TradingDays",
    rules: "SelectionRules",
    advance: Callable[[int], None] | None,
) -> "Selection":
    from replay.backtest.selection import select as choose
    from replay.backtest.selection_run import SpanRunner
    from strategies.kernel_cache import share_modules

    run = SpanRunner(prepared, days, candidates)
    names = [candidate.name for candidate in candidates]
    cash = candidates[0].blueprint.config.backtest.cash
    share_modules()
    try:
        return choose(names, folds, days.days, run, cash, rules, advance)
    finally:
        share_modules(shared=False)


def _objective(name: str) -> Any:
    from engine.core.suggest import known_names
    from replay.backtest.selection import OBJECTIVES

    if name not in OBJECTIVES:
        expected = known_names("objectives", OBJECTIVES, name)
        raise ConfigError("command line", "--objective", name, expected)
    return name


def _candidates(
    files: Sequence[Path], base: "Config", layers: Sequence[Path], params: Sequence[str]
) -> "list[Candidate]":
    from engine.composition import resolve
    from engine.config import load_config
    from replay.backtest.selection_run import Candidate, each_strategy

    if layers and params:
        expected = "give --candidate or --param, not both"
        raise ConfigError("command line", "--candidate", str(layers[0]), expected)
    if params:
        return _points(base, params)
    if not layers:
        return each_strategy(base)
    names = [layer.stem for layer in layers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        expected = "candidates are named by their files: give files of different names"
        raise ConfigError("command line", "--candidate", twice, expected)
    return [Candidate(layer.stem, resolve(load_config([*files, layer]))) for layer in layers]


def _points(base: "Config", params: Sequence[str]) -> "list[Candidate]":
    """Return a candidate for every point of the grid."""
    from itertools import product

    from engine.composition import resolve
    from replay.backtest.selection_run import Candidate
    from replay.sweep.dimension import parse_dimension
    from replay.sweep.space import make_space
    from replay.sweep.text import short_names

    space = make_space(base, [parse_dimension(text) for text in params])
    space.points()
    keys = [dimension.key for dimension in space.dimensions]
    named = short_names(keys)
    made = []
    for values in product(*(dimension.listed() for dimension in space.dimensions)):
        point = dict(zip(keys, values, strict=True))
        name = " ".join(f"{key}={value}" for key, value in zip(named, values, strict=True))
        made.append(Candidate(name, resolve(space.config_at(point), share=False)))
    return made


def _folds(days: int, validation: int, test: int, embargo: int, anchored: bool) -> "Sequence[Fold]":
    from replay.backtest.folds import SpanError, walk_forward

    try:
        return walk_forward(days, validation, test, embargo, anchored=anchored)
    except SpanError as error:
        key = "--validation, --embargo"
        raise ConfigError("command line", key, f"{validation}, {embargo}", str(error)) from None


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None] | None]:
    from engine.cli.progress import record_progress

    with record_progress("backtests", total) as advance:
        yield advance


def _print(chosen: "Selection", days: "TradingDays", rules: "SelectionRules", out: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from replay.backtest.metrics import measure
    from replay.backtest.report_text import percent, summary_table, tally_lines
    from replay.backtest.selection_report import fold_row

    console = Console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("fold", "tested from", "to", "chosen", rules.objective, "return", "trades"):
        table.add_column(heading, overflow="fold")
    for outcome in chosen.folds:
        number, _, _, *rest = map(str, fold_row(chosen, outcome, days.days))
        table.add_row(number, *rest)
    console.print(table)
    metrics = measure(
        chosen.tested, chosen.trial_sharpes(), rules.days_per_year, rules.other_trials
    )
    console.print(summary_table(metrics, "The test days together"))
    if chosen.overfitting is not None:
        told = percent(chosen.overfitting.pbo)
        console.print(f"probability of backtest overfitting: {told}")
    for kind, told in tally_lines({"bad input": chosen.tested.bad_input}):
        console.print(f"{kind}: {told}", soft_wrap=True)
    console.print(f"written to {out}/", soft_wrap=True)
