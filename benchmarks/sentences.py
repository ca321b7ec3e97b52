"""A server of a frozen encoder beside ONNX Runtime and tokenizers in a bare ASGI function: one text a request, 16 connections.

python -m benchmarks.sentences PROJECT   (a pipeline with `encoder: sentences` that has run, text its only feature; needs wrk)

Both run in one worker on the same core. Rates of rounds that take turns, and processor milliseconds a request, since other programs
take theirs from the clock.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from benchmarks.serving import load
from benchmarks.serving.launch import Command, cores, free_port, running, spent

from mlops_pipeline.inference import sentences

ROUNDS, SECONDS, CONNECTIONS, TEXTS = 3, 6, 16, 400
READER = "BENCH_READER"
HEADERS = {"content-type": "application/json"}
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}


@cache
def _parts() -> tuple[Any, Any, Any]:
    """The tokenizer, the session and the head of a reader's folder."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    folder = Path(os.environ[READER])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    encoder = sentences.encoder_of(folder)
    tokenizer = Tokenizer.from_file(str(encoder / sentences.TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(sentences.about(folder).max_tokens)
    graph = onnxruntime.InferenceSession(str(encoder / sentences.GRAPH), options, providers=["CPUExecutionProvider"])
    return tokenizer, graph, np.load(folder / sentences.HEAD)


async def bare(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Callable[[Any], Awaitable[None]]) -> None:
    """A text in, numbers out: no validation, no record, no log."""
    tokenizer, graph, head = _parts()
    said = []
    if scope["method"] == "POST":
        body = (await receive())["body"]
        text = next(iter(msgspec.json.decode(body)["records"][0].values()))
        said = (graph.run(None, {"tokens": [tokenizer.encode(text).ids]})[0] @ head)[0].tolist()
    await send(START)
    await send({"type": "http.response.body", "body": msgspec.json.encode(said)})


def main() -> None:
    """Print the table."""
    project = Path(sys.argv[1]).resolve()
    (table,) = (project / "data/processed").glob("*.test.parquet")
    (reader,) = (project / "models/registry/best_model/onnx/texts").glob("[0-9]*")
    name = msgspec.json.decode((reader.parent / "texts.json").read_bytes())[0]["column"]
    bodies = [msgspec.json.encode({"records": [{name: text}]}) for text in pl.read_parquet(table)[name].head(TEXTS)]
    python = [sys.executable, "-m"]
    environment = {**os.environ, READER: str(reader), "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *filter(None, sys.path)])}
    with tempfile.TemporaryDirectory() as name_of:
        folder = Path(name_of)
        seen: dict[str, list[tuple[float, float, float]]] = {"bare": [], "mlops serve": []}
        ports = {each: free_port() for each in seen}
        settings = project / "configs/serving_config.yaml"
        ours = [*python, "mlops_pipeline", "serve", "--config", settings, "--port", ports["mlops serve"]]
        theirs = [*python, "uvicorn", "benchmarks.sentences:bare", "--port", ports["bare"], "--log-level", "warning", "--lifespan", "off"]
        with (
            running(Command.of(theirs, environment), ports["bare"], "/", folder) as one,
            running(Command.of(ours, environment), ports["mlops serve"], "/ready", folder) as two,
        ):
            for turn in range(ROUNDS + 1):
                for each, mark in (("bare", one), ("mlops serve", two)):
                    before = spent(mark)
                    with cores(of_load=True):
                        url = f"http://127.0.0.1:{ports[each]}/predict"
                        done = load.measure(url, bodies, HEADERS, rows=1, connections=CONNECTIONS, seconds=SECONDS, folder=folder)
                    if not done.valid:
                        raise SystemExit(f"{each}: {done.faults}")
                    if turn:  # the first warms up
                        rate = done.requests_per_second
                        seen[each].append((rate, done.p99_ms, 1000 * (spent(mark) - before) / (rate * SECONDS)))
    print("| server | requests/s | p99 ms | CPU ms a request |\n|---|---|---|---|")
    for each, rows in seen.items():
        print(f"| {each} | " + " | ".join(f"{statistics.median(column):.1f}" for column in zip(*rows, strict=True)) + " |")
    ratios = [ours[0] / theirs[0] for ours, theirs in zip(seen["mlops serve"], seen["bare"], strict=True)]
    by_cpu = [theirs[2] / ours[2] for ours, theirs in zip(seen["mlops serve"], seen["bare"], strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"\nratio {statistics.median(ratios):.2f} ({spread}); by processor time {statistics.median(by_cpu):.2f}")


if __name__ == "__main__":
    main()
