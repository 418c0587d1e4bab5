"""LitServe with dynamic batching over HTTP, measured from a client in this process.

``litserve_peer.py OPTIONS`` measures; ``litserve_peer.py serve MODEL PORT BATCH`` is the server.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import litserve
import numpy as np
from arrivals import as_begin, measure, run_loop, windows
from http_client import HttpPool
from onnx_session import OnnxSession

START_S = 60.0


class Scores(litserve.LitAPI):  # type: ignore[misc] # untyped
    """Windows in, probabilities out."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(**options)
        self.path = model

    def setup(self, device: str) -> None:
        """Load the model."""
        self.session = OnnxSession(self.path)

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Read one window."""
        return np.asarray(request["window"], np.float32)

    def batch(self, inputs: list[Any]) -> Any:
        """Stack windows."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Compute a batch."""
        return self.session.run(x if x.ndim == 3 else x[None])

    def unbatch(self, output: Any) -> list[Any]:
        """Take a batch apart."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """Write one answer."""
        return {"probability": output.tolist()}


def serve(model: str, port: str, batch: str) -> None:
    """Be the server."""
    api = Scores(model, max_batch_size=int(batch), batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False,
        log_level="error", access_log=False,
    )  # fmt: skip


async def connect(port: int, count: int) -> HttpPool:
    """Wait for the server, and connect."""
    pool = HttpPool(port, "/predict", "application/json")
    deadline = time.monotonic() + START_S
    while True:
        try:
            await pool.open(count)
            await pool.post(json.dumps({"window": windows()[0].tolist()}).encode())
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            if time.monotonic() > deadline:
                raise
            await pool.close()
            await asyncio.sleep(0.3)
        else:
            return pool


async def measured(port: int, options: dict[str, Any]) -> dict[str, Any]:
    """Measure over HTTP."""
    pool = await connect(port, options["outstanding"])
    bodies = [json.dumps({"window": window.tolist()}).encode() for window in windows()]
    begin = as_begin(lambda place: pool.post(bodies[place % len(bodies)]))
    found = await measure(begin, options)
    await pool.close()
    return {"LitServe, HTTP": found, "version": litserve.__version__}


def main() -> None:
    """Start the server, measure, end it."""
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
        return
    options = json.loads(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "serve", options["model"], str(port)]
    server = subprocess.Popen(
        [*command, str(options["batch"])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        found = run_loop(measured(port, options))
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
