"""Writes the models of the contract battery as RKNN forms, for the battery on a board.

Run on a PC: ``python tests/rknn_forms.py DIRECTORY [CHIP]``, copy the directory to the board.
"""

import sys
from pathlib import Path

from tiny_models import MLP_SHAPE, TCN_SHAPE, make_mlp, make_tcn

from runtime.rknn_toolkit import Toolkit, make_environment


def write_forms(folder: Path, chip: str = "rk3568") -> None:
    """Write ``mlp.rknn`` and ``tcn.rknn``, fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    with Toolkit(make_environment()) as toolkit:
        for make, shape, name in ((make_mlp, MLP_SHAPE, "mlp"), (make_tcn, TCN_SHAPE, "tcn")):
            onnx = make(folder / f"{name}.onnx")
            toolkit.open(onnx, shape, chip=chip, out=folder / f"{name}.rknn")


if __name__ == "__main__":
    write_forms(Path(sys.argv[1]), *sys.argv[2:3])
