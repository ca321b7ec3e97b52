"""What a single column knows about the target: a feature that predicts it alone has probably leaked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Dataset
from mlops_pipeline.contract.task import has_classes

if TYPE_CHECKING:
    import polars as pl

ROWS = 50_000
"""Rows looked at, evenly spaced: enough to tell an AUC to the second digit."""

BINS = 64
"""Quantile bins of a number; enough to see a dependence that is not monotone."""


def single_feature_aucs(table: pl.DataFrame, features: list[str], data: Dataset) -> dict[str, float]:
    """For each feature, the ROC AUC with which it alone predicts the target, 0.5 to 1.

    The feature's score is the target's mean among *other* rows with the same category or quantile bin (two folds, by
    row parity), so that a column with many values does not score on its own noise. Several classes: the best of one
    against the rest. Regression: whether the target is above its median.
    """
    table = table.gather_every(max(1, table.height // ROWS))
    labels = _labels(table[data.target], data)
    return {name: max((_feature_auc(_bins(table[name]), label) for label in labels), default=0.5) for name in features}


def auc(scores: pl.Series, positive: pl.Series) -> float:
    """The area under the ROC curve by ranks (Mann-Whitney), ties counted half; 0.5 with one class only."""
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return 0.5
    ranks = scores.rank("average").to_numpy()[positive.to_numpy()]
    return float((ranks.sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _labels(target: pl.Series, data: Dataset) -> list[pl.Series]:
    if not has_classes(data.task):
        return [target > target.median()]
    values = sorted(target.unique().to_list())
    return [target == value for value in (values[1:] if len(values) == 2 else values)]


def _bins(values: pl.Series) -> pl.Series:
    import polars as pl

    if not values.dtype.is_numeric() or values.n_unique() <= BINS:
        return values.cast(pl.String).fill_null("").alias("bin")
    return (values.rank("average") * BINS / len(values)).floor().fill_null(-1).cast(pl.String).alias("bin")


def _feature_auc(bins: pl.Series, positive: pl.Series) -> float:
    import polars as pl

    frame = pl.DataFrame({"bin": bins, "y": positive.cast(pl.Float64), "fold": pl.int_range(len(bins), eager=True) % 2})
    means = frame.group_by("bin", "fold").agg(pl.col("y").mean().alias("score")).with_columns(fold=1 - pl.col("fold"))
    scored = frame.join(means, on=["bin", "fold"], how="left", maintain_order="left")
    score = scored["score"].fill_null(frame["y"].mean())
    folds = [frame["fold"] == fold for fold in (0, 1)]
    parts = [auc(score.filter(rows), positive.filter(rows)) for rows in folds]
    return max(0.5, sum(parts) / 2)
