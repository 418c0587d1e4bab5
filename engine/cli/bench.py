"""``heqis bench``: how fast models are on what this machine has."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engine.cli.common import AsJson, print_json
from engine.core.errors import CheckFailedError, ConfigError

if TYPE_CHECKING:
    from engine.core.models import Backend
    from runtime.bundle import Bundle
    from runtime.measuring import FormTimes

_HELP: Final = """Measure this machine.

Example: heqis bench runtime --device cpu
"""
_DEMO: Final = Path(__file__).resolve().parents[2] / "models" / "demo-tcn"


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)
    group.callback()(_group)
    group.command(name="runtime")(runtime)
    app.add_typer(group, name="bench")


def _group() -> None:
    """Measure this machine."""


def runtime(
    bundle: Annotated[
        Path, typer.Argument(help="The bundle.", show_default="the demo model's")
    ] = _DEMO,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            "-d",
            help="Only this device, or backend@device; give it again for more.",
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, max=1024, help="Largest batch of forms that take any.")
    ] = 64,
    seconds: Annotated[
        float, typer.Option(min=0.001, max=60, help="About how long each batch size is measured.")
    ] = 0.3,
    json: AsJson = False,
) -> None:
    """Measure every form of a bundle on every device here that runs it.

    Loading, warm-up, the time of single calls at every batch size, one request at a time through
    the batcher, and the batcher's throughput with requests always waiting. Beside each stands the
    bare call: on a GPU the replay of its CUDA graph. Exit status 1 if nothing could be measured.

    Example: heqis bench runtime models/demo-tcn --device gpu --json
    """
    from engine.cli.bench_text import print_runtime
    from runtime.bundle import Bundle
    from runtime.catalog import every_backend
    from runtime.measuring import devices_of, measure_forms

    opened = Bundle.open(bundle)
    places = _chosen(devices_of(opened, every_backend()), device)
    results = list(measure_forms(opened, places, max_batch, seconds))
    facts = _facts(opened, results, max_batch, seconds)
    print_json(facts) if json else print_runtime(facts)
    if not any(not one.problem for one in results):
        raise CheckFailedError(f"{bundle}: nothing here could be measured")


def _chosen(
    places: list[tuple["Backend", str]], wanted: list[str] | None
) -> list[tuple["Backend", str]]:
    """Return the places that were asked for.

    Raises:
        ConfigError: one that was asked for is not here.
    """
    if not wanted:
        return places
    names = [{device, f"{backend.name}@{device}"} for backend, device in places]
    for one in wanted:
        if not any(one in each for each in names):
            here = ", ".join(f"{backend.name}@{device}" for backend, device in places)
            expected = f"devices here that read the bundle are: {here or 'none'}"
            raise ConfigError("heqis bench runtime", "--device", one, expected)
    return [place for place, each in zip(places, names, strict=True) if not each.isdisjoint(wanted)]


def _facts(
    bundle: "Bundle", results: list["FormTimes"], max_batch: int, seconds: float
) -> dict[str, Any]:
    import os
    import platform

    shape = bundle.shape
    return {
        "bundle": str(bundle.path),
        "identity": bundle.identity,
        "window": shape.window,
        "features": shape.features,
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "max_batch": max_batch,
        "seconds": seconds,
        "results": [asdict(one) for one in results],
    }
