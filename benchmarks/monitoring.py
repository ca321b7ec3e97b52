"""The monitoring report on two frames of 100,000 rows and 20 columns, beside Evidently called plainly on the same frames.

    python benchmarks/monitoring.py [--runs 3]

Each run is a process of its own, from the start of Python to both files on disk, the two by turns. Plainly means one
report of Evidently's own presets and metrics with the same content: missing values, drift, quality and one quantile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import REPOSITORY, environment, median, told

ROWS = 100_000
MAX_MEMORY_MB = 1000

OURS = """
import pandas as pd
from monitoring import create_model_monitoring_report
report = create_model_monitoring_report(pd.read_parquet("reference.parquet"), pd.read_parquet("current.parquet"))
report.save_html("ours.html")
report.save_json("ours.json")
"""

PLAIN = """
import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, Report
from evidently.metrics import DatasetMissingValueCount, QuantileValue
from evidently.presets import ClassificationPreset, DataDriftPreset
reference, current = pd.read_parquet("reference.parquet"), pd.read_parquet("current.parquet")
definition = DataDefinition(
    classification=[BinaryClassification(target="target", prediction_labels="prediction")],
    numerical_columns=[name for name in reference if name.startswith("feature")],
    categorical_columns=[name for name in reference if not name.startswith("feature")],
)
quantile = QuantileValue(column="feature_1", quantile=0.5)
report = Report([DatasetMissingValueCount(), DataDriftPreset(), ClassificationPreset(), quantile])
run = report.run(Dataset.from_pandas(current, definition), Dataset.from_pandas(reference, definition))
run.save_html("plain.html")
run.save_json("plain.json")
"""


def write_frame(path: Path, seed: int, shift: float) -> None:
    """Fourteen numbers, a seventh of one of them missing, four categories, a target and a prediction of it."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(seed)
    columns = {f"feature_{i}": random.normal(shift * (i % 3), 1, ROWS) for i in range(1, 15)}
    target = (columns["feature_1"] + random.normal(size=ROWS) > 0).astype(int)
    prediction = (columns["feature_1"] > 0).astype(int)
    categories = {f"category_{i}": random.choice(["a", "b", "c", "d"], ROWS) for i in range(1, 5)}
    frame = pl.DataFrame({**columns, **categories, "target": target, "prediction": prediction})
    frame.with_columns(pl.when(pl.int_range(pl.len()) % 7 != 0).then(pl.col("feature_2"))).write_parquet(path)


def measured(script: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in megabytes of a process that runs a script."""
    began = time.perf_counter()
    words = [sys.executable, "-W", "ignore", "-c", script]
    process = subprocess.Popen(words, cwd=folder, env=environment(PYTHONPATH=str(REPOSITORY / "src")))
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the report failed")
    return time.perf_counter() - began, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=3)
    runs = arguments.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="mlops-monitoring-") as temporary:
        folder = Path(temporary)
        write_frame(folder / "reference.parquet", 0, 0.0)
        write_frame(folder / "current.parquet", 1, 0.3)
        ours, plain = [], []
        for _ in range(runs):
            plain.append(measured(PLAIN, folder))
            ours.append(measured(OURS, folder))
        sizes = [(folder / name).stat().st_size / 1e6 for name in ("ours.html", "plain.html")]
    told("our report, imports and both files included", [seconds for seconds, _ in ours])
    told("Evidently called plainly", [seconds for seconds, _ in plain])
    ratio = median([seconds for seconds, _ in ours]) / median([seconds for seconds, _ in plain])
    print(f"ratio {ratio:.2f} (at most 1.00)")
    print(f"peak memory: {max(m for _, m in ours):,.0f} MB (at most {MAX_MEMORY_MB:,}); plainly {max(m for _, m in plain):,.0f} MB")
    print(f"page: {sizes[0]:.1f} MB; plainly {sizes[1]:.1f} MB")
    if ratio > 1 or max(m for _, m in ours) > MAX_MEMORY_MB:
        raise SystemExit("slower or larger than promised")


if __name__ == "__main__":
    main()
