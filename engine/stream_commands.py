"""Commands of operators that come over the stream: carried out, or put on record. Pure."""

from collections.abc import Callable
from typing import Final

from engine.stream_messages import (
    Operate,
    Operated,
    SetState,
    StateMessage,
    encode,
)
from engine.stream_session import Session, TokenBucket

_TOLD_PER_S: Final = 1.0
_TOLD_BURST: Final = 20

OnOperate = Callable[[Operate, str, Callable[[Operated], None]], None]
"""Begins a command of the operator of this name; the callable takes the answer, at any time."""
OnSetState = Callable[[SetState, str, Callable[[StateMessage], None]], None]
"""Carries out a command of the operator of this name on the risk gate, at once; the callable takes
the answer, at any time."""
OnForbidden = Callable[[str, str], None]
"""Is told who wanted to command what, and may not."""


class Commands:
    """Hands commands on; whoever gives one may do so, or ``forbidden`` is called instead.

    Args:
        set_state: Changes the risk gate's state; without it such commands are not taken.
        operate: Begins any other command; without it such are not taken.
        on_forbidden: Is told of commands by who may not give them, at most one a second on
            average.
    """

    def __init__(
        self,
        set_state: OnSetState | None = None,
        operate: OnOperate | None = None,
        on_forbidden: OnForbidden | None = None,
    ) -> None:
        self._set_state = set_state
        self._operate = operate
        self._on_forbidden = on_forbidden
        self._told = TokenBucket(_TOLD_PER_S, _TOLD_BURST, 0)

    def carry_out(self, session: Session, message: SetState | Operate) -> bool:
        """Carry out a command and answer it, now or later; False if such are not taken here."""
        if isinstance(message, SetState):
            return self._change_state(session, message)
        return self._begin(session, message)

    def forbidden(self, session: Session, message: SetState | Operate, now_ns: int) -> None:
        """Tell that a client wanted to command what it may not; ``now_ns`` is monotonic."""
        what = message.command if isinstance(message, Operate) else f"set_state {message.state}"
        if self._on_forbidden is not None and self._told.take(now_ns):
            self._on_forbidden(session.grant.name, what)

    def _change_state(self, session: Session, message: SetState) -> bool:
        if self._set_state is None:
            return False
        self._set_state(message, session.grant.name, _answering(session))
        return True

    def _begin(self, session: Session, message: Operate) -> bool:
        if self._operate is None:
            return False
        self._operate(message, session.grant.name, _answering(session))
        return True


def _answering(session: Session) -> Callable[[StateMessage | Operated], None]:
    def answer(message: StateMessage | Operated) -> None:
        if not session.closing:
            session.link.push(encode(message))

    return answer
