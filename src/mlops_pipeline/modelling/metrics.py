"""Metrics of held-out predictions, as functions of row weights, so that one code gives the value and its bootstrap.

Predictions are class probabilities, shape (rows, classes), or values, shape (rows,). Weights have shape
(resamples, rows); every metric returns shape (resamples,). Ours are declared in ``parts``; others' are called the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Task
from mlops_pipeline.contract.task import has_classes

Array = npt.NDArray[np.float64]

CHUNK = 25
"""Resamples held in memory at a time."""

DEFINED = 0.5
"""Where the metric is defined on a smaller share of the resamples, they say nothing of how far it may lie off."""

FEW_ROWS = 10
"""Of fewer rows, or of fewer of a class, resampling does not tell how far off a figure may be: it draws the same ones again."""

FEW_THINGS = 10
"""Of rows of fewer things, resampling things does not tell either: intervals come out too narrow (Cameron, Gelbach and Miller 2008)."""

BIN_ROWS = 10
"""There are no more bins of a calibration curve than have so many rows each: what is seen of fewer is mostly chance."""


@dataclass(frozen=True)
class MeasuredInterval:
    """A value with its bootstrap interval (percentile method, Efron and Tibshirani 1993, chapter 13).

    A share of few rows, or of rows that all agree, has at least Wilson's.
    """

    value: float
    low: float
    high: float

    def at_least(self, reach: Reach) -> MeasuredInterval:
        """The same value with an interval that reaches at least so far; one that is not known stays so."""
        return MeasuredInterval(
            self.value, float(np.minimum(self.low, self.value - reach.below)), float(np.maximum(self.high, self.value + reach.above))
        )


@dataclass(frozen=True)
class Reach:
    """How far an interval reaches below and above its value."""

    below: float
    above: float


@dataclass(frozen=True)
class Predictions:
    """Held-out truth and what a model says of it. ``y`` are class indices (int) or values (float).

    ``things`` are numbers, int64 (rows,), of what rows belong to, such as patients; None: each row is for itself.
    """

    task: Task
    y: npt.NDArray[Any]
    predicted: Array
    positive: int = 1
    things: npt.NDArray[np.int64] | None = None

    def of_rows(self, rows: npt.NDArray[Any]) -> Predictions:
        """The same of some rows: their places, or which of all they are."""
        things = None if self.things is None else self.things[rows]
        return replace(self, y=self.y[rows], predicted=self.predicted[rows], things=things)


def direction(metric: str) -> float:
    """1 where more of the metric is better, -1 where less is."""
    return -1.0 if plugins.part(plugins.Metric, metric).lower_is_better else 1.0


def score(metric: str, task: Task, y: npt.NDArray[Any], predicted: Array, classes: list[Any], positive: int) -> float:
    """One metric of raw labels; NaN where it is not defined (one class only)."""
    made = Predictions(task, class_indices(y, classes) if has_classes(task) else y, predicted, positive)
    return float(weighted(metric, made, np.ones((1, len(y))))[0])


def class_indices(y: npt.NDArray[Any], classes: list[Any]) -> npt.NDArray[np.int64]:
    """Each label's place in ``classes``; -1 for a class that the model has never seen."""
    places = {str(value): index for index, value in enumerate(classes)}
    return np.array([places.get(str(value), -1) for value in y.tolist()], dtype=np.int64)


def point(metric: str, made: Predictions) -> float:
    """The metric's value on all rows."""
    return float(weighted(metric, made, np.ones((1, len(made.y))))[0])


def bootstrap(metric: str, made: Predictions, resamples: int, confidence: float, seed: int) -> MeasuredInterval:
    """The metric with its percentile interval over resampled rows, or things; NaN bounds where it is never defined."""
    return bootstrap_all((metric,), made, resamples, confidence, seed)[metric]


def bootstrap_all(metrics: Sequence[str], made: Predictions, resamples: int, confidence: float, seed: int) -> dict[str, MeasuredInterval]:
    """Several metrics on the same resampled rows, which cost more to draw than to score."""
    values = _resampled(lambda w: np.stack([weighted(metric, made, w) for metric in metrics]), made, resamples, seed)
    return {metric: _interval_of(metric, made, row, confidence) for metric, row in zip(metrics, values, strict=True)}


def bootstrap_with_gain(
    metrics: Sequence[str], metric: str, ours: Predictions, theirs: Predictions, resamples: int, confidence: float, seed: int
) -> tuple[dict[str, MeasuredInterval], MeasuredInterval]:
    """:func:`bootstrap_all` of ours and :func:`paired_difference` over theirs, on one set of resampled rows.

    Where resampling is blind for ours, the difference is as uncertain as both together (square-and-add, Newcombe 1998).
    """
    sign = direction(metric)
    place = list(metrics).index(metric)

    def both(w: Array) -> Array:
        scores = [weighted(name, ours, w) for name in metrics]
        return np.stack([*scores, sign * (scores[place] - weighted(metric, theirs, w))])

    ours, theirs = _in_order_of_score(ours, theirs)
    *values, differences = _resampled(both, ours, resamples, seed)
    intervals = {name: _interval_of(name, ours, row, confidence) for name, row in zip(metrics, values, strict=True)}
    gain = _interval(sign * (point(metric, ours) - point(metric, theirs)), differences, confidence)
    if (mine := _by_rows(metric, ours, confidence)) is not None:
        other = _by_rows(metric, theirs, confidence) or Reach(0.0, 0.0)
        gain = gain.at_least(Reach(math.hypot(mine.below, other.above), math.hypot(mine.above, other.below)))
    return intervals, gain


def paired_difference(
    metric: str, ours: Predictions, theirs: Predictions, resamples: int, confidence: float, seed: int
) -> tuple[MeasuredInterval, npt.NDArray[np.float64]]:
    """How much better (positive) ours is than theirs on the same resampled rows, or things, and every resampled difference."""
    sign = direction(metric)
    differences = _resampled(lambda w: sign * (weighted(metric, ours, w) - weighted(metric, theirs, w)), ours, resamples, seed)
    value = sign * (point(metric, ours) - point(metric, theirs))
    return _interval(value, differences, confidence), differences


def _in_order_of_score(ours: Predictions, theirs: Predictions) -> tuple[Predictions, Predictions]:
    """The same rows sorted by our score, so that what ranks them need not sort every resample's weights."""
    if ours.task != "binary":
        return ours, theirs
    order = np.argsort(ours.predicted[:, ours.positive], kind="stable")
    return ours.of_rows(order), theirs.of_rows(order)


def resampled_weights(rows: int, count: int, seed: tuple[int, int]) -> Array:
    """How often each row is drawn in each of ``count`` bootstrap resamples, shape (count, rows)."""
    weights = np.empty((count, rows))
    for made, drawn in zip(weights, np.random.default_rng(seed).integers(0, rows, size=(count, rows)), strict=True):
        made[:] = np.bincount(drawn, minlength=rows)
    return weights


def _resampled(function: Callable[[Array], Array], made: Predictions, resamples: int, seed: int) -> Array:
    """The function of every resample's weights, some resamples at a time on every core; the result depends on the seed alone.

    Where rows belong together things are drawn, each with all its rows (the cluster bootstrap; Davison and Hinkley 1997, section 3.8):
    rows of one are alike, and drawn one by one would pass for so many witnesses. NaN of few things, and of a single row: drawn again and
    again it tells nothing of others.
    """
    rows, place = len(made.y), None
    if made.things is not None:
        there, place = np.unique(made.things, return_inverse=True)
        rows = len(there)

    def of_chunk(chunk: tuple[int, int]) -> Array:
        weights = resampled_weights(rows, chunk[1], (seed, chunk[0]))
        return function(weights if place is None else weights[:, place])

    with ThreadPoolExecutor() as pool:
        sizes = [min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK)]
        values = np.concatenate(list(pool.map(of_chunk, enumerate(sizes))), axis=-1)
    is_told = rows > 1 if made.things is None else worth(made.things) >= FEW_THINGS
    return values if is_told else np.full_like(values, np.nan)


def worth(things: npt.NDArray[np.int64]) -> float:
    """How many things of equally many rows these rows tell as much as, were all rows of one thing alike (Kish 1965)."""
    sizes = np.bincount(things).astype(np.float64)
    return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1.0))


def share_of(hits: npt.NDArray[np.bool_], things: npt.NDArray[np.int64] | None, confidence: float) -> tuple[float, float, float]:
    """The share of hits and its interval (Wilson, 1927), of as many rows as these tell it as surely as (Korn and Graubard 1998).

    How much rows of one thing are alike is told by how its share differs from thing to thing. At the worst, where things are few or
    agree, rows count for no more than their things.
    """
    share, of = float(hits.mean()), float(len(hits))
    if things is not None:
        least, sizes = worth(things), np.bincount(things)
        right, sizes = np.bincount(things, hits)[sizes > 0], sizes[sizes > 0]
        spread = float(((right - share * sizes) ** 2).sum()) / of**2
        if least < FEW_THINGS or not 0 < share < 1:
            of = least
        elif spread > 0:
            of = min(max(share * (1 - share) * (len(sizes) - 1) / len(sizes) / spread, least), of)
    return (share, *wilson(share * of, of, confidence))


def weighted(metric: str, made: Predictions, w: Array) -> Array:
    """The metric under each row of weights. Raises :class:`PipelineError` if another's part does not give numbers of this shape."""
    part = plugins.part(plugins.Metric, metric)
    if not plugins.is_ours(part):  # whose function may change what it is given, which all others are given too
        made, w = replace(made, y=_for_reading(made.y), predicted=_for_reading(made.predicted), things=None), _for_reading(w)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = plugins.run(part, made, w, *plugins.settings_of(part))
    try:
        found: Array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise plugins.broken(part, error) from error
    if found.shape != (len(w),):
        raise plugins.broken(part, f"it gives shape {found.shape} for weights of shape {w.shape}, not {(len(w),)}")
    if np.isinf(found).any() and not plugins.is_ours(part):
        raise plugins.broken(part, "it gives an infinite value: give NaN where it is undefined")
    return found


def _for_reading(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values, which nobody can change by this name."""
    view = values.view()
    view.setflags(write=False)
    return view


def calibration_curve(made: Predictions, bins: int = 10) -> list[dict[str, float]]:
    """Mean predicted against observed in bins of about equally many rows: rows of which the same is said are never parted.

    Binary: the positive class's probability. Several classes: the probability of the most likely class. Regression:
    the predicted value against the mean of the truth. With few rows there are fewer bins.
    """
    confidence, correct = _confidence(made)
    return [
        {"predicted": round(float(confidence[p].mean()), 6), "observed": round(float(correct[p].mean()), 6), "rows": len(p)}
        for p in _bins_of(confidence, bins)
    ]


def calibration_error(made: Predictions) -> float | None:
    """Expected calibration error over equal-count bins (Naeini et al. 2015); None for regression, and of too few rows for two bins."""
    if not has_classes(made.task) or len(made.y) < 2 * BIN_ROWS:
        return None
    curve = calibration_curve(made)
    rows = sum(point["rows"] for point in curve)
    return round(sum(point["rows"] * abs(point["predicted"] - point["observed"]) for point in curve) / rows, 6)


def calibration_error_by_chance(made: Predictions) -> float | None:
    """What :func:`calibration_error` would be about, were every probability right: a share of few rows is off by chance.

    The mean distance of a normal variable from its mean, of the variance that the probabilities give each bin's share. None where rows
    belong together, for how far shares of such are off depends on how alike they are.
    """
    if calibration_error(made) is None or made.things is not None:
        return None
    confidence, _ = _confidence(made)
    spreads = [np.sqrt((confidence[p] * (1 - confidence[p])).clip(min=0).sum()) for p in _bins_of(confidence, 10)]
    return round(float(np.sqrt(2 / np.pi) * sum(spreads) / len(confidence)), 6)


def _bins_of(confidence: Array, bins: int) -> list[npt.NDArray[np.int64]]:
    """Places of rows in rising order of what is said of them, cut where it changes, as near as can be to equal parts."""
    order = np.argsort(confidence, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(confidence[order]) != 0, True]) + 1
    count = max(1, min(bins, len(order) // BIN_ROWS))
    wanted = np.cumsum([len(part) for part in np.array_split(order, count)])
    after = np.searchsorted(ends, wanted)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted - ends[before] < ends[after] - wanted, ends[before], ends[after])
    return [part for part in np.split(order, np.unique(nearest)) if len(part)]


def _confidence(made: Predictions) -> tuple[Array, Array]:
    if not has_classes(made.task):
        return made.predicted, made.y.astype(np.float64)
    if made.task == "binary":
        return made.predicted[:, made.positive], (made.y == made.positive).astype(np.float64)
    return made.predicted.max(axis=1), (made.predicted.argmax(axis=1) == made.y).astype(np.float64)


def roc_auc(made: Predictions, w: Array) -> Array:
    """Area under the ROC curve; of several classes, the mean over one against the rest."""
    return _ranked(_auc, made, w)


def auc_of(made: Predictions, k: int) -> float | None:
    """The area of one class against all others; None where the rows hold only one of the two."""
    ones = made.y == k
    if not 0 < ones.sum() < len(ones):
        return None
    return round(float(_auc(made.predicted[:, k], ones, np.ones((1, len(ones))))[0]), 6)


def average_precision(made: Predictions, w: Array) -> Array:
    """Average precision; of several classes, the mean over one against the rest."""
    return _ranked(_average_precision, made, w)


def _ranked(ranked: Callable[[Array, npt.NDArray[np.bool_], Array], Array], made: Predictions, w: Array) -> Array:
    if made.task == "binary":
        return ranked(made.predicted[:, made.positive], made.y == made.positive, w)
    per_class = [ranked(made.predicted[:, k], made.y == k, w) for k in range(made.predicted.shape[1])]
    return np.asarray(np.mean(per_class, axis=0))


def _auc(scores: Array, positive: npt.NDArray[np.bool_], w: Array) -> Array:
    """Area under the ROC curve: the weighted share of pairs in the right order, ties counted half."""
    order = np.argsort(scores, kind="stable")
    ones, zeros = order[positive[order]], order[~positive[order]]
    below = np.zeros((len(w), len(zeros) + 1))
    np.cumsum(np.take(w, zeros, axis=1), axis=1, out=below[:, 1:])
    first, last = (np.searchsorted(scores[zeros], scores[ones], side) for side in ("left", "right"))
    beaten = np.take(below, first, axis=1)
    if (first < last).any():
        beaten = (beaten + np.take(below, last, axis=1)) / 2
    weights = np.take(w, ones, axis=1)
    return np.asarray(np.einsum("ij,ij->i", weights, beaten) / (weights.sum(axis=1) * below[:, -1]))


def _average_precision(scores: Array, positive: npt.NDArray[np.bool_], w: Array) -> Array:
    """Sum of precision at each threshold, weighted by the step in recall."""
    ones, rows = (weights[:, ::-1] for weights in _by_threshold(scores, positive, w))
    above = np.cumsum(rows, axis=1)
    precision = np.divide(np.cumsum(ones, axis=1), above, out=np.zeros_like(above), where=above > 0)
    return np.asarray((ones * precision).sum(axis=1) / ones.sum(axis=1))


def _by_threshold(scores: Array, positive: npt.NDArray[np.bool_], w: Array) -> tuple[Array, Array]:
    """Weights of the positives, and of all rows, at each distinct score in rising order."""
    order = np.argsort(scores, kind="stable")
    if (order[:-1] < order[1:]).all():
        ordered, hits = w, w * positive
    else:
        ordered = np.take(w, order, axis=1)
        hits = ordered * positive[order]
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    if len(starts) == len(scores):
        return hits, ordered
    return np.add.reduceat(hits, starts, axis=1), np.add.reduceat(ordered, starts, axis=1)


def log_loss(made: Predictions, w: Array) -> Array:
    """The mean of −log of what was given the true class, 0 taken for 2e-16 as scikit-learn does."""
    seen = made.y >= 0
    chosen = np.where(seen, made.predicted[np.arange(len(seen)), np.where(seen, made.y, 0)], 0.0)
    return _mean(-np.log(np.clip(chosen, np.finfo(np.float64).eps, 1)), w)


def brier(made: Predictions, w: Array) -> Array:
    if made.task == "binary":
        return _mean((made.predicted[:, made.positive] - (made.y == made.positive)) ** 2, w)
    return _mean(((made.predicted - (made.y[:, None] == np.arange(made.predicted.shape[1]))) ** 2).sum(axis=1), w)


def accuracy(made: Predictions, w: Array) -> Array:
    return _mean((made.predicted.argmax(axis=1) == made.y).astype(np.float64), w)


def f1(made: Predictions, w: Array) -> Array:
    """The positive class's; of several classes, the mean over those that any row has or is given. NaN without any such."""
    said = made.predicted.argmax(axis=1)
    kinds = [made.positive] if made.task == "binary" else range(made.predicted.shape[1])
    each = np.stack([_f1(said == k, made.y == k, w) for k in kinds])
    there = np.isfinite(each)
    return np.asarray(np.where(there, each, 0.0).sum(axis=0) / there.sum(axis=0))


def _mean(loss: Array, w: Array) -> Array:
    return np.asarray(w @ loss / w.sum(axis=1))


def _f1(said: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_], w: Array) -> Array:
    both, either = w @ (said & true), w @ said.astype(np.float64) + w @ true.astype(np.float64)
    return np.divide(2 * both, either, out=np.full_like(either, np.nan), where=either > 0)


def mae(made: Predictions, w: Array) -> Array:
    return _mean(np.abs(made.y.astype(np.float64) - made.predicted), w)


def rmse(made: Predictions, w: Array) -> Array:
    return np.sqrt(_mean((made.y.astype(np.float64) - made.predicted) ** 2, w))


def r2(made: Predictions, w: Array) -> Array:
    """NaN where the target does not vary."""
    total, y = w.sum(axis=1), made.y.astype(np.float64)
    squared = w @ (y - made.predicted) ** 2
    y = y - np.median(y)  # far from zero the difference of squares below would lose every digit
    mean, size = w @ y / total, w @ y**2
    spread = size - total * mean**2
    # A resample may hold one value many times over: what is left of the difference then is rounding.
    return np.where(spread > 1e-12 * size, 1 - squared / spread, np.nan)


def wilson(hits: float, of: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share (Wilson, 1927), which holds for few rows too."""
    z, share = NormalDist().inv_cdf((1 + confidence) / 2), hits / of
    middle, spread = share + z * z / (2 * of), z * math.sqrt(max(share * (1 - share), 0.0) / of + z * z / (4 * of * of))
    low, high = ((middle + side * spread) / (1 + z * z / of) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def _interval_of(metric: str, made: Predictions, resampled: npt.NDArray[np.float64], confidence: float) -> MeasuredInterval:
    found, reach = _interval(point(metric, made), resampled, confidence), _by_rows(metric, made, confidence)
    return found if reach is None else found.at_least(reach)


def _by_rows(metric: str, made: Predictions, confidence: float) -> Reach | None:
    """How far off a share may be where resampling is blind: of few rows, or where all of them agree. None elsewhere.

    Rows that belong together count for as many as their things (:func:`worth`).
    Of several classes those few alone put their mean as far off (square-and-add, Newcombe 1998).
    """
    shares = SHARES[metric](made) if metric in SHARES else []
    blind = [(share, of) for share, of in shares if of < FEW_ROWS or share in (0.0, 1.0)]
    if not blind:
        return None

    def told(share: float) -> float:
        return 2 * share / (1 + share) if metric == "f1" else share

    ends = [(told(share), *map(told, wilson(share * of, of, confidence))) for share, of in blind]
    below, above = [value - low for value, low, _ in ends], [high - value for value, _, high in ends]
    return Reach(math.hypot(*below) / len(shares), math.hypot(*above) / len(shares))


def _right(made: Predictions) -> list[tuple[float, float]]:
    """The share of rows whose class is said, and of how many."""
    return [(float((made.predicted.argmax(axis=1) == made.y).mean()), _count(made, np.ones(len(made.y), dtype=bool)))]


def _found(made: Predictions) -> list[tuple[float, float]]:
    """Of the rows that have a class or are given it, the share that has it and is: F1 is twice that, by one more than it."""
    said = made.predicted.argmax(axis=1)
    kinds = [made.positive] if made.task == "binary" else range(made.predicted.shape[1])
    pairs = [(said == k, made.y == k) for k in kinds]
    return [(float((a & b).sum() / (a | b).sum()), _count(made, a | b)) for a, b in pairs if (a | b).any()]


def _ordered(made: Predictions) -> list[tuple[float, float]]:
    """The share of pairs in the right order for each class, and how many independent ones it is worth; nothing of a class alone.

    So many that it spreads as theirs where scores tell nothing (Mann and Whitney 1947, section 4).

    A model that says the same of all rows has half of them for sure.
    """
    kinds = [made.positive] if made.task == "binary" else range(made.predicted.shape[1])
    found = []
    for k in kinds:
        ones, scores = made.y == k, made.predicted[:, k]
        these, others = _count(made, ones), _count(made, ~ones)
        if these and others and scores.min() < scores.max():
            found.append((float(_auc(scores, ones, np.ones((1, len(ones))))[0]), 3 * these * others / (these + others + 1)))
    return found


def _precise(made: Predictions) -> list[tuple[float, float]]:
    """The mean of as many precisions as a class has rows, which spread at most as right and wrong do; nothing of a class alone."""
    kinds = [made.positive] if made.task == "binary" else range(made.predicted.shape[1])
    found: list[tuple[float, float]] = []
    for k in kinds:
        ones, scores = made.y == k, made.predicted[:, k]
        if 0 < ones.sum() < len(ones) and scores.min() < scores.max():
            found.append((float(_average_precision(scores, ones, np.ones((1, len(ones))))[0]), _count(made, ones)))
    return found


def _count(made: Predictions, rows: npt.NDArray[np.bool_]) -> float:
    """How many rows some are, or things."""
    return float(rows.sum()) if made.things is None else worth(made.things[rows])


SHARES = {"accuracy": _right, "f1": _found, "roc_auc": _ordered, "average_precision": _precise}
"""Metrics that are shares, or follow from some."""


def _interval(value: float, resampled: npt.NDArray[np.float64], confidence: float) -> MeasuredInterval:
    kept = resampled[np.isfinite(resampled)]
    if len(kept) < DEFINED * len(resampled) or not len(kept):
        return MeasuredInterval(value, float("nan"), float("nan"))
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return MeasuredInterval(value, float(low), float(high))
