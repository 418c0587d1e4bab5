"""Ray Serve's ``@serve.batch``, by a handle in this process and over HTTP.

``ray_peer.py OPTIONS`` measures.
"""

import json
import os
import socket
import sys
from typing import Any

import numpy as np
import ray
from arrivals import as_begin, measure, run_loop, windows
from http_client import HttpPool
from ray import serve

OPTIONS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {"batch": 32}
HERE = os.path.dirname(os.path.abspath(__file__))


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class Scores:
    """Windows in, probabilities out."""

    def __init__(self, model: str) -> None:
        from onnx_session import OnnxSession

        self.session = OnnxSession(model)

    @serve.batch(max_batch_size=OPTIONS["batch"], batch_wait_timeout_s=0.0)
    async def _batched(self, some: list[Any]) -> list[Any]:
        return list(self.session.run(np.stack(some)))

    async def score(self, window: Any) -> Any:
        """Answer a handle's request."""
        return await self._batched(window)

    async def __call__(self, request: Any) -> list[float]:
        """Answer a request over HTTP."""
        body = await request.body()
        window = np.frombuffer(body, np.float32).reshape(16, 6)
        found: list[float] = (await self._batched(window)).tolist()
        return found


async def measured(handle: Any, port: int) -> dict[str, Any]:
    """Measure both ways."""
    some = windows()

    async def ask(place: int) -> Any:
        return await handle.score.remote(some[place % len(some)])

    by_handle = await measure(as_begin(ask), OPTIONS)
    pool = HttpPool(port, "/", "application/octet-stream")
    await pool.open(OPTIONS["outstanding"])
    bodies = [window.tobytes() for window in some]
    over_http = await measure(as_begin(lambda at: pool.post(bodies[at % len(bodies)])), OPTIONS)
    await pool.close()
    return {
        "Ray Serve, handle": by_handle,
        "Ray Serve, HTTP": over_http,
        "version": ray.__version__,
    }


def main() -> None:
    """Start Ray, deploy, measure, end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": HERE}},
    )  # fmt: skip
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        handle = serve.run(Scores.bind(OPTIONS["model"]))  # type: ignore[attr-defined] # the decorator's
        found = run_loop(measured(handle, port))
        serve.shutdown()  # type: ignore[no-untyped-call] # where Ray is installed
    finally:
        ray.shutdown()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
