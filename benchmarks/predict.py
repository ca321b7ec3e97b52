"""Batch prediction of ten million rows: seconds and peak memory, beside ONNX Runtime alone on rows already in memory.

    python benchmarks/predict.py [--rows 10000000]

Needs a champion: `make run` first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import REPOSITORY, environment

FLOOR_ROWS = 200_000


def write_rows(path: Path, rows: int) -> None:
    """The held-out rows over and over, a row group at a time."""
    import polars as pl
    import pyarrow.parquet as pq

    table = pl.read_parquet(REPOSITORY / "data/processed/flights.test.parquet").to_arrow(compat_level=None)
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        left = rows
        while left > 0:
            writer.write_table(table.slice(0, min(left, table.num_rows)))
            left -= table.num_rows


def floor_rate() -> float:
    """Rows a second of ONNX Runtime on arrays already in memory, in one call."""
    import polars as pl

    from mlops_pipeline.inference.frames import judged
    from mlops_pipeline.inference.scorer import load_scorer

    scorer = load_scorer(REPOSITORY / "models/registry/best_model")
    table = pl.read_parquet(REPOSITORY / "data/processed/flights.test.parquet")
    rows = judged(pl.concat([table] * (FLOOR_ROWS // table.height + 1)).head(FLOOR_ROWS), scorer.signature).rows
    scorer.engine.predict(rows.numbers, rows.categories)
    began = time.perf_counter()
    scorer.engine.predict(rows.numbers, rows.categories)
    return FLOOR_ROWS / (time.perf_counter() - began)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    rows = arguments.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="mlops-predict-") as temporary:
        source, target = Path(temporary) / "rows.parquet", Path(temporary) / "predicted.parquet"
        write_rows(source, rows)
        words = [sys.executable, "-m", "mlops_pipeline", "predict", "--input", str(source), "--output", str(target)]
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - began
        if status:
            raise SystemExit("mlops predict failed")
    floor = floor_rate()
    print(f"mlops predict, Parquet to Parquet: {rows:,} rows in {taken:.1f} s, {rows / taken:,.0f} rows/s")
    print(f"peak memory: {usage.ru_maxrss / 1024:,.0f} MiB (at most 1,024)")
    print(f"ONNX Runtime alone: {floor:,.0f} rows/s; ratio {rows / taken / floor:.2f}")


if __name__ == "__main__":
    main()
