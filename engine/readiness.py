"""Asks an engine over HTTP whether it is ready."""

import asyncio
import ssl
from typing import Any, Final

import orjson

POLL_S: Final = 0.1
ASK_TIMEOUT_S: Final = 2.0
_MAX_ANSWER_BYTES: Final = 1 << 20


async def ask_health(
    host: str, port: int, tls: ssl.SSLContext | None = None
) -> dict[str, Any] | None:
    """Return what ``GET /health`` answers; None if nobody answers, or not so."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            answer = await _get(host, port, tls)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None
    _, _, body = answer.partition(b"\r\n\r\n")
    try:
        facts = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return facts if isinstance(facts, dict) and "healthy" in facts else None


async def _get(host: str, port: int, tls: ssl.SSLContext | None) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        writer.write(f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        return await reader.read(_MAX_ANSWER_BYTES)
    finally:
        writer.close()


async def wait_for_health(
    host: str, port: int, *, answer_s: float, healthy_s: float, tls: ssl.SSLContext | None = None
) -> dict[str, Any] | None:
    """Wait until an engine says that it is healthy.

    Args:
        host: Its address.
        port: Its port.
        answer_s: Longest wait for any answer, seconds.
        healthy_s: Longest wait after the first answer for a healthy one, seconds.
        tls: What to check its certificate with; None if it does not encrypt.

    Returns:
        Its last answer, healthy or not; None if there was none.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + answer_s
    last: dict[str, Any] | None = None
    while loop.time() < deadline_s:
        facts = await ask_health(host, port, tls)
        if facts is not None:
            if facts["healthy"]:
                return facts
            if last is None:
                deadline_s = loop.time() + healthy_s
            last = facts
        await asyncio.sleep(POLL_S)
    return last
