"""What ways of retraining earn: the metric by month, its mean, and shares of gains, with intervals by a bootstrap over days. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops_pipeline.modelling.metrics import Array, MeasuredInterval, Predictions, weighted

METRIC = "roc_auc"
CONFIDENCE = 0.95
CHUNK = 25
"""Resamples held in memory at a time."""


@dataclass(frozen=True)
class Month:
    """What was asked in a month: ``late`` (rows,) 0 or 1, ``days`` (rows,) which day, and by arm the chance that was said (rows,)."""

    name: str
    late: npt.NDArray[np.int64]
    days: npt.NDArray[np.int64]
    said: Mapping[str, Array]


@dataclass(frozen=True)
class Earned:
    """By arm: the AUC of each month, their mean, and what that is more than the mean of the arm that never retrains."""

    months: tuple[str, ...]
    by_month: Mapping[str, tuple[MeasuredInterval, ...]]
    mean: Mapping[str, MeasuredInterval]
    gain: Mapping[str, MeasuredInterval]
    share: MeasuredInterval
    """What the loop gained of what every month gained; NaN where that is nothing."""


def earned(months: Sequence[Month], *, never: str, loop: str, monthly: str, resamples: int = 300, seed: int = 42) -> Earned:
    """Score every arm on the same rows; days are drawn again within each month, the same for all arms."""
    arms = (never, loop, monthly)
    random = np.random.default_rng(seed)
    found = {arm: np.empty((len(months), resamples + 1)) for arm in arms}  # the first is of the rows as they are
    for place, month in enumerate(months):
        day = np.unique(month.days, return_inverse=True)[1]
        count = int(day.max()) + 1
        drawn = np.vstack([np.ones(count), random.multinomial(count, np.full(count, 1 / count), size=resamples)])
        for arm in arms:
            order = np.argsort(month.said[arm], kind="stable")
            said, late, of_day = (values[order] for values in (month.said[arm], month.late, day))
            made = Predictions("binary", late, np.column_stack([1 - said, said]))
            parts = [weighted(METRIC, made, drawn[start : start + CHUNK][:, of_day]) for start in range(0, resamples + 1, CHUNK)]
            found[arm][place] = np.concatenate(parts)
    means = {arm: found[arm].mean(axis=0) for arm in arms}
    gains = {arm: means[arm] - means[never] for arm in (loop, monthly)}
    with np.errstate(divide="ignore", invalid="ignore"):
        share = gains[loop] / gains[monthly]
    return Earned(
        tuple(month.name for month in months),
        {arm: tuple(_interval(row) for row in found[arm]) for arm in arms},
        {arm: _interval(values) for arm, values in means.items()},
        {arm: _interval(values) for arm, values in gains.items()},
        _interval(share),
    )


def _interval(values: Array) -> MeasuredInterval:
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return MeasuredInterval(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return MeasuredInterval(float(values[0]), float(low), float(high))
