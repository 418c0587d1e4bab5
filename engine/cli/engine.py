"""``heqis engine``: ticks in, signals out."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.cli.common import ConfigFiles, Verbose, log_to_stderr

if TYPE_CHECKING:
    from engine.daemon import Engine

_log = logging.getLogger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="engine")(engine)


def engine(config: ConfigFiles = None, verbose: Verbose = False) -> None:
    """Run the engine until SIGTERM or Ctrl-C: take ticks, publish risk-checked signals.

    SIGHUP has it read its configuration again. It ends by itself with status 3 when a budget is
    used up, and with 4 when the gateway asks it to begin anew.

    Example: heqis engine -c configs/default.toml
    """
    import uvloop

    from engine.composition import resolve
    from engine.config import load_with_origins
    from engine.daemon import run_engine
    from engine.notify import own_notifier
    from engine.process import give_large_blocks_back, refuse_huge_pages, tell_where_it_hangs
    from engine.reload import Sources

    log_to_stderr(verbose=verbose)
    refuse_huge_pages()
    give_large_blocks_back()
    tell_where_it_hangs()
    notifier = own_notifier()
    files = tuple(Path(file) for file in config or ())
    loaded, origins = load_with_origins(files)
    sources = Sources(files, origins)
    run = run_engine(resolve(loaded), _tell_ready, sources=sources, notifier=notifier)
    status = uvloop.run(run)
    notifier.close()
    if status:
        raise typer.Exit(int(status))


def _tell_ready(engine: "Engine") -> None:
    port, data = engine.stream.port, engine.config.link.data
    _log.info("ready in %.2f s: data %s, signals on port %d", engine.ready_s, data, port)
