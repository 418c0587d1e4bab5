"""All lanes: one a device, made when the first form is put on it, and what stands on each."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from engine.core.models import Failure, Floats
from latency.histogram import StageHistograms
from runtime.asking import Gather
from runtime.config import InferenceConfig
from runtime.direct import finite_rows
from runtime.executors import DeviceThread
from runtime.faults import Fault, FaultSwitch, FaultyModel
from runtime.lane import Lane
from runtime.lane_answers import OnDone, OnRows
from runtime.loading import is_host
from runtime.planner import Planner
from runtime.request_queue import Request
from runtime.row_checks import finite_check
from runtime.served import Form, ModelRequest, Role


class Lanes:
    """The lanes, the forms on them and the devices' fault switches. The loop thread owns it.

    Args:
        config: What all models share.
        gather: Fills the engine's windows in.
        on_done: Takes answers.
        on_rows: Takes the answers of whole batches.
        on_health: Hears of devices lost and returned.
        clock: Monotonic, nanoseconds.

    Attributes:
        switches: Fault switches by device or ``backend@device``, made when first turned.
    """

    def __init__(
        self,
        config: InferenceConfig,
        gather: Gather,
        on_done: OnDone,
        on_rows: OnRows,
        on_health: Callable[[str, str], None],
        clock: Callable[[], int],
    ) -> None:
        self.switches: dict[str, FaultSwitch] = {}
        self._config = config
        self._gather = gather
        self._on_done = on_done
        self._on_rows = on_rows
        self._on_health = on_health
        self._clock = clock
        self._all_finite = finite_check()
        self._lanes: dict[str, Lane] = {}
        self._forms: dict[tuple[str, int], Form] = {}
        self._share = 1.0

    def of(self, device: str) -> Lane:
        """Return a device's lane, started."""
        lane = self._lanes.get(device)
        if lane is None:
            lane = self._lanes[device] = self._make(device)
            lane.planner.limit(self._share)
            lane.start(asyncio.get_running_loop())
        return lane

    @property
    def fullness(self) -> float:
        """The fullest device's waiting requests, as a part of those that may wait."""
        return max((lane.planner.fullness for lane in self._lanes.values()), default=0.0)

    def limit(self, share: float) -> None:
        """Let no batch be larger than this part of the largest, on every device."""
        self._share = share
        for lane in self._lanes.values():
            lane.planner.limit(share)

    def on(self, device: str) -> list[Form]:
        """Return the forms on a device."""
        return [form for (where, _), form in self._forms.items() if where == device]

    def put(self, form: Form) -> None:
        """Let a form answer from now on, in place of the one of its key, whose queue it gets."""
        loaded = form.loaded
        switch = self.switch_of(loaded.backend, loaded.device)
        form.lane.attach(
            form.key,
            loaded if switch is None else FaultyModel(loaded, switch),
            name=form.name,
            slo_ns=form.slo_ns,
            # Nothing learnt: a broken model never runs on the loop thread before it has proven
            # to be fast, and one that hangs never does.
            latency=form.latency if switch is None else None,
        )
        place = form.lane.device, form.key
        form.probes = self._forms.get(place, form).probes
        self._forms[place] = form

    def take(self, form: Form, failure: Failure) -> None:
        """Let a form answer no more; what still waits for it fails."""
        device, key = form.lane.device, form.key
        if self._forms.get((device, key)) is not form:
            return
        del self._forms[device, key]
        form.lane.drop(key, failure)

    def switch_of(self, backend: str, device: str) -> FaultSwitch | None:
        """Return the turned switch that breaks a backend on a device, None if neither is broken."""
        for name in (device, f"{backend}@{device}"):
            switch = self.switches.get(name)
            if switch is not None and switch.fault is not None:
                return switch
        return None

    def breakable(self) -> set[str]:
        """Return what can be broken: devices, and backends on them, that are or were in use."""
        loaded = [form.loaded for form in self._forms.values()]
        devices = {one.device for one in loaded}
        on_them = {f"{one.backend}@{one.device}" for one in loaded}
        return devices | on_them | set(self.switches)

    def turn(self, name: str, fault: Fault | None) -> int:
        """Break or mend a device, or one backend on it; return how many forms are on it."""
        switch = self.switches.setdefault(name, FaultSwitch())
        switch.turn(fault)
        forms = [form for form in self._forms.values() if name in _names(form)]
        for form in forms:
            self.put(form)
        return len(forms)

    def histograms(self) -> dict[tuple[str, str], StageHistograms]:
        """Return queue and inference times by name of the model and device."""
        return {
            (name, device): histograms
            for device, lane in self._lanes.items()
            for name, histograms in lane.histograms().items()
        }

    def told(self) -> dict[str, Any]:
        """Return what each device did, for status and people."""
        return {device: self._told(lane) for device, lane in self._lanes.items()}

    async def close(self, limit_s: float) -> bool:
        """Answer what waits and end all threads; False if one hangs."""
        for form in list(self._forms.values()):
            self.take(form, Failure.UNAVAILABLE)
        ended = [await lane.close(limit_s) for lane in self._lanes.values()]
        return all(ended)

    def _make(self, device: str) -> Lane:
        config = self._config
        return Lane(
            device,
            DeviceThread(device, timeout_ns=config.timeout, clock=self._clock),
            Planner(config.max_queued, config.max_wait),
            partial(self._fill, device),
            self._on_done,
            self._clock,
            inline_below_ns=config.inline_below if is_host(device) else 0,
            on_health=self._on_health,
            on_rows=self._on_rows,
        )

    def _told(self, lane: Lane) -> dict[str, Any]:
        planner = lane.planner
        names = {lane.device, *(name for form in self.on(lane.device) for name in _names(form))}
        faults = [self.switches[name].fault for name in sorted(names & self.switches.keys())]
        return {
            "lost": lane.lost,
            "fault": next((fault.value for fault in faults if fault is not None), ""),
            "queued": planner.queued,
            "refused_full": planner.refused_full,
            "refused_late": planner.refused_late,
            "hop_ns": int(lane.hop.mean_ns),
            "models": lane.counts(),
        }

    def _fill(self, device: str, key: int, requests: list[Request], out: Floats) -> Sequence[bool]:
        """Fill a batch in, from the engine's windows or, for a probe, from the parity vectors."""
        form = self._forms[device, key]
        for request in requests:
            request.form = form  # type: ignore[attr-defined] # a ModelRequest
        if form.probes.count:
            return self._fill_each(form, requests, out)
        there = self._gather(form.model, [request.context for request in requests], out)
        if self._all_finite(out, len(requests)):
            return there
        return _only_numbers(requests, list(there), out[: len(requests)])

    def _fill_each(self, form: Form, requests: list[Request], out: Floats) -> list[bool]:
        there: list[bool] = []
        for place, request in enumerate(requests):
            row = out[place : place + 1]
            if isinstance(request, ModelRequest) and request.role is Role.PROBE:
                row[0] = form.vectors.inputs[request.place % len(form.vectors.inputs)]
                there.append(True)
            else:
                found = list(self._gather(form.model, [request.context], row))
                there += _only_numbers([request], found, row)
        return there


def _names(form: Form) -> tuple[str, str]:
    """Return what breaks a form: its device, or its backend there."""
    loaded = form.loaded
    return loaded.device, f"{loaded.backend}@{loaded.device}"


def _only_numbers(requests: list[Request], there: list[bool], rows: Floats) -> list[bool]:
    """Leave out windows that are not all numbers: what a model makes of them is no fault of its."""
    for place, (request, finite) in enumerate(zip(requests, finite_rows(rows), strict=True)):
        if there[place] and not finite:
            request.is_number = False  # type: ignore[attr-defined] # a ModelRequest
            there[place] = False
    return there
