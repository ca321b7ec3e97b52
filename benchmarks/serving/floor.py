"""The floors: a bare ASGI function that calls ONNX Runtime, and one that does nothing."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from benchmarks.serving.model import session

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
twin = session(Path(os.environ["BENCH_ONNX"]))


async def bare(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Rows in, probabilities out: no validation, no log."""
    if scope["method"] == "GET":
        await nothing(scope, receive, send)
        return
    event = await receive()
    body = event["body"]
    while event["more_body"]:
        event = await receive()
        body += event["body"]
    rows = np.array(decode(body)["rows"], dtype=np.float32)
    probabilities = twin.run(["probabilities"], {"rows": rows})[0]
    await send(START)
    await send({"type": "http.response.body", "body": encode({"probabilities": probabilities.tolist()})})


async def nothing(_scope: dict[str, Any], _receive: Receive, send: Send) -> None:
    """What uvicorn itself costs."""
    await send(START)
    await send({"type": "http.response.body", "body": b"{}"})
