"""Evaluate: score the held-out rows, with intervals, slices, calibration, the baseline, the champion and the ONNX twin."""

from __future__ import annotations

import base64
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config import Settings, feature_columns
from mlops_pipeline.files import read_json, replacing_folder, sha256_of_file, write_json, write_text
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.comparison import Champion, compare
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.frame import model_input, positive_index, read_target
from mlops_pipeline.modelling.metrics import (
    LOWER_IS_BETTER,
    Predictions,
    bootstrap,
    calibration_curve,
    calibration_error,
    class_indices,
    names,
    paired_difference,
    point,
    score,
)
from mlops_pipeline.modelling.model_folder import load_model
from mlops_pipeline.modelling.onnx_twin import Twin, make_twin
from mlops_pipeline.modelling.plots import draw_all
from mlops_pipeline.modelling.slices import slice_interval, slices
from mlops_pipeline.pages import page
from mlops_pipeline.registry import Registry
from mlops_pipeline.tracking import Tracking

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console


def evaluate(settings: Settings, layout: Layout, console: Console) -> None:
    """Write ``models/artifacts/evaluation`` (predictions, plots, report, ONNX twin) and ``metrics.json``; add them to the run."""
    import polars as pl

    tracking = Tracking(settings, layout)
    data, rules = settings.dataset, settings.evaluate
    training = read_json(layout.training)
    classes = training["classes"]
    test = pl.read_parquet(layout.test)
    x = model_input(test, feature_columns(settings))
    model = load_model(layout.model)
    with console.status(f"scoring {test.height:,} held-out rows"):
        predicted = predict(model, x, data.task)
        ours = _predictions(test[data.target], predicted, classes, settings)
        evaluation = _measured(settings, layout, test, ours, classes)
        champion = todays_champion(tracking, training["model_sha256"])
        evaluation["champion"] = compare(champion, ours, classes, test, rules, settings.seed) if champion else None
        evaluation["importance"] = _importance(model, x, ours, classes, settings)
        evaluation["random_split"] = _random_split(settings, layout) if rules.random_split_check else None
        twin = make_twin(model, training["features"], x, predicted, data.task, settings.onnx.tolerance) if settings.onnx.enabled else Twin(False, None, "switched off")
        evaluation["onnx"] = twin.as_json()
    with replacing_folder(layout.evaluation) as folder:
        if twin.content is not None:
            (folder / "onnx").mkdir()
            (folder / "onnx/model.onnx").write_bytes(twin.content)
        _write_predictions(folder / "predictions.parquet", test, ours, classes, settings)
        plots = draw_all(folder, ours, [str(c) for c in classes], evaluation["calibration"], evaluation["importance"])
        write_json(folder / "evaluation.json", evaluation)
        _write_report(folder, plots, settings, training, evaluation)
    write_json(layout.metrics, _flat(evaluation))
    run_id = tracking.record_training(training, None)
    tracking.record_evaluation(run_id, _flat(evaluation), layout.evaluation, sha256_of_file(layout.evaluation / "evaluation.json"))
    _say(console, evaluation)


def todays_champion(tracking: Tracking, model_sha256: str) -> Champion | None:
    """The registry's champion as a folder on this machine; None if there is none, or if it is this very model."""
    registry = Registry(tracking)
    version = registry.champion()
    if version is None or version.model_sha256 == model_sha256:
        return None
    return Champion(registry.fetch(version), version.number, version.content_sha256, version.model_sha256)


def held_out(settings: Settings, layout: Layout, classes: list[Any]) -> tuple[pl.DataFrame, Predictions]:
    """The held-out rows and what the evaluated model said of them, read back from the evaluation."""
    import polars as pl

    test = pl.read_parquet(layout.test)
    stored = pl.read_parquet(layout.evaluation / "predictions.parquet")
    columns = [name for name in stored.columns if name == "predicted" or name.startswith("probability_")]
    predicted = stored.select(columns).to_numpy()
    if settings.dataset.task == "regression":
        predicted = predicted.ravel()
    return test, _predictions(test[settings.dataset.target], predicted, classes, settings)


def _predictions(target: pl.Series, predicted: Any, classes: list[Any], settings: Settings) -> Predictions:
    data = settings.dataset
    y = target.to_numpy() if data.task == "regression" else class_indices(target.to_numpy(), classes)
    return Predictions(data.task, y, predicted, positive_index(classes, data) if classes else 0)


def _measured(settings: Settings, layout: Layout, test: pl.DataFrame, ours: Predictions, classes: list[Any]) -> dict[str, Any]:
    rules = settings.evaluate
    baseline = _baseline(layout, settings, ours, classes)
    gain, _ = paired_difference(rules.metric, ours, baseline, rules.resamples, rules.confidence, settings.seed)
    parts = slices(test, rules.slices, rules.metric, ours, rules.min_slice_rows)
    worst = None
    if parts:
        interval = slice_interval(test, parts[0], rules.metric, ours, rules.resamples, rules.confidence, settings.seed)
        worst = {**asdict(parts[0]), "low": round(interval.low, 6), "high": round(interval.high, 6)}
    split = read_json(layout.split_report)
    return {
        "metric": rules.metric,
        "confidence": rules.confidence,
        "resamples": rules.resamples,
        "test_rows": test.height,
        "test_sha256": split["test_sha256"],
        "test_span": split["test_span"],
        "train_span": split["train_span"],
        "split": split["kind"],
        "warning": split["warning"],
        "metrics": {
            name: bootstrap(name, ours, rules.resamples, rules.confidence, settings.seed).rounded() for name in names(settings.dataset.task)
        },
        "baseline": {name: round(point(name, baseline), 6) for name in names(settings.dataset.task)},
        "improvement_over_baseline": gain.rounded(),
        "calibration": calibration_curve(ours),
        "calibration_error": calibration_error(ours),
        "slices": [asdict(part) for part in parts],
        "worst_slice": worst,
    }


def _baseline(layout: Layout, settings: Settings, ours: Predictions, classes: list[Any]) -> Predictions:
    """What the dummy estimator says: the training rows' class shares, or their mean (scikit-learn's DummyClassifier)."""
    import numpy as np

    y = read_target(layout.train, settings.dataset)
    if ours.task == "regression":
        return Predictions(ours.task, ours.y, np.full(len(ours.y), y.mean()), ours.positive)
    shares = np.bincount(class_indices(y, classes), minlength=len(classes)) / len(y)
    return Predictions(ours.task, ours.y, np.tile(shares, (len(ours.y), 1)), ours.positive)


def _importance(model: Any, x: Any, ours: Predictions, classes: list[Any], settings: Settings) -> list[dict[str, Any]]:
    """How much of the metric is lost when a column is shuffled (Breiman 2001), three times, on some held-out rows."""
    import numpy as np
    from sklearn.inspection import permutation_importance

    if settings.train.estimator == "dummy" or len(x) < 10:
        return []
    rows = np.unique(np.linspace(0, len(x) - 1, min(settings.evaluate.importance_rows, len(x))).astype(int))
    sign = -1.0 if settings.evaluate.metric in LOWER_IS_BETTER else 1.0

    def scored(estimator: Any, part: Any, y: Any) -> float:
        return sign * point(settings.evaluate.metric, Predictions(ours.task, y, predict(estimator, part, ours.task), ours.positive))

    found = permutation_importance(model, x.iloc[rows], ours.y[rows], scoring=scored, n_repeats=3, random_state=settings.seed)
    order = np.argsort(-found.importances_mean, kind="stable")
    return [
        {"feature": str(x.columns[i]), "drop": round(float(found.importances_mean[i]), 6), "spread": round(float(found.importances_std[i]), 6)}
        for i in order
    ]


def _random_split(settings: Settings, layout: Layout) -> float:
    """The metric that a random split of the same rows would have reported: the flattery that a split by time avoids."""
    import numpy as np
    import polars as pl

    data, features = settings.dataset, feature_columns(settings)
    train = pl.read_parquet(layout.train)
    table = pl.concat([train, pl.read_parquet(layout.test)])
    y = np.concatenate([read_target(layout.train, data), read_target(layout.test, data)])
    held = np.zeros(len(y), dtype=bool)
    held[np.random.default_rng(settings.seed).permutation(len(y))[: len(y) - train.height]] = True
    x = model_input(table, features)
    params = read_json(layout.training)["params"]
    model = fit(build_model(settings.train.estimator, data.task, features, params, settings.seed), x[~held], y[~held], settings.train.threads)
    classes = [] if data.task == "regression" else model.classes_.tolist()
    return round(score(settings.evaluate.metric, data.task, y[held], predict(model, x[held], data.task), classes, positive_index(classes, data) if classes else 0), 6)


def _write_predictions(path: Path, test: pl.DataFrame, ours: Predictions, classes: list[Any], settings: Settings) -> None:
    import polars as pl

    columns: dict[str, Any] = {settings.dataset.target: test[settings.dataset.target]}
    if ours.task == "regression":
        columns["predicted"] = ours.predicted
    else:
        columns |= {f"probability_{name}": ours.predicted[:, k] for k, name in enumerate(classes)}
    pl.DataFrame(columns).write_parquet(path, compression="zstd")


def _write_report(folder: Path, plots: list[str], settings: Settings, training: dict[str, Any], evaluation: dict[str, Any]) -> None:
    pictures = [(name.removesuffix(".png").replace("_", " "), base64.b64encode((folder / name).read_bytes()).decode()) for name in plots]
    title = f"Evaluation of {settings.name}"
    write_text(folder / "report.html", page("evaluation.html", title=title, training=training, evaluation=evaluation, pictures=pictures))


def _flat(evaluation: dict[str, Any]) -> dict[str, float]:
    flat = {name: interval["value"] for name, interval in evaluation["metrics"].items()}
    metric = evaluation["metric"]
    flat |= {f"{metric}_low": evaluation["metrics"][metric]["low"], f"{metric}_high": evaluation["metrics"][metric]["high"]}
    flat[f"baseline_{metric}"] = evaluation["baseline"][metric]
    if evaluation["calibration_error"] is not None:
        flat["calibration_error"] = evaluation["calibration_error"]
    if evaluation["worst_slice"] is not None:
        flat[f"worst_slice_{metric}"] = evaluation["worst_slice"]["metric"]
    return flat


def _say(console: Console, evaluation: dict[str, Any]) -> None:
    main = evaluation["metrics"][evaluation["metric"]]
    console.print(
        f"            [bold]{evaluation['metric']} {main['value']:.4f}[/bold] ({evaluation['confidence']:.0%} interval {main['low']:.4f} to {main['high']:.4f}) "
        f"on {evaluation['test_rows']:,} held-out rows; baseline {evaluation['baseline'][evaluation['metric']]:.4f}"
    )
    worst = evaluation["worst_slice"]
    if worst:
        console.print(f"            worst slice: {worst['column']} = {worst['value']} with {worst['metric']:.4f} on {worst['rows']:,} rows")
    if evaluation["random_split"] is not None:
        console.print(f"            a random split would have said {evaluation['random_split']:.4f}, which is no promise for the future")
    console.print(f"            ONNX twin: {evaluation['onnx']['reason']}")
