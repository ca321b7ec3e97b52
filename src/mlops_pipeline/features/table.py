"""Columns that need more than their own row: counts over the table, the target's history; rows without a target go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.contract.spec import History, Recipe
from mlops_pipeline.files import replacing

if TYPE_CHECKING:
    import polars as pl

_NAMES = ("day", "sum", "count", "mean", "before sum", "before count")
_DAY, _SUM, _COUNT, _MEAN, _BEFORE_SUM, _BEFORE_COUNT = (f"\0{name}" for name in _NAMES)
"""Columns of ours while others are made: no writer of CSV or Parquet gives a user's column a name that begins so."""


def finish(table: Path, recipe: Recipe, columns: Sequence[str]) -> None:
    """Add the recipe's ``counts`` and ``history`` to a Parquet file and drop rows without target, in place; ``columns`` are kept, in order.

    Counts are over all rows, since leaving out those without an outcome would reveal it; means are over the outcomes.
    Streaming: what is held in memory is one row a group, or one row a key and day.
    """
    import polars as pl

    rows = pl.scan_parquet(table, glob=False)
    labelled = rows.filter(pl.col(recipe.target).is_not_null())
    made = labelled
    for name, keys in recipe.counts.items():
        counts = rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias(name)).collect(engine="streaming")
        made = made.join(counts.lazy(), on=list(keys), how="left", nulls_equal=True, maintain_order="left")
    if recipe.history:
        made = made.with_columns(_day(recipe))
        for name, history in recipe.history.items():
            means = history_means(labelled, recipe, history, name)
            made = made.join(means.lazy(), on=[_DAY, *history.by], how="left", nulls_equal=True, maintain_order="left")
    with replacing(table) as finished:
        made.select(list(columns)).sink_parquet(finished, compression="zstd", maintain_order=True)


def history_means(rows: pl.LazyFrame, recipe: Recipe, history: History, name: str) -> pl.DataFrame:
    """For every key and day: the target's mean over the ``days`` days before it, shrunk to those days' overall mean.

    With sum s and count n of the key's rows in the window, and overall mean m, the value is
    (s + p m) / (n + p) for ``prior_rows`` p; null on a day with nothing before it.
    """
    import polars as pl

    target = pl.col(recipe.target).cast(pl.Float64)
    daily = (
        rows.with_columns(_day(recipe))
        .drop_nulls(_DAY)
        .group_by([_DAY, *history.by])
        .agg(target.sum().alias(_SUM), pl.len().cast(pl.Float64).alias(_COUNT))
        .collect(engine="streaming")
        .sort([_DAY, *history.by])
    )
    overall = _window(daily.group_by(_DAY).agg(pl.col(_SUM).sum(), pl.col(_COUNT).sum()).sort(_DAY), history.days, ())
    overall = overall.select(_DAY, (pl.col(_BEFORE_SUM) / pl.col(_BEFORE_COUNT)).alias(_MEAN))
    keyed = _window(daily, history.days, history.by).join(overall, on=_DAY, how="left", maintain_order="left")
    prior = float(history.prior_rows)
    value = (pl.col(_BEFORE_SUM).fill_null(0) + prior * pl.col(_MEAN)) / (pl.col(_BEFORE_COUNT).fill_null(0) + prior)
    return keyed.select(_DAY, *history.by, pl.when(value.is_finite()).then(value).alias(name))


def _window(daily: pl.DataFrame, days: int, by: tuple[str, ...]) -> pl.DataFrame:
    """Sums over the window [day - days, day), the day itself left out."""
    import polars as pl

    return daily.rolling(_DAY, period=f"{days}d", offset=f"-{days}d", closed="left", group_by=list(by) or None).agg(
        pl.col(_SUM).sum().alias(_BEFORE_SUM), pl.col(_COUNT).sum().alias(_BEFORE_COUNT)
    )


def _day(recipe: Recipe) -> pl.Expr:
    import polars as pl

    return pl.col(str(recipe.time_column)).dt.date().alias(_DAY)
