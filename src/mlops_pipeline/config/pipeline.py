"""The settings tree: everything a run depends on, read from one YAML file, frozen and checked.

The file says *what* is done. The environment says only *where* services are (``MLFLOW_TRACKING_URI``,
``MLFLOW_REGISTRY_URI``), so that nothing that changes a result hides outside the file.
"""

import json
import os
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NaiveDatetime, model_validator

from mlops_pipeline.config.dataset import Column, Dataset, Share
from mlops_pipeline.config.tree import Frozen, Name, read_yaml, shown, tree_of
from mlops_pipeline.errors import PipelineError

CLASSIFICATION_METRICS = ("roc_auc", "average_precision", "log_loss", "brier", "accuracy", "f1")
REGRESSION_METRICS = ("rmse", "mae", "r2")
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae"})


class Ingest(Frozen):
    """Reading the source."""

    max_broken_share: Share = 0.01
    chunk_mb: int = Field(8, ge=1, le=512, description="megabytes of the source read at a time")


class Validate(Frozen):
    """Checks on the table before anything is trained on it."""

    range_slack: float = Field(0.25, ge=0, description="inferred bounds are widened by this share of the range")
    null_share_slack: Share = 0.05
    max_categories: int = Field(1000, ge=2)
    max_duplicate_share: Share = 0.01
    min_class_share: Share = 0.01
    max_single_feature_auc: float = Field(0.95, gt=0.5, le=1)


class Split(Frozen):
    """What is held out: the rows from a moment on, or a share drawn at random within each class."""

    kind: Literal["time", "stratified"]
    train_from: NaiveDatetime | None = None
    test_from: NaiveDatetime | None = None
    test_until: NaiveDatetime | None = None
    test_share: float = Field(0.25, gt=0, lt=1)

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.kind == "stratified":
            if self.train_from or self.test_from or self.test_until:
                raise ValueError("'train_from', 'test_from' and 'test_until' belong to kind 'time'")
            return self
        if self.test_from is None:
            raise ValueError("kind 'time' needs 'test_from'")
        moments = [m for m in (self.train_from, self.test_from, self.test_until) if m is not None]
        if any(later <= earlier for earlier, later in pairwise(moments)):
            raise ValueError("'train_from' < 'test_from' < 'test_until' must hold")
        return self


class Features(Frozen):
    """Which columns the model sees."""

    include: tuple[str, ...] | None = Field(None, description="default: every column that may be a feature")
    exclude: tuple[str, ...] = ()


class Train(Frozen):
    """The estimator by name, and its parameters as the library spells them."""

    estimator: Literal["random_forest", "logistic_regression", "hist_gradient_boosting", "lightgbm", "dummy"]
    params: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    threads: int | None = Field(None, ge=1, description="default: every core of the machine")


class Tuning(Frozen):
    """Search for parameters on the training rows alone."""

    trials: int = Field(0, ge=0, description="0: no search")
    time_budget_s: float | None = Field(None, gt=0)
    folds: int = Field(3, ge=2, le=20)
    metric: str | None = Field(None, description="default: roc_auc, log_loss for several classes, rmse for regression")
    storage: str | None = Field(None, description="an Optuna storage address; default: a file under models/")


class Evaluate(Frozen):
    """How the held-out rows are scored."""

    metric: str = "roc_auc"
    confidence: float = Field(0.95, gt=0.5, lt=1)
    resamples: int = Field(500, ge=50)
    slices: tuple[str, ...] = ()
    min_slice_rows: int = Field(200, ge=1)
    importance_rows: int = Field(2000, ge=10)
    random_split_check: bool = Field(False, description="also fit on a random split, to show how much it would flatter the model")


class Gate(Frozen):
    """Rules a version must pass to become champion; null switches a rule off."""

    beat_baseline_by: float | None = Field(0.0, description="least gain over the dummy baseline, at the stated confidence")
    champion_margin: float | None = Field(0.01, ge=0, description="how much worse than the champion is still accepted")
    worst_slice: float | None = Field(None, description="least value of the metric in the worst slice")
    max_calibration_error: Share | None = None
    max_latency_ms: float | None = Field(None, gt=0, description="median time to predict one row")
    max_size_mb: float | None = Field(None, gt=0)


class Onnx(Frozen):
    """The twin that serves without scikit-learn."""

    enabled: bool = True
    tolerance: float = Field(1e-4, gt=0, description="largest difference accepted on any held-out row")


class Tracking(Frozen):
    """Where runs are recorded; ``MLFLOW_TRACKING_URI`` in the environment wins over ``uri``."""

    uri: str | None = Field(None, description="default: SQLite in mlflow/mlflow.db")
    experiment: Name | None = Field(None, description="default: the pipeline's name")
    artifacts: str | None = Field(None, description="artifact root; default: mlflow/artifacts, or the server's own")


class Registry(Frozen):
    """Where versions are registered; ``MLFLOW_REGISTRY_URI`` in the environment wins over ``uri``."""

    uri: str | None = Field(None, description="default: the tracking address")
    model: Name | None = Field(None, description="registered name; default: the pipeline's name")


class Paths(Frozen):
    """Where the pipeline keeps its files; a second pipeline in one project takes another root."""

    root: str = "."

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if Path(self.root).is_absolute() or ".." in Path(self.root).parts:
            raise ValueError(f"root '{self.root}' must be a folder inside the project")
        return self


class Settings(Frozen):
    """One pipeline."""

    name: Name
    seed: int = Field(ge=0, lt=2**32)
    dataset: Dataset
    ingest: Ingest
    validate_: Validate = Field(alias="validate")
    split: Split
    features: Features
    train: Train
    tuning: Tuning
    evaluate: Evaluate
    gate: Gate
    onnx: Onnx
    tracking: Tracking
    registry: Registry
    paths: Paths

    @model_validator(mode="after")
    def _features_exist(self) -> Self:
        data = self.dataset
        barred = {data.target: "the target", **dict.fromkeys(data.known_after_outcome, "known only after the outcome")}
        for key, names in (("features.include", self.features.include or ()), ("features.exclude", self.features.exclude)):
            for name in names:
                if name not in data.columns:
                    raise ValueError(f"{key} names '{name}', which is not among dataset.columns")
        for name in self.features.include or ():
            if name in barred:
                raise ValueError(f"features.include names '{name}', which is {barred[name]}: take it out")
            kind = data.columns[name].kind
            if kind in ("datetime", "text"):
                raise ValueError(f"features.include names '{name}' of kind '{kind}': derive a number from it")
        if not feature_columns(self):
            raise ValueError("no column is left as a feature: check features.exclude and dataset.columns")
        return self

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        data = self.dataset
        if self.split.kind == "time" and data.time_column is None:
            raise ValueError("split.kind is 'time', but dataset.time_column is not set: name it or use 'stratified'")
        if data.history and self.split.kind != "time":
            raise ValueError("dataset.history needs split.kind 'time': with another split it would carry held-out labels into training")
        for name in self.evaluate.slices:
            if name not in data.columns:
                raise ValueError(f"evaluate.slices names '{name}', which is not among dataset.columns")
        allowed = REGRESSION_METRICS if data.task == "regression" else CLASSIFICATION_METRICS
        for key, metric in (("evaluate", self.evaluate.metric), ("tuning", tuning_metric(self))):
            if metric not in allowed:
                raise ValueError(f"{key}.metric '{metric}' does not fit a {data.task} task: use one of {', '.join(allowed)}")
        if self.train.estimator == "logistic_regression" and data.task == "regression":
            raise ValueError("train.estimator 'logistic_regression' cannot do regression: use 'lightgbm' or 'random_forest'")
        return self


PIPELINE_KEYS = frozenset({"dataset", "train"})
"""Keys by which a file is known to hold a pipeline's settings."""

_SERVER_KEYS = frozenset({"pipeline", "models", "record"})


def feature_columns(settings: Settings) -> dict[str, Column]:
    """The model's input columns in order: numbers first, then categories."""
    data = settings.dataset
    barred = {data.target, data.time_column, *data.entity_key, *data.known_after_outcome, *settings.features.exclude}
    if settings.features.include is None:
        names = [n for n, c in data.columns.items() if n not in barred and c.kind not in ("datetime", "text")]
    else:
        names = [n for n in settings.features.include if n not in settings.features.exclude]
    return {
        **{n: data.columns[n] for n in names if data.columns[n].kind != "category"},
        **{n: data.columns[n] for n in names if data.columns[n].kind == "category"},
    }


def tuning_metric(settings: Settings) -> str:
    """What a search for parameters improves."""
    usual = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
    return settings.tuning.metric or usual[settings.dataset.task]


def load_settings(path: Path) -> Settings:
    """Read a pipeline's YAML file into the frozen tree.

    Raises :class:`PipelineError` in one line that names the file, the key, the value and the remedy.
    """
    content = read_yaml(path, "start from `mlops init`")
    if content.keys() & _SERVER_KEYS and not content.keys() & PIPELINE_KEYS:
        pipeline = content.get("pipeline")
        other = f"name its pipeline's, {path.parent / pipeline}," if isinstance(pipeline, str) else "name the pipeline's file"
        raise PipelineError(f"{path}: holds a server's settings, not a pipeline's: {other} with --config")
    for key, value in _bare_dates(content, ""):
        raise PipelineError(f"{path}: {key} = {value}: put the date in quotes, DVC cannot record a bare one")
    return settings_of(content, str(path))


def settings_of(content: dict[str, Any], origin: str) -> Settings:
    """Build the tree from a mapping; ``origin`` is named in errors."""
    return tree_of(Settings, content, origin)


def json_schema() -> str:
    """The JSON schema that editors check the YAML file with."""
    return json.dumps(Settings.model_json_schema(by_alias=True), indent=2)


def tracking_uri(settings: Settings, default: str) -> str:
    """The tracking address: environment, then file, then the given default."""
    return os.environ.get("MLFLOW_TRACKING_URI") or settings.tracking.uri or default


def registry_uri(settings: Settings, default: str) -> str:
    """The registry address: environment, then file, then the tracking address."""
    return os.environ.get("MLFLOW_REGISTRY_URI") or settings.registry.uri or tracking_uri(settings, default)


def shown_settings(settings: Settings) -> dict[str, Any]:
    """The whole tree as plain values, without the passwords that addresses may hold."""
    return dict(shown(settings.model_dump(mode="json", by_alias=True)))


def _bare_dates(value: Any, key: str) -> Iterator[tuple[str, date]]:
    if isinstance(value, date):
        yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from _bare_dates(item, f"{key}.{name}" if key else str(name))
