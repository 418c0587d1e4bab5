"""Another bundle in a model's place, or beside it, while requests go on.

Everything is loaded, timed and compared with its reference before anything changes; then all
changes in one turn of the loop. What waits is answered by the new bundle, what is being computed
by the old one.
"""

import asyncio
from pathlib import Path
from typing import Any

from engine.core.errors import BundleError, DeviceError
from runtime.asking import ModelEvent, OnEvent
from runtime.bundle import Bundle, check_replaces
from runtime.placement import Standing
from runtime.placer import Placer
from runtime.served import Form, Place, Role, ServedModel

_Problems = dict[str, BundleError | DeviceError]


async def open_fitting(model: ServedModel, path: Path) -> Bundle:
    """Open a bundle that could take a model's place; off the loop, for it is read and hashed.

    Raises:
        BundleError: it cannot be used, or wants other inputs or gives other outputs.
    """
    bundle = await asyncio.to_thread(Bundle.open, path)
    check_replaces(bundle, model.bundle.manifest)
    return bundle


async def swap(placer: Placer, model: ServedModel, path: Path, on_event: OnEvent) -> dict[str, Any]:
    """Let another bundle serve a model once it has passed parity wherever it has to.

    Returns:
        What changed: bundles before and after, and the forms by rung.

    Raises:
        BundleError: the bundle cannot be used or does not fit; the old one goes on serving.
        DeviceError: no device took it, or not the one that serves; the old one goes on serving.
    """
    bundle = await open_fitting(model, path)
    before = model.bundle.identity
    forms: dict[str, Form] = {}
    reference = None
    try:
        problems = await _load_all(placer, model, bundle, forms)
        if any(form.watch is not None for form in forms.values()):
            reference = await placer.load_reference(model, bundle)
        _leave_out_evicted(placer, forms, problems)
        _check_enough(model, bundle, forms, problems)
        _take_over(placer, model, bundle, forms, problems)
        placer.set_reference(model, reference)
    finally:
        _release(placer, model, [*forms.values(), reference])
    fields = {
        "before": before,
        "after": bundle.identity,
        "forms": {rung: form.told() for rung, form in forms.items()},
        "left_out": {rung: str(problem) for rung, problem in problems.items()},
    }
    on_event(ModelEvent("model_swap", model.name, fields))
    return fields


async def shadow(
    placer: Placer, model: ServedModel, path: Path | None, on_event: OnEvent
) -> dict[str, Any]:
    """Let a candidate answer beside a model, or nobody any more.

    Returns:
        The candidate, and how the one before it compared.

    Raises:
        BundleError: the bundle cannot be used or does not fit.
        DeviceError: no device took it.
    """
    opinions = placer.opinions[model.index]
    form = None
    if path is not None:
        form = await _load_shadow(placer, model, await open_fitting(model, path))
    told_before = opinions.told(model.current)["shadow"]
    placer.set_shadow(model, form)
    fields = {"before": told_before, "after": None if form is None else form.told()}
    on_event(ModelEvent("model_shadow", model.name, fields))
    return fields


async def _load_all(
    placer: Placer, model: ServedModel, bundle: Bundle, forms: dict[str, Form]
) -> _Problems:
    """Load a form for every rung that takes one."""
    problems: _Problems = {}
    for rung in model.ladder.rungs:
        try:
            # Only the one that serves is worth the memory of others.
            evict = rung == model.ladder.current
            forms[rung] = await placer.loader.load(model.place(rung), bundle, evict=evict)
        except (BundleError, DeviceError) as error:
            problems[rung] = error
    return problems


def _leave_out_evicted(placer: Placer, forms: dict[str, Form], problems: _Problems) -> None:
    """Leave out what had to go again while the others were loaded: it is closed."""
    for rung, form in list(forms.items()):
        if form.cache_key not in placer.loader.cache:
            problems[rung] = DeviceError(f"{form.lane.device}: others needed the memory")
            del forms[rung]


def _release(placer: Placer, model: ServedModel, loaded: list[Form | None]) -> None:
    """Give back what was loaded and got no place."""
    placed = [*model.forms.values(), placer.opinions[model.index].reference]
    for form in loaded:
        if form is not None and form not in placed:
            placer.loader.unload(form)


def _check_enough(
    model: ServedModel, bundle: Bundle, forms: dict[str, Form], problems: _Problems
) -> None:
    serving = model.ladder.current
    if not forms or (serving and serving not in forms):
        reasons = "; ".join(f"{rung}: {text}" for rung, text in problems.items())
        raise DeviceError(f"{bundle.identity} takes nobody's place: {reasons}")


def _take_over(
    placer: Placer,
    model: ServedModel,
    bundle: Bundle,
    forms: dict[str, Form],
    problems: _Problems,
) -> None:
    model.bundle = bundle
    placer.opinions[model.index].begin_anew()
    model.swaps += 1
    for rung, form in forms.items():
        placer.add(model, form)
        if model.ladder.standing(rung) is Standing.ABSENT:
            placer.start_rung(model, form)
    for rung, problem in problems.items():
        placer.miss_rung(model, rung, problem)
        old = model.forms.get(rung)
        if old is not None:
            placer.remove(model, old)
            placer.loader.unload(old)


async def _load_shadow(placer: Placer, model: ServedModel, bundle: Bundle) -> Form:
    problems = []
    for rung in model.ladder.rungs:
        place = Place(model.index, model.config, Role.SHADOW, rung)
        try:
            return await placer.loader.load(place, bundle, evict=False)
        except (BundleError, DeviceError) as error:
            problems.append(f"{rung}: {error}")
    raise DeviceError(f"{bundle.identity} cannot answer beside: {'; '.join(problems)}")
