"""How much of the metric is lost when a column is shuffled: what is not encoded again says what it says when it is."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_pipeline.modelling.estimators import predict
from mlops_pipeline.modelling.evaluation import importance, saying
from mlops_pipeline.modelling.metrics import Predictions
from tests.model_tests.workbench import FEATURES, PROBLEMS, Problem, fitted
from tests.unit_tests.workshop import settings_with

CASES = [("lightgbm", "binary"), ("random_forest", "multiclass"), ("hist_gradient_boosting", "regression"), ("ridge", "regression")]


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_a_model_says_the_same_to_the_bit_of_rows_that_are_encoded_in_part(name: str, problem: str) -> None:
    of: Problem = PROBLEMS[problem]
    model, x, _ = fitted(name, of)
    say, order = saying(model, x, of.task), np.random.default_rng(0).permutation(len(x))
    assert np.array_equal(say(x), predict(model, x, of.task))
    for columns in (*([column] for column in FEATURES), ["size", "weight"], ["size", "kind"]):
        part = x.copy()
        for column in columns:
            shuffled = part[column].iloc[order]
            shuffled.index = part.index
            part[column] = shuffled
        assert not part.equals(x)
        assert np.array_equal(say(part), predict(model, part, of.task)), columns


def test_of_rows_that_are_all_of_one_class_nothing_is_said() -> None:
    """As the rows that are looked at may be of many thousands, where the other class is rare."""
    model, x, _ = fitted("lightgbm", PROBLEMS["binary"])
    said = predict(model, x, "binary")
    both = np.arange(len(x)) % 2
    assert len(importance(model, x, Predictions("binary", both, said), settings_with())) == len(x.columns)
    assert importance(model, x, Predictions("binary", np.zeros_like(both), said), settings_with()) == []
