"""One suite for every named estimator and every task it supports: what the pipeline relies on, whichever is named."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import ElasticNetCV
from sklearn.model_selection import KFold
from sklearn.preprocessing import TargetEncoder

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Column
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling.estimators import build_model, encoded, fit, fit_estimator, predict
from mlops_pipeline.modelling.fitting import Fitting, fitting_of
from mlops_pipeline.modelling.formats.skops import load_model
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.metrics import score
from tests.model_tests.workbench import (
    CASES,
    ESTIMATORS,
    FEATURES,
    KINDS,
    LACKING,
    PROBLEMS,
    QUICK,
    Problem,
    case,
    fitted,
    make_twin,
    model_digest,
    raw_table,
    save,
    truth,
)
from tests.unit_tests.workshop import settings_with, table_settings


@dataclass(frozen=True)
class Made:
    """A fitted model and the folder it was saved in."""

    name: str
    problem: Problem
    model: Any
    x: Any
    folder: Path


@pytest.fixture(scope="module", params=[pytest.param(each.values, marks=each.marks, id=each.id) for each in CASES])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same fitted model for every test of the suite, which none of them changes."""
    name, problem = request.param[0], PROBLEMS[request.param[1]]
    model, x, _ = fitted(name, problem)
    folder = tmp_path_factory.mktemp("made") / "model"
    save(folder, name, model, x, problem.task)
    return Made(name, problem, model, x, folder)


def assert_sound(predicted: Any, rows: int, problem: Problem) -> None:
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()
    if problem.task == "regression":
        assert predicted.shape == (rows,)
    else:
        assert predicted.shape == (rows, len(problem.labels))
        assert (predicted >= 0).all()
        assert np.allclose(predicted.sum(axis=1), 1)


def test_raw_rows_with_gaps_and_categories_are_predicted(made: Made) -> None:
    x = model_input(raw_table(100, seed=9), FEATURES)
    assert x.isna().any().any()
    assert_sound(predict(made.model, x, made.problem.task), 100, made.problem)


def test_one_row_is_predicted_as_among_many(made: Made) -> None:
    many = predict(made.model, made.x.head(20), made.problem.task)
    one = np.concatenate([predict(made.model, made.x.iloc[[row]], made.problem.task) for row in range(20)])
    assert np.allclose(one, many, atol=1e-12)


def test_an_unseen_category_and_numbers_that_are_all_null_are_survived(made: Made) -> None:
    x = made.x.head(30).assign(kind="never seen", place="nowhere", size=np.nan, weight=np.nan, count=np.nan, flag=np.nan)
    assert_sound(predict(made.model, x, made.problem.task), 30, made.problem)


def test_the_classes_are_the_targets_own(made: Made) -> None:
    if made.problem.task == "regression":
        assert not hasattr(made.model.named_steps["model"], "classes_")
    else:
        assert made.model.classes_.tolist() == list(made.problem.labels)


def test_a_learnable_problem_is_learned(made: Made) -> None:
    table = raw_table(300, seed=5)
    y, x = truth(table, made.problem, seed=5), model_input(table, FEATURES)
    metric = "r2" if made.problem.task == "regression" else "log_loss"
    task, classes = made.problem.task, list(made.problem.labels)
    ours = score(metric, task, y, predict(made.model, x, task), classes, 1)
    dummy = score(metric, task, y, predict(fitted("dummy", made.problem)[0], x, task), classes, 1)
    if made.name == "dummy":
        assert ours == dummy
    elif metric == "r2":
        assert ours > 0.6
        assert dummy < 0.1
    else:
        assert ours < 0.75 * dummy


def test_a_number_that_is_always_whole_is_no_class_of_its_own() -> None:
    x = model_input(raw_table(300), FEATURES)
    y = np.arange(300, dtype=np.float64) % 40
    whole, parted = (fit(build_model("ridge", "regression", FEATURES, {}, 0, "target_mean"), x, one, 1) for one in (y, y + 0.25))
    assert whole.named_steps["columns"].transform(x).shape == parted.named_steps["columns"].transform(x).shape


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_folder_whatever_the_threads(made: Made, tmp_path: Path) -> None:
    model, x, _ = fitted(made.name, made.problem, threads=2)
    save(tmp_path / "again", made.name, model, x, made.problem.task)
    first, again = contents(made.folder), contents(tmp_path / "again")
    assert [name for name in first if first[name] != again.get(name)] == []
    assert first.keys() == again.keys()
    assert model_digest(made.folder) == model_digest(tmp_path / "again")


def test_the_size_that_mlflow_notes_is_that_of_the_files(made: Made) -> None:
    """It is noted before the skops file takes its final form: one byte more or less would make two versions of one model."""
    size = sum(file.stat().st_size for file in made.folder.rglob("*") if file.is_file() and file.name != "MLmodel")
    assert f"\nmodel_size_bytes: {size}\n" in (made.folder / "MLmodel").read_text()


@pytest.mark.parametrize(
    ("name", "problem"), [each for each in CASES if each.values[0] != "dummy" and each.values[1] in ("binary", "regression")]
)
def test_so_many_rows_that_threads_share_the_work_give_the_same_bytes(name: str, problem: str, tmp_path: Path) -> None:
    for threads in (1, 2):
        brief = {"epochs": 1} if name.startswith("torch") else {}
        model, x, _ = fitted(name, PROBLEMS[problem], threads, rows=20_000, **brief)
        save(tmp_path / str(threads), name, model, x, PROBLEMS[problem].task)
    assert model_digest(tmp_path / "1") == model_digest(tmp_path / "2")


def test_a_loaded_model_says_exactly_what_the_saved_one_said(made: Made) -> None:
    loaded = load_model(made.folder)
    assert np.array_equal(predict(loaded, made.x, made.problem.task), predict(made.model, made.x, made.problem.task))


def test_the_folder_is_an_mlflow_model_that_anyone_can_load(made: Made) -> None:
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(made.folder))
    said = np.asarray(loaded.predict(made.x.head(25)), dtype=np.float64)
    assert np.allclose(said, predict(made.model, made.x.head(25), made.problem.task), atol=1e-12)
    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == list(FEATURES)
    assert {column.name: column.required for column in signature.inputs} == {
        name: not (column.nullable and column.kind != "category") for name, column in FEATURES.items()
    }
    assert signature.outputs is not None
    example = json.loads((made.folder / "input_example.json").read_text())
    assert example["columns"] == list(FEATURES)


def test_no_pickle_lies_in_the_folder(made: Made) -> None:
    files = contents(made.folder)
    assert "model.skops" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib", ".bin"))]
    assert not [name for name, content in files.items() if content.startswith(b"\x80")]
    assert "serialization_format: skops" in files["MLmodel"].decode()


def test_the_onnx_twin_agrees(made: Made) -> None:
    x = model_input(raw_table(500, seed=11), FEATURES)
    x.loc[:10, "kind"] = "never seen"
    twin = make_twin(made.model, KINDS, x, predict(made.model, x, made.problem.task), made.problem.task, 1e-4)
    if made.name == "dummy" or not plugins.is_ours(ESTIMATORS[made.name]):
        assert twin.accepted or twin.reason
        return
    assert twin.accepted, twin.reason
    assert twin.max_difference is not None and twin.max_difference < 1e-4


@pytest.mark.parametrize("name", [name for name, part in ESTIMATORS.items() if part.settings is None])
def test_a_parameter_that_the_estimator_does_not_have_is_named_with_those_it_has(name: str) -> None:
    with pytest.raises(PipelineError) as caught:
        build_model(name, "binary", FEATURES, {**QUICK.get(name, {}), "n_estimatorz": 5}, 0)
    text = str(caught.value)
    assert "train.params.n_estimatorz = 5" in text and name in text and "use one of" in text
    assert "\n" not in text


@pytest.mark.parametrize("name", [name for name, part in ESTIMATORS.items() if part.settings is None])
def test_the_seed_is_not_a_parameter(name: str) -> None:
    with pytest.raises(PipelineError, match=r"random_state.*set 'seed' instead"):
        build_model(name, "binary", FEATURES, {"random_state": 5}, 0)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name in ("random_forest", "lightgbm")])
def test_another_seed_gives_another_model(name: str) -> None:
    params = {"n_estimators": 5, **({"colsample_bytree": 0.5} if name == "lightgbm" else {})}
    table = raw_table()
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])
    one, two = (predict(build_model(name, "binary", FEATURES, params, seed).fit(x, y), x, "binary") for seed in (1, 2))
    assert not np.array_equal(one, two)


def test_every_estimator_can_be_named_in_the_settings() -> None:
    for name, part in ESTIMATORS.items():
        task = {} if "binary" in part.tasks else {"dataset": {"target": "size", "task": "regression"}, "evaluate": {"metric": "rmse"}}
        assert settings_with(train={"estimator": name, "params": {}}, **task).train.estimator == name
        assert part.summary
    assert set(QUICK) <= set(ESTIMATORS)


@pytest.mark.parametrize("name", [case(name) for name in ("ridge", "lightgbm", "random_forest", "torch_mlp", "blend")])
def test_a_target_far_from_zero_is_learned_to_its_last_digit_and_so_is_its_twin(name: str, tmp_path: Path) -> None:
    table, problem = raw_table(400), PROBLEMS["regression"]
    x, y = model_input(table, FEATURES), 1.7e9 + truth(table, problem)
    model = fit(build_model(name, "regression", FEATURES, QUICK.get(name, {}), 3), x, y, 1)
    predicted = predict(model, x, "regression")
    assert float(np.std(predicted - y)) < 0.7 * float(np.std(y))
    save(tmp_path / "model", name, model, x, "regression")
    assert np.array_equal(predict(load_model(tmp_path / "model"), x, "regression"), predicted)
    twin = make_twin(model, KINDS, x, predicted, "regression", 1e-4)
    assert twin.accepted, twin.reason


def of_patients(task: Any) -> tuple[Any, Any, Any]:
    """Rows whose numbers tell the patient, and nothing else of what came of it: features, target, patients."""
    rng, patients = np.random.default_rng(0), np.arange(600) % 60
    matrix = rng.normal(size=(60, 8))[patients] + 0.01 * rng.normal(size=(600, 8))
    y = rng.normal(size=60)[patients]
    return matrix, y if task == "regression" else (y > 0).astype(int), patients


@pytest.mark.parametrize("split_by", ["things", "moments"])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_boosting_that_ends_early_watches_other_patients_or_later_days_than_those_that_it_learns_from(task: Any, split_by: str) -> None:
    matrix, y, numbers = of_patients(task)
    params = {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 80}

    def rounds(during: Fitting) -> int:
        estimator = build_model("hist_gradient_boosting", task, FEATURES, params, 0, "ordinal").named_steps["model"]
        return int(fit_estimator(estimator, matrix, y, 1, [], during).n_iter_)

    assert rounds(Fitting(**{split_by: numbers})) < 30
    assert rounds(Fitting()) > 60


def test_boosting_that_decides_by_itself_watches_where_its_rows_are_many_though_those_it_learns_from_are_few() -> None:
    """And what was measured of one patient alone may be watched, and not learned from."""
    rng, patients = np.random.default_rng(0), np.arange(10_400) % 104
    matrix, y = rng.normal(size=(10_400, 4)), rng.normal(size=10_400)
    matrix[patients > 0, 3] = np.nan
    estimator = build_model("hist_gradient_boosting", "regression", FEATURES, {"max_iter": 60}, 0, "ordinal").named_steps["model"]
    for seed in range(6):  # in some of which that patient is watched
        estimator.set_params(random_state=seed)
        fit_estimator(estimator, matrix, y, 1, [], Fitting(things=patients))
        assert estimator.n_iter_ < 60
        assert estimator.early_stopping == "auto"


def test_an_elastic_net_finds_its_penalty_by_other_patients_and_keeps_no_fold() -> None:
    matrix, y, patients = of_patients("regression")

    def fitted(during: Fitting) -> Any:
        estimator = build_model("elastic_net", "regression", FEATURES, {}, 0, "one_hot").named_steps["model"]
        return fit_estimator(estimator, matrix, y, 1, [], during)

    by_patient, by_row = fitted(Fitting(things=patients)), fitted(Fitting())
    assert by_patient.alpha_ > 5 * by_row.alpha_
    assert by_patient.cv is None


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_targets_mean_that_a_row_is_given_is_of_other_patients_and_the_encoder_keeps_no_fold(task: Any) -> None:
    """A level that one patient alone has says nothing but whose row it is."""
    _, y, patients = of_patients(task)
    y = np.digitize(y, [-0.5, 0.5]) if task == "multiclass" else y
    x = pd.DataFrame({"clinic": [f"of {patient}" for patient in patients]})
    features = {"clinic": Column(kind="category")}

    def given(during: Fitting) -> tuple[Any, Any]:
        columns = build_model("ridge" if task == "regression" else "logistic_regression", task, features, {}, 0, "target_mean")[0]
        return encoded(columns, x, y, 1, during), columns

    (by_patient, columns), (by_row, other) = given(Fitting(things=patients)), given(Fitting())
    told = y if task != "multiclass" else (y[:, None] == np.unique(y)).astype(float)[:, 0]
    assert abs(np.corrcoef(by_row[:, 0], told)[0, 1]) > 0.9
    assert len(np.unique(by_patient[:, 0].round(9))) <= 5, "of no other patient's rows: the mean of all others, in each fold"
    for _, steps, _ in [*columns.transformers, *columns.transformers_]:
        assert steps[0].cv == 5
    means, plain = (np.array(each.transformers_[0][1][0].encodings_) for each in (columns, other))
    assert np.array_equal(means, plain), "later rows are given the means of all"


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_targets_mean_that_a_row_is_given_is_of_rows_drawn_by_the_seed_and_nothing_warns(task: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = pd.DataFrame({"clinic": rng.choice(list("abcdefgh"), 200)}), rng.normal(size=200)
    y = y if task == "regression" else np.digitize(y, [0.0] if task == "binary" else [-0.5, 0.5])
    features = {"clinic": Column(kind="category")}
    estimator = "ridge" if task == "regression" else "logistic_regression"

    def given(seed: int, own: Any = None) -> tuple[Any, Any]:
        columns = own or build_model(estimator, task, features, {}, seed, "target_mean")[0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            matrix = encoded(columns, x, y, 1, Fitting(seed=seed))
        return matrix, columns

    (first, columns), (again, _), (other, as_late) = given(1), given(1), given(2)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    means, by_another = (np.array(each.transformers_[0][1][0].encodings_) for each in (columns, as_late))
    assert np.array_equal(means, by_another), "later rows are given the means of all"
    named = TargetEncoder(cv=KFold(4, shuffle=True, random_state=9))
    by_one, by_two = (given(seed, ColumnTransformer([("clinic", clone(named), ["clinic"])]))[0] for seed in (1, 2))
    assert np.array_equal(by_one, by_two), "folds that somebody named are left as they are"


def test_what_is_drawn_for_a_fit_follows_from_the_settings_seed() -> None:
    settings = table_settings({"size": "number", "y": "number"}, task="regression")
    table = pl.DataFrame({"size": [1.0, 2.0], "y": [1.0, 2.0]})
    assert fitting_of(settings.model_copy(update={"seed": 7}), table, table["y"].to_numpy()).seed == 7


@pytest.mark.parametrize("unit", [0.01, 1e6])
def test_an_elastic_net_is_the_same_up_to_the_targets_unit_and_so_is_its_twin(unit: float, tmp_path: Path) -> None:
    table = raw_table(400)
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["regression"])

    def of(target: Any) -> Any:
        return fit(build_model("elastic_net", "regression", FEATURES, {}, 0, "one_hot"), x, target, 1)

    plain, model = predict(of(y), x, "regression"), of(unit * y)
    said = predict(model, x, "regression")
    assert float(np.std(plain - y)) < 0.5 * float(np.std(y))
    assert np.allclose(said, unit * plain, rtol=1e-7, atol=1e-7 * unit)
    save(tmp_path / "model", "elastic_net", model, x, "regression")
    assert np.array_equal(predict(load_model(tmp_path / "model"), x, "regression"), said)
    twin = make_twin(model, KINDS, x, said, "regression", 1e-4)
    assert twin.accepted, twin.reason


@pytest.mark.parametrize(
    "name", [name for name, part in ESTIMATORS.items() if "regression" in part.tasks and name not in (*LACKING, "dummy")]
)
@pytest.mark.parametrize("unit", [1e-9, 1e12])
def test_a_target_in_another_unit_is_learned_as_well_and_has_its_twin(name: str, unit: float) -> None:
    table = raw_table(400)
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["regression"])
    plain, model = (fit(build_model(name, "regression", FEATURES, QUICK.get(name, {}), 0), x, y * each, 1) for each in (1.0, unit))
    said = predict(model, x, "regression")
    error = float(np.std(predict(plain, x, "regression") - y))
    assert float(np.std(said / unit - y)) == pytest.approx(error, rel=0.1)
    assert make_twin(model, KINDS, x, said, "regression", 1e-4).accepted


def test_an_elastic_net_finds_the_same_penalty_whatever_the_tables_order() -> None:
    """Of rows in the order of the target, folds cut one after the other would each be asked for values that none has seen."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 12))
    y = matrix[:, 0] + rng.normal(size=200)

    def penalty(order: Any, during: Fitting) -> float:
        estimator = build_model("elastic_net", "regression", FEATURES, {}, 0, "one_hot").named_steps["model"]
        return float(fit_estimator(estimator, matrix[order], y[order], 1, [], during).alpha_)

    by_target, drawn = penalty(np.argsort(y), Fitting()), penalty(np.arange(200), Fitting())
    assert 0.5 < by_target / drawn < 2


def test_an_elastic_net_of_a_split_by_time_finds_the_penalty_that_does_for_what_comes_next() -> None:
    rng, days = np.random.default_rng(0), np.arange(400)
    matrix = np.column_stack([np.sin(days / 9), rng.normal(size=(400, 20)), days])
    y = 0.01 * days + matrix[:, 0] + np.where(days < 60, 3.0, 0.0) + rng.normal(size=400)
    order = rng.permutation(400)
    seen: list[Any] = []

    class Noted(ElasticNetCV):  # type: ignore[misc]  # scikit-learn has no types
        def fit(self, x: Any, y: Any) -> Any:
            seen.extend(self.cv)
            return super().fit(x, y)

    fit_estimator(Noted(l1_ratio=0.5), matrix[order], y[order], 1, [], Fitting(moments=days[order] // 3))
    assert len(seen) == 5
    assert all((order[fitted] // 3).max() < (order[scored] // 3).min() for fitted, scored in seen)


def test_penalties_that_somebody_names_are_those_of_the_target_as_it_is() -> None:
    matrix, y, _ = of_patients("regression")
    estimator = build_model("elastic_net", "regression", FEATURES, {"alphas": [5.0, 7.0]}, 0, "one_hot").named_steps["model"]
    net = fit_estimator(estimator, matrix, 1000 * y, 1, [])
    by_itself = type(net)(**net.get_params()).fit(matrix, 1000 * y)
    assert np.allclose(net.coef_, by_itself.coef_)
    assert np.any(net.coef_)
