"""The ONNX twin serves only where it says what the model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.inference.engine import OnnxEngine
from mlops_pipeline.inference.scorer import example_rows, load_scorer
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.formats.twin import predict as by_engine
from mlops_pipeline.modelling.frame import model_input
from tests.model_tests.workbench import FEATURES, KINDS, PROBLEMS, fitted, make_twin, raw_table, truth, version_folder


def test_a_twin_that_differs_on_one_row_is_not_accepted_and_says_by_how_much() -> None:
    model, x, _ = fitted("lightgbm", PROBLEMS["binary"])
    tampered = predict(model, x, "binary")
    tampered[17] += [0.01, -0.01]
    twin = make_twin(model, KINDS, x, tampered, "binary", 1e-4)
    assert not twin.accepted
    assert twin.content is None
    assert twin.max_difference == pytest.approx(0.01, abs=1e-4)
    assert twin.reason == "differs by 0.01 on a held-out row, more than 0.0001"


def test_float32_is_not_float64_and_a_tolerance_of_nothing_refuses_it() -> None:
    model, x, _ = fitted("logistic_regression", PROBLEMS["binary"])
    said = predict(model, x, "binary")
    assert not make_twin(model, KINDS, x, said, "binary", 1e-15).accepted
    assert make_twin(model, KINDS, x, said, "binary", 1e-4).accepted


def test_a_difference_that_cannot_be_computed_is_not_accepted() -> None:
    model, x, _ = fitted("lightgbm", PROBLEMS["binary"])
    said = predict(model, x, "binary")
    said[3] = np.nan
    assert not make_twin(model, KINDS, x, said, "binary", 1e-4).accepted


def test_a_regression_is_compared_in_standard_deviations_of_its_predictions() -> None:
    table = raw_table()
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["regression"]) * 1e7
    model = fit(build_model("lightgbm", "regression", FEATURES, {"n_estimators": 20}, 0), x, y, 1)
    twin = make_twin(model, KINDS, x, predict(model, x, "regression"), "regression", 1e-4)
    assert twin.accepted, twin.reason


def test_what_cannot_be_converted_is_told_and_stops_nothing() -> None:
    model, x, _ = fitted("lightgbm", PROBLEMS["binary"])
    said = predict(model, x, "binary")
    model.steps[1] = ("model", object())
    twin = make_twin(model, KINDS, x, said, "binary", 1e-4)
    assert not twin.accepted
    assert twin.reason.startswith("not convertible: ")
    assert "\n" not in twin.reason


def test_the_same_model_gives_the_same_twin() -> None:
    twins = []
    for _ in range(2):
        model, x, _ = fitted("lightgbm", PROBLEMS["multiclass"])
        twins.append(make_twin(model, KINDS, x, predict(model, x, "multiclass"), "multiclass", 1e-4).content)
    assert twins[0] is not None
    assert twins[0] == twins[1]


@pytest.mark.parametrize("names", [["size", "weight"], ["kind", "place"]], ids=["numbers alone", "categories alone"])
@pytest.mark.parametrize("estimator", ["random_forest", "logistic_regression", "hist_gradient_boosting", "lightgbm"])
def test_columns_of_one_sort_alone_have_a_twin_too(estimator: str, names: list[str]) -> None:
    features: dict[str, Column] = {name: FEATURES[name] for name in names}
    table = raw_table()
    x, y = model_input(table, features), truth(table, PROBLEMS["binary"])
    model = fit(build_model(estimator, "binary", features, {}, 0), x, y, 1)
    kinds = {name: column.kind for name, column in features.items()}
    twin = make_twin(model, kinds, x, predict(model, x, "binary"), "binary", 1e-4)  # type: ignore[arg-type]
    assert twin.accepted, twin.reason


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_scorer_says_the_same_with_the_twin_as_without(problem: str, tmp_path: Path) -> None:
    version_folder(tmp_path / "onnx", "lightgbm", PROBLEMS[problem], onnx=True)
    model = version_folder(tmp_path / "skops", "lightgbm", PROBLEMS[problem], onnx=False)
    twin, plain = load_scorer(tmp_path / "onnx"), load_scorer(tmp_path / "skops")
    assert (twin.engine.name, plain.engine.name) == ("onnx", "skops")
    rows = raw_table(200, seed=4)
    expected = predict(model, model_input(rows, FEATURES), PROBLEMS[problem].task)
    assert np.array_equal(plain.predict(rows), expected.astype(np.float32))
    assert np.allclose(twin.predict(rows), expected, atol=1e-5)
    assert twin.contract.classes == plain.contract.classes == list(PROBLEMS[problem].labels)


def test_the_input_example_can_be_scored(tmp_path: Path) -> None:
    version_folder(tmp_path / "model", "lightgbm", PROBLEMS["binary"], onnx=True)
    rows = example_rows(tmp_path / "model")
    assert rows.height == 3
    assert load_scorer(tmp_path / "model").predict(rows).shape == (3, 2)


@pytest.mark.parametrize("estimator", ["random_forest", "logistic_regression", "lightgbm"])
def test_neither_threads_nor_neighbours_move_a_bit_of_a_row(estimator: str) -> None:
    model, x, _ = fitted(estimator, PROBLEMS["binary"])
    content = make_twin(model, KINDS, x, predict(model, x, "binary"), "binary", 1e-4).content
    assert content is not None
    one, two = (OnnxEngine(content, has_classes=True, threads=threads) for threads in (1, 2))
    many = pd.concat([x] * (1 + 600 // len(x)), ignore_index=True)
    expected = by_engine(one, many, KINDS)
    assert by_engine(two, many, KINDS).tobytes() == expected.tobytes()
    for row in range(20):
        for engine in (one, two):
            assert by_engine(engine, x.iloc[row : row + 1], KINDS).tobytes() == expected[row : row + 1].tobytes()
