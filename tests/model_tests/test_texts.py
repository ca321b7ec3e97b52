"""Texts as features: counted alike in training and in a server, in any language, with a twin that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.inference.ngrams import Cut, pieces_of, words_of
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.formats.skops import load_model, save_model
from tests.model_tests.workbench import make_twin

FEATURES = {
    "size": Column(kind="number"),
    "review": Column(kind="text"),
    "kind": Column(kind="category"),
    "note": Column(kind="text", private=True),
}
KINDS = {name: column.kind for name, column in FEATURES.items()}
GOOD = ("works great", "我很喜欢", "sehr schön 😀", "רק טוב", "tre\u0300s bien")
BAD = ("broke at once", "坏了", "leider zu spät 😡", "לא טוב", "ne marche pas")
STRANGE = (
    "",
    "  ",
    "\x00",
    "\r\n",
    "👩🏽‍🚒",
    "e\u0301" * 9,
    "ש" * 1000,
    "never seen words",
    "a" * 100_000,
    MISSING,
    "x y " * 30_000,
)


def rows(count: int = 240, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    draw = np.random.default_rng(seed)
    good = draw.random(count) < 0.5
    review = np.where(good, draw.choice(GOOD, count), draw.choice(BAD, count)).astype(object)
    review[::17] = MISSING
    made = {
        "size": draw.normal(size=count),
        "review": review,
        "kind": draw.choice(["a", "b"], count),
        "note": draw.choice(["ring Ann", "no note"], count),
    }
    return pd.DataFrame(made).astype(dict.fromkeys(("review", "kind", "note"), object)), good.astype(int)


CASES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("logistic_regression", "binary", "one_hot", {}),
    ("logistic_regression", "multiclass", "tfidf", {"words": [1, 1], "characters": [2, 3], "min_rows": 2}),
    ("ridge", "regression", "tfidf", {}),
    ("lightgbm", "binary", "ordinal", {}),
    ("random_forest", "multiclass", "ordinal_imputed", {}),
    ("lightgbm", "regression", "tfidf", {"numbers": 6}),
    ("blend", "binary", "whole", {}),
)


@pytest.mark.parametrize(("estimator", "task", "encoder", "params"), CASES)
def test_a_model_of_texts_is_saved_without_pickle_and_has_a_twin(
    estimator: str, task: str, encoder: str, params: dict[str, Any], tmp_path: Path
) -> None:
    x, good = rows()
    third = (x["size"] > 0.8).to_numpy()
    y = {"binary": good, "multiclass": np.where(third, 2, good), "regression": good * 3.0 + x["size"].to_numpy()}[task]
    own: dict[str, Any] = {"n_estimators": 20} if estimator in ("lightgbm", "random_forest") else {}
    if estimator == "blend":
        own = {"members": [{"estimator": "logistic_regression"}, {"estimator": "lightgbm", "params": {"n_estimators": 20}}]}
    model = fit(build_model(estimator, task, FEATURES, own, 0, encoder, params), x, y, 1)  # type: ignore[arg-type]
    save_model(tmp_path / "model", model, x.head(20), x.head(3), task, ["scikit-learn"])  # type: ignore[arg-type]
    said = predict(model, x, task)  # type: ignore[arg-type]
    assert np.array_equal(predict(load_model(tmp_path / "model"), x, task), said)  # type: ignore[arg-type]
    assert b"ring" not in (tmp_path / "model/model.skops").read_bytes()
    strange = pd.concat([x.head(len(STRANGE)).assign(review=STRANGE), x])
    twin = make_twin(model, KINDS, strange, predict(model, strange, task), task, 1e-5)  # type: ignore[arg-type]
    assert twin.accepted, twin.reason
    if task == "binary":
        known = x["review"] != MISSING
        assert ((said[:, 1] > 0.5) == y)[known].mean() > 0.95


def test_trees_on_many_ngrams_have_no_twin_and_say_what_to_set() -> None:
    x, y = rows()
    model = fit(build_model("lightgbm", "binary", FEATURES, {"n_estimators": 5}, 0, "tfidf", {}), x, y, 1)
    twin = make_twin(model, KINDS, x, predict(model, x, "binary"), "binary", 1e-5)
    assert twin.reason == "not convertible, 'review' is text, and LGBMClassifier takes its n-grams as they are: give the encoder `numbers`"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, 2nd!", ["don", "t", "stop", "2nd"]),
        ("我很喜欢 it", ["我", "很", "喜", "欢", "it"]),
        ("e\u0301te\u0301", ["été"]),
        ("नमस्ते דרך שָׁלוֹם", ["नमस्ते", "דרך", "שָׁלוֹם"]),
        ("ok👍🏽😀", ["ok", "👍", "🏽", "😀"]),
        ("ＡＢ \x00 \ud800 \r\n", ["ab"]),
        ("STRASSE Straße", ["strasse", "straße"]),
    ],
)
def test_words_are_found_in_any_language(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_ngrams_are_of_words_or_of_their_characters_and_of_a_missing_text_one() -> None:
    assert pieces_of("A b c", Cut("words", 1, 2)) == ["a", "b", "c", "a b", "b c"]
    assert pieces_of("ab", Cut("characters", 2, 3)) == [" a", "ab", "b ", " ab", "ab "]
    assert len(pieces_of(MISSING, Cut())) == 1
    assert pieces_of("missing", Cut()) != pieces_of(MISSING, Cut())
    assert "ring" not in str(pieces_of("ring Ann", Cut(hidden=True)))
