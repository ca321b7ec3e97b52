"""Quality without labels beside NannyML's: both estimate the ROC AUC of windows from the same held-out rows.

    python benchmarks/cbpe.py --nannyml /tmp/nannyml/bin/python

NannyML pulls in 2 GB and bounds that do not agree with ours: it is another environment's
(`uv venv /tmp/nannyml && uv pip install --python /tmp/nannyml nannyml==0.13.1 statsmodels`). Windows: as the held-out rows, harder,
easier, and with a model that is too sure of itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROWS, HELD_OUT = 5_000, 20_000
MOST_APART = 5e-3
WINDOWS = {"as before": (1.0, 0.0), "harder": (0.4, 0.0), "easier": (2.0, 0.0), "more positives": (1.0, 1.0)}
SURE = 1.6
"""The model's log odds are so many times the true ones: calibration has something to do."""

THEIRS = """
import sys
import nannyml, pandas as pd
held, rows = pd.read_parquet("held.parquet"), pd.read_parquet("rows.parquet")
estimator = nannyml.CBPE(y_pred_proba="said", y_pred="pred", y_true="y", problem_type="classification_binary",
                         metrics=["roc_auc"], chunk_size=int(sys.argv[1]))
estimator.fit(held)
found = estimator.estimate(rows).filter(period="analysis").to_df()
print([float(value) for value in found[("roc_auc", "value")]])
"""


def rows_of(count: int, spread: float, shift: float, seed: int) -> Any:
    """What the model said of rows, and what came of them; shape (rows,) each."""
    import numpy as np

    random = np.random.default_rng(seed)
    odds = random.normal(shift, spread, count)
    late = (random.random(count) < 1 / (1 + np.exp(-odds))).astype(int)
    return 1 / (1 + np.exp(-SURE * odds)), late


def ours(held: Any, windows: list[Any]) -> list[float]:
    """What our estimate says of each window."""
    import numpy as np
    import polars as pl

    from mlops_pipeline.contract.evaluation import Evaluation, Interval
    from mlops_pipeline.contract.spec import Column, Contract
    from mlops_pipeline.modelling.metrics import Predictions
    from mlops_pipeline.modelling.summary import summary_of
    from mlops_pipeline.monitoring.estimated import estimated

    said, late = held
    contract = Contract(task="binary", target="y", classes=[0, 1], columns={"x": Column("number")}, model_sha256="m")
    made = Predictions("binary", late, np.column_stack([1 - said, said]), 1)
    table = pl.DataFrame({"x": said})
    reference = summary_of(contract, table, table, made, Evaluation(metric="roc_auc", metrics={"roc_auc": Interval(0.7, 0.6, 0.8)}))
    found = [estimated(reference, np.column_stack([1 - said, said]), None, ["roc_auc"])["roc_auc"] for said, _ in windows]
    return [float("nan") if value is None else value for value in found]


def main() -> None:
    """Print both estimates beside the truth; exit status 1 where they are further apart than a third decimal."""
    import numpy as np
    import polars as pl
    from sklearn.metrics import roc_auc_score

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nannyml", type=Path, required=True, help="the Python of an environment that has it")
    python = parser.parse_args().nannyml
    held = rows_of(HELD_OUT, 1.0, 0.0, 1)
    windows = [rows_of(ROWS, *moved, place + 2) for place, moved in enumerate(WINDOWS.values())]
    with tempfile.TemporaryDirectory() as folder:
        for name, (said, late) in (("held", held), ("rows", tuple(np.concatenate(parts) for parts in zip(*windows, strict=True)))):
            pl.DataFrame({"said": said, "pred": (said > 0.5).astype(int), "y": late}).write_parquet(f"{folder}/{name}.parquet")
        done = subprocess.run([python, "-c", THEIRS, str(ROWS)], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    apart = 0.0
    print(f"{'window':<16}{'truth':>9}{'ours':>10}{'NannyML':>10}{'apart':>10}")
    for name, (said, late), mine, other in zip(WINDOWS, windows, ours(held, windows), theirs, strict=True):
        apart = max(apart, abs(mine - other))
        print(f"{name:<16}{roc_auc_score(late, said):>9.4f}{mine:>10.5f}{other:>10.5f}{abs(mine - other):>10.5f}")
    sys.exit(apart > MOST_APART)


if __name__ == "__main__":
    main()
