"""A window of rows beside a stored summary, in one pass: seconds and memory beside Evidently's DataDriftPreset, false alarms and power.

    python benchmarks/drift.py [--rows 1000000] [--no-wide]

Seconds are those within a process, after its imports. Ours have the reading of the window's Parquet file in them; Evidently's two
frames are read before its clock starts, and nothing is written. Memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import REPOSITORY, environment

COLUMNS, CATEGORIES = 20, 4
LEAST_RATIO, MOST_MEMORY_MB = 40, 500
WIDE_ROWS, WIDE_COLUMNS, WIDE_SECONDS = 100_000, 500, 20
WINDOWS, MOST_RAISED = 200, 0.05
SHIFTED, SHIFT, LEAST_FOUND = 5_000, 0.2, 0.95

# getrusage's peak would be that of this process, if it was larger when it forked.
TOLD = """
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([*taken, peak_kb * 1024 / 1e6]))
"""

OURS = (
    """
import json, sys, time
import lightgbm, scipy.stats, polars as pl, pyarrow.parquet as pq
from mlops_pipeline.contract.reference import decoded
from mlops_pipeline.monitoring.measured import Batch
from mlops_pipeline.monitoring.measuring import measure
began, cpu = time.perf_counter(), time.process_time()
reference = decoded(open("reference.json", "rb").read())
batches = (Batch(pl.from_arrow(batch)) for batch in pq.ParquetFile("current.parquet").iter_batches(50_000))
found = measure(reference, batches)
taken = [time.perf_counter() - began, time.process_time() - cpu]
"""
    + TOLD
)

PLAIN = (
    """
import json, time
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
reference, current = pd.read_parquet("reference.parquet"), pd.read_parquet("current.parquet")
numbers = [name for name in reference if name.startswith("n")]
definition = DataDefinition(numerical_columns=numbers, categorical_columns=[name for name in reference if name not in numbers])
began, cpu = time.perf_counter(), time.process_time()
run = Report([DataDriftPreset()]).run(Dataset.from_pandas(current, definition), Dataset.from_pandas(reference, definition))
run.dict()
taken = [time.perf_counter() - began, time.process_time() - cpu]
"""
    + TOLD
)


def frame(rows: int, columns: int, categories: int, seed: int) -> Any:
    """Columns of numbers, some of them skewed or whole, and of categories."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(seed)
    drawn: dict[str, Any] = {}
    for k in range(columns - categories):
        kinds = (random.normal(size=rows), random.lognormal(size=rows), random.integers(0, 100, rows))
        drawn[f"n{k}"] = kinds[0 if k % 4 < 2 else k % 4 - 1]
    drawn |= {f"c{k}": random.choice(list("abcdefgh"), rows, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.04, 0.01]) for k in range(categories)}
    return pl.DataFrame(drawn)


def summary(rows: Any) -> Any:
    """The summary of a table's columns, as a version has it."""
    from mlops_pipeline.contract.reference import FORMAT, Reference
    from mlops_pipeline.contract.spec import Column, Contract
    from mlops_pipeline.modelling.summary import columns_of

    described = {name: Column("number" if name.startswith("n") else "category") for name in rows.columns}
    contract = Contract(task="regression", target="y", columns=described)
    return Reference(format=FORMAT, task="regression", rows=rows.height, columns=columns_of(contract, rows))


def measured(script: str, folder: Path) -> tuple[float, float, float]:
    """Seconds and CPU seconds of what a script times, and the peak memory of its process in megabytes."""
    words = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(
        words, cwd=folder, env=environment(PYTHONPATH=str(REPOSITORY / "src")), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the process failed:\n{done.stderr[-2000:]}")
    seconds, cpu, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, cpu, memory


def beside_evidently(rows: int, folder: Path) -> bool:
    """Both on the same two tables; whether ours keeps its promise."""
    reference = frame(rows, COLUMNS, CATEGORIES, 0)
    reference.write_parquet(folder / "reference.parquet")
    frame(rows, COLUMNS, CATEGORIES, 1).write_parquet(folder / "current.parquet")
    content = summary(reference).encoded()
    (folder / "reference.json").write_bytes(content)
    ours, plain = measured(OURS, folder), measured(PLAIN, folder)
    print(f"{rows:,} x {COLUMNS} against a summary of {len(content) / 1000:,.0f} kB")
    for name, (seconds, cpu, memory) in (("ours", ours), ("Evidently", plain)):
        print(f"  {name:10} {seconds:8.2f} s {cpu:8.2f} s CPU {memory:8,.0f} MB")
    by_clock, by_cpu = plain[0] / ours[0], plain[1] / ours[1]
    print(f"  Evidently takes {by_clock:.0f} times ours by the clock (at least {LEAST_RATIO}), {by_cpu:.0f} times by CPU")
    print(f"  memory {ours[2]:,.0f} MB (at most {MOST_MEMORY_MB})")
    return by_clock >= LEAST_RATIO and ours[2] <= MOST_MEMORY_MB


def wide(folder: Path) -> bool:
    """A table of many columns."""
    rows = frame(WIDE_ROWS, WIDE_COLUMNS, 100, 2)
    (folder / "reference.json").write_bytes(summary(rows).encoded())
    rows.write_parquet(folder / "current.parquet")
    del rows
    seconds, cpu, memory = measured(OURS, folder)
    print(f"{WIDE_ROWS:,} x {WIDE_COLUMNS}: {seconds:.2f} s (at most {WIDE_SECONDS}), {cpu:.2f} s CPU, {memory:,.0f} MB")
    return seconds <= WIDE_SECONDS


def alarms() -> bool:
    """False alarms on exchangeable rows, and how often a small shift of one column of twenty is found."""
    import polars as pl

    from mlops_pipeline.monitoring.measured import Batch
    from mlops_pipeline.monitoring.measuring import measure

    reference = summary(frame(100_000, COLUMNS, CATEGORIES, 3))
    kept = True
    for rows in (50, 200, 1000, SHIFTED):
        raised = sum(bool(measure(reference, [Batch(frame(rows, COLUMNS, CATEGORIES, 1000 + k))]).drifted) for k in range(WINDOWS))
        print(f"{WINDOWS} windows of {rows:,} rows like the reference's: {raised / WINDOWS:.1%} raise anything (at most {MOST_RAISED:.0%})")
        kept &= raised <= MOST_RAISED * WINDOWS
    found = 0
    for k in range(WINDOWS):
        moved = frame(SHIFTED, COLUMNS, CATEGORIES, 5000 + k).with_columns(pl.col("n1") + SHIFT)
        found += [column.name for column in measure(reference, [Batch(moved)]).drifted] == ["n1"]
    text = f"a shift of {SHIFT} standard deviations in one of {COLUMNS} columns of {SHIFTED:,} rows"
    print(f"{text}: found, alone, in {found / WINDOWS:.1%} (at least {LEAST_FOUND:.0%})")
    return kept and found >= LEAST_FOUND * WINDOWS


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=1_000_000, help="of the two tables that Evidently compares too")
    arguments.add_argument("--no-wide", action="store_true", help="leave the table of many columns out")
    chosen = arguments.parse_args()
    kept = alarms()
    with tempfile.TemporaryDirectory(prefix="mlops-drift-") as temporary:
        if not chosen.no_wide:
            kept &= wide(Path(temporary))
        kept &= beside_evidently(chosen.rows, Path(temporary))
    if not kept:
        raise SystemExit("slower, larger, louder or blinder than promised")


if __name__ == "__main__":
    main()
