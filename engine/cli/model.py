"""``heqis model``: check bundles, list those of a configuration or engine, build further forms."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engine.cli.common import AsJson, ConfigFiles, print_json
from engine.cli.model_live import add_commands
from engine.cli.reach import CaFile, Token, access_of
from engine.core.errors import CheckFailedError, ConfigError, HeqisError
from engine.core.models import Precision
from engine.core.suggest import known_names

if TYPE_CHECKING:
    from engine.access import Access
    from engine.config import Config
    from runtime.bundle import Bundle
    from runtime.config import ModelConfig

_HELP: Final = """Model bundles: check, list, build forms for devices, swap in a running engine.

Example: heqis model check models/demo-tcn -c configs/demo.toml
"""
BundlePath = Annotated[Path, typer.Argument(help="The bundle: a directory with a manifest.json.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help=_HELP, no_args_is_help=True)
    group.command(name="check")(check)
    group.command(name="list")(list_models)
    group.command(name="build")(build)
    add_commands(group)
    app.add_typer(group, name="model")


def check(
    bundle: BundlePath,
    config: ConfigFiles = None,
    model: Annotated[
        str | None,
        typer.Option(help="Check it as this model of the configuration.", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Verify a bundle, and run its parity vectors on all that this machine can run.

    Verifies the manifest, the hash of every file, shapes and opset; with -c also clock and
    features against the configuration. Then runs the parity vectors through every form, on every
    device of every backend that reads it. Exit status 2 if the bundle cannot be used, 1 if a form
    is off by more than the manifest's tolerance, fails, or none could be run.

    Example: heqis model check models/demo-tcn -c configs/demo.toml
    """
    from engine.cli.model_text import print_check
    from runtime.bundle import Bundle
    from runtime.bundle_check import check_forms, unnamed_files
    from runtime.catalog import every_backend

    opened = Bundle.open(bundle)
    fits = _fits(opened, config, model)
    results = list(check_forms(opened, every_backend()))
    facts = {
        **_bundle_facts(opened),
        "fits": fits,
        "unverified": unnamed_files(opened),
        "forms": [_form_facts(result) for result in results],
    }
    print_json(facts) if json else print_check(facts)
    failed = [result for result in results if result.verdict == "failed"]
    if failed:
        raise CheckFailedError(f"{bundle}: {len(failed)} of {len(results)} checks failed")
    if not any(result.verdict == "passed" for result in results):
        raise CheckFailedError(f"{bundle}: no form of it can be run here, so nothing was compared")


def list_models(
    config: ConfigFiles = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="List those of the engine that listens there, as ws://127.0.0.1:8765.",
            show_default=False,
        ),
    ] = None,
    json: AsJson = False,
    token: Token = None,
    ca: CaFile = None,
) -> None:
    """List the models of a configuration: bundle, features, forms, where each may run.

    A bundle that cannot be used is listed with the reason. With --url: the models of a running
    engine, what serves each on which device, how fast, and how its candidate and precision do.

    Example: heqis model list -c configs/demo.toml
    """
    from engine.cli.model_text import print_models, print_served

    if url is not None:
        served = _served(url, access_of(token, ca))
        print_json(served) if json else print_served(served)
        return
    models = [_model_facts(entry, loaded) for loaded in [_load(config)] for entry in loaded.models]
    print_json({"models": models}) if json else print_models(models)


def build(
    bundle: BundlePath,
    target: Annotated[str, typer.Option(help="What to build for; a wrong one lists them.")],
    precision: Annotated[Precision, typer.Option(help="What the form computes in.")] = (
        Precision.FP32
    ),
    batch: Annotated[
        str, typer.Option(help="Batch sizes of forms with a fixed batch, with commas.")
    ] = "1",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Put a bundle with the form there; else add it."),
    ] = None,
    tool: Annotated[
        Path | None,
        typer.Option(help="The converter's program, or the Python it is installed for."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Windows for INT8 (.npz); the bundle's own set, or parity vectors, else."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Build a form for another device from a bundle's reference form, and prove it.

    What was built runs the parity vectors wherever this machine can run it, and goes into the
    bundle only if it passes; the bundle has another identity then.

    Example: heqis model build models/demo-tcn --target openvino -o var/demo-openvino
    """
    from engine.cli.model_text import print_build
    from runtime.builders.options import BuildOptions
    from runtime.bundle import Bundle
    from runtime.bundle_build import build_forms, find_builder
    from runtime.catalog import every_backend

    options = BuildOptions(target, precision, read_batches(batch), tool, calibration)
    builder = find_builder(target)
    opened = Bundle.open(bundle)
    grown, results = build_forms(opened, output, options, builder, every_backend())
    facts = {
        **_bundle_facts(grown),
        "target": target,
        "built": [_form_facts(result) for result in results],
    }
    print_json(facts) if json else print_build(facts)


def read_batches(text: str) -> tuple[int, ...]:
    """Read batch sizes as in ``1,8,32``.

    Raises:
        ConfigError: one is no number from 1 to the largest batch.
    """
    from runtime.config import MAX_BATCH

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part[:9]) <= MAX_BATCH for part in parts):
        expected = f"give numbers from 1 to {MAX_BATCH} with commas, as in 1,8,32"
        raise ConfigError("heqis model build", "--batch", text, expected)
    return tuple(sorted({int(part) for part in parts}))


def _served(url: str, access: "Access") -> dict[str, Any]:
    import asyncio

    from engine.operating import read_status

    served: dict[str, Any] = asyncio.run(read_status(url, access)).get("models", {})
    return served


def _load(files: list[Path] | None) -> "Config":
    from engine.config import load_config

    return load_config([Path(file) for file in files or ()])


def _fits(bundle: "Bundle", files: list[Path] | None, name: str | None) -> list[str]:
    """Return the configured models that the bundle fits; one that it does not fit raises."""
    from engine.model_setup import open_models
    from strategies.registry import load_registry

    if not files:
        if name is not None:
            expected = "--model names a model of a configuration; give that with -c"
            raise ConfigError("heqis model check", "--model", name, expected)
        return []
    config = _load(files)
    entries = [entry for entry in config.models if _is_meant(entry, bundle, name)]
    if not entries:
        known = known_names("models", (entry.name for entry in config.models), name or "")
        expected = f"no model of the configuration has it; give --model NAME; {known}"
        source = ", ".join(map(str, files))
        raise ConfigError(source, "models", name or str(bundle.path), expected)
    meant = [entry.model_copy(update={"bundle": bundle.path}) for entry in entries]
    open_models(meant, config.bars, load_registry(config.plugins))
    return [entry.name for entry in entries]


def _is_meant(entry: "ModelConfig", bundle: "Bundle", name: str | None) -> bool:
    if name is not None:
        return entry.name == name
    return entry.bundle.resolve() == bundle.path.resolve()


def _bundle_facts(bundle: "Bundle") -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "identity": bundle.identity,
        "window": manifest.window,
        "features": [feature.name for feature in manifest.features],
        "clock": str(manifest.clock),
        "labels": list(manifest.output.labels),
        "horizon": manifest.horizon,
        "files": len(manifest.forms) + len(manifest.files),
    }


def _form_facts(result: Any) -> dict[str, Any]:
    report = result.report
    return {
        "file": result.file.path.name,
        "format": result.file.format,
        "precision": str(result.file.precision),
        "batch": result.file.batch,
        "backend": result.backend,
        "device": result.device,
        "verdict": result.verdict,
        "why": result.problem or result.skipped,
        "fallback": result.fallback,
        **({} if report is None else report._asdict()),
    }


def _model_facts(entry: "ModelConfig", config: "Config") -> dict[str, Any]:
    from engine.model_setup import open_models
    from strategies.registry import load_registry

    facts: dict[str, Any] = {
        "name": entry.name,
        "on": entry.on,
        "placement": list(entry.placement),
        "asked_by": _askers(entry.name, config),
        "problem": "",
    }
    try:
        bundle = open_models([entry], config.bars, load_registry(config.plugins))[0].bundle
    except HeqisError as error:
        return {**facts, "bundle": str(entry.bundle), "problem": str(error)}
    forms = [f"{form.format} {form.precision}" for form in bundle.manifest.forms]
    return {**facts, **_bundle_facts(bundle), "forms": forms}


def _askers(model: str, config: "Config") -> list[str]:
    entries = config.active_strategies
    return [entry.name for entry in entries if model in (entry.model, entry.confirm)]
