"""Pretrained encoders of text: read from a folder, frozen, the same in training and in a server, and made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Column
from mlops_pipeline.config.pipeline import Onnx
from mlops_pipeline.contract.spec import Column as InContract
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.contract.values import MISSING
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference import sentences as inference_of_sentences
from mlops_pipeline.inference.engine import load_engine
from mlops_pipeline.inference.texts import frozen_encoders
from mlops_pipeline.modelling import sentences
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.fitting import Fitting
from mlops_pipeline.modelling.formats import twin
from mlops_pipeline.modelling.formats.int8 import make_int8
from mlops_pipeline.modelling.formats.skops import load_model, save_model
from mlops_pipeline.modelling.kept_embeddings import kept_embeddings
from mlops_pipeline.modelling.metrics import Predictions
from mlops_pipeline.modelling.summary import columns_of
from mlops_pipeline.modelling.text_summary import unseen_in
from tests.encoders import needs_tokenizers, write_encoder

pytestmark = needs_tokenizers

FEATURES = {
    "size": Column(kind="number"),
    "review": Column(kind="text"),
    "kind": Column(kind="category"),
    "note": Column(kind="text"),
}
KINDS = {name: InContract(column.kind) for name, column in FEATURES.items()}
GOOD, BAD = ("works great", "sehr schön", "good"), ("broke at once", "leider zu spät", "bad bad")
STRANGE = ("", "\x00", "👩🏽‍🚒 good", "e\u0301", "ש" * 1000, MISSING, "a " * 200_000, "a" * 300_000, "bad " * 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def rows(count: int = 120) -> tuple[pd.DataFrame, Any]:
    draw = np.random.default_rng(0)
    good = draw.random(count) < 0.5
    made = {
        "size": draw.normal(size=count),
        "review": np.where(good, draw.choice(GOOD, count), draw.choice(BAD, count)),
        "kind": draw.choice(["a", "b"], count),
        "note": draw.choice(["good", "a b"], count),
    }
    return pd.DataFrame(made).astype(dict.fromkeys(("review", "kind", "note"), object)), good.astype(int)


def fitted(folder: Path, estimator: str, task: Any, beside: str = "one_hot", during: Fitting | None = None) -> Any:
    x, good = rows()
    y = good if task == "binary" else good * 3.0 + x["size"].to_numpy()
    params: dict[str, Any] = {"lightgbm": {"n_estimators": 20}, "logistic_regression": {"C": 10}}.get(estimator, {})
    own = {"folder": str(folder), "beside": beside}
    return fit(build_model(estimator, task, FEATURES, params, 0, "sentences", own), x, y, 1, during or Fitting())


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize(
    ("estimator", "task", "beside"),
    [("logistic_regression", "binary", "one_hot"), ("lightgbm", "binary", "native"), ("ridge", "regression", "one_hot")],
)
def test_a_model_on_embeddings_is_saved_whole_and_its_twin_says_the_same_of_any_text(
    kind: str, estimator: str, task: Any, beside: str, tmp_path: Path
) -> None:
    if kind != "bert" and estimator != "logistic_regression":
        return
    encoder = write_encoder(tmp_path / "encoder", kind)
    model = fitted(encoder, estimator, task, beside)
    for file in encoder.iterdir():
        file.unlink()
    x, good = rows()
    strange = pd.concat([x.head(len(STRANGE)).assign(review=STRANGE), x])
    said = predict(model, strange, task)
    save_model(tmp_path / "model", model, x.head(20), x.head(3), task, ["scikit-learn"])
    assert np.array_equal(predict(load_model(tmp_path / "model"), strange, task), said)
    contract = Contract(task=task, classes=[0, 1] if task == "binary" else [], columns=KINDS)
    made = twin.make_twin(plugins.part(plugins.ModelFormat, "onnx"), tmp_path, model, contract, strange, said, 1e-5)
    assert made.accepted, made.reason
    if task == "binary":
        assert ((said[len(STRANGE) :, 1] > 0.5) == good).mean() > 0.9
    engine = load_engine(tmp_path, contract, 2)
    numbers, texts = strange[["size"]].to_numpy(np.float32), strange[["review", "kind", "note"]].to_numpy(object)
    together = engine.predict(numbers, texts)
    alone = np.concatenate([engine.predict(numbers[k : k + 1], texts[k : k + 1]) for k in range(len(texts))])
    # What stands in a row's place beside others may go through another routine of a linear model (OnnxEngine); no text does.
    assert np.array_equal(alone, together) if task == "binary" else np.allclose(alone, together, atol=1e-5)
    if kind == "bert":
        rules, judged = (
            Onnx(quantise="int8", int8_decisions=0.8, int8_loss=0.1),
            Predictions(task, np.r_[good[: len(STRANGE)], good], said, 1),
        )
        report = make_int8(rules, tmp_path, model, contract, strange, judged)
        assert report.accepted, report.reason
        engine = load_engine(tmp_path, contract, 2)
        assert engine.name == "onnx_int8"
        engine.predict(numbers, texts)
    notices = engine.notices(texts)  # type: ignore[attr-defined]  # of an engine that reads texts
    assert [(one.reason, one.column, one.rows) for one in notices] == [("cut_text", "review", 2)]
    assert notices[0].detail == "column 'review': 8 tokens are read of a text, and no more of 2 rows"


def test_each_text_is_embedded_once_whatever_is_fitted_on_it(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with kept_embeddings(tmp_path):
        first = fitted(folder, "logistic_regression", "binary", during=Fitting(say=told.append))
        assert told
        told.clear()
        second = fitted(folder, "logistic_regression", "binary", during=Fitting(say=told.append))
    assert not told
    assert np.array_equal(first.named_steps["model"].coef_, second.named_steps["model"].coef_)


def test_a_fit_says_of_how_many_rows_no_more_than_the_first_tokens_are_read(folder: Path, tmp_path: Path) -> None:
    x, good = rows(30)
    x.loc[:2, "review"] = "bad " * 30
    for _ in range(2):  # made, then kept
        told: list[str] = []
        with kept_embeddings(tmp_path):
            model = build_model("logistic_regression", "binary", FEATURES, {}, 0, "sentences", {"folder": str(folder)})
            predict(fit(model, x, good, 1, Fitting(tell=told.append)), x, "binary")
        read = "the first 8 tokens are read of a text, and no more of 3 of 30 rows (train.encoder_params.max_tokens)"
        assert told == [f"column 'review': {read}"]


def test_every_row_whose_text_is_cut_is_counted_however_many_there_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (inference_of_sentences, sentences):
        monkeypatch.setattr(module, "REMEMBERED", 4)
    (x, good), told = rows(30), list[str]()
    x.loc[:9, "review"] = ["bad " * (20 + k) for k in range(10)]
    model = build_model("logistic_regression", "binary", FEATURES, {}, 0, "sentences", {"folder": str(folder)})
    fit(model, x, good, 1, Fitting(tell=told.append))
    assert [line.split("no more of ")[1] for line in told] == ["10 of 30 rows (train.encoder_params.max_tokens)"]


def test_columns_and_versions_of_one_encoder_share_it_and_readers_of_before_hold_their_own(folder: Path, tmp_path: Path) -> None:
    model, (x, _) = fitted(folder, "logistic_regression", "binary"), rows()
    contract = Contract(task="binary", classes=[0, 1], columns=KINDS)
    twin.save(plugins.part(plugins.ModelFormat, "onnx"), tmp_path, model, contract, {})
    (encoder,) = (tmp_path / "onnx/texts").rglob("encoder.onnx")
    champion, challenger = load_engine(tmp_path, contract), load_engine(tmp_path, contract)
    graphs = {id(reader._graph) for each in (champion, challenger) for _, reader in each._readers}  # type: ignore[attr-defined]
    assert len(graphs) == 1
    encoders = frozen_encoders(tmp_path)
    summary = columns_of(contract, pl.from_pandas(x), encoders)["review"].texts
    assert summary is not None and set(encoders) == {"review", "note"} and summary.by == f"{encoder.parent.name}-8"
    assert unseen_in(summary, ["broke at once, parcel"]).share == 0.25
    for reader in (tmp_path / "onnx/texts").glob("[0-9]"):
        for file in encoder.parent.iterdir():
            shutil.copy(file, reader)
        (reader / "about.json").write_text('{"max_tokens":8,"alone":false}', encoding="utf-8")
    shutil.rmtree(encoder.parents[1])
    given = x[["size"]].to_numpy(np.float32), x[["review", "kind", "note"]].to_numpy(object)
    assert np.array_equal(load_engine(tmp_path, contract).predict(*given), champion.predict(*given))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no tokenizer", "holds no tokenizer.json: put the encoder's files there, as its authors publish them"),
        ("kind", "is a t5, which is not known here: use one of bert, distilbert, roberta, xlm-roberta, camembert"),
        ("activation", "its hidden_act is 'relu', which is not known here: use an encoder with gelu"),
        ("pooling", "its authors pool by pooling_mode_max_tokens, which is not known here: use another encoder"),
        ("weights", "cannot be read"),
        ("package", "there is no installed package 'no_such_package': install it, or name a folder"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_told_in_one_line(change: str, said: str, tmp_path: Path) -> None:
    config = {"kind": {"model_type": "t5"}, "activation": {"hidden_act": "relu"}}.get(change, {})
    encoder: Any = write_encoder(tmp_path / "encoder", **config) if "model_type" not in config else write_encoder(tmp_path / "encoder")
    if change == "no tokenizer":
        (encoder / "tokenizer.json").unlink()
    elif change == "kind":
        (encoder / "config.json").write_text(json.dumps({"model_type": "t5"}), encoding="utf-8")
    elif change == "pooling":
        (encoder / "1_Pooling").mkdir()
        (encoder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}), encoding="utf-8")
    elif change == "weights":
        (encoder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(PipelineError) as caught:
        fitted("package:no_such_package/model" if change == "package" else encoder, "ridge", "regression")  # type: ignore[arg-type]
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("train.encoder_params.folder")
