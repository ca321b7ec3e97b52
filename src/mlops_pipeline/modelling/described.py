"""What rows say of a model's columns: whether one may be null, what training saw of it, a sample of all, and until when rows reach."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_pipeline.config.dataset import Column as Feature
from mlops_pipeline.config.moments import shown_moment
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.moments import WRITTEN
from mlops_pipeline.contract.privacy import made_up
from mlops_pipeline.contract.spec import AS_TEXT, Column, Contract

if TYPE_CHECKING:
    import polars as pl

SAMPLE_ROWS = 200
"""Rows from which the signature is inferred; none of them is kept."""


def described_columns(features: dict[str, Feature], table: pl.DataFrame) -> dict[str, Column]:
    """The columns as they travel with the model: one may be null, and be left out, if it was so in training, or if the settings say so."""
    return {
        name: Column(
            **column.model_dump(include=set(Column.__struct_fields__))
            | ({} if "nullable" in column.model_fields_set else {"nullable": bool(table[name].null_count())})
        )
        for name, column in features.items()
    }


def with_own_words(
    columns: dict[str, Column], table: pl.DataFrame, null_words: Sequence[str], levels: Collection[str]
) -> dict[str, Column]:
    """The columns; a category without a list of ``levels`` has its own words for null where one of the usual is a value in training.

    A source with types has ``NA`` as a text, and nulls beside it: as a key it is what it says.
    """
    import polars as pl

    found = dict(columns)
    for name, column in columns.items():
        if column.kind == "category" and name not in levels:
            words = null_words if column.null_values is None else column.null_values
            values = set(table.select(pl.col(name).filter(pl.col(name).is_in(list(words))).unique()).to_series())
            if values:
                found[name] = msgspec.structs.replace(column, null_values=tuple(word for word in words if word not in values))
    return found


def ranges_of(columns: dict[str, Column], table: pl.DataFrame) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each column of numbers; those of private ones stay untold."""
    import polars as pl

    ranges: dict[str, tuple[float, float]] = {}
    for name, column in columns.items():
        if column.kind in ("number", "integer") and not column.private and table[name].count():
            least, most = table.select(pl.col(name).min().cast(pl.Float64), pl.col(name).max().alias("most").cast(pl.Float64)).row(0)
            ranges[name] = (least, most)
    return ranges


def sample_of(x: Any, features: dict[str, Column]) -> Any:
    """Evenly spaced rows, with a null wherever the column may hold one, so that the signature says so."""
    import numpy as np

    sample = x.iloc[np.unique(np.linspace(0, len(x) - 1, min(SAMPLE_ROWS, len(x))).astype(int))].reset_index(drop=True)
    for name, column in features.items():
        if column.kind not in AS_TEXT and column.nullable and len(sample) > 3:
            sample.loc[len(sample) - 1, name] = np.nan
    return sample


def example_of(contract: Contract, like: Any) -> Any:
    """A few rows that are nobody's, with the columns and types of the frame ``like``; the last lacks numbers that may be null."""
    import numpy as np
    import pandas as pd

    rows = pd.DataFrame(made_up(contract.columns, contract.categories, contract.ranges), columns=list(like.columns)).astype(like.dtypes)
    optional = [name for name, column in contract.columns.items() if column.kind not in AS_TEXT and column.nullable]
    if len(optional) == rows.shape[1]:
        del optional[0]
    if optional:
        rows.loc[len(rows) - 1, optional] = np.nan
    return rows


def usual_row(columns: dict[str, Column], table: pl.DataFrame, least: int) -> dict[str, Any]:
    """Of each column the value that most rows have, if at least so many do, else one that is made up; of a private one always that."""
    import polars as pl

    (row,) = made_up(columns, {}, {}, 1)
    for name, column in columns.items():
        if column.private:
            continue
        counted = table[name].drop_nulls().value_counts(name="\0count").sort("\0count", name, descending=[True, False]).head(1)
        if counted.height and counted["\0count"][0] >= least:
            value = counted[name]
            row[name] = (
                value.dt.to_string(WRITTEN) if column.kind == "datetime" else value.cast(pl.Int64) if column.kind == "boolean" else value
            )[0]
        elif column.kind in ("number", "integer") and (middle := table[name].median()) is not None:
            rounded = float(f"{float(middle):.2g}")  # type: ignore[arg-type]  # of numbers it is one
            row[name] = round(rounded) if column.kind == "integer" else rounded
    return row


def fitted_until(table: pl.DataFrame, settings: Settings) -> str:
    """The newest moment among rows that are split by time; empty where they are not: no moment tells then what a model was fitted on.

    That of a private column stays untold too.
    """
    is_told = settings.split.kind == "time" and settings.dataset.tells_time
    newest = table[str(settings.dataset.time_column)].max() if is_told else None
    return shown_moment(newest) if isinstance(newest, datetime) else ""
