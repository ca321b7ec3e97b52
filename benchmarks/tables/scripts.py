"""Three plain scripts, ten lines each, on the very rows that a pipeline trained on and held out: what anyone would write in a minute."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

MANY = 50
RESAMPLES = 200


def features(train: pd.DataFrame, test: pd.DataFrame, target: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Numbers as they are, moments as numbers, all else as categories of the training rows."""
    both = []
    for table in (train, test):
        made = table.drop(columns=target).copy()
        for name in made.columns:
            if pd.api.types.is_datetime64_any_dtype(made[name]):
                made[name] = made[name].astype("int64") / 8.64e13
            elif not pd.api.types.is_numeric_dtype(made[name]):
                made[name] = pd.Categorical(made[name], categories=sorted(train[name].dropna().astype(str).unique()))
        both.append(made)
    return both[0], both[1]


def linear(x: pd.DataFrame, y: Any, held: pd.DataFrame, *, classes: bool) -> tuple[Any, Any]:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    few = [name for name in x if x[name].dtype != "category" or len(x[name].cat.categories) <= MANY]
    x, held = (pd.get_dummies(each[few], dummy_na=True, dtype=float) for each in (x, held))
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000) if classes else Ridge())
    return model.fit(x, y), held.reindex(columns=x.columns, fill_value=0.0)


def forest(x: pd.DataFrame, y: Any, held: pd.DataFrame, *, classes: bool) -> tuple[Any, Any]:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    x, held = (each.apply(lambda c: c.cat.codes if c.dtype == "category" else c) for each in (x, held))
    model = (RandomForestClassifier if classes else RandomForestRegressor)(n_estimators=100, random_state=0, n_jobs=-1)
    return model.fit(x, y), held


def lightgbm(x: pd.DataFrame, y: Any, held: pd.DataFrame, *, classes: bool) -> tuple[Any, Any]:
    from lightgbm import LGBMClassifier, LGBMRegressor

    names = {name: f"c{place}" for place, name in enumerate(x)}
    model = (LGBMClassifier if classes else LGBMRegressor)(random_state=0, verbosity=-1)
    return model.fit(x.rename(columns=names), y), held.rename(columns=names)


SCRIPTS = (linear, forest, lightgbm)


def said_of(train: pd.DataFrame, test: pd.DataFrame, target: str, metric: str) -> dict[str, Any]:
    """What each script that does not fail says of the held-out rows: the last class's probability, a class, or a value."""
    x, held = features(train, test, target)
    found: dict[str, Any] = {}
    for script in SCRIPTS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model, rows = script(x, train[target], held, classes=metric != "rmse")
                found[script.__name__] = model.predict_proba(rows)[:, -1] if metric == "roc_auc" else model.predict(rows)
            except ValueError as error:
                print(f"    {script.__name__}: {str(error).splitlines()[0]}")
    return found


def score(y: Any, said: Any, metric: str) -> float:
    """The metric of what was said of rows; of two classes ``y`` is whether a row is of the last."""
    from sklearn.metrics import accuracy_score, roc_auc_score, root_mean_squared_error

    return float({"roc_auc": roc_auc_score, "accuracy": accuracy_score, "rmse": root_mean_squared_error}[metric](y, said))


def paired_error(y: Any, ours: Any, theirs: Any, metric: str) -> float:
    """One standard error of the difference of two on the same rows, by resampling the rows; NaN where no resample has two classes."""
    random, found = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(y), len(y))
        if metric != "roc_auc" or 0 < y[rows].sum() < len(rows):
            found.append(score(y[rows], ours[rows], metric) - score(y[rows], theirs[rows], metric))
    return float(np.std(found, ddof=1)) if len(found) > 1 else float("nan")
