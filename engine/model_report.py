"""What a configuration's models are, and what of their placements this machine has; for people."""

from collections.abc import Sequence
from typing import Any

from engine.composition import Blueprint
from engine.core.errors import BundleError
from engine.model_setup import SetModel, open_bundle
from runtime.bundle import check_replaces
from runtime.catalog import reasons_for_none


def model_facts(blueprint: Blueprint) -> list[dict[str, Any]]:
    """Return what is to be told of every model, as plain fields; opens candidates, too.

    Devices are found by probes that cannot crash the process; the first call may take seconds.

    Raises:
        BundleError: a candidate (``shadow``) that cannot be used, or not beside its model.
    """
    return [_facts(model, blueprint) for model in blueprint.models]


def model_notes(facts: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is allowed of models but hardly meant."""
    notes = []
    for model in facts:
        key, entries = f"models.{model['name']}.placement", model["placement"]
        absent = [one for one in entries if not one["here"]]
        if absent and len(absent) == len(entries):
            names = ", ".join(one["entry"] for one in entries)
            notes.append(f"{key}: no device of it is here ({names}): the engine will not start")
        elif absent:
            names = ", ".join(one["entry"] for one in absent)
            notes.append(f"{key}: not on this machine and passed over: {names}")
        if not model["decides"] and not model["confirms"]:
            notes.append(f"models.{model['name']}: no strategy that is enabled asks it")
    return notes


def _facts(model: SetModel, blueprint: Blueprint) -> dict[str, Any]:
    config, manifest = model.config, model.bundle.manifest
    active = blueprint.config.active_strategies
    return {
        "name": config.name,
        "bundle": str(model.bundle.path),
        "identity": model.bundle.identity,
        "on": config.on,
        "clock": str(manifest.clock),
        "window": manifest.window,
        "features": [feature.name for feature in manifest.features],
        "placement": _placement(model),
        "shadow": _shadow(model),
        "decides": [one.name for one in active if one.model == config.name],
        "confirms": [one.name for one in active if one.confirm == config.name],
    }


def _placement(model: SetModel) -> list[dict[str, Any]]:
    formats = [file.format for file in model.bundle.forms()]
    whys = {entry: reasons_for_none(entry, formats) for entry in model.config.placement}
    return [{"entry": entry, "here": not why, "why": why} for entry, why in whys.items()]


def _shadow(model: SetModel) -> str | None:
    """Return the identity of the bundle that is to score beside it."""
    path, key = model.config.shadow, f"models.{model.config.name}.shadow"
    if path is None:
        return None
    candidate = open_bundle(path, key)
    try:
        check_replaces(candidate, model.bundle.manifest)
    except BundleError as error:
        raise BundleError(error.file, f"{error.problem}; {key} names it") from None
    return candidate.identity
