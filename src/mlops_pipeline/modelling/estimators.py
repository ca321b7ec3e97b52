"""The named estimators. To add one: a builder here, its name in ``config.Train``; the common tests then run on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlops_pipeline.config.dataset import Column, Task
from mlops_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from optuna import Trial
    from sklearn.pipeline import Pipeline

Preprocessing = Literal["trees", "imputed trees", "linear"]


@dataclass(frozen=True)
class Estimator:
    """How to build one estimator for a task, what its inputs need, and where to look for better parameters."""

    build: Callable[[Task, int], Any]
    preprocessing: Preprocessing
    search: Callable[[Trial], dict[str, Any]]


def _random_forest(task: Task, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    kind = RandomForestRegressor if task == "regression" else RandomForestClassifier
    return kind(n_estimators=100, min_samples_leaf=5, random_state=seed)


def _logistic_regression(_task: Task, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, random_state=seed)


def _hist_gradient_boosting(task: Task, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return kind(random_state=seed)


def _lightgbm(task: Task, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMRegressor if task == "regression" else LGBMClassifier
    # deterministic with one histogram layout: the same bytes whatever the number of threads (LightGBM, Parameters);
    # n_jobs=0 leaves that number to OpenMP, since any other would be written into the model.
    return kind(n_estimators=200, random_state=seed, deterministic=True, force_row_wise=True, verbosity=-1, n_jobs=0)


def _dummy(task: Task, _seed: int) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyRegressor() if task == "regression" else DummyClassifier(strategy="prior")


ESTIMATORS: dict[str, Estimator] = {
    "random_forest": Estimator(
        _random_forest,
        "imputed trees",
        lambda trial: {
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 100, log=True),
            "max_features": trial.suggest_float("max_features", 0.2, 1.0),
        },
    ),
    "logistic_regression": Estimator(_logistic_regression, "linear", lambda trial: {"C": trial.suggest_float("C", 1e-3, 1e2, log=True)}),
    "hist_gradient_boosting": Estimator(
        _hist_gradient_boosting,
        "trees",
        lambda trial: {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 7, 127, log=True),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, 200, log=True),
        },
    ),
    "lightgbm": Estimator(
        _lightgbm,
        "trees",
        lambda trial: {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 7, 255, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 5, 500, log=True),
            "colsample_bytree": trial.suggest_float("colsample_bytree", 0.4, 1.0),
        },
    ),
    "dummy": Estimator(_dummy, "trees", lambda _trial: {}),
}


def build_model(name: str, task: Task, features: dict[str, Column], params: dict[str, Any], seed: int) -> Pipeline:
    """An unfitted scikit-learn pipeline that takes raw columns: preprocessing, then the named estimator.

    Raises :class:`PipelineError` for a parameter the estimator does not have.
    """
    from sklearn.pipeline import Pipeline

    spec = ESTIMATORS[name]
    estimator = spec.build(task, seed)
    known = estimator.get_params()
    for key, value in params.items():
        if key not in known or key == "random_state":
            remedy = "set 'seed' instead" if key == "random_state" else f"use one of {', '.join(sorted(set(known) - {'random_state'}))}"
            raise PipelineError(f"train.params.{key} = {value!r}: {name} has no such parameter here: {remedy}")
    estimator.set_params(**params)
    return Pipeline([("columns", preprocessing(spec.preprocessing, features)), ("model", estimator)])


def preprocessing(kind: Preprocessing, features: dict[str, Column]) -> Any:
    """Raw columns to a float matrix, as the estimator needs it.

    Trees get numbers as they are: scaling before trees moves split thresholds in float32, and with it the ONNX twin.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    numbers = [name for name, column in features.items() if column.kind != "category"]
    categories = [name for name, column in features.items() if column.kind == "category"]
    on_numbers: Any = "passthrough"
    if kind == "imputed trees":
        on_numbers = SimpleImputer(strategy="median", keep_empty_features=True)
    elif kind == "linear":
        on_numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    encode = (
        OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        if kind == "linear"
        else OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    )
    steps = [("numbers", on_numbers, numbers), ("categories", encode, categories)]
    return ColumnTransformer([step for step in steps if step[2]], verbose_feature_names_out=False)


def fit(model: Pipeline, x: Any, y: Any, threads: int | None) -> Pipeline:
    """Fit on all (or the given number of) cores; the fitted model does not remember how many there were."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from threadpoolctl import threadpool_limits

    estimator = model.named_steps["model"]
    runs_jobs = isinstance(estimator, RandomForestClassifier | RandomForestRegressor)
    if runs_jobs:
        estimator.set_params(n_jobs=threads or -1)
    with threadpool_limits(limits=threads):
        model.fit(x, y)
    if runs_jobs:
        estimator.set_params(n_jobs=None)
    if hasattr(estimator, "_bin_mapper"):
        # HistGradientBoosting keeps the thread count of its binning, which prediction never uses.
        estimator._bin_mapper.n_threads = 1
    return model


def predict(model: Pipeline, x: Any, task: Task) -> Any:
    """Class probabilities, shape (rows, classes), or the regression's values, shape (rows,); float64."""
    import numpy as np

    return np.asarray(model.predict(x) if task == "regression" else model.predict_proba(x), dtype=np.float64)
