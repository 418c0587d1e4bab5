"""``heqis config``: check a configuration, show what is in force."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json
from engine.core.errors import ConfigError

if TYPE_CHECKING:
    from engine.composition import Blueprint
    from engine.config import Config, Origins

_HELP: Final = """Check or show a configuration.

Example: heqis config check -c mine.toml
"""
_UNKNOWN_FILE: Final = "configuration"
"""What the composition calls a configuration whose files it does not know."""


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)
    group.command(name="check")(check)
    group.command(name="show")(show)
    app.add_typer(group, name="config")


def check(config: ConfigFiles = None, json: AsJson = False) -> None:
    """Find everything that can be wrong with a configuration, and say what it asks for.

    Loads plugins, resolves every bar, indicator, rule, strategy and parameter, and reads keys,
    tokens and certificates as the start does. Exit status 2 and the file, the key and the allowed
    values if something is wrong.

    Example: heqis config check -c mine.toml
    """
    from engine.access_check import check_access

    loaded, origins = _load(config)
    blueprint = _resolve(loaded, origins, config or [])
    facts = _facts(blueprint, config or [])
    facts["notes"] += check_access(loaded)
    if json:
        print_json(facts)
    else:
        _print(facts)


def show(config: ConfigFiles = None, json: AsJson = False) -> None:
    """Print the configuration in force: every key, defaults included.

    As TOML, keys that were given name the file or the environment variable they came from; the
    output is itself a configuration. With --json durations are nanoseconds.

    Example: heqis config show -c configs/demo.toml
    """
    from engine.config_text import config_toml

    loaded, origins = _load(config)
    if json:
        print_json(loaded.model_dump(mode="json"))
    else:
        typer.echo(config_toml(loaded, origins), nl=False)


def _load(files: list[Path] | None) -> "tuple[Config, Origins]":
    from engine.config import load_with_origins

    return load_with_origins([Path(file) for file in files or ()])


def _resolve(config: "Config", origins: "Origins", files: list[Path]) -> "Blueprint":
    """Resolve, and name the file where the composition could not."""
    from engine.composition import check_windows, resolve
    from engine.config import origin_of

    try:
        blueprint = resolve(config)
        check_windows(blueprint, config.engine.max_instruments)
    except ConfigError as error:
        if error.file != _UNKNOWN_FILE:
            raise
        default = ", ".join(map(str, files)) or "the default configuration"
        file = origin_of(error.key.split("."), origins, default)
        raise ConfigError(file, error.key, error.found, error.expected) from None
    return blueprint


def _facts(blueprint: "Blueprint", files: list[Path]) -> dict[str, Any]:
    from engine.model_report import model_facts, model_notes

    config, plan = blueprint.config, blueprint.plan
    models = model_facts(blueprint)
    rules = [
        {
            "name": rule.name,
            "rule": rule.spec.name,
            "version": rule.spec.version,
            "on": rule.clock,
            "params": dict(rule.params),
            "indicators": [instance.spec.name for instance in rule.inputs],
            "model": entry.model,
            "confirm": entry.confirm or None,
        }
        for entry, rule in zip(blueprint.rules, plan.rules, strict=True)
    ]
    python = [
        {
            "name": entry.name,
            "strategy": entry.strategy,
            "version": strategy.version,
            "on": entry.on,
            "params": dict(strategy.params),
        }
        for entry, strategy in blueprint.python
    ]
    scheme = "ws" if config.stream.tls is None else "wss"
    return {
        "files": [str(file) for file in files],
        "plugins": [str(path) for path in config.plugins],
        "source": config.gateway.source.kind,
        "outputs": list(config.gateway.outputs),
        "data": config.link.data,
        "stream": f"{scheme}://{config.stream.host}:{config.stream.port}",
        "journal": str(config.journal.path),
        "bars": [bar.name for bar in plan.bars],
        "indicators": len(plan.indicators),
        "rules": rules,
        "python": python,
        "models": models,
        "disabled": [entry.name for entry in config.strategies if not entry.enabled],
        "notes": [*_notes(config), *model_notes(models)],
    }


def _notes(config: "Config") -> list[str]:
    """Return what is allowed but hardly meant."""
    notes = []
    if not config.active_strategies:
        notes.append("no strategy is enabled: nothing will be signalled")
    if config.link.data not in config.gateway.outputs:
        notes.append(f"gateway.outputs does not name link.data, {config.link.data}")
    if config.link.control != config.gateway.control:
        notes.append(f"link.control is not gateway.control, {config.gateway.control}")
    used = {entry.on for entry in config.active_strategies} | {one.on for one in config.models}
    notes += [f"no strategy is on the bar {b.name!r}" for b in config.bars if b.name not in used]
    return notes


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)
    files = ", ".join(facts["files"]) or "the defaults"
    console.print(f"[bold green]good[/]: {escape(files)}", highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name in ("source", "data", "stream", "journal"):
        table.add_row(name, escape(str(facts[name])))
    table.add_row("bars", ", ".join(facts["bars"]))
    table.add_row("indicators", f"{facts['indicators']} (shared where the same)")
    for what, key in (("rule", "rule"), ("strategy", "strategy")):
        for entry in facts["rules" if what == "rule" else "python"]:
            params = ", ".join(f"{name}={value}" for name, value in entry["params"].items())
            does = f"the score of {entry['model']}" if entry.get("model") else entry[key]
            text = f"[bold]{entry['name']}[/]: {does} v{entry['version']} on {entry['on']}"
            asks = f", confirmed by {entry['confirm']}" if entry.get("confirm") else ""
            table.add_row(what, f"{text}{asks}  [dim]{escape(params)}[/]")
    for model in facts["models"]:
        table.add_row("model", _model_text(model))
    for name in facts["disabled"]:
        table.add_row("disabled", name)
    for path in facts["plugins"]:
        table.add_row("plugin", escape(path))
    for note in facts["notes"]:
        table.add_row("note", f"[yellow]{escape(note)}[/]")
    console.print(table)


def _model_text(model: dict[str, Any]) -> str:
    """Return a model in some lines of rich markup."""
    from rich.markup import escape

    entries = [
        one["entry"] if one["here"] else f"[yellow]{one['entry']} (not here)[/]"
        for one in model["placement"]
    ]
    askers = [*model["decides"], *(f"{name} (to confirm)" for name in model["confirms"])]
    lines = [
        f"[bold]{model['name']}[/]: {escape(model['identity'])} on {model['on']}, {model['clock']}",
        f"  in {escape(model['bundle'])}",
        f"  on {', '.join(entries)}",
        f"  asked by {', '.join(askers) or 'no strategy'}",
    ]
    if model["shadow"]:
        lines.append(f"  beside it {escape(model['shadow'])}, compared, never traded")
    if not any(one["here"] for one in model["placement"]):
        for one in model["placement"]:
            lines += [f"  [dim]{one['entry']}: {escape(why)}[/]" for why in one["why"]]
    return "\n".join(lines)
