"""Columns that need more than their own row: counts over the table, the target's history; rows without a target go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Dataset, History
from mlops_pipeline.files import replacing

if TYPE_CHECKING:
    import polars as pl


def finish(table: Path, data: Dataset) -> None:
    """Add the configured ``counts`` and ``history`` columns to a Parquet file and drop rows without target, in place.

    Counts are over all rows, since leaving out those without an outcome would reveal it; means are over the outcomes.
    Streaming: what is held in memory is one row a group, or one row a key and day.
    """
    import polars as pl

    rows = pl.scan_parquet(table, glob=False)
    labelled = rows.filter(pl.col(data.target).is_not_null())
    made = labelled
    for name, keys in data.counts.items():
        counts = rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias(name)).collect(engine="streaming")
        made = made.join(counts.lazy(), on=list(keys), how="left", nulls_equal=True, maintain_order="left")
    if data.history:
        made = made.with_columns(_day(data))
        for name, history in data.history.items():
            means = history_means(labelled, data, history, name)
            made = made.join(means.lazy(), on=["__day", *history.by], how="left", nulls_equal=True, maintain_order="left")
    with replacing(table) as finished:
        made.select(list(data.columns)).sink_parquet(finished, compression="zstd", maintain_order=True)


def history_means(rows: pl.LazyFrame, data: Dataset, history: History, name: str) -> pl.DataFrame:
    """For every key and day: the target's mean over the ``days`` days before it, shrunk to those days' overall mean.

    With sum s and count n of the key's rows in the window, and overall mean m, the value is
    (s + p m) / (n + p) for ``prior_rows`` p; null on a day with nothing before it.
    """
    import polars as pl

    target = pl.col(data.target).cast(pl.Float64)
    daily = (
        rows.with_columns(_day(data))
        .drop_nulls("__day")
        .group_by(["__day", *history.by])
        .agg(target.sum().alias("__sum"), pl.len().cast(pl.Float64).alias("__count"))
        .collect(engine="streaming")
        .sort(["__day", *history.by])
    )
    overall = _window(daily.group_by("__day").agg(pl.col("__sum").sum(), pl.col("__count").sum()).sort("__day"), history.days, ())
    overall = overall.select("__day", (pl.col("__before_sum") / pl.col("__before_count")).alias("__mean"))
    keyed = _window(daily, history.days, history.by).join(overall, on="__day", how="left", maintain_order="left")
    prior = float(history.prior_rows)
    value = (pl.col("__before_sum").fill_null(0) + prior * pl.col("__mean")) / (pl.col("__before_count").fill_null(0) + prior)
    return keyed.select("__day", *history.by, pl.when(value.is_finite()).then(value).alias(name))


def _window(daily: pl.DataFrame, days: int, by: tuple[str, ...]) -> pl.DataFrame:
    """Sums over the window [day - days, day), the day itself left out."""
    import polars as pl

    return daily.rolling("__day", period=f"{days}d", offset=f"-{days}d", closed="left", group_by=list(by) or None).agg(
        pl.col("__sum").sum().alias("__before_sum"), pl.col("__count").sum().alias("__before_count")
    )


def _day(data: Dataset) -> pl.Expr:
    import polars as pl

    return pl.col(str(data.time_column)).dt.date().alias("__day")
