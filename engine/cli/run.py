"""``heqis run``: gateway and engine on this machine, and a view of what they do."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import ConfigFiles
from engine.core.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="run")(run)


def run(
    config: ConfigFiles = None,
    view: Annotated[bool, typer.Option(help="Show the live view.")] = True,
    logs: Annotated[Path, typer.Option(help="Where the processes' logs go.")] = Path("var"),
) -> None:
    """Run gateway and engine as two processes on this machine until Ctrl-C, and show them live.

    Without -c the demo runs: a simulated market of 20 instruments and every built-in rule. A
    process that dies or gives no sign of life is started again, later each time; after too many
    deaths the other is stopped too and the end of the dead one's log is shown. The table
    `supervision` says how many are too many. SIGHUP has both read their configuration anew.

    Example: heqis run -c configs/demo.toml
    """
    import asyncio

    from engine.config import CONFIGS, load_config
    from engine.local_run import run_local
    from engine.notify import own_notifier
    from engine.view import status_line

    files = [Path(file) for file in config or (CONFIGS / "demo.toml",)]
    loaded = load_config(files)
    if loaded.stream.port == 0:
        names = ", ".join(map(str, files))
        raise ConfigError(names, "stream.port", 0, "give the port that the view is to look at")
    said: list[str] = []
    notifier = own_notifier()
    say = said.append if view and sys.stdout.isatty() else _say
    try:
        state = asyncio.run(run_local(loaded, files, logs, view=view, say=say, notifier=notifier))
    finally:
        notifier.close()
        for line in said:
            _say(line)
    if state is not None and state.status:
        typer.echo(f"at the end, {status_line(state)}")


def _say(line: str) -> None:
    typer.echo(line, err=True)
