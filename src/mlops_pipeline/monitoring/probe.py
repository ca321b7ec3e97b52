"""Would retraining help? A small model is given what the champion says, and asked whether the labelled rows can tell it more."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.modelling.metrics import Array, MeasuredInterval, Predictions, direction, weighted
from mlops_pipeline.modelling.summary import logit

TREES = 40
BLOCKS = 20
"""Parts that rows without days are cut into, at random."""
LEAST_DAYS = 4
"""Of fewer days an interval over days says nothing."""
CHUNK = 25


def probe(
    reference: Reference,
    features: npt.NDArray[Any],
    made: Predictions,
    days: npt.NDArray[np.int64] | None,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> MeasuredInterval:
    """How much of the metric a model on top of the champion gains (above 0 is better), with a bootstrap interval over days.

    Forty trees are fitted on half of the days, with the champion's raw score to start from, and judged on the other half; then the
    halves are swapped, and the gains averaged. NaN where a half has too few rows or a single class. ``features``: as
    :func:`modelling.summary.encoded` has them. ``days``: a number for each row's day; None cuts the rows at random.
    """
    kept = made.y >= 0 if reference.classes else np.isfinite(made.y.astype(np.float64))
    features, made = features[kept], Predictions(made.task, made.y[kept], made.predicted[kept], made.positive)
    random = np.random.default_rng(seed)
    place = random.integers(0, BLOCKS, len(made.y)) if days is None else np.unique(days[kept], return_inverse=True)[1]
    count = int(place.max(initial=-1)) + 1
    nothing = MeasuredInterval(float("nan"), float("nan"), float("nan"))
    if count < 2:
        return nothing
    first = np.isin(place, random.permutation(count)[: count // 2])
    again = made.predicted.astype(np.float64).copy()
    for half in (first, ~first):
        if len(np.unique(made.y[~half])) < 2 or len(np.unique(made.y[half])) < 2:
            return nothing
        again[half] = _fitted_on_top(features, made, ~half, half, len(reference.classes), seed)
    sign = direction(reference.metric)

    def gain(w: Array) -> Array:
        found = []
        for half in (first, ~first):
            ours = Predictions(made.task, made.y[half], again[half], made.positive)
            theirs = Predictions(made.task, made.y[half], made.predicted[half], made.positive)
            found.append(sign * (weighted(reference.metric, ours, w[:, half]) - weighted(reference.metric, theirs, w[:, half])))
        return np.asarray(np.mean(found, axis=0))

    value = float(gain(np.ones((1, len(made.y))))[0])
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
    values = np.concatenate([gain(drawn[start : start + CHUNK][:, place]) for start in range(0, resamples, CHUNK)])
    values = values[np.isfinite(values)]
    if not len(values):
        return MeasuredInterval(value, float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return MeasuredInterval(value, float(low), float(high))


def unit(reference: Reference) -> float | None:
    """What a gain is large or small beside: the held-out rows' figure where less is better, as an error is in the target's own units.

    Where more is better, as of an AUC, it is 1, or that figure if it is larger. None where it is not known, or 0.
    """
    found = reference.quality.get(reference.metric)
    value = None if found is None else found.value
    if value is None or not np.isfinite(value):
        return None
    return abs(value) or None if direction(reference.metric) < 0 else max(abs(value), 1.0)


def domain_auc(features: npt.NDArray[Any], before: npt.NDArray[Any], seed: int) -> float:
    """How well trees tell the window's rows from others: the ROC AUC on rows that they were not fitted on; 0.5 is not at all."""
    import lightgbm as lgb

    x = np.concatenate([before, features])
    y = np.repeat([0, 1], [len(before), len(features)])
    first = np.random.default_rng(seed).random(len(y)) < 0.5
    said = np.zeros(len(y))
    for half in (first, ~first):
        said[half] = lgb.train(_settings("binary", 0, seed, len(y)), lgb.Dataset(x[~half], y[~half]), TREES).predict(x[half], num_threads=1)
    both = Predictions("binary", y, np.column_stack([1 - said, said]), 1)
    return float(weighted("roc_auc", both, np.ones((1, len(y))))[0])


def _fitted_on_top(features: npt.NDArray[Any], made: Predictions, on: Any, of: Any, classes: int, seed: int) -> Array:
    """What the champion and the trees together say of some rows, where the trees were fitted on others."""
    import lightgbm as lgb

    start = _raw(made)
    objective = {"binary": "binary", "multiclass": "multiclass"}.get(made.task, "regression")
    y = (made.y == made.positive).astype(np.int64) if made.task == "binary" else made.y
    settings = _settings(objective, classes if objective == "multiclass" else 0, seed, int(on.sum()))
    # LightGBM wants a start for each class in turn, all rows of the first before those of the next.
    data = lgb.Dataset(features[on], y[on], init_score=start[on].ravel(order="F"))
    added = np.asarray(lgb.train(settings, data, TREES).predict(features[of], raw_score=True, num_threads=1), dtype=np.float64)
    raw = start[of] + added.reshape(start[of].shape)
    if objective == "regression":
        return np.asarray(raw)
    if objective == "binary":
        chance = 1 / (1 + np.exp(-raw))
        return np.column_stack([chance if place == made.positive else 1 - chance for place in range(2)])
    odds = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _raw(made: Predictions) -> Array:
    """The champion's outputs on the scale that trees add to."""
    if made.task == "binary":
        return logit(made.predicted[:, made.positive])
    if made.task == "multiclass":
        return np.asarray(np.log(np.clip(made.predicted.astype(np.float64), 1e-6, 1)))
    return made.predicted.astype(np.float64)


def _settings(objective: str, classes: int, seed: int, rows: int) -> dict[str, Any]:
    settings = {
        "objective": objective,
        "num_leaves": 31 if rows >= 10_000 else 7,
        "min_data_in_leaf": int(np.clip(rows // 100, 20, 200)),
        "verbosity": -1,
        "seed": seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,  # the server answers on the same machine
        "boost_from_average": False,
    }
    return settings | ({"num_class": classes} if classes else {})
