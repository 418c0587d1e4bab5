"""``heqis model``: what it prints, for people and machines, and its exit statuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bundle_cases import edit_manifest, make_bundle
from tiny_models import make_mlp
from typer.testing import CliRunner, Result

from engine.cli.main import make_app
from engine.cli.model import read_batches
from engine.core.errors import BundleError, CheckFailedError, ConfigError
from engine.core.models import Precision
from runtime.bundle import Bundle, hash_file
from runtime.manifest import Parity

DEMO = Path(__file__).parents[2] / "models" / "demo-tcn"

CONFIG = """
[[bars]]
name = "1s"
interval = "1s"

[[bars]]
name = "5s"
interval = "5s"

[[models]]
name = "tiny"
bundle = "b"
on = "1s"

[[models]]
name = "slow"
bundle = "gone"
on = "5s"

[[strategies]]
name = "tiny-alone"
model = "tiny"

[[strategies]]
name = "cross"
rule = "macd_cross"
on = "1s"
confirm = "tiny"
"""


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(make_app(), ["model", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_json(*arguments: object) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return facts


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "b")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def other_weights(bundle: Bundle) -> None:
    """Put another model in the reference's place, with its right hash."""
    file = make_mlp(bundle.path / "model.onnx", seed=9)
    edit_manifest(bundle.path, lambda tree: tree["forms"][0].update(sha256=hash_file(file)))


def test_check_passes_a_whole_bundle(bundle: Bundle) -> None:
    facts = run_json("check", bundle.path)
    assert facts["identity"] == bundle.identity
    assert facts["fits"] == facts["unverified"] == []
    passed = {form["backend"]: form for form in facts["forms"] if form["verdict"] == "passed"}
    assert passed["onnxruntime"]["max_abs"] < 1e-5
    assert passed["onnxruntime"]["rows"] == 20
    text = run("check", bundle.path).stdout
    assert bundle.identity in text
    assert "onnxruntime@cpu" in text


def test_check_tells_of_files_that_nobody_hashed(bundle: Bundle) -> None:
    (bundle.path / "stray.txt").write_bytes(b"x")
    assert run_json("check", bundle.path)["unverified"] == ["stray.txt"]
    assert "stray.txt is not in the manifest" in run("check", bundle.path).stdout


def test_check_fails_where_answers_differ_after_printing_them(bundle: Bundle) -> None:
    other_weights(bundle)
    with pytest.raises(CheckFailedError, match="checks failed"):
        run("check", bundle.path)
    command = [sys.executable, "-c", "from engine.cli import main; main()"]
    done = subprocess.run(
        [*command, "model", "check", str(bundle.path), "--json"], capture_output=True, check=False
    )
    assert done.returncode == 1
    forms = json.loads(done.stdout)["forms"]
    assert "failed" in {form["verdict"] for form in forms}
    assert b"Traceback" not in done.stderr


def test_a_spoilt_bundle_is_a_users_error(bundle: Bundle) -> None:
    (bundle.path / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="its SHA-256 is"):
        run("check", bundle.path)


def test_check_holds_it_against_the_configuration_that_names_it(
    bundle: Bundle, config: Path
) -> None:
    assert run_json("check", bundle.path, "-c", config)["fits"] == ["tiny"]
    assert "model 'tiny'" in run("check", bundle.path, "-c", config).stdout


def test_check_holds_it_against_the_model_it_is_to_become(
    tmp_path: Path, bundle: Bundle, config: Path
) -> None:
    candidate = make_bundle(tmp_path / "candidate", version="2")
    with pytest.raises(ConfigError, match="give --model NAME; models are: tiny, slow"):
        run("check", candidate.path, "-c", config)
    assert run_json("check", candidate.path, "-c", config, "--model", "tiny")["fits"] == ["tiny"]
    with pytest.raises(BundleError, match=r"wants time bars of 1s, .* runs on time bars of 5s"):
        run("check", candidate.path, "-c", config, "--model", "slow")
    with pytest.raises(ConfigError, match="found 'fast'; no model of the configuration"):
        run("check", candidate.path, "-c", config, "--model", "fast")
    with pytest.raises(ConfigError, match="give that with -c"):
        run("check", candidate.path, "--model", "tiny")


def test_check_names_an_indicator_that_there_is_not(bundle: Bundle, config: Path) -> None:
    edit_manifest(bundle.path, lambda tree: tree["features"][1].update(of="rsj(length=14)"))
    with pytest.raises(ConfigError, match=r"manifest\.json.*rsj.*did you mean 'rsi'"):
        run("check", bundle.path, "-c", config)


def test_list_tells_models_with_their_askers_and_problems(bundle: Bundle, config: Path) -> None:
    tiny, slow = run_json("list", "-c", config)["models"]
    assert tiny["identity"] == bundle.identity
    assert tiny["asked_by"] == ["tiny-alone", "cross"]
    assert tiny["forms"] == ["onnx fp32"]
    assert "there is no such directory" in slow["problem"]
    text = " ".join(run("list", "-c", config).stdout.split())  # long paths wrap
    assert bundle.identity in text
    assert "there is no such directory" in text


def test_list_without_models_says_so(tmp_path: Path) -> None:
    assert "no models" in run("list").stdout
    assert run_json("list") == {"models": []}


def test_build_names_all_targets(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="targets are: openvino, "):
        run("build", bundle.path, "--target", "tpu")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_build_adds_a_proven_form_to_a_copy(bundle: Bundle, tmp_path: Path, precision: str) -> None:
    pytest.importorskip("openvino", reason="the builder is OpenVINO's")
    wish = ("--target", "openvino", "--precision", precision)
    facts = run_json("build", bundle.path, *wish, "-o", tmp_path / "o")
    assert facts["built"][0]["verdict"] == "passed"
    grown = Bundle.open(tmp_path / "o")
    assert grown.identity == facts["identity"]
    assert [form.precision for form in grown.forms("openvino")] == [precision]
    assert run_json("check", grown.path)["files"] == 4


def test_build_refuses_a_precision_that_a_target_has_not(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the builder is OpenVINO's")
    tolerance = {Precision.FP32: 1e-5, Precision.INT8: 0.05}
    parity = Parity(file="parity.npz", tolerance=tolerance)
    bundle = make_bundle(tmp_path / "b", parity=parity)
    with pytest.raises(ConfigError, match="OpenVINO forms are built in fp32 or fp16"):
        run("build", bundle.path, "--target", "openvino", "--precision", "int8")


def test_the_demo_bundle_is_whole() -> None:
    facts = run_json("check", DEMO)
    assert facts["unverified"] == []
    assert "passed" in {form["verdict"] for form in facts["forms"]}


@pytest.mark.parametrize(("text", "batches"), [("1", (1,)), ("8, 1,32", (1, 8, 32)), ("4,4", (4,))])
def test_batches_are_read_in_order_and_once(text: str, batches: tuple[int, ...]) -> None:
    assert read_batches(text) == batches


@pytest.mark.parametrize("text", ["", "0", "1,,2", "-1", "many", "2000", "9" * 5000])
def test_what_is_no_batch_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="give numbers from 1 to 1024"):
        read_batches(text)
