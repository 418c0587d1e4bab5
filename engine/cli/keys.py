"""``heqis keys new|authorize|revoke|list``: who may speak on the link between the machines."""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.common import AsJson, print_json

HELP = """Keys of the link between gateway and engine.

Example: heqis keys new var/keys"""
Store = Annotated[Path, typer.Argument(help="The key store: a directory that is yours alone.")]
PeerName = Annotated[str, typer.Argument(help="What you call the peer.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help=HELP)
    group.command(name="new")(new)
    group.command(name="authorize")(authorize)
    group.command(name="revoke")(revoke)
    group.command(name="list")(list_keys)
    app.add_typer(group, name="keys")


def new(store: Store, json: AsJson = False) -> None:
    """Make a key store with a new key pair, and print the public key.

    Give that to the other side: for `heqis keys authorize` there, and for link.server_key or
    gateway.server_keys in its configuration.

    Example: heqis keys new var/keys
    """
    from feeds.keystore import KeyStore

    public = KeyStore(store).create().public
    if json:
        print_json({"store": store, "public": public})
        return
    typer.echo(public)


def authorize(
    store: Store,
    name: PeerName,
    key: Annotated[str, typer.Argument(help="Its public key, as `heqis keys new` printed it.")],
) -> None:
    """Let a peer in; a running process knows it within a second.

    Example: heqis keys authorize var/keys gateway-1 'Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID'
    """
    from feeds.keystore import KeyStore

    KeyStore(store).authorize(name, key)
    typer.echo(f"{name} is let in")


def revoke(store: Store, name: PeerName) -> None:
    """Let a peer in no longer; a running process cuts it off within a few seconds.

    A running gateway also sends that engine nothing more until it is started again, with another
    configuration. A running engine goes on asking a gateway that its link.server_key names; take
    that away, too. The key is remembered, so that it is not let in again by mistake.

    Example: heqis keys revoke var/keys gateway-1
    """
    from feeds.keystore import KeyStore

    KeyStore(store).revoke(name)
    typer.echo(f"{name} is revoked")


def list_keys(store: Store, json: AsJson = False) -> None:
    """Show the store's own public key, who is let in, and who no longer is.

    Example: heqis keys list var/keys
    """
    from feeds.keystore import KeyStore

    opened = KeyStore(store)
    own, admitted = opened.own().public, opened.admitted()
    if json:
        print_json(
            {
                "public": own,
                "authorized": {name: key for key, name in admitted.names.items()},
                "revoked": sorted(admitted.revoked),
                "problems": list(admitted.problems),
            }
        )
        return
    typer.echo(f"own        {own}")
    for key, name in sorted(admitted.names.items(), key=lambda pair: pair[1]):
        typer.echo(f"authorized {key}  {name}")
    for key in sorted(admitted.revoked):
        typer.echo(f"revoked    {key}")
    for problem in admitted.problems:
        typer.echo(f"not let in: {problem}", err=True)
