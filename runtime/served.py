"""What is kept of a model that is served: its forms, its requests, its ladder."""

from collections import Counter
from enum import IntEnum
from typing import Any, Final, NamedTuple

from engine.core.models import LoadedModel
from runtime.asking import Answer
from runtime.bundle import Bundle
from runtime.config import MAX_MODELS, ModelConfig
from runtime.lane import Lane
from runtime.latency_model import LatencyModel
from runtime.parity import ParityReport
from runtime.parity_file import ParityVectors
from runtime.placement import Ladder, LadderPolicy
from runtime.prepared import fallback_of
from runtime.request_queue import Request
from runtime.scoring import Scorer, make_scorer
from runtime.watch import PrecisionWatch

MAX_RUNGS: Final = 8
"""Entries of a placement."""
PROBE_ROWS: Final = 4
"""Parity vectors kept of each form, to probe its device with."""


class Role(IntEnum):
    """What a request is for."""

    SERVE = 0
    SHADOW = 1
    REFERENCE = 2
    PROBE = 3
    """Asks the form that serves, or would, whether its device works."""


def key_of(role: Role, model: int, rung: int = 0) -> int:
    """Return under which key a lane knows a form: all a model's rungs may be on one lane."""
    return (int(role) * MAX_MODELS + model) * MAX_RUNGS + rung


class Learnt(NamedTuple):
    """What was found out about a form before any request saw it."""

    latency: LatencyModel
    parity: ParityReport
    vectors: ParityVectors


class Place(NamedTuple):
    """What a form is loaded for."""

    model: int
    config: ModelConfig
    role: Role
    rung: str
    """Entry of the placement, or a device."""
    number: int = 0
    """Of the rung, the preferred is 0."""

    @property
    def key(self) -> int:
        """What its lane knows it by."""
        return key_of(self.role, self.model, self.number)

    @property
    def name(self) -> str:
        """What people call it on its lane: ``tcn``, ``tcn/openvino``, ``tcn/shadow``."""
        backend, _, device = self.rung.rpartition("@")
        if self.role is not Role.SERVE:
            return f"{self.config.name}/{self.role.name.lower()}"
        return f"{self.config.name}/{backend}" if device and backend else self.config.name


class Probes:
    """Probes under way with one key of one lane; a form that takes another's place goes on with it.

    Attributes:
        count: How many.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Form:
    """One form of a bundle, loaded on one lane, its parity passed. The loop thread owns it.

    Attributes:
        model: Index of the model.
        key: What its lane knows it by.
        name: What people call it there.
        rung: Entry of the placement that it stands for, "" if none.
        bundle: Where it comes from.
        lane: Its device's.
        loaded: What runs it.
        latency: What was learnt of it before traffic.
        parity: How far it is off the reference.
        slo_ns: How long its requests are usually given.
        vectors: Windows to probe it with, and the answers expected.
        scorer: Makes its scores.
        watch: How it does beside the reference; None if it is the reference.
        cache_key: What the cache knows it by.
        probes: Probes under way.
    """

    __slots__ = (
        "bundle", "cache_key", "key", "lane", "latency", "loaded", "model", "name", "parity",
        "probes", "rung", "scorer", "slo_ns", "vectors", "watch",
    )  # fmt: skip

    def __init__(
        self,
        place: Place,
        bundle: Bundle,
        lane: Lane,
        loaded: LoadedModel,
        learnt: Learnt,
        *,
        is_reference: bool,
    ) -> None:
        self.model, self.key, self.rung = place.model, place.key, place.rung
        self.name = place.name
        self.slo_ns = place.config.deadline
        self.bundle = bundle
        self.lane = lane
        self.loaded = loaded
        self.latency, self.parity, vectors = learnt
        self.vectors = ParityVectors(
            vectors.inputs[:PROBE_ROWS].copy(), vectors.outputs[:PROBE_ROWS].copy()
        )
        self.scorer: Scorer = make_scorer(place.config.name, bundle, loaded)
        tolerance = bundle.tolerance(loaded.precision)
        self.watch = None if is_reference else PrecisionWatch(tolerance)
        self.cache_key: object = None
        self.probes = Probes()

    def told(self) -> dict[str, Any]:
        """Return what it is, for status and people."""
        loaded = self.loaded
        return {
            "bundle": self.bundle.identity,
            "backend": loaded.backend,
            "device": loaded.device,
            "precision": loaded.precision.value,
            "memory_bytes": loaded.memory_bytes,
            "parity_max_abs": self.parity.max_abs,
            "fallback": fallback_of(loaded),
        }


class ModelRequest(Request):
    """A request of a model, and where its answer goes.

    Attributes:
        form: What it was given to; once its batch is gathered, what the batch is run on.
        role: What it is for.
        answers: Where the one who asks still waits for the answer; None once it went on.
        place: In ``answers``; PROBE: which of the form's vectors, counted round.
        is_number: Whether all of its window was finite.
        served: SHADOW and REFERENCE: what was served.
        served_by: SHADOW and REFERENCE: the form that served it.
    """

    __slots__ = ("answers", "form", "is_number", "place", "role", "served", "served_by")

    def __init__(
        self,
        form: Form,
        deadline_ns: int,
        now_ns: int,
        priority: int,
        context: object,
        role: Role = Role.SERVE,
    ) -> None:
        self.model = form.key
        self.deadline_ns = deadline_ns
        self.submitted_ns = now_ns
        self.priority = priority
        self.context = context
        self.form = form
        self.role = role
        self.answers: list[Answer | None] | None = None
        self.place = 0
        self.is_number = True
        self.served: tuple[float, ...] = ()
        self.served_by: Form | None = None


class ServedModel:
    """One configured model: which bundle it is, where it is loaded, and what it answered.

    Attributes:
        index: In the configuration.
        config: As configured.
        name: What strategies call it.
        bundle: Which it is now.
        ladder: Which device serves.
        forms: Loaded forms by entry of the placement.
        loading: Entries of the placement that are being loaded since the start.
        current: The one that serves; None if none is left.
        scores: Scores given.
        failures: Requests without a score, by reason.
        swaps: Times another bundle took over.
        swapping: A swap is under way.
    """

    def __init__(
        self, index: int, config: ModelConfig, bundle: Bundle, policy: LadderPolicy
    ) -> None:
        self.index = index
        self.config = config
        self.name = config.name
        self.bundle = bundle
        self.ladder = Ladder(tuple(dict.fromkeys(config.placement)), policy)
        self.forms: dict[str, Form] = {}
        self.loading: set[str] = set()
        self.current: Form | None = None
        self.scores = 0
        self.failures: Counter[str] = Counter()
        self.swaps = 0
        self.swapping = False

    def place(self, rung: str) -> Place:
        """Return what a form on a rung is loaded for."""
        return Place(self.index, self.config, Role.SERVE, rung, self.ladder.rungs.index(rung))

    def settle(self) -> None:
        """Let the form on the ladder's device serve."""
        self.current = self.forms.get(self.ladder.current)

    def told(self, now_ns: int) -> dict[str, Any]:
        """Return how it is, for status and people."""
        current = self.current
        return {
            "bundle": self.bundle.identity,
            "device": "" if current is None else current.loaded.device,
            "backend": "" if current is None else current.loaded.backend,
            "precision": "" if current is None else current.loaded.precision.value,
            "rungs": [self._told_rung(rung) for rung in self.ladder.told(now_ns)],
            "scores": self.scores,
            "failures": dict(self.failures),
            "transitions": self.ladder.transitions,
            "swaps": self.swaps,
        }

    def _told_rung(self, rung: dict[str, Any]) -> dict[str, Any]:
        form = self.forms.get(rung["rung"])
        if rung["rung"] in self.loading:
            rung = rung | {"detail": "still loading"}
        return rung if form is None else rung | form.told()
