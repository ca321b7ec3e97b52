"""Seconds (clock and CPU) and memory of reading a large CSV: `mlops init` on it, and typed rows beside Polars' own scan, in turns.

    python benchmarks/reading.py [--mb 1000] [--turns 3] [--file FILE --target COL]

Without a file one is made in a temporary folder: whole numbers, decimals, categories, a moment, a text and yes or no.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

LINES = 200_000


def made(path: Path, megabytes: int) -> None:
    """A table of about that size."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(42)
    with path.open("wb") as file:
        while file.tell() < megabytes << 20:
            table = pl.DataFrame(
                {
                    "id": np.arange(LINES),
                    "price": random.normal(50, 10, LINES).round(4),
                    "share": random.random(LINES).round(6),
                    "count": random.integers(0, 500, LINES),
                    "city": random.choice(["Berlin", "Gent", "Porto", "New York", "Oslo"], LINES),
                    "code": random.choice([f"C{n:04}" for n in range(40)], LINES),
                    "seen": (np.datetime64("2024-01-01T00:00:00") + random.integers(0, 31_000_000, LINES)).astype("datetime64[ms]"),
                    "remark": random.choice(["as ordered", "late, twice", 'said "no"', ""], LINES),
                    "churned": random.choice(["yes", "no"], LINES),
                }
            )
            table.write_csv(file, include_header=file.tell() == 0, datetime_format="%Y-%m-%d %H:%M:%S")


def init(path: Path, target: str) -> None:
    """What `mlops init` does."""
    from mlops_pipeline.scaffold import starter

    starter(path, target, Path("new.yaml"))


def described(path: Path, target: str) -> None:
    """Write how the table is read beside it, as `mlops init` finds it."""
    import yaml

    from mlops_pipeline.scaffold import starter

    _settings(path).write_text(json.dumps(yaml.safe_load(starter(path, target, Path("new.yaml")).text)["dataset"]))


def _settings(path: Path) -> Path:
    return path.with_suffix(".json")


def ours(path: Path, target: str) -> None:  # noqa: ARG001  # called as the others are
    """Read and cast every row, as ingest does."""
    from mlops_pipeline.config.dataset import Dataset
    from mlops_pipeline.tables.cast import cast_columns
    from mlops_pipeline.tables.source import one_ahead, read_file

    data = Dataset(**json.loads(_settings(path).read_text()))
    for chunk in one_ahead(read_file(path, data.source, 8)):
        cast_columns(chunk.frame, data.columns, data.source.null_values)


def polars(path: Path, target: str) -> None:  # noqa: ARG001  # called as the others are
    """Polars' own scan of every row, typed as it finds them."""
    import polars as pl

    pl.scan_csv(path, try_parse_dates=True, glob=False).collect(engine="streaming")


def measured(work: Callable[[Path, str], None], path: Path, target: str) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of CPU and megabytes of one call in a process of its own."""
    receiver, sender = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(work, path, target, sender))
    process.start()
    sender.close()  # so that a process that fails is not waited for
    found: tuple[float, float, float] = receiver.recv()
    process.join()
    return found


def _child(work: Callable[[Path, str], None], path: Path, target: str, sender: object) -> None:
    import polars  # noqa: F401

    import mlops_pipeline.scaffold  # noqa: F401  # so that no import is measured

    began, before = time.perf_counter(), time.process_time()
    work(path, target)
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    sender.send((seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))  # type: ignore[attr-defined]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--mb", type=int, default=1000)
    asked.add_argument("--turns", type=int, default=3)
    asked.add_argument("--file", type=Path)
    asked.add_argument("--target", default="churned")
    given = asked.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        path = given.file or folder / "table.csv"
        if given.file is None:
            made(path, given.mb)
        megabytes = path.stat().st_size / 1e6
        works = {"mlops init": init, "ours": ours, "polars": polars}
        measured(described, path, given.target)
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in works}
        for _ in range(given.turns):
            for name, work in works.items():
                found[name].append(measured(work, path, given.target))
        for name, each in found.items():
            seconds, cpu, memory = median(one[0] for one in each), median(one[1] for one in each), max(one[2] for one in each)
            print(f"{name:12} {seconds:6.2f} s  {cpu:6.2f} CPU s  {megabytes / seconds:6.0f} MB/s  {memory:6.0f} MB")
        clock, cpu = (median(one[k] for one in found["polars"]) / median(one[k] for one in found["ours"]) for k in (0, 1))
        print(f"ours reads and types at {clock:.2f} of Polars' speed by the clock, {cpu:.2f} by CPU")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
