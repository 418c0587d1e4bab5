"""Drives rknn-toolkit2; run as a script by the Python of the toolkit's own environment.

Usage: ``python -P rknn_child.py``. Reads requests from stdin, one JSON line each, some followed by
float32 rows, and answers each with one JSON line, some followed by float32 rows. The toolkit writes
on stdout as it likes; that goes to stderr here. Imports nothing of HEQIS.

``open`` converts an ONNX model for a chip, writes the ``.rknn`` file if asked, and starts the
toolkit's simulator on it; ``run`` computes rows on the simulator, one at a time; ``close`` lets a
model go. The simulator takes only what was converted in the same process, which is why one child
does both.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

_LAYOUT_OPERATORS: Final = ("GRU", "LSTM", "RNN")


class ToolkitError(Exception):
    """The toolkit answered a call with something else than success."""


class Simulated:
    """One converted model on the simulator."""

    def __init__(self, request: dict[str, Any]) -> None:
        from rknn.api import RKNN

        self._dims = (int(request["window"]), int(request["features"]))
        self._rknn = RKNN(verbose=False)
        try:
            self._convert(request)
        except BaseException:
            self._rknn.release()
            raise

    def run(self, content: bytes) -> Any:
        """Compute float32 rows (N, W, F) one by one; return (N, O)."""
        answers = []
        for row in np.frombuffer(content, np.float32).reshape(-1, *self._dims):
            found = self._rknn.inference(inputs=[np.ascontiguousarray(row[None])])
            if not found:
                raise ToolkitError("inference answered nothing")
            answers.append(np.asarray(found[0], dtype=np.float32).reshape(1, -1))
        return np.concatenate(answers)

    def close(self) -> None:
        """Release the toolkit's model."""
        self._rknn.release()

    def _convert(self, request: dict[str, Any]) -> None:
        rknn = self._rknn
        with tempfile.TemporaryDirectory(prefix="heqis-rknn-") as folder:
            model = simplify(Path(request["onnx"]), Path(folder) / "model.onnx")
            dataset = write_dataset(request.get("calibration"), Path(folder))
            _check("config", rknn.config(target_platform=request["chip"]))
            loaded = rknn.load_onnx(
                model=str(model), inputs=[request["input"]], input_size_list=[[1, *self._dims]]
            )
            _check("load_onnx", loaded)
            quantised = dataset is not None
            _check("build", rknn.build(do_quantization=quantised, dataset=dataset))
            if request.get("out"):
                _check("export_rknn", rknn.export_rknn(request["out"]))
            _check("init_runtime", rknn.init_runtime(target=None))


class Session:
    """The open models, by number."""

    def __init__(self) -> None:
        self._models: dict[int, Simulated] = {}
        self._next = 0

    def answer(self, request: dict[str, Any], content: bytes) -> tuple[dict[str, Any], Any]:
        """Do what is asked; return the answer, and rows or None."""
        if request["do"] == "open":
            self._next += 1
            self._models[self._next] = Simulated(request)
            return {"ok": True, "model": self._next}, None
        if request["do"] == "close":
            self._models.pop(request["model"]).close()
            return {"ok": True}, None
        rows = self._models[request["model"]].run(content)
        return {"ok": True, "shape": rows.shape}, rows


def simplify(source: Path, target: Path) -> Path:
    """Write the model without ``layout=0`` on recurrent operators, which the toolkit refuses."""
    import onnx

    model = onnx.load(str(source))
    for node in model.graph.node:
        if node.op_type in _LAYOUT_OPERATORS:
            for attribute in [each for each in node.attribute if each.name == "layout"]:
                if attribute.i == 0:
                    node.attribute.remove(attribute)
    onnx.save(model, str(target))
    return target


def write_dataset(calibration: str | None, folder: Path) -> str | None:
    """Write what the toolkit calls a data set: one file a row, and a list of them."""
    if calibration is None:
        return None
    names = []
    for index, row in enumerate(np.load(calibration, allow_pickle=False)):
        names.append(str(folder / f"{index}.npy"))
        np.save(names[-1], row[None])
    listed = folder / "dataset.txt"
    listed.write_text("\n".join(names) + "\n", encoding="utf-8")
    return str(listed)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    session = Session()
    for line in requests:
        rows = None
        try:
            request = json.loads(line)
            content = requests.read(int(request.get("bytes", 0)))
            answer, rows = session.answer(request, content)
        # The toolkit raises whatever it likes, and each of it is an answer.
        except Exception as error:  # noqa: BLE001
            answer = {"ok": False, "problem": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        if rows is not None:
            answers.write(rows.tobytes())
        answers.flush()


def _check(call: str, answer: object) -> None:
    if answer != 0:
        raise ToolkitError(f"{call} answered {answer}")


def main() -> None:
    """Keep stdout for answers, whatever the toolkit prints."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
