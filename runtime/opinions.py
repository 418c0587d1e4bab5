"""Second answers to requests already served: a candidate's, and now and then the reference's.

They are asked after the served answer has gone out, in a later turn of the loop, with a deadline
far behind everybody else's; so they never stand in front of a request that trades.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from engine.core.models import Floats
from runtime.asking import ModelEvent, OnEvent
from runtime.config import ModelConfig
from runtime.served import Form, ModelRequest, Role, ServedModel
from runtime.shadow import Comparison, greatest_difference
from runtime.watch import DriftVerdict, Sampler

MAX_WAITING: Final = 1024
"""Second answers not asked for yet, all models together; more are left out."""
PER_TURN: Final = 16
"""Second answers asked for in one turn of the loop."""
PATIENCE_NS: Final = 10**9
"""How long one may take."""

OnDrift = Callable[[Form, str], None]
"""Takes a form that is too often too far off the reference, and what was seen."""


class Opinions:
    """The candidate and the reference of one model, and how the served answers compare.

    Attributes:
        shadow: The candidate; None if there is none.
        reference: The reference form beside a form that is not; None if not needed.
        comparison: The candidate's answers beside the served ones.
        unchecked: Checks that the reference did not answer, or not with an answer to compare.
    """

    def __init__(self, config: ModelConfig, index: int) -> None:
        self.shadow: Form | None = None
        self.reference: Form | None = None
        self.comparison = Comparison()
        self.unchecked = 0
        self._sampler = Sampler(config.check_share, seed=index)

    def set_shadow(self, form: Form | None) -> None:
        """Compare with another candidate from now on; the comparison begins anew."""
        self.shadow = form
        self.begin_anew()

    def begin_anew(self) -> None:
        """Compare from the beginning, with the answers of what serves now."""
        self.comparison = Comparison()

    def checks_next(self) -> bool:
        """Return whether the next answer is to be checked."""
        return self.reference is not None and self._sampler.chooses()

    def told(self, form: Form | None) -> dict[str, Any]:
        """Return it for status and people; ``form`` is the one that serves."""
        shadow, watch = self.shadow, None if form is None else form.watch
        return {
            "shadow": None if shadow is None else shadow.told() | self.comparison.told(),
            "watch": None
            if watch is None or self.reference is None
            else watch.told() | {"unchecked": self.unchecked},
        }


class SecondAnswers:
    """Asks for second answers and reads them. The loop thread owns it.

    Args:
        models: All models.
        opinions: Theirs, in the same order.
        clock: Monotonic, nanoseconds.
        on_event: Hears of drift.
        on_drift: Hears of forms to be given up.

    Attributes:
        left_out: Second answers not asked for because too many waited.
    """

    def __init__(
        self,
        models: list[ServedModel],
        opinions: list[Opinions],
        clock: Callable[[], int],
        on_event: OnEvent,
        on_drift: OnDrift,
    ) -> None:
        self.left_out = 0
        self._models = models
        self._opinions = opinions
        self._clock = clock
        self._on_event = on_event
        self._on_drift = on_drift
        self._waiting: deque[ModelRequest] = deque()
        self._scheduled = False

    def follow(self, request: ModelRequest, form: Form, values: tuple[float, ...]) -> None:
        """Ask for what else there is to say to a request that was served."""
        opinions = self._opinions[form.model]
        if opinions.shadow is not None:
            self._queue(Role.SHADOW, request, form, values)
        if form.watch is not None and opinions.checks_next():
            self._queue(Role.REFERENCE, request, form, values)

    def take(self, request: ModelRequest, row: Floats | None) -> None:
        """Read a second answer; None if there is none."""
        form = request.served_by
        if form is None:
            return
        opinions = self._opinions[form.model]
        values = None if row is None else row.tolist()
        if request.role is Role.SHADOW:
            self._compare(form, request, values)
        elif values is None or not _is_yardstick(request.form, form, values):
            opinions.unchecked += 1
        else:
            self._check(form, greatest_difference(request.served, values))

    def _compare(self, form: Form, request: ModelRequest, values: list[float] | None) -> None:
        opinions = self._opinions[form.model]
        served_now = self._models[form.model].bundle
        if request.form is not opinions.shadow or form.bundle is not served_now:
            return
        if values is None:
            opinions.comparison.miss()
        else:
            opinions.comparison.note(request.served, values)

    def _check(self, form: Form, difference: float) -> None:
        watch = form.watch
        if watch is None:
            return
        verdict = watch.note(difference)
        if verdict is DriftVerdict.NONE:
            return
        model = self._models[form.model]
        seen = f"an output {difference:.3g} off the reference, {watch.tolerance:g} allowed"
        fields = form.told() | {"verdict": verdict.value, "detail": seen} | watch.told()
        self._on_event(ModelEvent("model_drift", model.name, fields))
        if verdict is DriftVerdict.DEMOTE:
            self._on_drift(form, seen)

    def _queue(
        self, role: Role, request: ModelRequest, form: Form, values: tuple[float, ...]
    ) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self.left_out += 1
            return
        opinions = self._opinions[form.model]
        asked = opinions.shadow if role is Role.SHADOW else opinions.reference
        if asked is None:
            return
        now_ns = self._clock()
        second = ModelRequest(asked, now_ns + PATIENCE_NS, now_ns, 0, request.context, role)
        second.served, second.served_by = values, form
        self._waiting.append(second)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        """Ask for some of them; the rest in a later turn, so that the loop is not held up."""
        lanes = {}
        for _ in range(min(PER_TURN, len(self._waiting))):
            request = self._waiting.popleft()
            lane = request.form.lane
            if lane.submit(request) is not None:
                self.take(request, None)
            else:
                lanes[lane.device] = lane
        for lane in lanes.values():
            lane.pump()
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._ask)


def _is_yardstick(reference: Form, form: Form, values: list[float]) -> bool:
    """Return whether a form may be judged by an answer: of its own bundle, and no nonsense."""
    return reference.bundle is form.bundle and not reference.scorer.problem(values)
