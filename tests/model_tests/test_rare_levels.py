"""Levels that fewer rows have than enough: a model learns them as values that it has never seen, and its file tells none of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector

from mlops_pipeline.contract.privacy import RARE
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.modelling.estimators import build_model, encoded, fit, predict, without_extremes
from mlops_pipeline.modelling.frame import levels_of, model_input, without_rare
from tests.model_tests.workbench import FEATURES, KINDS, PROBLEMS, QUICK, make_twin, raw_table, save, truth

LEAST = 5
UNUSUAL = {"kind": {3: "once", 4: "twice", 5: "twice"}, "place": {7: "nowhere"}}


def table() -> pl.DataFrame:
    made = raw_table(300)
    return made.with_columns(
        pl.Series(name, [cells.get(k, value) for k, value in enumerate(made[name])]) for name, cells in UNUSUAL.items()
    )


def fitted(x: Any, y: Any, estimator: str, encoder: str | None) -> Any:
    return fit(build_model(estimator, "binary", FEATURES, QUICK.get(estimator, {}), 3, encoder), x, y, 1)


@pytest.mark.parametrize(
    ("estimator", "encoder"),
    [("lightgbm", "ordinal"), ("lightgbm", "native"), ("logistic_regression", "one_hot"), ("logistic_regression", "target_mean")],
)
def test_a_rare_level_is_predicted_as_one_that_was_never_seen_and_stands_in_no_file(estimator: str, encoder: str, tmp_path: Path) -> None:
    rows = table()
    x, y = without_rare(model_input(rows, FEATURES), FEATURES, LEAST), truth(rows, PROBLEMS["binary"])
    assert levels_of(x, FEATURES) == {"kind": [MISSING, "a", "b", "c"], "place": ["here", "there"]}
    model = fitted(x, y, estimator, encoder)
    asked = model_input(rows, FEATURES).head(9)
    said = predict(model, asked, "binary")
    new = asked.assign(kind=asked["kind"].where(~asked["kind"].isin(["once", "twice"]), "never seen"))
    np.testing.assert_array_equal(said, predict(model, new.assign(place=new["place"].where(new["place"] != "nowhere", "new")), "binary"))
    save(tmp_path / "model", estimator, model, x, "binary")
    with zipfile.ZipFile(tmp_path / "model/model.skops") as archive:
        held = b"".join(archive.read(name) for name in archive.namelist())
    assert not [word for word in (b"once", b"twice", b"nowhere") if word in held]


def test_a_level_never_seen_means_by_target_what_the_rare_ones_do_and_the_twin_agrees() -> None:
    rows = table()
    few = {place: f"r{place % 4}" for place in range(12)}
    rows = rows.with_columns(kind=pl.Series([few.get(place, kind) for place, kind in enumerate(rows["kind"])]))
    x, y = without_rare(model_input(rows, FEATURES), FEATURES, LEAST), truth(rows, PROBLEMS["binary"])
    y[list(few)] = max(y)  # whoever is rare has it
    model = fitted(x, y, "logistic_regression", "target_mean")
    asked = model_input(rows, FEATURES).tail(50).assign(kind="never seen")
    np.testing.assert_array_equal(predict(model, asked, "binary"), predict(model, asked.assign(kind=RARE), "binary"))
    means = model.named_steps["columns"].named_transformers_
    encoder = means["categories 0 with rare levels"].named_steps["targetencoder"]
    assert encoder.target_mean_ > np.mean(y == max(y)) + 0.2
    twin = make_twin(model, KINDS, asked, predict(model, asked, "binary"), "binary", 1e-6)
    assert twin.accepted, twin.reason


def test_of_several_classes_too_a_level_never_seen_means_what_the_rare_ones_do() -> None:
    rows = table()
    x, y = without_rare(model_input(rows, FEATURES), FEATURES, LEAST), truth(rows, PROBLEMS["multiclass"])
    model = fit(build_model("logistic_regression", "multiclass", FEATURES, {}, 3, "target_mean"), x, y, 1)
    asked = model_input(rows, FEATURES).tail(50).assign(kind="never seen")
    np.testing.assert_array_equal(predict(model, asked, "multiclass"), predict(model, asked.assign(kind=RARE), "multiclass"))


@pytest.mark.parametrize(
    "chosen", [make_column_selector(dtype_include="number"), slice(0, 4), [0, 1, 2, 3], ["size", "weight", "count", "flag"]]
)
def test_an_encoder_may_choose_its_columns_in_every_way_that_there_is(chosen: Any) -> None:
    rows = table()
    x, y = without_rare(model_input(rows, FEATURES), FEATURES, LEAST), truth(rows, PROBLEMS["binary"])
    matrix = encoded(ColumnTransformer([("numbers", "passthrough", chosen)]), x, y, 1)
    np.testing.assert_array_equal(matrix, x[["size", "weight", "count", "flag"]].to_numpy())


def test_a_table_without_rare_levels_is_fitted_as_ever() -> None:
    rows = raw_table(300)
    x = model_input(rows, FEATURES)
    assert without_rare(x, FEATURES, LEAST) is x
    assert without_rare(model_input(table(), FEATURES), FEATURES, 1).equals(model_input(table(), FEATURES))


def test_a_category_of_rare_levels_alone_says_nothing() -> None:
    rows = table().with_columns(kind=pl.format("k{}", pl.int_range(pl.len())))
    x, y = without_rare(model_input(rows, FEATURES), FEATURES, LEAST), truth(table(), PROBLEMS["binary"])
    assert set(x["kind"]) == {RARE}
    assert levels_of(x, FEATURES)["kind"] == []
    for estimator in ("lightgbm", "logistic_regression"):
        model = fitted(x, y, estimator, None)
        said = [predict(model, x.head(5).assign(kind=word), "binary") for word in ("k0", "new", RARE)]
        np.testing.assert_array_equal(said[0], said[1])
        np.testing.assert_array_equal(said[0], said[2])


def test_what_lightgbm_writes_of_a_columns_extremes_is_taken_out_and_nothing_else() -> None:
    rows = raw_table(300).with_columns(size=pl.when(pl.int_range(pl.len()) == 9).then(31_337.25).otherwise("size"))
    x, y = model_input(rows, FEATURES), truth(raw_table(300), PROBLEMS["binary"])
    model = fitted(x, y, "lightgbm", None)
    before = predict(model, x, "binary")
    assert "31337.25" in model.named_steps["model"].booster_.model_to_string()
    without_extremes(model)
    text = model.named_steps["model"].booster_.model_to_string()
    assert "31337.25" not in text
    assert "feature_infos=none none none" in text
    np.testing.assert_array_equal(before, predict(model, x, "binary"))
