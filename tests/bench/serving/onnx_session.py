"""ONNX Runtime as this project sets it up: one thread, no spinning."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime


class OnnxSession:
    """A model that computes a batch of windows."""

    def __init__(self, path: Path | str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._name = self._session.get_inputs()[0].name

    def run(self, windows: npt.NDArray[np.float32]) -> Any:
        """Return the answers, float32 (N, O)."""
        return self._session.run(None, {self._name: windows})[0]
