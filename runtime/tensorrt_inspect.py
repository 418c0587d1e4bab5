"""Where an engine's layers really run, read from what TensorRT's inspector says of it.

A layer that a DLA cannot take falls back to the GPU without a word. The inspector names every layer
of a finished engine; those of a DLA have the type ``DLA``, and copies and reformats at its border
are no computation.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_COPIES: Final = ("reformat", "copy", "noop", "nvm", "signal", "wait", "constant")


class LayerPlaces(NamedTuple):
    """Names of an engine's layers by where they run."""

    dla: tuple[str, ...]
    gpu: tuple[str, ...]
    """Layers that compute on the GPU."""
    copies: tuple[str, ...]
    """What only moves or converts data."""

    @property
    def report(self) -> str:
        """One line about what fell back, "" if nothing did."""
        if not self.gpu:
            return ""
        names = ", ".join(self.gpu[:8]) + (", …" if len(self.gpu) > 8 else "")
        return f"{len(self.gpu)} of {len(self.gpu) + len(self.dla)} layers on the GPU: {names}"


def read_layers(information: str) -> LayerPlaces:
    """Sort the layers of ``get_engine_information(JSON)``; anything else has none.

    A layer that is only a name, which engines built without details have, counts as the GPU's:
    nothing shows that it is on a DLA.
    """
    try:
        found = json.loads(information)
    except ValueError:
        found = {}
    layers = found.get("Layers", []) if isinstance(found, dict) else []
    places: dict[str, list[str]] = {"dla": [], "gpu": [], "copies": []}
    for layer in layers if isinstance(layers, list) else []:
        name, kind = _name_and_kind(layer)
        places[_place(name, kind)].append(name)
    return LayerPlaces(*(tuple(names) for names in places.values()))


def _name_and_kind(layer: object) -> tuple[str, str]:
    if isinstance(layer, Mapping):
        facts: Mapping[str, Any] = layer
        return str(facts.get("Name", "?")), str(facts.get("LayerType", ""))
    return str(layer), ""


def _place(name: str, kind: str) -> str:
    if "dla" in kind.lower():
        return "dla"
    said = f"{kind} {name}".lower()
    return "copies" if any(word in said for word in _COPIES) else "gpu"
