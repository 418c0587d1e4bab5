"""``heqis model swap|shadow|fault``: the operator's hand on the models of a running engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.common import AsJson, print_json
from engine.cli.reach import CaFile, Token, access_of

if TYPE_CHECKING:
    from engine.access import Access
    from engine.stream_messages import Operate

DEFAULT_URL = "ws://127.0.0.1:8765"
Url = Annotated[str, typer.Option(help="Where the engine listens.")]
ModelName = Annotated[str, typer.Argument(help="The model, as the configuration names it.")]
BundleDirectory = Annotated[
    str, typer.Argument(help="The bundle's directory, on the engine's machine.")
]


def add_commands(group: typer.Typer) -> None:
    """Add the commands to the group ``model``."""
    group.command(name="swap")(swap)
    group.command(name="shadow")(shadow)
    group.command(name="fault")(fault)


def swap(
    model: ModelName,
    bundle: BundleDirectory,
    url: Url = DEFAULT_URL,
    json: AsJson = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """Let another bundle serve a model of a running engine, without missing a tick.

    The bundle must have the model's clock, features, window and labels. It is verified, loaded on
    every device of the placement, warmed up and run through its parity vectors first; the old one
    serves until then, and goes on if anything is wrong. Both are journaled.

    Example: heqis model swap tcn models/demo-tcn-b
    """
    from engine.stream_messages import Operate

    result = _command(
        url, Operate("model_swap", model, _seen_by_engine(bundle)), access_of(token, ca)
    )
    if json:
        print_json(result)
        return
    typer.echo(f"{model}: {result['after']} serves; it was {result['before']}")
    for rung, form in result["forms"].items():
        parity = f"parity {form['parity_max_abs']:.2g}"
        typer.echo(f"  {rung}: {form['backend']} in {form['precision']}, {parity}")
    for rung, problem in result["left_out"].items():
        typer.echo(f"  {rung}: left out: {problem}")


def shadow(
    model: ModelName,
    bundle: Annotated[
        str,
        typer.Argument(
            help="The candidate's directory, on the engine's machine; without it the one there is "
            "ends.",
            show_default=False,
        ),
    ] = "",
    url: Url = DEFAULT_URL,
    json: AsJson = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """Let a candidate score what a model scores, to be compared and never traded; or end that.

    How the two compare stands in `heqis model list --url`, and is told when the candidate ends.

    Example: heqis model shadow tcn models/demo-tcn-b
    """
    from engine.stream_messages import Operate

    result = _command(
        url, Operate("model_shadow", model, _seen_by_engine(bundle)), access_of(token, ca)
    )
    if json:
        print_json(result)
        return
    after, before = result["after"], result["before"]
    where = f"{after['bundle']} on {after['backend']}@{after['device']}" if after else "nobody"
    typer.echo(f"{model}: {where} scores beside it")
    if before:
        typer.echo(
            "the one before: " + ", ".join(f"{key} {value}" for key, value in before.items())
        )


def fault(
    device: Annotated[str, typer.Argument(help="The device, as `heqis model list` names it.")],
    kind: Annotated[
        str,
        typer.Argument(
            help="What it does: raise, hang, late or nan; without it the device is mended.",
            show_default=False,
        ),
    ] = "",
    url: Url = DEFAULT_URL,
    json: AsJson = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """Have a device of a running engine fail on purpose, to see it degrade and recover.

    Only where the configuration says `inference.allow_faults = true`, as the demo's does.

    Example: heqis model fault cpu raise
    """
    from engine.stream_messages import Operate

    result = _command(url, Operate("device_fault", device, kind), access_of(token, ca))
    if json:
        print_json(result)
        return
    typer.echo(f"{device}: {f'fails on purpose ({kind})' if kind else 'mended'}")


def _command(url: str, message: "Operate", access: "Access") -> dict[str, Any]:
    import asyncio

    from rich.console import Console

    from engine.operating import operate

    with Console(stderr=True).status(f"{message.command} {message.model} at {url}"):
        return asyncio.run(operate(url, message, access))


def _seen_by_engine(bundle: str) -> str:
    """Return the whole path of a directory that is here; the engine may run somewhere else."""
    path = Path(bundle)
    return str(path.resolve()) if bundle and path.exists() else bundle
