"""Texts as features: counted alike in training and in a server, in any language, with a twin that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.contract.spec import Column as InContract
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.inference.ngrams import Cut, hidden, pieces_of, words_of
from mlops_pipeline.modelling.candidates import Shape, candidates
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.fitting import Fitting
from mlops_pipeline.modelling.formats.skops import load_model, save_model
from mlops_pipeline.modelling.masked import without
from mlops_pipeline.modelling.summary import columns_of, levels_in
from mlops_pipeline.modelling.text_facts import common_words, digest_of, facts_of, forms_of, remarks
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


@pytest.mark.parametrize("params", [{"words": None, "characters": [2, 4], "min_rows": 1}, {"min_rows": 1}])
def test_of_a_private_text_a_model_keeps_salted_digests_of_words_that_several_rows_have(params: dict[str, Any]) -> None:
    x, y = rows()
    x["note"] = [note if row > 3 else "Zacharias" for row, note in enumerate(x["note"])]
    model = fit(build_model("logistic_regression", "binary", FEATURES, {}, 0, "tfidf", params), x, y, 1)
    (step,) = [step for name, step, column in model.named_steps["columns"].transformers_ if column == "note"]
    pieces = {piece for text in x["note"] for piece in pieces_of(text, Cut("words", 1, 2))}
    kept = step.kept_.split("\n")
    assert (step.of, step.min_rows) == ("words", 5)
    assert len(kept) == len(pieces - {"zacharias"}) == 6
    assert not {*pieces, *hidden(sorted(pieces), "")}.intersection(kept)
    assert kept == sorted(kept)


def test_the_numbers_that_texts_are_drawn_together_to_follow_from_the_seed_to_the_last_byte(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = pd.DataFrame({"review": [" ".join(f"word{each}" for each in draw.integers(0, 200, 12)) for _ in range(300)]}, dtype=object)
    y = draw.random(300) < 0.5

    def made(name: str, seed: int) -> tuple[bytes, Any]:
        columns = {"review": Column(kind="text")}
        model = build_model("lightgbm", "binary", columns, {"n_estimators": 5}, seed, "tfidf", {"numbers": 6})
        fit(model, x, y.astype(int), 1, Fitting(seed=seed))
        save_model(tmp_path / name, model, x.head(20), x.head(3), "binary", ["scikit-learn"])
        return (tmp_path / name / "model.skops").read_bytes(), model.named_steps["columns"].transform(x)

    (first, numbers), (again, _), (_, others) = made("first", 1), made("again", 1), made("other", 2)
    assert first == again
    assert numbers.shape == others.shape == (300, 6)
    assert not np.allclose(np.abs(numbers), np.abs(others), atol=1e-3)


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
        ("⭐⭐⭐ ⏰⌚️〰️→", ["⭐", "⭐", "⭐", "⏰", "⌚", "〰", "→"]),
        ("👩🏽\u200d🚒❤️", ["👩", "🏽", "🚒", "❤"]),
        ("Ελληνικά, ёлка, Հայերեն", ["ελληνικά", "ёлка", "հայերեն"]),
        ("ქართული አማርኛ 한국어", ["ქართული", "አማርኛ", "한국어"]),
        ("مُحَمَّد، نمی\u200cخواهم", ["مُحَمَّد", "نمی\u200cخواهم"]),
        ("अच्छा है। বাংলা ਪੰਜਾਬੀ ગુજરાતી", ["अच्छा", "है", "বাংলা", "ਪੰਜਾਬੀ", "ગુજરાતી"]),
        ("தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල", ["தமிழ்", "తెలుగు", "ಕನ್ನಡ", "മലയാളം", "සිංහල"]),
        ("ภาษาดีมาก ພາສາລາວ", ["ภาษาดีมาก", "ພາສາລາວ"]),
        ("မြန်မာ ខ្មែរ བོད་སྐད", ["မြန်မာ", "ខ្មែរ", "བོད", "སྐད"]),
        ("ܣܘܪܝܝܐܸ ދިވެހި ᮞᮥᮔ᮪ᮓ", ["ܣܘܪܝܝܐܸ", "ދިވެހި", "ᮞᮥᮔ᮪ᮓ"]),
        ("ᓄᓇᕗᑦ ⵜⴰⵎⴰⵣⵉⵖⵜ", ["ᓄᓇᕗᑦ", "ⵜⴰⵎⴰⵣⵉⵖⵜ"]),
        ("ひらがなカ。", ["ひ", "ら", "が", "な", "カ"]),
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


def test_a_race_tries_words_where_there_are_texts() -> None:
    for task in ("binary", "multiclass", "regression"):
        classes = 0 if task == "regression" else 3
        tried = [one.encoder for one in candidates(task, Shape(1000, classes, texts=1))]  # type: ignore[arg-type]
        assert "tfidf" in tried
        assert "tfidf" not in [one.encoder for one in candidates(task, Shape(1000, classes))]  # type: ignore[arg-type]


def test_facts_of_texts_tell_lengths_and_scripts_and_no_word() -> None:
    texts = pl.Series("note", ["works great", "", "我很喜欢", None, "works great", "рад", "12"])
    assert facts_of(texts) == {
        "words": {"median": 1, "p95": 3, "most": 4},
        "characters": {"median": 3, "most": 11},
        "scripts": {"Latin": 0.3333, "none": 0.3333, "Han": 0.1667, "Cyrillic": 0.1667},
        "empty_share": 0.2857,
        "repeated_share": 0.1667,
    }


def test_a_text_that_names_its_class_or_holds_a_code_is_told_of() -> None:
    target = pl.Series("topic", ["sport", "money"] * 100)
    said = pl.Series("note", [f"{topic} desk: item no9{row:04}" for row, topic in enumerate(target)])
    found = list(remarks("note", said, target, labels={"sport", "money"}))
    assert found == [
        "'note' names the row's own class in 100% of the texts: is the target written into it?",
        "'note' holds a code that no other row has in 100% of the texts: an identifier tells nothing of new rows",
    ]
    assert list(remarks("note", pl.Series(["the money of sport"] * 200), target, labels={"sport", "money"})) == []
    assert list(remarks("note", pl.Series(["nothing at all"] * 200), target, labels={"sport", "money"})) == []
    prices = pl.Series([1000.5 + row for row in range(200)])
    sold = pl.Series([f"sold for {price:,.2f} after {place} days" for place, price in enumerate(prices)])
    assert list(remarks("note", sold, prices, labels=())) == [
        "'note' holds the row's own value in 100% of the texts: is the target written into it?"
    ]


def test_later_texts_differ_by_their_script_their_length_and_words_that_are_new() -> None:
    before = pl.Series("note", ["the lens is sharp and clear", "the lens is bright and sharp"] * 50)
    words = common_words(before, 5)
    assert "lens" in words
    assert set(forms_of(before, words, private=False)) == {"Latin, under 8 words, most known"}
    later = pl.Series("note", ["zoom fails when cold", "объектив", "the lens is sharp " * 10, None])
    assert forms_of(later, words, private=False).to_list() == [
        "Latin, under 8 words, few known",
        "Cyrillic, under 8 words, few known",
        "Latin, 32 to 63 words, most known",
        None,
    ]
    of_before = [digest_of(word) for word in words]
    assert forms_of(later, of_before, private=True).to_list() == forms_of(later, words, private=False).to_list(), "a summary of before"


def test_a_summary_says_no_word_of_a_private_text_not_even_as_a_digest() -> None:
    texts = pl.Series("note", ["the lens is sharp and clear", "объектив"] * 50)
    told, kept = (
        columns_of(Contract(task="binary", columns={"note": InContract("text", private=p)}), texts.to_frame()) for p in (False, True)
    )
    assert "lens" in (told["note"].words or ())
    assert kept["note"].words == []
    assert kept["note"].levels is not None and told["note"].levels is not None
    assert kept["note"].levels.counts == {"Cyrillic, under 8 words": 50, "Latin, under 8 words": 50}
    assert levels_in(kept["note"], texts).unique(maintain_order=True).to_list() == ["Latin, under 8 words", "Cyrillic, under 8 words"]


def test_a_word_is_taken_out_wherever_it_stands() -> None:
    assert without("Not good, NOT bad", "not") == " good,  bad"
    assert without("我很喜欢很", "很") == "我喜欢"
