"""Reads keys, tokens and certificates as the start does, without listening."""

from engine.config import Config
from engine.stream_door import Door
from engine.stream_protocol import COUNTERS
from feeds.curve import client_of, gatekeeper_of


def check_access(config: Config) -> list[str]:
    """Find what would keep engine or gateway from guarding their ports.

    Returns:
        What is wrong with some file and keeps somebody out, not the start from succeeding.

    Raises:
        ConfigError: a file is missing, damaged, revoked, or others may use it.
    """
    Door(config.stream, dict.fromkeys(COUNTERS, 0))
    link, gateway = config.link, config.gateway
    client_of(link.keys, link.server_key)
    for at in range(len(gateway.outputs)):
        client_of(gateway.keys, gateway.server_key(at))
    found: dict[str, None] = {}
    for keys in (link.keys, gateway.keys):
        keeper = gatekeeper_of(keys)
        if keeper is not None and keeper.problem:
            found[f"keys: {keeper.problem}"] = None
    return list(found)
