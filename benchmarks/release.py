"""What a release costs clients: assignment, a shadow at 100 %, one that is off; and what they see of a challenger that fails.

    python -m benchmarks.release [--seconds 6] [--turns 5] [--rate 1000]

A small project with three versions is made first: the third is of a format that does what a file tells it; for the costs both arms are of
the same kind, with a tree more in the second. Each cost is a ratio within one run: turns with and
without alternate on two servers of one worker, and the median of their ratios counts. Of the shadow, requests come at a steady rate, which
one thread asks: the p99 is the server's, not that of clients who wait for one another.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import yaml
from benchmarks.measure import BIN, REPOSITORY, environment, median
from benchmarks.serving.launch import free_port
from benchmarks.serving.load import measure

from mlops_pipeline.release.table import Table, open_table

ASSIGNED, SHADOWED = 0.97, 1.10
ASSIGNED_ALONE, HARDLY_ANY = "assigned, all to the champion", 1e-9
"""A weight of which no unit is: each has to be looked at, which at a weight of 0 none has."""
PAIRS = 3
JSON = {"Content-Type": "application/json"}
FAULTS = ("throw", "nan", "sleep 30", "slow 0.03")


def project(folder: Path) -> Path:
    """A project with three versions: the champion, nearly the same again, and one that can be told to fail; its settings."""
    from tests.conftest import make_project
    from tests.integration_tests.faults import promote

    made = make_project(folder)
    made.run()
    made.change(train={"params": {"n_estimators": 21}}, gate={"champion_margin": 1.0})
    made.run()
    shutil.copy(REPOSITORY / "tests/integration_tests/faulty.py", folder / "faulty.py")
    train = {"estimator": "lightgbm", "params": {"n_estimators": 35, "num_leaves": 7}, "format": "faulty"}
    made.change(train=train, onnx={"enabled": False}, gate={"champion_margin": 1.0}, plugins=["faulty.py"])
    made.run()
    promote(made, "1")
    return made.config


@contextmanager
def served(config: Path, folder: Path, **release: Any) -> Iterator[tuple[str, int]]:
    """A server of the champion, and its process."""
    folder.mkdir()
    port = free_port()
    content = {
        "pipeline": str(config), "port": port, "record": {"folder": str(folder / "records"), "max_mb": 512},
        "registry": {"cache": str(folder / "cache")}, "release": {"file": str(folder / "releases.sqlite"), **release},
        "limits": {"deadline_ms": 2000}, "log": {"requests": "none"},
    }  # fmt: skip
    (folder / "serving.yaml").write_text(yaml.safe_dump(content))
    (folder / "monitoring_config.yaml").write_text(yaml.safe_dump({"state": {"file": str(folder / "state.sqlite")}}))
    words = [BIN / "mlops", "serve", "--config", folder / "serving.yaml"]
    with (folder / "log").open("wb") as log, subprocess.Popen(words, env=environment(), stderr=log) as process:
        try:
            until = time.monotonic() + 120
            while asked(f"127.0.0.1:{port}", "GET", "/ready")[0] != 200:
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit((folder / "log").read_text()[-2000:])
                time.sleep(0.1)
            yield f"127.0.0.1:{port}", process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def asked(host: str, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of one answer; 0 where there is none."""
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(method, path, body, {**JSON, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}
    except OSError:
        return 0, b"", {}
    finally:
        connection.close()


def begin(host: str, table: Table, challenger: str, **changes: Any) -> int:
    """A release that the server carries out."""
    given = {"unit": "header:Host", "weight": 0.0, "shadow": 0.0, "lease_until": time.time() + 3600, **changes}
    number = table.start("champion", "1", challenger, policy="{}", step="all", reason="benchmark", who="benchmark", **given)
    until = time.monotonic() + 60
    while not json.loads(asked(host, "GET", "/status")[1])["releases"].get("champion", {}).get("loaded"):
        if time.monotonic() > until:
            raise SystemExit(asked(host, "GET", "/status")[1].decode()[-2000:])
        time.sleep(0.1)
    return number


def end(host: str, table: Table, number: int) -> None:
    """All to the champion."""
    last = table.transitions(number)[-1]
    more = {"step": "all", "weight": 0.0, "shadow": 0.0, "reason": "benchmark", "evidence": {}, "who": "benchmark"}
    table.advance(number, last.number, state="aborted", **more)
    while json.loads(asked(host, "GET", "/status")[1])["releases"]:
        time.sleep(0.05)


def cpu_s(pid: int) -> float:
    """Seconds of a core that a server's processes have taken."""
    total = 0.0
    for each in (pid, *children(pid)):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def children(pid: int) -> list[int]:
    """The processes that it has started, and theirs, but for the writer of records."""
    found = []
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"records.writer" not in Path(f"/proc/{each}/cmdline").read_bytes():
            found += [int(each), *children(int(each))]
    return found


def rate(host: str, pid: int, body: Path, seconds: int) -> tuple[float, float]:
    """Requests a second at 16 connections, and microseconds of a core each."""
    before = cpu_s(pid)
    seen = measure(f"http://{host}/predict", body.read_bytes(), JSON, rows=1, connections=16, seconds=seconds, folder=body.parent)
    if not seen.valid:
        raise SystemExit(f"the load went wrong: {seen.faults}")
    return seen.requests_per_second, (cpu_s(pid) - before) / (seen.requests_per_second * seconds) * 1e6


def steady(host: str, body: bytes, per_second: float, seconds: float, connections: int = 8) -> list[float]:
    """Milliseconds of requests that come at a steady rate, from when each was due. One thread asks them all: none waits for another."""
    name, _, port = host.partition(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request, total, asked_so_far = head.encode() + body, int(per_second * seconds), 0
    taken: list[float] = []
    due: dict[socket.socket, float] = {}
    said: dict[socket.socket, bytes] = {}
    with ExitStack() as opened:
        free = [opened.enter_context(socket.create_connection((name, int(port)))) for _ in range(connections)]
        began = time.perf_counter() + 0.1
        while len(taken) < total:
            while free and asked_so_far < total and began + asked_so_far / per_second <= time.perf_counter():
                one = free.pop(0)
                due[one], said[one] = began + asked_so_far / per_second, b""
                one.sendall(request)
                asked_so_far += 1
            waits = free and asked_so_far < total
            pause = max(0.0, began + asked_so_far / per_second - time.perf_counter()) if waits else 30.0
            readable = select.select(list(due), [], [], pause)[0]
            if not readable and not waits:
                raise SystemExit(f"no answer within {pause:.0f} s at a steady rate")
            for one in readable:
                part = one.recv(65_536)
                said[one] += part
                if is_whole(said[one]) or not part:
                    if not said[one].startswith(b"HTTP/1.1 200"):
                        raise SystemExit(f"{said[one][:60]!r} at a steady rate")
                    taken.append((time.perf_counter() - due.pop(one)) * 1e3)
                    free.append(one)
    return sorted(taken)


def is_whole(answer: bytes) -> bool:
    """Whether an answer's body has come to its end."""
    head, end, content = answer.partition(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")) if end else b""
    return bool(end) and len(content) >= int(length.partition(b":")[2])


def costs(config: Path, folder: Path, body: Path, seconds: int, turns: int, per_second: float) -> bool:
    """What a release costs in rate and in the time of the slowest of a hundred; whether all of it is within its bounds."""
    names = ("off", "no release", ASSIGNED_ALONE, "assigned, weight 1/2", "shadow of all, full rate")
    rates: dict[str, list[float]] = {name: [] for name in names}
    cores: dict[str, list[float]] = {name: [] for name in names}
    tails: dict[str, list[float]] = {"alone": [], "shadow of all": []}
    pairs: list[float] = []
    from tests.integration_tests.clients import metric

    asked_behind = left_out = 0.0
    with served(config, folder / "off", enabled=False) as (off, off_pid), served(config, folder / "on") as (on, pid):
        table = open_table(folder / "on/releases.sqlite")
        for turn in range(turns + 1):
            for name in names if turn % 2 else names[::-1]:
                number = 0
                if name.startswith(("assigned", "shadow")):
                    weight = 0.5 if "1/2" in name else HARDLY_ANY if name == ASSIGNED_ALONE else 0.0
                    number = begin(on, table, "2", unit="request", weight=weight, shadow=1.0 if "shadow" in name else 0.0)
                seen, core = rate(off if name == "off" else on, off_pid if name == "off" else pid, body, seconds)
                if number:
                    end(on, table, number)
                if turn:  # the first warms up
                    rates[name].append(seen)
                    cores[name].append(core)
            content = body.read_bytes()
            for pair in range(PAIRS):
                tail = {}
                for name in tails if pair % 2 else reversed(tails):
                    number = begin(on, table, "2", unit="request", shadow=1.0) if "shadow" in name else 0
                    before = [metric(f"http://{on}", n, **more) for n, more in BEHIND]
                    taken = steady(on, content, per_second, seconds / 2)
                    if number:
                        time.sleep(0.5)
                        done = [metric(f"http://{on}", n, **more) - b for (n, more), b in zip(BEHIND, before, strict=True)]
                        asked_behind, left_out = asked_behind + done[0], left_out + done[1]
                        end(on, table, number)
                    tail[name] = taken[int(0.99 * len(taken))]
                if turn:
                    pairs.append(tail["shadow of all"] / tail["alone"])
                    for name, seen_before in tails.items():
                        seen_before.append(tail[name])
    for name in names:
        by_rate = median([a / b for a, b in zip(rates[name], rates["no release"], strict=True)])
        by_core = median([b / a for a, b in zip(cores[name], cores["no release"], strict=True)])
        print(
            f"{name:30} {median(rates[name]):9,.0f} requests/s, {by_rate:5.3f} of no release; "
            f"{median(cores[name]):6.1f} µs of a core a request, {by_core:5.3f}",
            flush=True,
        )
    ratio = median(pairs)
    print(
        f"p99 at {per_second:,.0f}/s: {median(tails['alone']):.2f} ms alone, {median(tails['shadow of all']):.2f} ms with a shadow of all: "
        f"{ratio:.3f} times (at most {SHADOWED}; {len(pairs)} pairs, half of them {quantiles(pairs)[0]:.2f} to {quantiles(pairs)[2]:.2f}); "
        f"asked {asked_behind:,.0f}, left out {left_out:,.0f}",
        flush=True,
    )
    assigned = median([a / b for a, b in zip(rates[ASSIGNED_ALONE], rates["no release"], strict=True)])
    return assigned >= ASSIGNED and ratio <= SHADOWED


BEHIND: tuple[tuple[str, dict[str, str]], ...] = (
    ("mlops_release_request_seconds_count", {"arm": "shadow"}),
    ("mlops_release_shadows_left_out_total", {}),
)


def faults(config: Path, folder: Path, body: bytes, clients: int = 8, seconds: float = 6.0) -> bool:
    """What clients see of a challenger at 5 % that fails in each way."""
    behaviour, good = config.with_name("behaviour"), True
    for word in FAULTS:
        behaviour.write_text("ok")
        with served(config, folder / word.replace(" ", "-"), header=True) as (host, _):
            table = open_table(folder / word.replace(" ", "-") / "releases.sqlite")
            begin(host, table, "3", unit="header:X-User", weight=0.05)
            behaviour.write_text(word)
            answers: Counter[tuple[int, str]] = Counter()
            slowest: dict[str, float] = {}
            until = time.monotonic() + seconds

            def ask(number: int, host: str = host, until: float = until, answers: Any = answers, slowest: Any = slowest) -> None:
                count = 0
                while time.monotonic() < until:
                    count += 1
                    began = time.perf_counter()
                    status, _, headers = asked(host, "POST", "/predict", body, **{"X-User": f"{number}-{count}"})
                    arm = headers.get("mlops-arm", "")
                    answers[status, arm] += 1
                    slowest[arm] = max(slowest.get(arm, 0.0), time.perf_counter() - began)

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            tripped = len(table.breakers(1))
            total, bad = sum(answers.values()), sum(count for (status, _), count in answers.items() if status != 200)
            by_arm = ", ".join(
                f"{arm or 'none'} {count:,} ({1e3 * slowest[arm]:.0f} ms at most)" for (_, arm), count in sorted(answers.items())
            )
            print(f"{word:10} {total:,} answers, {bad} not 200; {by_arm}; breaker {'tripped' if tripped else 'held'}", flush=True)
            good = good and not bad
    behaviour.write_text("ok")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--project", type=Path, help="one that was made by this before")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = project(folder / "project") if given.project is None else given.project / "pipeline.yaml"
        expected = json.loads((config.parent / "models/registry/best_model/expected.json").read_text())
        body = folder / "body.json"
        body.write_text(json.dumps({"records": expected["rows"][:1]}))
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
        good = faults(config, folder, body.read_bytes())
        good = costs(config, folder, body, given.seconds, given.turns, given.rate) and good
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
