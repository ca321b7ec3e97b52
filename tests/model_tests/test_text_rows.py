"""A row with a text is the same prediction to the bit, or refused for the same reason, whatever way it comes in."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.contract.spec import Column as InContract
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import write_json
from mlops_pipeline.inference.engine import score
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.scorer import Scorer, load_scorer
from mlops_pipeline.inference.signature import Length, Lengths, Signature
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.formats.twin import make_twin
from mlops_pipeline.serving.protocol.predict import Predict
from tests.model_tests import test_conformance
from tests.model_tests.test_conformance import WAYS
from tests.model_tests.test_texts import FEATURES, rows

USED = ("size", "review")
TEXTS = {
    "plain": "works great",
    "an emoji": "👩🏽‍🚒 great 😀",
    "NUL": "works\x00great",
    "NUL alone": "\x00",
    "right to left": "רק טוב \u202eabc\u202c",
    "combining marks": "sehr scho\u0308n",
    "Chinese": "我很喜欢",
    "blanks only": " \t ",
    "an unbroken space": "\u00a0",
    "blanks around": "  works great ",
    "two lines": "works\r\ngreat\n",
    "a carriage return": "a\rb",
    "quotes and commas": 'a "b", c; d\te',
    "a formula": "=1+1",
    "a number": "1.0",
    "a moment": "2013-01-31T10:00:00+02:00",
    "a truth": "True",
    "a million": ("great broke " + "x" * 88) * 10_000,
    "a byte order mark": "\ufeffgreat",
    "the last characters": "\U0010ffff\uffff",
    "a word that stands for a null inside": "NaN great",
}
NULLS = ("", "NA", "NaN", "null", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version whose twin reads texts, and that has no model of scikit-learn's."""
    place = tmp_path_factory.mktemp("texts") / "model"
    features = {name: FEATURES[name] for name in USED}
    x, y = rows()
    x = x[list(USED)]
    model = fit(build_model("logistic_regression", "binary", features, {}, 0, "tfidf", {}), x, y, 1)
    contract = Contract(
        task="binary",
        classes=[0, 1],
        columns={name: InContract(column.kind) for name, column in features.items()},
        ranges={"size": (-5.0, 5.0)},
    )
    made = make_twin(plugins.part(plugins.ModelFormat, "onnx"), place, model, contract, x, predict(model, x, "binary"), 1e-5)
    assert made.accepted, made.reason
    write_json(place / "training.json", contract.as_json())
    return place


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return load_scorer(folder)


def said(scorer: Scorer, text: str) -> bytes:
    return score(scorer.engine, np.array([[0.5]], dtype=np.float32), np.array([[text]], dtype=object)).tobytes()


@pytest.mark.parametrize("way", [way for way in WAYS if way != "rows" and not way.startswith("Parquet,")])
def test_a_text_means_the_same_by_every_way(
    way: str, scorer: Scorer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_conformance, "KINDS", {"size": "number", "review": "category"})
    (tmp_path / "model").symlink_to(folder)
    wrong, told = {}, 0
    # A file of text that holds NUL is refused as a whole, and aloud.
    texts = {name: text for name, text in TEXTS.items() if way != "a CSV file" or "\0" not in text}
    for name, text in [*texts.items(), *((f"a null as {word!r}", word) for word in NULLS)]:
        made = WAYS[way](scorer, {"size": 0.5, "review": text}, {"review": text}, tmp_path)
        meant = said(scorer, MISSING if text in NULLS else text)
        told += made is not None
        if made not in (None, meant):
            wrong[name] = made
    assert not wrong
    assert told > len(TEXTS) / 2
    assert said(scorer, "works great") != said(scorer, "broke at once")


def test_half_a_character_is_refused_by_json_and_is_no_text_elsewhere(scorer: Scorer) -> None:
    body = json.dumps({"records": [{"size": 0.5, "review": "\ud800"}]}).encode()
    assert b"\\ud800" in body
    with pytest.raises(Refused) as refused:
        Predict(scorer.signature, "m", "1").rows(body)
    assert refused.value.reason == "malformed"
    with pytest.raises((UnicodeEncodeError, pl.exceptions.PolarsError, TypeError)):
        pl.Series(["\ud800"], dtype=pl.String)


def test_a_row_that_is_no_record_is_not_quoted_where_a_column_is_private(folder: Path) -> None:
    contract = load_scorer(folder).contract
    private = msgspec.structs.replace(contract.columns["review"], private=True)
    made = Signature.of(msgspec.structs.replace(contract, columns={**contract.columns, "review": private}))
    with pytest.raises(Refused) as refused:
        made.from_records(["SECRETWORD x"])
    assert [fault.detail for fault in refused.value.faults] == ["row 0: this is no record: give column names and values"]


def test_a_text_longer_than_the_limit_is_refused_and_says_the_limit(folder: Path) -> None:
    contract = load_scorer(folder).contract
    short = Signature.of(contract, lengths=Lengths(text=Length(10, 20)))
    with pytest.raises(Refused, match="10 characters"):
        short.from_records([{"size": 1, "review": "x" * 11}])
    short.from_records([{"size": 1, "review": "x" * 10}])
    with pytest.raises(Refused, match="20 bytes"):
        short.from_records([{"size": 1, "review": "😀" * 6}])
    short = Signature.of(contract, lengths=Lengths(text=Length(30, 120), texts=50))
    with pytest.raises(Refused, match="2 characters, of which Unicode's form NFKC makes more than 30 characters"):
        short.from_records([{"size": 1, "review": "ﷺ" * 2}])
    short.from_records([{"size": 1, "review": "ﷺ"}] * 2)
    for text in ("x" * 20, "ﷺ"):
        with pytest.raises(Refused, match="more than 50 characters: send fewer rows"):
            short.from_records([{"size": 1, "review": text}] * 3)


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [(b'[{"column": "review", "reader": "shell", "width": 1}]', "unknown here"), (b"{", "is no list of readers")],
)
def test_a_reader_that_is_not_ours_is_never_run(folder: Path, tmp_path: Path, spoiled: bytes, says: str) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model/onnx/texts/texts.json").write_bytes(spoiled)
    with pytest.raises(PipelineError, match=says):
        load_scorer(tmp_path / "model")
