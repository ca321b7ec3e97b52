"""Requests a second and tail latency of `mlops serve` beside its peers and floors: one model, one machine, one run.

    python -m benchmarks.serving [--seconds 5] [--only NAME ...] [--json FILE]

Each server runs alone, with one worker, on the loopback. It is measured only after one answer of it held the expected
probabilities. The first use makes the peers' environments (a minute with a cold package cache).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from benchmarks.serving import launch, load
from benchmarks.serving.environments import packages
from benchmarks.serving.model import BATCH, TOLERANCE, Model, batch_rate, make
from benchmarks.serving.servers import BARE, SERVERS, Server

LOADS = ((1, 1), (1, 16), (BATCH, 1))
"""Rows a request, connections."""
WARM_UP = 1
QUIET = 0.1
"""Cores that other programs may take before the figures are doubted."""
OWN_PACKAGES = ("mlflow", "onnxruntime", "scikit-learn", "uvicorn")
PEER_PACKAGES = ("mlserver", "bentoml")


@dataclass(frozen=True)
class Measured:
    """A server's loads, or why there are none."""

    name: str
    title: str
    loads: tuple[load.Load, ...] = ()
    failure: str = ""

    @property
    def valid(self) -> bool:
        return not self.failure and all(seen.valid for seen in self.loads)

    def at(self, rows: int, connections: int) -> load.Load | None:
        return next((seen for seen in self.loads if (seen.rows, seen.connections) == (rows, connections)), None)


def measure(server: Server, model: Model, seconds: int) -> Measured:
    """Start a server, check an answer, put every load on it, end it."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"mlops-serving-{server.name}-") as temporary:
            folder, port = Path(temporary), launch.free_port()
            with launch.running(server.start(model, folder, port), port, server.ready, folder) as mark:
                return Measured(server.name, server.title, tuple(_loads(server, model, port, seconds, folder, mark)))
    except Exception as error:  # noqa: BLE001  # what one server does wrong must not lose the others' figures
        return Measured(server.name, server.title, failure=f"{type(error).__name__}: {error}")


def _loads(server: Server, model: Model, port: int, seconds: int, folder: Path, mark: str) -> list[load.Load]:
    url, seen = f"http://127.0.0.1:{port}{server.path}", []
    for rows, connections in LOADS:
        if rows > 1 and not server.batches:
            continue
        asked = server.body(model, model.rows[:rows])
        body, headers = asked if isinstance(asked, bytes) else msgspec.json.encode(asked), server.headers(model, model.rows[:rows])
        _check(server, model, port, body, headers, rows)
        for duration in (WARM_UP, seconds):
            before = launch.spent_elsewhere(mark)
            with launch.cores(of_load=True):
                last = load.measure(url, body, headers, rows=rows, connections=connections, seconds=duration, folder=folder)
            elsewhere = max(0.0, launch.spent_elsewhere(mark) - before) / duration
        seen.append(replace(last, elsewhere=elsewhere))
    return seen


def _check(server: Server, model: Model, port: int, body: bytes, headers: Mapping[str, str], rows: int) -> None:
    """One answer, held against what the model says."""
    status, content = launch.ask(port, "POST", server.path, body, headers)
    if status != 200:
        raise RuntimeError(f"answered {status}: {content[:500].decode(errors='replace')}")
    if server.answers is None:
        return
    said, expected = np.asarray(server.answers(msgspec.json.decode(content)), dtype=float), model.expected[:rows]
    if said.shape != expected.shape or not np.allclose(said, expected, rtol=0, atol=TOLERANCE):
        raise RuntimeError(f"wrong probabilities for {rows} rows: {said[:3]}, expected {expected[:3]}")


def machine() -> dict[str, object]:
    """What the figures depend on."""
    pinned = [
        line.split("==") for name in PEER_PACKAGES for line in packages(name).read_text().splitlines() if line.startswith(f"{name}==")
    ]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in OWN_PACKAGES},
        **dict(pinned),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def one_row_table(measured: Sequence[Measured]) -> list[str]:
    """Requests a second and p99 with one row a request, beside the bare function."""
    floor = next((one for one in measured if one.name == BARE.name), None)
    head = " | ".join(f"requests/s, {words} | p99 | to the bare function" for words in ("1 connection", "16 connections"))
    lines = [
        f"| server, one row a request | {head} |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for one in measured:
        cells = [cell for count in (1, 16) for cell in _cells(one.at(1, count), floor.at(1, count) if floor else None)]
        lines.append(f"| {one.title} | {' | '.join(cells)} |")
    return lines


def _cells(seen: load.Load | None, floor: load.Load | None) -> tuple[str, str, str]:
    if seen is None or not seen.valid:
        return _invalid(seen), "", ""
    ratio = f"{seen.requests_per_second / floor.requests_per_second:.3f}" if floor and floor.valid else "–"
    return f"{seen.requests_per_second:,.0f}", f"{seen.p99_ms:.1f} ms", ratio


def batch_table(measured: Sequence[Measured], alone: float) -> list[str]:
    """Rows a second with many rows a request, beside ONNX Runtime alone."""
    lines = [
        f"| server, {BATCH:,} rows a request, 1 connection | rows/s | p99 | to ONNX Runtime alone |",
        "|---|--:|--:|--:|",
        f"| ONNX Runtime alone, in process, one thread | {alone:,.0f} | | 1 |",
    ]
    for one in measured:
        seen = one.at(BATCH, 1)
        if seen and seen.valid:
            rate = seen.requests_per_second * BATCH
            lines.append(f"| {one.title} | {rate:,.0f} | {seen.p99_ms:.1f} ms | {rate / alone:.3f} |")
        elif seen or one.failure:
            lines.append(f"| {one.title} | {_invalid(seen)} | | |")
    return lines


def remarks(measured: Sequence[Measured]) -> list[str]:
    """What failed, and which figures were taken while other programs took part of the machine."""
    failed = [f"{one.title}: {one.failure}" for one in measured if one.failure]
    disturbed = [
        f"disturbed: {one.name}, rows a request {seen.rows:,}, connections {seen.connections}: others took {seen.elsewhere:.2f} cores"
        for one in measured
        for seen in one.loads
        if seen.elsewhere > QUIET
    ]
    return failed + disturbed


def _invalid(seen: load.Load | None) -> str:
    return f"invalid: {seen.faults}" if seen else "failed"


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--seconds", type=int, default=5, help="seconds a load lasts")
    arguments.add_argument("--only", nargs="+", metavar="NAME", choices=[server.name for server in SERVERS], help="these servers alone")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="the figures, for programs")
    asked = arguments.parse_args()
    # So that the servers end with us, however we end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    facts, measured = machine(), []
    with tempfile.TemporaryDirectory(prefix="mlops-serving-model-") as temporary:
        model = make(Path(temporary))
        alone = batch_rate(model, min(asked.seconds, 3))
        for server in SERVERS:
            if asked.only and server.name not in asked.only:
                continue
            print(f"{server.name} …", file=sys.stderr, flush=True)
            measured.append(measure(server, model, asked.seconds))
    print(", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
    print(*one_row_table(measured), "", *batch_table(measured, alone), sep="\n")
    print("", *remarks(measured), sep="\n")
    if asked.json:
        figures = {"machine": facts, "onnxruntime_rows_per_second": alone, "servers": [asdict(one) for one in measured]}
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(not all(one.valid for one in measured))


if __name__ == "__main__":
    main()
