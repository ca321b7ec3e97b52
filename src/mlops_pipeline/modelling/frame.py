"""Between Parquet and a model: the frame a model is given, the same in training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Column, Dataset
from mlops_pipeline.contract.moments import WRITTEN
from mlops_pipeline.contract.privacy import RARE
from mlops_pipeline.contract.spec import AS_TEXT
from mlops_pipeline.contract.spec import Column as ContractColumn
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.contract.values import MISSING, truth_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl


def model_input(table: pl.DataFrame, features: Mapping[str, Column | ContractColumn]) -> pd.DataFrame:
    """The model's raw columns in order: numbers as float64 with NaN for null, all others as text."""
    import polars as pl

    def given(name: str, kind: str) -> pl.Expr:
        if kind not in AS_TEXT:
            return pl.col(name).cast(pl.Float64)
        return (pl.col(name).dt.to_string(WRITTEN) if kind == "datetime" else pl.col(name).cast(pl.String)).fill_null(MISSING)

    return table.select(given(name, column.kind) for name, column in features.items()).to_pandas()


def without_rare(x: pd.DataFrame, features: Mapping[str, Column | ContractColumn], least: int) -> pd.DataFrame:
    """A model's raw columns to be fitted on, with one name for all levels of a category that fewer rows have than ``least``."""
    for name, column in features.items():
        if column.kind == "category":
            counts = x[name].value_counts()
            rare = set(counts.index[counts < least]) - {MISSING}
            if rare:
                x = x.assign(**{name: x[name].where(~x[name].isin(rare), RARE)})
    return x


def levels_of(x: pd.DataFrame, features: Mapping[str, Column | ContractColumn]) -> dict[str, list[str]]:
    """For each category the levels that a model is fitted on, in the order of the alphabet."""
    return {name: sorted(set(x[name].unique()) - {RARE}) for name, column in features.items() if column.kind == "category"}


def read_target(path: Path, data: Dataset) -> np.ndarray:
    """The target column of a Parquet file: float64 for regression, else the classes as they stand."""
    import polars as pl

    target = pl.read_parquet(path, columns=[data.target], glob=False)[data.target]
    if not has_classes(data.task):
        return target.cast(pl.Float64).to_numpy()
    return target.to_numpy() if target.dtype.is_numeric() else target.to_numpy().astype(object)


def sorted_classes(y: np.ndarray) -> list[Any]:
    """The classes of a target in the order of a model's."""
    return sorted(set(y.tolist()), key=lambda value: (str(type(value)), value))


def positive_index(classes: list[object], data: Dataset) -> int:
    """Which class counts as positive: the configured one, else the last."""
    place = None if data.positive is None else class_named(data.positive, classes, data)
    return len(classes) - 1 if place is None else place


def class_named(name: str | int, classes: list[object], data: Dataset) -> int | None:
    """Where the class of that name stands, which for a target of true and false may be any word for one; None if there is none."""
    named = [str(value) for value in classes]
    if str(name) in named:
        return named.index(str(name))
    truth = truth_of(str(name)) if data.columns[data.target].kind == "boolean" else None
    return named.index(f"{truth:.0f}") if truth is not None and f"{truth:.0f}" in named else None
