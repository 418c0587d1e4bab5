"""When to ask a gateway again for what did not come, and when to stop asking; pure.

The cursor is a place in the stream: everything before it has been sent again or is gone for good.
It moves on with every answer until it has reached the goal, the place before the message that is
already here. Between two epochs lies the rest of the older one, and whole epochs that came and
went meanwhile.
"""

from collections import Counter
from typing import Final, NamedTuple

from feeds.control_messages import UNSUPPORTED, Resend, Resent
from feeds.headway import Headway
from feeds.hold import Place

MS: Final = 1_000_000
BUSY_NS: Final = 20 * MS
"""Wait before asking a gateway again that said it was asked too soon, or a full channel."""
_LONGEST_TIMEOUT_NS: Final = 2_000 * MS
_LONGEST_MUTE_NS: Final = 60_000 * MS
_MAX_EPOCHS: Final = 64
_TO_THE_END: Final = 1 << 40
_NEVER: Final = 1 << 62

GONE: Final = "gone"
"""Why a gap is one: neither ring nor spool of the gateway hold it."""
UNANSWERED: Final = "unanswered"
"""The gateway was asked and did not answer in time."""
UNASKED: Final = "unasked"
"""The gateway could not be asked."""
BEHIND: Final = "behind"
"""The gateway sends again more slowly than it sends: what is missing would only become more."""


class Rules(NamedTuple):
    """How patient a recovery is; nanoseconds."""

    timeout_ns: int
    """A request without an answer is repeated after this, then after twice as long, and so on."""
    give_up_ns: int
    """Without any progress for so long it is over."""
    gone_ns: int
    """But for as long as this the time in which the gateway itself is gone does not count."""
    behind_ns: int
    """It is over, too, when in so long it has not come nearer to the gateway's newest number; and
    for so long nothing is asked for then."""


class Ended(NamedTuple):
    """An epoch that was left."""

    epoch: int
    end_seq: int | None
    """One past its last number; None if nobody knows."""


class Recovery:
    """One stream's recovery, over and over again; one owner.

    Attributes:
        cursor: Everything before it was sent again or is gone.
        goal: Where the cursor has to be.
        why: What is missing before the cursor is missing for this reason.
        ended: Epochs left on the way, oldest first.
        counters: What happened so far, by name.

    Args:
        rules: Its patience.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.cursor = self.goal = Place(0, 0)
        self.why = GONE
        self.ended: list[Ended] = []
        self.counters: Counter[str] = Counter()
        self._asked: Resend | None = None
        self._attempts = 0
        self._due_ns = _NEVER
        self._progress_ns = 0
        self._seen_ns = 0
        self._excused_ns = 0
        self._mute_until_ns = 0
        self._mute_ns = 0
        self._muted_at_ns = -1
        self._muted_why = UNASKED
        self._headway = Headway(rules.behind_ns)
        self._unsupported = False

    @property
    def done(self) -> bool:
        """Whether the cursor has reached the goal."""
        return self.cursor.epoch == self.goal.epoch and self.cursor.seq >= self.goal.seq

    def begin(self, cursor: Place, goal: Place, mono_ns: int, heard_ns: int) -> None:
        """Begin at what the stream expects.

        Args:
            cursor: The place the stream is at.
            goal: The place it has to get to.
            mono_ns: Now, monotonic.
            heard_ns: When the gateway was last heard, monotonic.
        """
        self.cursor, self.goal = cursor, goal
        self.ended = []
        self.why = GONE
        self._excused_ns = 0
        self._start_clock(mono_ns)
        if self.done:
            self._due_ns = _NEVER
            return
        self.counters["recoveries"] += 1
        silent = heard_ns <= self._muted_at_ns or mono_ns < self._mute_until_ns
        if self._unsupported or silent:
            self.abandon(UNSUPPORTED if self._unsupported else self._muted_why)

    def extend(self, goal: Place, mono_ns: int) -> None:
        """Let more be missing than was known; the goal only ever moves on."""
        if self.done:
            self._start_clock(mono_ns)
        self.goal = goal

    def wait_ns(self, mono_ns: int) -> int | None:
        """Return how long nothing has to be done; None for as long as nothing comes."""
        return None if self.done else max(0, self._due_ns - mono_ns)

    def due(self, mono_ns: int, *, gone: bool = False) -> Resend | None:
        """Return the request to be sent now, if any; gives up where its rules say so.

        Args:
            mono_ns: Now, monotonic.
            gone: Nothing at all comes from the gateway.
        """
        if self.done or mono_ns < self._due_ns:
            return None
        self._excuse(mono_ns, gone=gone)
        if mono_ns - self._progress_ns >= self._rules.give_up_ns:
            self._mute(mono_ns)
            self.abandon(UNANSWERED)
            return None
        if self._asked is not None:
            self.counters["timeouts"] += 1
        wait_ns = min(self._rules.timeout_ns << self._attempts, _LONGEST_TIMEOUT_NS)
        self._attempts = min(self._attempts + 1, 16)
        self._due_ns = min(mono_ns + wait_ns, self._progress_ns + self._rules.give_up_ns)
        same = self.cursor.epoch == self.goal.epoch
        count = self.goal.seq - self.cursor.seq if same else _TO_THE_END
        self._asked = Resend(self.cursor.epoch, self.cursor.seq, count)
        self.counters["requests"] += 1
        return self._asked

    def unsent(self, mono_ns: int) -> None:
        """Note that the request did not get away."""
        self.counters["unsent"] += 1
        self._again(mono_ns)

    def expects(self, head: Resent) -> bool:
        """Whether this answers the request that waits for an answer."""
        asked = self._asked
        if asked is None or (head.epoch, head.first_seq) != (asked.epoch, asked.first_seq):
            self.counters["stale_answers"] += 1
            return False
        return True

    def take(self, head: Resent, mono_ns: int, *, empty: bool = False) -> None:
        """Move the cursor to where an expected answer has got.

        Args:
            head: The answer.
            mono_ns: Now, monotonic.
            empty: No frame came with it; that is no progress, so that this has an end.
        """
        self.counters["answers"] += 1
        self._asked = None
        self._mute_ns = 0
        progress_ns = self._progress_ns if empty else mono_ns
        self._start_clock(mono_ns)
        self._progress_ns = progress_ns
        epoch, seq = self.cursor
        if epoch == self.goal.epoch:
            forward = seq < head.next_seq
            self.cursor = Place(epoch, head.next_seq) if forward else self.goal
        elif head.next_seq >= head.end_seq or head.next_seq <= seq:
            self._leave(epoch, head)
        else:
            self.cursor = Place(epoch, head.next_seq)

    def refuse(self, mono_ns: int) -> None:
        """Note an answer that was no good: the same is asked again."""
        self.counters["bad_answers"] += 1
        self._again(mono_ns)

    def on_error(self, reason: str, mono_ns: int) -> None:
        """Take the gateway's refusal."""
        if self._asked is None:
            return
        self.counters[f"refused_{reason}"] += 1
        if reason == UNSUPPORTED:
            self._unsupported = True
            self.abandon(UNSUPPORTED)
        else:
            self._again(mono_ns)

    def on_welcome(self, mono_ns: int) -> None:
        """Ask again at once, whatever was before: there is a gateway, maybe another one."""
        if not self.done:
            self._asked = None
            self._start_clock(mono_ns)
        self._unsupported = False
        self._mute_until_ns = self._mute_ns = 0
        self._muted_at_ns = -1

    def on_head(self, place: Place | None, head: Place, mono_ns: int) -> None:
        """Learn how far the gateway's stream has got; gives up where this one falls behind.

        Args:
            place: What the stream waits for; None: nothing is missing.
            head: The gateway's next number.
            mono_ns: Now, monotonic.
        """
        if place is None or place.epoch != head.epoch or mono_ns < self._mute_until_ns:
            self._headway.forget()
        elif self._headway.look(head.seq - place.seq, mono_ns):
            self._mute_until_ns = mono_ns + self._rules.behind_ns
            self._muted_why = BEHIND
            if not self.done:
                self.abandon(BEHIND)

    def abandon(self, why: str) -> None:
        """Stop asking: what is missing before the goal is missing for this reason."""
        self.counters[f"given_up_{why}"] += 1
        self.why = why
        self._asked = None
        if self.cursor.epoch != self.goal.epoch:
            self.ended.append(Ended(self.cursor.epoch, None))
        self.cursor = self.goal
        self._due_ns = _NEVER

    def covers(self, place: Place) -> bool:
        """Whether what is missing before a place is gone for good."""
        if place.epoch == self.cursor.epoch:
            return place.seq <= self.cursor.seq
        return any(place.epoch == ended.epoch for ended in self.ended)

    def missing_from(self, place: Place, until: int) -> int | None:
        """Return how many records are missing from a place on before an epoch, none of which came.

        Returns:
            Their number, as far as it was told on the way; None if nobody knows.
        """
        ends = {one.epoch: one.end_seq for one in self.ended if place.epoch <= one.epoch < until}
        end_seq = ends.pop(place.epoch, None)
        if end_seq is None or end_seq < place.seq or any(end != 1 for end in ends.values()):
            return None
        return end_seq - place.seq

    def _start_clock(self, mono_ns: int) -> None:
        self._progress_ns = self._due_ns = self._seen_ns = mono_ns
        self._attempts = 0

    def _excuse(self, mono_ns: int, *, gone: bool) -> None:
        """Let the time since the last look not count against a gateway that is gone."""
        passed_ns, self._seen_ns = mono_ns - self._seen_ns, mono_ns
        if gone and self._excused_ns < self._rules.gone_ns:
            self._excused_ns += passed_ns
            self._progress_ns += passed_ns

    def _again(self, mono_ns: int) -> None:
        self._asked = None
        self._due_ns = mono_ns + BUSY_NS

    def _leave(self, epoch: int, head: Resent) -> None:
        self.ended.append(Ended(epoch, None if head.torn else head.end_seq or None))
        known = epoch < head.next_epoch <= self.goal.epoch
        if known and len(self.ended) >= _MAX_EPOCHS:
            self.ended.append(Ended(head.next_epoch, None))
            known = False
        self.cursor = Place(head.next_epoch if known else self.goal.epoch, 1)

    def _mute(self, mono_ns: int) -> None:
        """Do not hold the stream up again at once for a gateway that does not answer."""
        self._mute_ns = min(max(2 * self._mute_ns, self._rules.give_up_ns), _LONGEST_MUTE_NS)
        self._mute_until_ns = mono_ns + self._mute_ns
        self._muted_at_ns = mono_ns
        self._muted_why = UNASKED
