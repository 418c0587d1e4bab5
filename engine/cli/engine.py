"""``heqis engine``: ticks in, signals out."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.cli.common import ConfigFiles, Verbose, log_to_stderr

if TYPE_CHECKING:
    from engine.daemon import Engine


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="engine")(engine)


def engine(config: ConfigFiles = None, verbose: Verbose = False) -> None:
    """Run the engine until SIGTERM or Ctrl-C: take ticks, publish risk-checked signals.

    Example: heqis engine -c configs/default.toml
    """
    import uvloop

    from engine.composition import resolve
    from engine.config import load_config
    from engine.daemon import run_engine
    from engine.process import refuse_huge_pages

    log_to_stderr(verbose=verbose)
    refuse_huge_pages()
    blueprint = resolve(load_config([Path(file) for file in config or ()]))
    uvloop.run(run_engine(blueprint, _tell_ready))


def _tell_ready(engine: "Engine") -> None:
    port, data = engine.stream.port, engine.config.link.data
    typer.echo(f"ready in {engine.ready_s:.2f} s: data {data}, signals on port {port}", err=True)
