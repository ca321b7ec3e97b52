"""What held-out rows say of a model: metrics with intervals, baseline, slices, and what a random split hides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from mlops_pipeline.config.pipeline import Settings, feature_columns, metrics_of
from mlops_pipeline.contract.evaluation import FORMAT, Bin, Evaluation, Figure, Interval, Slice
from mlops_pipeline.contract.privacy import UNTOLD, private_names
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.fitting import fitting_of
from mlops_pipeline.modelling.frame import model_input, positive_index, read_target, without_rare
from mlops_pipeline.modelling.metrics import (
    MeasuredInterval,
    Predictions,
    bootstrap_with_gain,
    calibration_curve,
    calibration_error,
    calibration_error_by_chance,
    class_indices,
    point,
    score,
)
from mlops_pipeline.modelling.slices import MeasuredSlice, slice_interval, slices, with_lengths
from mlops_pipeline.tables.things import things_of

if TYPE_CHECKING:
    import polars as pl


def predictions_of(test: pl.DataFrame, predicted: Any, classes: list[Any], settings: Settings) -> Predictions:
    """Truth and predictions side by side, classes as indices, and what rows belong to as numbers."""
    data = settings.dataset
    y, hashes = test[data.target].to_numpy(), things_of(test, settings)
    things = None if hashes is None else np.unique(hashes, return_inverse=True)[1].astype(np.int64)
    if has_classes(data.task):
        y = class_indices(y, classes)
    return Predictions(data.task, y, predicted, positive_index(classes, data) if classes else 0, things)


def measured(settings: Settings, layout: Layout, test: pl.DataFrame, ours: Predictions, classes: list[Any]) -> Evaluation:
    """Everything that the truth and the predictions alone can tell."""
    rules = settings.evaluate
    figures = metrics_of(settings)
    dummies = dummies_of(figures, read_target(layout.train, settings.dataset), ours, classes)
    intervals, gain = bootstrap_with_gain(
        figures, rules.metric, ours, dummies[rules.metric], rules.resamples, rules.confidence, settings.seed
    )
    texts = [name for name, column in feature_columns(settings).items() if column.kind == "text" and not column.private]
    test, lengths = with_lengths(test, texts)
    parts = slices(test, (*rules.slices, *lengths), rules.metric, ours, max(rules.min_slice_rows, settings.dataset.min_level_rows))
    shown, worst = without_private(parts, settings), None
    if parts:
        interval = interval_of(slice_interval(test, parts[0], rules.metric, ours, rules.resamples, rules.confidence, settings.seed))
        worst = replace(shown[0], low=interval.low, high=interval.high)
    split = read_json(layout.split_report)
    # A bin of few rows tells their values.
    is_private = settings.dataset.columns[settings.dataset.target].private
    return Evaluation(
        format=FORMAT,
        pipeline=settings.name,
        metric=rules.metric,
        confidence=rules.confidence,
        resamples=rules.resamples,
        test_rows=test.height,
        test_things=None if ours.things is None else len(np.unique(ours.things)),
        test_sha256=split["test_sha256"],
        test_span=split["test_span"],
        train_span=split["train_span"],
        split=split["kind"],
        warning=split["warning"],
        metrics={name: interval_of(interval) for name, interval in intervals.items()},
        baseline={name: figure(point(name, dummies[name])) for name in figures},
        improvement_over_baseline=interval_of(gain),
        calibration=[
            Bin(figure(part["predicted"]), figure(part["observed"]), int(part["rows"]))
            for part in (calibration_curve(ours) if has_classes(ours.task) or not is_private else ())
        ],
        calibration_error=figure(calibration_error(ours)),
        calibration_error_by_chance=figure(calibration_error_by_chance(ours)),
        slices=shown,
        worst_slice=worst,
    )


def without_private(parts: list[MeasuredSlice], settings: Settings) -> list[Slice]:
    """The slices as they are kept; the values of a private column are only counted."""
    private = private_names(settings.dataset.columns)
    return [
        Slice(**{**asdict(part), **({"value": f"{UNTOLD} value {k}"} if part.column in private else {})}) for k, part in enumerate(parts, 1)
    ]


def held_out(settings: Settings, layout: Layout, classes: list[Any]) -> tuple[pl.DataFrame, Predictions]:
    """The held-out rows and what the evaluated model said of them, read back from the evaluation."""
    import polars as pl

    test = pl.read_parquet(layout.test, glob=False)
    stored = pl.read_parquet(layout.evaluation / "predictions.parquet", glob=False)
    # The target stands first, whatever it is called.
    predicted = stored.select(stored.columns[1:]).to_numpy()
    if not has_classes(settings.dataset.task):
        predicted = predicted.ravel()
    return test, predictions_of(test, predicted, classes, settings)


def random_split(
    settings: Settings,
    layout: Layout,
    estimator: str,
    params: dict[str, Any],
    encoder: str | None = None,
    encoder_params: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> float | None:
    """The metric that a random split of the same rows would have reported: the flattery that a split by time avoids.

    ``say`` hears how far its fit is.
    """
    import polars as pl

    data, features = settings.dataset, feature_columns(settings)
    train = pl.read_parquet(layout.train, glob=False)
    table = pl.concat([train, pl.read_parquet(layout.test, glob=False)])
    y = np.concatenate([read_target(layout.train, data), read_target(layout.test, data)])
    held = np.zeros(len(y), dtype=bool)
    held[np.random.default_rng(settings.seed).permutation(len(y))[: len(y) - train.height]] = True
    x = without_rare(model_input(table, features), features, data.min_level_rows)
    unfitted = build_model(estimator, data.task, features, params, settings.seed, encoder, encoder_params)
    during = fitting_of(settings, table.filter(pl.Series(~held)), y[~held], say=say)
    model = fit(unfitted, x[~held], y[~held], settings.train.threads, during)
    classes = [] if not has_classes(data.task) else model.classes_.tolist()
    said, positive = predict(model, x[held], data.task), positive_index(classes, data) if classes else 0
    return figure(score(settings.evaluate.metric, data.task, y[held], said, classes, positive))


def figure(value: float | None) -> Figure:
    """A number as it is kept, None for what could not be measured."""
    return None if value is None or math.isnan(value) else round(value, 6)


def interval_of(measured: MeasuredInterval) -> Interval:
    """An interval as it is kept."""
    return Interval(figure(measured.value), figure(measured.low), figure(measured.high))


def flat(evaluation: Evaluation) -> dict[str, Figure]:
    """The figures that DVC and MLflow compare from run to run."""
    metric, main = evaluation.metric, evaluation.metrics[evaluation.metric]
    figures = {name: interval.value for name, interval in evaluation.metrics.items()}
    figures |= {f"{metric}_low": main.low, f"{metric}_high": main.high, f"baseline_{metric}": evaluation.baseline[metric]}
    if evaluation.calibration_error is not None:
        figures["calibration_error"] = evaluation.calibration_error
    if evaluation.worst_slice is not None:
        figures[f"worst_slice_{metric}"] = evaluation.worst_slice.metric
    return figures


def dummies_of(metrics: Iterable[str], y: Any, ours: Predictions, classes: list[Any]) -> dict[str, Predictions]:
    """For each metric what a dummy says of the held-out rows: the training rows' class shares, or their mean; by MAE their median.

    By F1 of two classes it is the positive one, whatever its share p: that has 2p / (1 + p), where the likelier class, if it is the other,
    would have 0, and any model be better. So by our metrics none is better that answers all training rows alike.
    """
    if has_classes(ours.task):
        shares = np.bincount(class_indices(y, classes), minlength=len(classes)) / len(y)
        said = dict.fromkeys(metrics, np.tile(shares, (len(ours.y), 1)))
        if "f1" in said and ours.task == "binary":
            said["f1"] = np.tile(np.eye(len(classes))[ours.positive], (len(ours.y), 1))
    else:
        said = {name: np.full(len(ours.y), np.median(y) if name == "mae" else y.mean()) for name in metrics}
    return {name: dataclasses.replace(ours, predicted=each) for name, each in said.items()}
