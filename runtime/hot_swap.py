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
    forms, problems = await _load_all(placer, model, bundle)
    try:
        _check_enough(model, bundle, forms, problems)
        reference = None
        if any(form.watch is not None for form in forms.values()):
            reference = await placer.load_reference(model, bundle)
    except (BundleError, DeviceError):
        for form in forms.values():
            placer.loader.unload(form)
        raise
    before = model.bundle.identity
    _take_over(placer, model, bundle, forms, problems)
    placer.set_reference(model, reference)
    fields = {
        "before": before,
        "after": bundle.identity,
        "forms": {rung: form.told() for rung, form in forms.items()},
        "left_out": problems,
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
    placer: Placer, model: ServedModel, bundle: Bundle
) -> tuple[dict[str, Form], dict[str, str]]:
    forms: dict[str, Form] = {}
    problems: dict[str, str] = {}
    for rung in model.ladder.rungs:
        try:
            # Only the one that serves is worth the memory of others.
            evict = rung == model.ladder.current
            forms[rung] = await placer.loader.load(model.place(rung), bundle, evict=evict)
        except (BundleError, DeviceError) as error:
            problems[rung] = str(error)
    return forms, problems


def _check_enough(
    model: ServedModel, bundle: Bundle, forms: dict[str, Form], problems: dict[str, str]
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
    problems: dict[str, str],
) -> None:
    model.bundle = bundle
    model.swaps += 1
    for rung, form in forms.items():
        placer.add(model, form)
        if model.ladder.standing(rung) is Standing.ABSENT:
            placer.start_rung(model, form)
    for rung, problem in problems.items():
        old = model.forms.get(rung)
        if old is not None:
            placer.drop_rung(model, rung, problem)
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
