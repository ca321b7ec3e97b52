"""The whole of what the fault tests do in small: `python -m benchmarks.serving.faults`.

`--swaps 100 --kills 20 --malformed 10000 --connections 5000 --soak 10000000` are the numbers without an argument; 0 leaves one out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving import load as wrk
from tests.conftest import Project, wait_for
from tests.integration_tests import bad_states, faults
from tests.integration_tests.clients import metric, post
from tests.integration_tests.conftest import Server

WARM = 200_000
FLAT = 0.05
BESIDE_S = 20


def main() -> None:
    """Run each with its whole number and print what was seen; exit status 1 if anything was lost, mixed, failed or grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    numbers = {"swaps": 100, "kills": 20, "malformed": 10_000, "connections": 5_000, "soak": 10_000_000}
    for name, count in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    asked = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="mlops-faults-") as temporary:
        folder = Path(temporary)
        project = faults.two_versions(folder / "project")
        if asked.swaps:
            with faults.served_for_faults(project, folder / "swaps") as server:
                seen = faults.swap(project, server, asked.swaps)
            good &= not seen["failed"] and not seen["mixed"]
            print(
                f"{asked.swaps} swaps under load: {seen['1']:,} answers of version 1, {seen['2']:,} of 2, "
                f"{seen['failed']} failed, {seen['mixed']} mixed",
                flush=True,
            )
        if asked.kills:
            acknowledged, missing = faults.kill(project, folder / "kills", asked.kills)
            good &= not missing
            print(
                f"{asked.kills} SIGKILLs under load, durable record: {acknowledged:,} acknowledged, {missing} of them missing", flush=True
            )
        if asked.malformed:
            with faults.served_for_faults(project, folder / "malformed") as server:
                statuses = faults.malform(server, asked.malformed)
            good &= not any(status >= 500 for status in statuses)
            print(f"{asked.malformed:,} malformed requests: {dict(sorted(statuses.items()))}", flush=True)
        if asked.connections:
            good &= crowded(project, folder / "crowded", asked.connections, asked.malformed)
        if asked.soak:
            good &= soak(project, folder / "soak", asked.soak)
    raise SystemExit(not good)


def crowded(project: Project, folder: Path, connections: int, malformed: int) -> bool:
    """Whether well-behaved clients, who keep their connections or open a new one each time, are answered beside ill-meant ones."""
    with faults.served_for_faults(project, folder) as server:
        alone = beside(server, folder)
        ill = [
            multiprocessing.get_context("fork").Process(target=bad_states.crowd, args=(server, connections, BESIDE_S)),
            multiprocessing.get_context("fork").Process(target=faults.malform, args=(server, malformed)),
        ]
        for process in ill:
            process.start()
        crowd = beside(server, folder)
        for process in ill:
            process.join()
        ended = {cause: metric(server.url, "mlops_connections_ended_total", cause=cause) for cause in ("time", "room")}
    print(
        f"{connections:,} connections in bad states and {malformed:,} malformed requests: p99 of connections that are kept "
        f"{alone.kept.p99_ms:.1f} ms alone, {crowd.kept.p99_ms:.1f} ms beside them ({crowd.kept.faults or 'no fault'}), of new ones "
        f"{alone.new_p99_ms:.1f} and {crowd.new_p99_ms:.1f} ms ({len(crowd.new_ms):,}, {crowd.failed} failed); "
        f"connections ended: {ended}",
        flush=True,
    )
    return not crowd.failed and crowd.kept.valid and crowd.kept.p99_ms <= 2 * alone.kept.p99_ms and crowd.new_p99_ms <= 2 * alone.new_p99_ms


@dataclass(frozen=True)
class Beside:
    """What well-behaved clients saw: of connections that are kept, and of a new one for each request."""

    kept: wrk.Load
    new_ms: list[float]
    failed: int

    @property
    def new_p99_ms(self) -> float:
        return sorted(self.new_ms)[int(len(self.new_ms) * 0.99)]


def beside(server: Server, folder: Path, seconds: int = BESIDE_S) -> Beside:
    """Ask steadily for some seconds."""
    body, new, failed = json.dumps({"records": [server.example]}).encode(), [], 0
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(
            wrk.measure,
            f"{server.url}/predict",
            body,
            {"Content-Type": "application/json"},
            rows=1,
            connections=4,
            seconds=seconds,
            folder=folder,
        )
        while not kept.done():
            began = time.monotonic()
            try:
                failed += post(f"{server.url}/predict", body)[0] != 200
            except OSError:
                failed += 1
            new.append((time.monotonic() - began) * 1000)
    return Beside(kept.result(), new, failed)


def soak(project: Project, folder: Path, requests: int) -> bool:
    """Steady load until so many requests are answered; whether memory stayed flat after the first ones."""
    with faults.served_for_faults(project, folder) as server:
        began, sizes = time.monotonic(), []
        while (answered := int(metric(server.url, "mlops_requests_total", protocol="predict"))) < requests:
            if answered >= WARM:
                sizes.append(metric(server.url, "mlops_resident_bytes"))
                print(f"  {answered:>12,} requests, {sizes[-1] / 1e6:.1f} MB", flush=True)
            _press(server, folder, 60 if answered >= WARM else 10)
        wait_for(lambda: metric(server.url, "mlops_record_pending") == 0, 60, "a record that is written")
        grown = sizes[-1] / sizes[0] - 1
        others = metric(server.url, "mlops_requests_total", protocol="predict") - metric(
            server.url, "mlops_requests_total", protocol="predict", status="200"
        )
        rate = answered / (time.monotonic() - began)
    print(
        f"a soak of {answered:,} requests ({rate:,.0f} a second): memory {sizes[0] / 1e6:.1f} MB, then {sizes[-1] / 1e6:.1f} MB "
        f"({grown:+.1%}), {others:.0f} answers other than 200",
        flush=True,
    )
    return abs(grown) <= FLAT and not others


def _press(server: Server, folder: Path, seconds: int) -> None:
    body = json.dumps({"records": [server.example]}).encode()
    assert post(f"{server.url}/predict", body)[0] == 200, "the soak's own request is refused"  # noqa: S101  # a wrong benchmark, not a finding
    wrk.measure(f"{server.url}/predict", body, {"Content-Type": "application/json"}, rows=1, connections=16, seconds=seconds, folder=folder)


if __name__ == "__main__":
    main()
