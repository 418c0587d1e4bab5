"""One operator's command to a running engine, and its answer."""

import asyncio
from typing import Any, Final, TypeVar

from websockets.asyncio.client import connect
from websockets.exceptions import (
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from engine.access import Access, refusal
from engine.core.errors import StreamError
from engine.stream_messages import (
    ErrorMessage,
    Operate,
    Operated,
    SetState,
    StateMessage,
    StatusMessage,
    Subscribe,
    decode_server,
    encode,
)

ANSWER_LIMIT_S: Final = 10.0
MODEL_LIMIT_S: Final = 660.0
"""A device may have to compile a model first; the engine itself gives up sooner."""

Answered = TypeVar("Answered", StateMessage, Operated, StatusMessage)


async def set_state(url: str, wanted: SetState, access: Access | None = None) -> StateMessage:
    """Set the risk gate's state.

    Raises:
        StreamError: no engine answers there, or it refuses.
    """
    return await _ask(url, wanted, StateMessage, ANSWER_LIMIT_S, access)


async def operate(url: str, command: Operate, access: Access | None = None) -> dict[str, Any]:
    """Have the engine carry out a command about a model; return what came of it.

    Raises:
        StreamError: no engine answers there, or it could not do it, and why.
    """
    answer = await _ask(url, command, Operated, MODEL_LIMIT_S, access)
    if answer.problem:
        raise StreamError(answer.problem)
    return answer.result


async def read_status(url: str, access: Access | None = None) -> dict[str, Any]:
    """Return the engine's next status.

    Raises:
        StreamError: no engine answers there.
    """
    wish = Subscribe(topics=("status",))
    return (await _ask(url, wish, StatusMessage, ANSWER_LIMIT_S, access)).status


async def _ask(
    url: str,
    message: SetState | Operate | Subscribe,
    wanted: type[Answered],
    limit_s: float,
    access: Access | None,
) -> Answered:
    options = (access or Access()).options(url)
    try:
        async with (
            asyncio.timeout(limit_s),
            connect(url, max_size=None, **options) as connection,
        ):
            await connection.send(encode(message), text=True)
            async for data in connection:
                answer = decode_server(data)
                if isinstance(answer, wanted):
                    return answer
                if isinstance(answer, ErrorMessage):
                    raise StreamError(f"{url}: {answer.message}")
    except InvalidStatus as error:
        status = error.response.status_code
        raise StreamError(f"{url} answered HTTP {status}: {refusal(status)}") from error
    except (OSError, InvalidURI, InvalidHandshake, WebSocketException, TimeoutError) as error:
        raise StreamError(f"{url}: no engine answers there: {error or 'timeout'}") from error
    raise StreamError(f"{url}: the engine closed the connection")
