"""How much of the metric is lost when a column is shuffled: what an encoder made of a value goes where the value goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.inspection import permutation_importance

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.importance import MOST_ASKED, asked, importance, made_of_each, shuffled
from mlops_pipeline.modelling.metrics import Predictions, point
from tests.model_tests.workbench import FEATURES, PROBLEMS, QUICK, Problem, fitted, raw_table, truth
from tests.unit_tests.workshop import settings_with

CASES = [
    ("lightgbm", None, "binary"),
    ("random_forest", None, "multiclass"),
    ("hist_gradient_boosting", None, "regression"),
    ("ridge", None, "regression"),
    ("logistic_regression", None, "multiclass"),
    ("ridge", "target_mean", "regression"),
    ("lightgbm", "native", "regression"),
    ("blend", None, "binary"),
]


def moved(x: Any, name: str, order: np.ndarray) -> Any:
    return x.assign(**{name: x[name].to_numpy()[order]})


@pytest.mark.parametrize(("name", "encoder", "problem"), CASES)
def test_a_model_says_the_same_to_the_bit_of_rows_that_are_not_encoded_again(name: str, encoder: str | None, problem: str) -> None:
    of: Problem = PROBLEMS[problem]
    table = raw_table(400)
    x, y = model_input(table, FEATURES), truth(table, of)
    model = fit(build_model(name, of.task, FEATURES, QUICK.get(name, {}), 3, encoder), x, y, 1)
    say, order = shuffled(model, x, of.task), np.random.default_rng(0).permutation(len(x))
    for column in FEATURES:
        assert not moved(x, column, order).equals(x)
        assert np.array_equal(say(column, order), predict(model, moved(x, column, order), of.task)), column


def test_moments_and_texts_too() -> None:
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "grey", "black"])
    table = pl.DataFrame(
        {
            "when": pl.Series(rng.integers(0, 10**8, 200)).cast(pl.Datetime("ms")),
            "then": pl.Series(rng.integers(0, 10**12, 200)).cast(pl.Datetime("ms")),
            "said": [" ".join(rng.choice(words, 4)) for _ in range(200)],
            "size": rng.normal(size=200),
        }
    )
    kinds = {"when": "datetime", "then": "datetime", "said": "text", "size": "number"}
    features = {name: Column.model_validate({"kind": kind}) for name, kind in kinds.items()}
    x, y = model_input(table, features), rng.normal(size=200)
    for estimator, encoder in (("ridge", "one_hot"), ("lightgbm", "ordinal"), ("ridge", "tfidf")):
        model = fit(build_model(estimator, "regression", features, {}, 0, encoder), x, y, 1)
        assert set(made_of_each(model.named_steps["columns"])) == set(kinds)
        say, order = shuffled(model, x, "regression"), rng.permutation(200)
        for name in kinds:
            assert np.allclose(say(name, order), predict(model, moved(x, name, order), "regression"), rtol=0, atol=1e-9), name


def test_the_figures_are_those_of_shuffling_the_table_itself() -> None:
    model, x, y = fitted("lightgbm", PROBLEMS["binary"])
    truth, settings = y.astype(int), settings_with(evaluate={"metric": "roc_auc"})

    def scored(fitted_model: Any, part: Any, of: Any) -> float:
        return point("roc_auc", Predictions("binary", of, predict(fitted_model, part, "binary"), 1))

    found = importance(model, x, Predictions("binary", truth, predict(model, x, "binary"), 1), settings)
    means = permutation_importance(model, x, truth, scoring=scored, n_repeats=3, random_state=settings.seed)
    expected = dict(zip(x.columns, zip(means.importances_mean, means.importances_std, strict=True), strict=True))
    assert {each.feature for each in found} == set(FEATURES)
    for each in found:
        assert (each.drop, each.spread) == pytest.approx(expected[each.feature], abs=1e-6)


def test_of_many_columns_a_model_is_asked_of_fewer_rows_and_no_spread_is_made_up() -> None:
    assert asked(2_000, 20) == (2_000, 3)
    for columns in (200, 800, 5_000):
        rows, shuffles = asked(2_000, columns)
        assert shuffles == 1
        assert rows == 100 or 100 < rows <= MOST_ASKED / columns
    assert asked(40, 10_000) == (40, 1)


def test_what_is_shuffled_once_has_no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_pipeline.modelling.importance.MOST_ASKED", 1_000)
    model, x, y = fitted("lightgbm", PROBLEMS["binary"])
    found = importance(model, x, Predictions("binary", y.astype(int), predict(model, x, "binary"), 1), settings_with())
    assert {each.feature for each in found} == set(FEATURES)
    assert {each.spread for each in found} == {None}


def test_of_rows_on_which_the_metric_is_not_defined_nothing_is_said() -> None:
    model, x, y = fitted("lightgbm", PROBLEMS["binary"])
    said, settings = predict(model, x, "binary"), settings_with(evaluate={"metric": "roc_auc"})
    alone = y == y[0]
    assert importance(model, x[alone], Predictions("binary", y[alone].astype(int), said[alone], 1), settings) == []
