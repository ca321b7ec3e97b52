"""Quality without labels: what calibrated probabilities, or a model of the error, expect. Neither can see that the target's law changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.modelling.metrics import Predictions, weighted
from mlops_pipeline.modelling.summary import scores_of

Array = npt.NDArray[np.float64]

MOST_CHANCES = 20_000_000
"""Every row stands once for each class with the probabilities of all: so many numbers are held, of more rows an even sample."""
LEAST_ROWS = 200
"""Of a sample of fewer rows nothing is estimated."""

BLIND = (
    "quality is estimated from what the model says and from held-out rows: it sees that rows have become harder or easier, "
    "and cannot see that the same rows have other outcomes than before (concept drift)"
)


def most_rows(reference: Reference) -> int:
    """Of how many rows quality is estimated at most; 0 where that would be too few."""
    if not has_classes(reference.task):
        return sys.maxsize
    most = MOST_CHANCES // len(reference.classes) ** 2
    return most if most >= LEAST_ROWS else 0


def estimated(
    reference: Reference, predicted: Array, features: npt.NDArray[Any] | None, metrics: Sequence[str], seed: int = 0
) -> dict[str, float | None]:
    """Each metric as it is expected of these predictions; None where it cannot be estimated.

    ``predicted``: class probabilities, (rows, classes), or values, (rows,). ``features``: as :func:`modelling.summary.encoded` has
    them, for regression.
    """
    if has_classes(reference.task):
        most = most_rows(reference)
        if len(predicted) > most:
            predicted = predicted[np.sort(np.random.default_rng(seed).permutation(len(predicted))[:most])]
        return _of_classes(reference, predicted, metrics)
    return _of_values(reference, predicted, features, metrics)


def calibrated(reference: Reference, predicted: Array) -> Array | None:
    """Probabilities as often as they came true on held-out rows, (rows, classes); None if there is no map for a class.

    Of several classes each is mapped by itself, and together they are made to add up to one (one against the rest).
    """
    columns = scores_of(predicted, reference.task, reference.classes, reference.positive)
    if columns.keys() - reference.calibration.keys():
        return None
    maps = {name: reference.calibration[name] for name in columns}
    mapped = {name: np.interp(columns[name], curve.said, curve.seen) for name, curve in maps.items()}
    if reference.task == "binary":
        positive = mapped[str(reference.positive)]
        return np.column_stack([positive if place == reference.positive else 1 - positive for place in range(2)])
    made = np.column_stack([mapped[str(place)] for place in range(len(reference.classes))])
    total = made.sum(axis=1, keepdims=True)
    return np.where(total > 0, made / np.where(total > 0, total, 1), predicted)


def _of_classes(reference: Reference, predicted: Array, metrics: Sequence[str]) -> dict[str, float | None]:
    """Confidence-based performance estimation, as NannyML calls it: every row counts for each class as often as it is expected of it."""
    chances = calibrated(reference, predicted)
    if chances is None or not len(predicted):
        return dict.fromkeys(metrics)
    classes = len(reference.classes)
    every = Predictions(
        reference.task, np.tile(np.arange(classes), len(predicted)), np.repeat(predicted, classes, axis=0), reference.positive
    )
    return {metric: _finite(float(weighted(metric, every, chances.reshape(1, -1))[0])) for metric in metrics}


def _of_values(
    reference: Reference, predicted: Array, features: npt.NDArray[Any] | None, metrics: Sequence[str]
) -> dict[str, float | None]:
    """Direct loss estimation, as NannyML calls it: a model of the error says what it will be."""
    if reference.losses is None or features is None or not len(predicted):
        return dict.fromkeys(metrics)
    places = {name: place for place, name in enumerate(reference.columns)}
    nothing = np.full(len(predicted), np.nan)
    x = np.column_stack([*(features[:, places[name]] if name in places else nothing for name in reference.losses.columns), predicted])
    absolute = np.maximum(_said(reference.losses.absolute, x), 0).mean()
    squared = float(np.maximum(_said(reference.losses.squared, x), 0).mean())
    known: dict[str, float] = {"mae": float(absolute), "rmse": squared**0.5}
    if (spread := float(np.var(predicted)) + squared) > 0:
        known["r2"] = 1 - squared / spread
    return {metric: known.get(metric) for metric in metrics}


def _said(model: str, x: npt.NDArray[Any]) -> Array:
    import lightgbm as lgb

    said: Array = np.asarray(lgb.Booster(model_str=model).predict(x, num_threads=1), dtype=np.float64)
    return said


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
