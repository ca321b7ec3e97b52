"""A line through time is taken off a target that grows, before trees are fitted to what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.config.pipeline import feature_columns
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling import estimators
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.formats.skops import load_model
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.race import race
from mlops_pipeline.plugins import run
from tests.model_tests.test_race import by_time, daily, quiet
from tests.model_tests.workbench import make_twin, save

FEATURES = {"size": Column(kind="number"), "when": Column(kind="datetime"), "kind": Column(kind="category")}
KINDS = {name: column.kind for name, column in FEATURES.items()}


def growing(days: Any, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    """Rows of some days, and a number that grows from day to day and leaps with the size."""
    size = np.random.default_rng(seed).normal(size=len(days))
    when = (np.datetime64("2020-01-01") + np.asarray(days)).astype(str)
    x = pd.DataFrame({"size": size, "when": when, "kind": np.where(size > 0.5, "a", "b")})
    return x, 1_000 + 0.5 * np.asarray(days) + 20.0 * (size > 0)


@pytest.mark.parametrize(("estimator", "encoder"), [("lightgbm", "ordinal"), ("lightgbm", "native"), ("random_forest", "ordinal_imputed")])
def test_trees_go_on_as_the_target_grew(estimator: str, encoder: str, tmp_path: Path) -> None:
    x, y = growing(np.arange(400))
    later, came = growing(np.arange(400, 500), seed=1)
    errors = {}
    for name, params in (("plain", {}), ("trend", {"trend": "when"})):
        model = fit(build_model(estimator, "regression", FEATURES, params, 0, encoder), x, y, 1)
        errors[name] = float(np.sqrt(np.mean((predict(model, later, "regression") - came) ** 2)))
    assert errors["trend"] < 5
    assert errors["plain"] > 20
    said = predict(model, later, "regression")
    save(tmp_path / "model", estimator, model, x, "regression")
    assert np.array_equal(predict(load_model(tmp_path / "model"), later, "regression"), said)
    timeless = predict(model, later.assign(when="(missing)"), "regression")
    assert np.abs(timeless - y.mean()).max() < 60, "where no moment stands the line is at its mean"


def test_along_a_number_too_and_a_twin_says_why_there_is_none() -> None:
    years = np.arange(300.0)
    x, y = pd.DataFrame({"size": np.sin(years), "year": years}), 3 * years + np.sin(years)
    features = {name: Column(kind="number") for name in x}
    model = fit(build_model("lightgbm", "regression", features, {"trend": "year"}, 0, "ordinal"), x, y, 1)
    later = pd.DataFrame({"size": [0.0], "year": [400.0]})
    assert predict(model, later, "regression") == pytest.approx([1200.0], abs=3)
    twin = make_twin(model, dict.fromkeys(features, "number"), x, predict(model, x, "regression"), "regression", 1e-4)
    assert twin.reason == "not convertible, a line through time is part of it: served by scikit-learn"


def test_a_line_goes_on_as_far_again_as_rows_reach_and_no_further_whatever_year_is_typed() -> None:
    years = np.arange(2000.0, 2020.0)
    x, y = pd.DataFrame({"size": np.sin(years), "year": years}), 3 * years
    features = {name: Column(kind="number") for name in x}
    model = fit(build_model("lightgbm", "regression", features, {"trend": "year"}, 0, "ordinal"), x, y, 1)
    asked = pd.DataFrame({"size": 0.0, "year": [1000.0, 1981.0, 1999.0, 2030.0, 2038.0, 2039.0, 20_200.0, np.inf]})
    said = predict(model, asked, "regression")
    assert said == pytest.approx([5943, 5943, 5997, 6090, 6114, 6114, 6114, y.mean()], abs=3)
    trended = model.named_steps["model"]
    del trended.from_, trended.until_
    before = predict(model, asked, "regression")
    assert before[6] == pytest.approx(3 * 20_200, rel=1e-3), "one that was saved before its line had ends says what it said"


@pytest.mark.parametrize(
    ("task", "trend", "said"),
    [
        ("binary", "when", "train.params.trend = 'when': a line is taken off a number, and this task is binary"),
        ("regression", "kind", "train.params.trend = 'kind': names no feature that is a number or a moment: use one of size, when"),
        ("regression", "month", "train.params.trend = 'month': names no feature"),
    ],
)
def test_a_line_along_what_is_no_feature_or_of_what_is_no_number_is_refused_in_one_line(task: Any, trend: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        build_model("lightgbm", task, FEATURES, {"trend": trend}, 0)


def test_a_parameter_of_another_s_own_that_is_called_so_too_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.dummy import DummyRegressor

    class Seasonal(DummyRegressor):
        def __init__(self, trend: str | None = None) -> None:
            super().__init__()
            self.trend = trend

    monkeypatch.setattr(estimators.plugins, "run", lambda part, *given: Seasonal() if part.name == "dummy" else run(part, *given))
    made = build_model("dummy", "regression", FEATURES, {"trend": "add"}, 0).named_steps["model"]
    assert isinstance(made, Seasonal)
    assert made.trend == "add"


@pytest.mark.parametrize("grows", [True, False])
def test_a_race_in_time_takes_the_line_where_the_target_grows_and_not_where_it_does_not(*, grows: bool) -> None:
    settings, (table, noise) = by_time(), daily(300, 0)
    leaps = 20.0 * (np.sin(9 * table["size"].to_numpy()) > 0) + noise
    found = race(settings, table, model_input(table, feature_columns(settings)), leaps + (0.5 * np.arange(300) if grows else 0.0), quiet())
    params = [found.train.params, *(each["params"] for each in found.train.params.get("members", []))]
    assert any(each.get("trend") == "when" for each in params) is grows
    assert found.left_out == (() if grows else ("when",))
