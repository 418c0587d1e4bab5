"""``heqis features``: the training matrix of a log, as the live kernel computes it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json, tell_bad_input
from engine.core.errors import ConfigError

if TYPE_CHECKING:
    from engine.config import Config
    from replay.export.features import LabelOptions
    from strategies.model_spec import ModelWindow
    from strategies.registry import Registry

_PRICES = ("auto", "mid", "close")
Out = Annotated[
    Path, typer.Option("--out", "-o", help="File to write: .parquet, .arrow, .feather, .npy, .npz.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="features")(features)


def features(
    log: Annotated[Path, typer.Argument(help="A tick log.")],
    out: Out,
    config: ConfigFiles = None,
    model: Annotated[
        str, typer.Option(help="A model of the configuration, whose features and clock are taken.")
    ] = "",
    feature: Annotated[
        list[str] | None,
        typer.Option(help=r"\[name=]indicator[(parameter=number, …)][.output]; repeat for more."),
    ] = None,
    on: Annotated[
        str,
        typer.Option(help="Clock of --feature: a configured bar, tick, trade or quote."),
    ] = "",
    horizon: Annotated[
        str, typer.Option(help='How far labels look ahead: "5m", "10rows"; none without it.')
    ] = "",
    band_bps: Annotated[
        float, typer.Option(min=0.0, help="A move within it has the label 0.")
    ] = 0.0,
    label_price: Annotated[
        str, typer.Option(help="Whose move: auto, mid or close; auto: mid where all rows have one.")
    ] = "auto",
    window: Annotated[
        int, typer.Option(min=1, help="Only rows that end so many without a break.")
    ] = 1,
    usable: Annotated[
        bool,
        typer.Option("--usable", help="Only rows with a label that crosses no break and no day."),
    ] = False,
    across_days: Annotated[
        bool, typer.Option("--across-days", help="Labels on another day are usable: daily bars.")
    ] = False,
    overwrite: Overwrite = False,
    json: AsJson = False,
) -> None:
    """Write the feature rows that the live kernel would push on a log, and what followed them.

    The rows are the kernel's own; only the labels look ahead, over the stated horizon.

    Examples: heqis features btc.hql -c configs/demo.toml --model tcn --horizon 20s -o btc.parquet;
    heqis features aig.hql --feature 'rsi(length=14)' --feature macd.histogram --on 1m
    --horizon 5m --band-bps 5 -o aig.npz;
    heqis export features btc.hql -c configs/demo.toml --model tcn -o rows.parquet
    """
    from engine.config import CONFIGS, load_config
    from replay.export.features import feature_table
    from replay.export.files import check_target, open_table
    from strategies.registry import load_registry

    check_target(out, overwrite=overwrite)
    loaded = load_config([Path(file) for file in config or (CONFIGS / "replay.toml",)])
    registry = load_registry(loaded.plugins)
    wanted = _window(loaded, registry, model, feature or [], on)
    labels = _labels(horizon, band_bps, label_price, usable=usable)
    bars = tuple(bar.spec() for bar in loaded.bars)
    made = feature_table(log, wanted, bars, registry, labels)
    with open_table(out, made.table, overwrite=overwrite) as file:
        made.write(file, usable=usable, across_days=across_days, window=window)
    facts = {"output": str(out), "rows": file.rows, "of": len(made.matrix.rows), **made.facts}
    if json:
        print_json(facts)
        return
    typer.echo(f"{file.rows:,} rows of {len(wanted.features)} features in {out}")
    tell_bad_input(made.facts["bad_input"])
    if labels is not None and made.labels is not None:
        shares = {sign: int((made.labels.sign == sign).sum()) for sign in (-1, 0, 1)}
        unknown = len(made.labels.sign) - sum(shares.values())
        typer.echo(
            f"labels over {horizon} of the {made.facts['label_price']}: down {shares[-1]:,}, "
            f"flat {shares[0]:,}, up {shares[1]:,}, unknown {unknown:,}; "
            f"usable {int(made.labels.usable(across_days=across_days).sum()):,}"
        )


def _window(
    config: "Config", registry: "Registry", model: str, texts: list[str], clock: str
) -> "ModelWindow":
    from replay.export.feature_spec import window_of, window_of_texts

    if bool(model) == bool(texts):
        expected = "give --model NAME, or --feature once or more with --on CLOCK"
        raise ConfigError("command line", "--model", model or None, expected)
    if model:
        if clock:
            raise ConfigError("command line", "--on", clock, "leave it out: a model has its own")
        return window_of(config, registry, model)
    if not clock:
        names = ", ".join(["tick", "trade", "quote", *(bar.name for bar in config.bars)])
        raise ConfigError("command line", "--on", None, f"give the clock: {names}")
    return window_of_texts(texts, clock, registry)


def _labels(horizon: str, band_bps: float, price: str, *, usable: bool) -> "LabelOptions | None":
    from replay.export.feature_spec import parse_horizon
    from replay.export.features import LabelOptions

    if price not in _PRICES:
        raise ConfigError("command line", "--label-price", price, f"one of {', '.join(_PRICES)}")
    if not horizon:
        if usable:
            raise ConfigError("command line", "--usable", True, "it goes with --horizon")
        return None
    return LabelOptions(parse_horizon(horizon), band_bps, price)  # type: ignore[arg-type] # checked
