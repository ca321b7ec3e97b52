"""The ONNX twin serves only where it says what the model says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_pipeline.config.dataset import Column, Task
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


def cents(classes: int) -> tuple[dict[str, Column], pd.DataFrame, np.ndarray]:
    """Prices to the cent, which no float holds exactly, and a number of classes that follow from them; of none, a value."""
    prices = np.random.default_rng(0).normal(scale=100, size=(1_500, 2)).round(2)
    signal = prices @ [1.0, 0.5] / 112
    target = signal if not classes else np.clip(((signal + 2) * classes / 4).astype(np.int64), 0, classes - 1)
    return {name: Column(kind="number") for name in ("net", "gross")}, pd.DataFrame(prices, columns=["net", "gross"]), target


@pytest.mark.parametrize("classes", [0, 2, 3, 25])
@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "lightgbm", "random_forest", "blend"])
def test_a_price_to_the_cent_goes_the_same_way_in_the_twin_whichever_rows_were_held_out(estimator: str, classes: int) -> None:
    quick = {"hist_gradient_boosting": {"max_iter": 12}, "lightgbm": {"n_estimators": 12}, "random_forest": {"n_estimators": 12}}
    members = [{"estimator": name, "params": params} for name, params in quick.items()]
    features, x, y = cents(classes)
    task: Task = "regression" if not classes else "binary" if classes == 2 else "multiclass"
    model = fit(build_model(estimator, task, features, quick.get(estimator, {"members": members}), 0), x, y, 1)
    every_cent = np.arange(-300_00, 300_00) / 100
    rows = pd.concat([pd.DataFrame({"net": every_cent, "gross": other}) for other in (-50.0, 0.0, 50.0)])
    twin = make_twin(model, dict.fromkeys(features, "number"), rows, predict(model, rows, task), task, 1e-4)
    assert twin.accepted, twin.reason


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "lightgbm"])
def test_trees_that_tell_apart_what_a_twin_cannot_have_none_though_no_held_out_row_shows_it(estimator: str) -> None:
    moments = 1_700_000_000.0 + np.arange(400)
    x, y = pd.DataFrame({"at": moments}), (np.arange(400) % 40 < 20).astype(np.int64)
    model = fit(build_model(estimator, "binary", {"at": Column(kind="number")}, {}, 0), x, y, 1)
    far = pd.DataFrame({"at": [0.0, 1e10]})
    twin = make_twin(model, {"at": "number"}, far, predict(model, far, "binary"), "binary", 1e-4)
    assert not twin.accepted
    assert twin.reason == ("not convertible, its trees tell apart numbers of 'at' that 32-bit floats do not: served by its own format")
    assert (predict(model, x, "binary").argmax(axis=1) == y).mean() > 0.9
