"""Our application on Granian, by ASGI and by RSGI: what `python -m benchmarks.serving` compares uvicorn with."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

from mlops_pipeline.config.serving import load_serving
from mlops_pipeline.server_layout import place_of
from mlops_pipeline.serving.worker import assembled

config = Path(os.environ["BENCH_SERVING"])
settings = load_serving(config)
beats = multiprocessing.get_context("spawn").Array("d", [time.monotonic()], lock=False)
asgi, _ = assembled(settings, config, place_of(settings, config), 0, beats)


class Rsgi:
    """The ASGI application through Granian's own interface (github.com/emmett-framework/granian, docs/spec/RSGI.md)."""

    def __rsgi_init__(self, loop: Any) -> None:
        loop.run_until_complete(asgi.service.start())

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope.headers.items()]
        started: dict[str, Any] = {}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await protocol(), "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                names = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in started["headers"]]
                protocol.response_bytes(started["status"], names, message["body"])

        await asgi({"type": "http", "method": scope.method, "path": scope.path, "headers": headers}, receive, send)


rsgi = Rsgi()
