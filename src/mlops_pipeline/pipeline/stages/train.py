"""Train: fit the named estimator on the training rows, tuned if asked, and save it as an MLflow model folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.pipeline import Settings, feature_columns
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.files import replacing_folder, sha256_of_file, write_json
from mlops_pipeline.layout import Layout
from mlops_pipeline.modelling.estimators import build_model, fit
from mlops_pipeline.modelling.formats.skops import model_digest, save_model, size_in_bytes
from mlops_pipeline.modelling.frame import model_input, read_target
from mlops_pipeline.modelling.requirements import model_requirements
from mlops_pipeline.registry.runs import Tracking

if TYPE_CHECKING:
    from rich.console import Console

SAMPLE_ROWS = 200
"""Rows from which the signature is inferred; three of them become the input example."""


def train(settings: Settings, layout: Layout, console: Console) -> None:
    """Write ``models/artifacts/model`` and ``training.json``, and record the run in MLflow.

    Reads the training rows only. Raises :class:`PipelineError` if they hold a single class, or if MLflow cannot be
    reached (before anything is fitted).
    """
    import polars as pl

    from mlops_pipeline.modelling.tuning import tune

    tracking = Tracking(settings, layout).open()
    data, features = settings.dataset, feature_columns(settings)
    table = pl.read_parquet(layout.train, glob=False)
    y = read_target(layout.train, data)
    classes = _classes(y, settings)
    x = model_input(table, features)
    tuned = tune(settings, layout, table, x, y, console)
    params = {**settings.train.params, **tuned.params}
    model = build_model(settings.train.estimator, data.task, features, params, settings.seed)
    began = time.perf_counter()
    with console.status(f"fitting {settings.train.estimator} on {len(x):,} rows"):
        try:
            fit(model, x, y, settings.train.threads)
        except Exception as error:  # the libraries raise types of their own for parameters out of range
            raise PipelineError(f"train.params = {params}: {settings.train.estimator} refuses to fit: {one_line(error)}") from error
    fit_seconds = time.perf_counter() - began
    sample = _sample(x, features)
    with replacing_folder(layout.model) as folder:
        save_model(folder, model, sample, data.task, model_requirements(settings.train.estimator))
    training = {
        "model_sha256": model_digest(layout.model),
        "model_bytes": size_in_bytes(layout.model),
        "estimator": settings.train.estimator,
        "params": params,
        "tuning": tuned.summary,
        "task": data.task,
        "target": data.target,
        "classes": classes,
        "features": {name: column.kind for name, column in features.items()},
        "columns": {name: column.model_dump() for name, column in features.items()},
        "categories": {name: sorted(x[name].unique().tolist()) for name, column in features.items() if column.kind == "category"},
        "train_rows": len(x),
        "train_sha256": sha256_of_file(layout.train),
        "seed": settings.seed,
    }
    write_json(layout.training, training)
    tracking.record_training(training, fit_seconds)
    console.print(f"            {settings.train.estimator} fitted on {len(x):,} × {len(features)} in {fit_seconds:.1f} s")


def _classes(y: Any, settings: Settings) -> list[Any]:
    if settings.dataset.task == "regression":
        return []
    classes = sorted(set(y.tolist()), key=lambda value: (str(type(value)), value))
    if len(classes) < 2:
        raise PipelineError(
            f"dataset.target '{settings.dataset.target}': the training rows hold only {classes}: widen split, or check the target"
        )
    if settings.dataset.task == "binary" and len(classes) != 2:
        raise PipelineError(
            f"dataset.task 'binary': the target has {len(classes)} classes ({', '.join(map(str, classes[:5]))}): set task: multiclass"
        )
    if settings.dataset.positive is not None and str(settings.dataset.positive) not in map(str, classes):
        raise PipelineError(f"dataset.positive = {settings.dataset.positive!r}: is not among the classes {classes}")
    return classes


def _sample(x: Any, features: dict[str, Any]) -> Any:
    """Evenly spaced rows, with a null wherever the column may hold one, so that the signature says so."""
    import numpy as np

    sample = x.iloc[np.unique(np.linspace(0, len(x) - 1, min(SAMPLE_ROWS, len(x))).astype(int))].reset_index(drop=True)
    for name, column in features.items():
        if column.kind != "category" and column.nullable and len(sample) > 3:
            sample.loc[len(sample) - 1, name] = np.nan
    return sample
