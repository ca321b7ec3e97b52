"""The floor of a model that reads texts: a bare ASGI function with the version's own readers and graph."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlops_pipeline.contract.spec import contract_of
from mlops_pipeline.inference.engine import onnx_engine

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
FOLDER = Path(os.environ["BENCH_VERSION"])
engine = onnx_engine(FOLDER / "onnx", contract_of((FOLDER / "training.json").read_bytes()), 1)


async def bare(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Texts in, probabilities out: no validation, no batches, no record, no log."""
    body, more = b"", scope["method"] != "GET"
    while more:
        event = await receive()
        body, more = body + event["body"], event["more_body"]
    texts = [[row["text"]] for row in decode(body)["records"]] if body else [[""]]
    said = engine.predict(None, np.array(texts, dtype=object))
    await send(START)
    await send({"type": "http.response.body", "body": encode({"probabilities": said.tolist()})})
