"""The metric in parts of the held-out rows: where the model fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops_pipeline.inference.ngrams import words_of
from mlops_pipeline.modelling.metrics import MeasuredInterval, Predictions, bootstrap, direction, point
from mlops_pipeline.modelling.text_facts import length_of

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
                result = point(metric, made.of_rows(rows))
                if np.isfinite(result):
                    found.append(MeasuredSlice(column, value, int(rows.sum()), round(result, 6)))
    return sorted(found, key=lambda part: (direction(metric) * part.metric, part.column, part.value))


def with_lengths(table: pl.DataFrame, texts: Sequence[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The table with a column for the length of each text, in words, and these columns' names."""
    import polars as pl

    made = {}
    for name in texts:
        column = f"{name}, words"
        if column not in table.columns:
            counts = [None if text is None else len(words_of(text)) for text in table[name].cast(pl.String).to_list()]
            made[column] = pl.Series(column, [None if count is None else length_of(count) for count in counts], dtype=pl.String)
    return table.with_columns(**made), tuple(made)


def slice_interval(
    table: pl.DataFrame, part: MeasuredSlice, metric: str, made: Predictions, resamples: int, confidence: float, seed: int
) -> MeasuredInterval:
    """The bootstrap interval of the metric on one slice."""
    import polars as pl

    rows = (table[part.column].cast(pl.String).fill_null("(missing)") == part.value).to_numpy()
    return bootstrap(metric, made.of_rows(rows), resamples, confidence, seed)
