"""Between Parquet and a model: the frame a model is given, the same in training, evaluation and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Column, Dataset

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl

MISSING = "(missing)"
"""What a category's null is called inside a model."""


def model_input(table: pl.DataFrame, features: dict[str, Column]) -> pd.DataFrame:
    """The model's raw columns in order: numbers as float64 with NaN for null, categories as text."""
    import polars as pl

    return table.select(
        pl.col(name).cast(pl.String).fill_null(MISSING) if column.kind == "category" else pl.col(name).cast(pl.Float64)
        for name, column in features.items()
    ).to_pandas()


def read_target(path: Path, data: Dataset) -> np.ndarray:
    """The target column of a Parquet file: float64 for regression, else the classes as they stand."""
    import polars as pl

    target = pl.read_parquet(path, columns=[data.target], glob=False)[data.target]
    if data.task == "regression":
        return target.cast(pl.Float64).to_numpy()
    return target.to_numpy() if target.dtype.is_numeric() else target.to_numpy().astype(object)


def positive_index(classes: list[object], data: Dataset) -> int:
    """Which class counts as positive: the configured one, else the last."""
    named = [str(value) for value in classes]
    return named.index(str(data.positive)) if data.positive is not None and str(data.positive) in named else len(classes) - 1
