"""The metric in parts of the held-out rows: where the model fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops_pipeline.modelling.metrics import MeasuredInterval, Predictions, bootstrap, direction, point

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class MeasuredSlice:
    """One value of one column: its rows, and the metric on them."""

    column: str
    value: str
    rows: int
    metric: float


def slices(table: pl.DataFrame, columns: tuple[str, ...], metric: str, made: Predictions, min_rows: int) -> list[MeasuredSlice]:
    """Every slice with enough rows in which the metric is defined, worst first."""
    import polars as pl

    found = []
    for column in columns:
        values = table[column].cast(pl.String).fill_null("(missing)")
        for value in sorted(values.unique().to_list()):
            rows = (values == value).to_numpy()
            if rows.sum() >= min_rows:
                result = point(metric, _part(made, rows))
                if np.isfinite(result):
                    found.append(MeasuredSlice(column, value, int(rows.sum()), round(result, 6)))
    return sorted(found, key=lambda part: (direction(metric) * part.metric, part.column, part.value))


def slice_interval(
    table: pl.DataFrame, part: MeasuredSlice, metric: str, made: Predictions, resamples: int, confidence: float, seed: int
) -> MeasuredInterval:
    """The bootstrap interval of the metric on one slice."""
    import polars as pl

    rows = (table[part.column].cast(pl.String).fill_null("(missing)") == part.value).to_numpy()
    return bootstrap(metric, _part(made, rows), resamples, confidence, seed)


def _part(made: Predictions, rows: np.ndarray) -> Predictions:
    return Predictions(made.task, made.y[rows], made.predicted[rows], made.positive)
