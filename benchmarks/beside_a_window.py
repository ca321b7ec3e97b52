"""Tail latency of a server at full rate while `mlops monitor run` counts a window on the same machine: at most twice what it is alone.

    python -m benchmarks.beside_a_window [--config configs/training_config.yaml] [--rows 100000] [--seconds 15] [--turns 3]

The server answers the champion of a project that has one (`make run`); its record is filled with rows of the held-out table and
their labels first. Turns alone and turns beside a job alternate, each load by wrk; the ratio is of the medians of the turns' 99th
percentiles. Wants a machine with nothing else to do: the load that others put on it is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from benchmarks.measure import BIN, REPOSITORY, environment, median
from benchmarks.serving.launch import Command, free_port, running
from benchmarks.serving.load import measure

MOST = 2.0
CONNECTIONS = 16
AT_ONCE = 1000
JSON = {"Content-Type": "application/json"}


@contextmanager
def served(config: Path, folder: Path) -> Iterator[str]:
    """A server of the project's champion; its record and its watch's memory are in the folder."""
    port = free_port()
    content = {
        "pipeline": str(config.resolve()),
        "port": port,
        "record": {"folder": str(folder / "records"), "max_mb": 512},
        "registry": {"cache": str(folder / "cache")},
    }
    (folder / "serving.yaml").write_text(yaml.safe_dump(content))
    watch = {
        "serving": "serving.yaml",
        "state": {"file": str(folder / "state.sqlite")},
        "windows": {"settle_s": 0},
        "retraining": {"start": "nothing", "by": []},
    }
    (folder / "monitoring_config.yaml").write_text(yaml.safe_dump(watch))
    command = Command.of([BIN / "mlops", "serve", "--config", folder / "serving.yaml"], environment())
    with running(command, port, "/ready", folder, pinned=False):
        yield f"http://127.0.0.1:{port}"


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, JSON)  # noqa: S310  # our own loopback address
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        answer.read()


def filled(url: str, config: Path, rows: int) -> bytes:
    """Have so many rows predicted and labelled; one row's request, to measure with."""
    import polars as pl

    from mlops_pipeline.config.pipeline import load_settings
    from mlops_pipeline.layout import find_project, layout_of

    settings = load_settings(config)
    table = pl.read_parquet(layout_of(settings, config, find_project(config)).test)
    with urllib.request.urlopen(f"{url}/status", timeout=30) as answer:  # noqa: S310
        [model] = json.load(answer)["models"].values()
    features = table.select(each["name"] for each in model["columns"]).to_dicts()
    came = table[settings.dataset.target].to_list()
    for first in range(0, rows, AT_ONCE):
        places = [place % len(features) for place in range(first, first + AT_ONCE)]
        ids = [str(place) for place in range(first, first + AT_ONCE)]
        _post(f"{url}/predict", json.dumps({"records": [features[place] for place in places], "ids": ids}, default=str).encode())
        labels = [{"id": name, "label": came[place]} for name, place in zip(ids, places, strict=True)]
        _post(f"{url}/labels", json.dumps({"labels": labels}).encode())
    return json.dumps({"records": features[:1]}, default=str).encode()


class Beside:
    """`mlops monitor run` again and again, each with no memory, so that each counts the whole record."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ends = folder, threading.Event()
        self.seconds: list[float] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """While something else goes on."""
        self._ends.clear()
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ends.set()
            thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._ends.is_set():
            turn += 1
            memory = self._folder / f"job-{turn}"
            memory.mkdir(exist_ok=True)
            state = memory / "state.sqlite"
            for left in memory.iterdir():
                left.unlink()
            with closing(sqlite3.connect(self._folder / "state.sqlite")) as known, closing(sqlite3.connect(state)) as copy:
                known.backup(copy)  # the labels
            content = yaml.safe_load((self._folder / "monitoring_config.yaml").read_text())
            content["state"]["file"], content["serving"] = str(state), str(self._folder / "serving.yaml")
            (memory / "monitoring_config.yaml").write_text(yaml.safe_dump(content))
            words = [BIN / "mlops", "monitor", "run", "--close", "--config", memory / "monitoring_config.yaml"]
            began = time.monotonic()
            with subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                while process.poll() is None:
                    if self._ends.wait(0.05):
                        process.kill()
                        return
                if process.returncode:
                    raise SystemExit(process.stderr.read().decode() if process.stderr else "the job failed")
            self.seconds.append(time.monotonic() - began)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--config", type=Path, default=REPOSITORY / "configs/training_config.yaml")
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--seconds", type=int, default=15)
    arguments.add_argument("--turns", type=int, default=3)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlops-beside-") as temporary:
        folder = Path(temporary)
        with served(chosen.config, folder) as url:
            body = filled(url, chosen.config, chosen.rows)
            job = Beside(folder)

            def turn() -> tuple[float, float]:
                found = measure(f"{url}/predict", body, JSON, rows=1, connections=CONNECTIONS, seconds=chosen.seconds, folder=folder)
                if found.faults:
                    raise SystemExit(found.faults)
                return found.requests_per_second, found.p99_ms

            turn()
            alone, beside = [], []
            for _ in range(chosen.turns):
                alone.append(turn())
                with job.running():
                    beside.append(turn())
        print(f"{os.cpu_count()} cores, load of the machine {os.getloadavg()[0]:.1f}; {chosen.rows:,} rows in the record")
        for name, found in (("alone", alone), ("beside a window", beside)):
            rate, p99 = (median([each[place] for each in found]) for place in (0, 1))
            print(f"{name:16} {rate:8.0f} requests/s, p99 {p99:7.2f} ms ({', '.join(f'{each:.1f}' for _, each in found)})")
        ratio = median([p99 for _, p99 in beside]) / median([p99 for _, p99 in alone])
        print(f"the job ended {len(job.seconds)} times meanwhile, in {', '.join(f'{each:.0f}' for each in job.seconds) or '–'} s")
        print(f"p99 beside a window: {ratio:.2f} of what it is alone (at most {MOST:g})")
        if not job.seconds:
            raise SystemExit("no job came to its end beside the load, so that says little: give more --seconds, or a quieter machine")
        if ratio > MOST:
            raise SystemExit("slower than promised")


if __name__ == "__main__":
    main()
