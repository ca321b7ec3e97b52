"""The features' state at its size: 10 million rows with 1 million keys, a day more, and what opening it costs.

    python benchmarks/features_state.py [--rows 10000000] [--keys 1000000] [--folder DIR]

The rows are of a year, drawn at random; a history by 1,000 shops, a mean and a count by a million customers. Each figure is of a process
of its own: the first state of the whole source, the refresh by one day's file, the same file again, four processes that open the state
and ask it 1,000 keys each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import environment

DAYS = 365
KEEP = "30d"
CONFIG = """
name: large
dataset:
  source: {path: rows.parquet}
  target: y
  task: binary
  time_column: t
  columns:
    t: {kind: datetime, nullable: false}
    customer: {kind: integer}
    shop: {kind: category}
    amount: {kind: number}
    y: {kind: boolean}
    rate_28d: {kind: number}
    usual_7d: {kind: number}
    visits_36h: {kind: integer}
  history:
    rate_28d: {by: [shop], days: 28}
  aggregates:
    usual_7d: {how: mean, of: amount, by: [customer], window: 7d, known_after: 1d}
    visits_36h: {how: count, by: [customer], window: 36h}
split: {kind: time, test_from: "2024-11-01"}
"""

OPENED = """
import json, sys, time
began, cpu = time.perf_counter(), time.process_time()
from pathlib import Path
from mlops_pipeline.features.state import open_state
imported = time.perf_counter()
state = open_state(Path(sys.argv[1]))
opened = time.perf_counter()
at = 1_735_000_000_000_000
for key in range(int(sys.argv[2]), int(sys.argv[3]), (int(sys.argv[3]) - int(sys.argv[2])) // 1000):
    state.value("usual_7d", (key,), at), state.value("visits_36h", (key,), at), state.value("rate_28d", (f"shop {key % 1000}",), at)
asked = time.perf_counter()
print(json.dumps([imported - began, opened - imported, asked - opened, time.process_time() - cpu]), flush=True)
sys.stdin.readline()
"""


def rows_of(first_day: int, days: int, rows: int, keys: int, seed: int):
    import numpy as np
    import polars as pl

    random = np.random.default_rng(seed)
    moments = 1_704_067_200_000_000 + first_day * 86_400_000_000 + np.sort(random.integers(0, days * 86_400_000, rows)) * 1000
    frame = {"t": moments, "customer": random.integers(0, keys, rows), "shop": random.integers(0, 1000, rows)}
    frame |= {"amount": random.gamma(2, 10, rows).round(2), "y": random.integers(0, 2, rows)}
    shop = pl.format("shop {}", pl.col("shop"))
    return pl.DataFrame(frame).with_columns(pl.col("t").cast(pl.Datetime("us")), shop, pl.col("y").cast(pl.Int8))


def timed(*command: str, folder: Path) -> tuple[float, float, float, str]:
    """Seconds on the clock, seconds of the CPU, the largest memory in MB, and what it said."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
    said = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}: {said}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3, said.strip().splitlines()[-1]


def shared_memory(processes: list[subprocess.Popen[str]], state: str) -> tuple[float, float]:
    """MB of the state's files that are in memory, each page once, and of it what is shared by all of them."""
    together, whole = 0.0, 0.0
    for process in processes:
        mapped = False
        for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
            if "-" in line.split(" ")[0] and not line.startswith("VmFlags"):
                mapped = state in line
            elif mapped and line.startswith("Pss:"):
                together += int(line.split()[1]) / 1e3
            elif mapped and line.startswith("Rss:"):
                whole += int(line.split()[1]) / 1e3
    return together, whole


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    arguments.add_argument("--keys", type=int, default=1_000_000)
    arguments.add_argument("--folder", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="features-state-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        (folder / ".dvc").mkdir(exist_ok=True)
        (folder / "pipeline.yaml").write_text(CONFIG)
        if not (folder / "rows.parquet").exists():
            rows_of(0, DAYS, given.rows, given.keys, 1).write_parquet(folder / "rows.parquet")
        rows_of(DAYS, 1, given.rows // DAYS, given.keys, 2).write_parquet(folder / "day.parquet")
        mlops = [sys.executable, "-m", "mlops_pipeline", "features", "refresh", "--config", "pipeline.yaml"]
        for name, more in {
            "the first state": (),
            "one day more": ("--input", "day.parquet"),
            "the same day again": ("--input", "day.parquet"),
            f"keep: {KEEP}": (),
        }.items():
            if name.startswith("keep"):
                workers(folder, given.keys)
                (folder / "pipeline.yaml").write_text(f"{CONFIG}features: {{keep: {KEEP}}}\n")
            wall, cpu, memory, said = timed(*mlops, *more, folder=folder)
            print(f"{name:<20} {wall:6.1f} s, {cpu:6.1f} CPU-s, {memory:7,.0f} MB   {said}", flush=True)
        workers(folder, given.keys)


def workers(folder: Path, keys: int) -> None:
    """Four processes that open the state, each asked of a thousand keys of its own."""
    state, share = str(folder / "data/state/large"), keys // 4
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPENED, state, str(number * share), str((number + 1) * share)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for worker in started:
        imported, opened, asked, cpu = json.loads(worker.stdout.readline())  # type: ignore[union-attr]
        print(f"  opened in {opened * 1e3:.1f} ms (imports {imported:.2f} s), {asked / 3000 * 1e6:.1f} µs a value cold, {cpu:.2f} CPU-s")
    together, whole = shared_memory(started, state)
    print(
        f"  4 processes have {together:.0f} MB of the state's files in memory together ({whole:.0f} MB if each counted its own)", flush=True
    )
    for worker in started:
        worker.communicate("\n")


if __name__ == "__main__":
    main()
