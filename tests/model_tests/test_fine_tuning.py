"""Fine-tuning: an encoder of text that learns from the rows, in a model that is then saved, converted and served without PyTorch."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Column, Task
from mlops_pipeline.config.pipeline import Onnx
from mlops_pipeline.contract.spec import Column as InContract
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.engine import load_engine
from mlops_pipeline.inference.sentences import SentenceEncoder
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.fine_tuning import FineTuning
from mlops_pipeline.modelling.fitting import Fitting
from mlops_pipeline.modelling.formats import twin
from mlops_pipeline.modelling.formats.int8 import make_int8
from mlops_pipeline.modelling.formats.skops import load_model, save_model
from mlops_pipeline.modelling.metrics import Predictions
from tests.encoders import WORDS, needs_tokenizers, write_encoder
from tests.model_tests.workbench import Killed, killed_in

pytestmark = needs_tokenizers
needs_pytorch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: make torch")

FEATURES = {
    "size": Column(kind="number"),
    "review": Column(kind="text"),
    "kind": Column(kind="category"),
    "note": Column(kind="text"),
}
QUICK = {"learning_rate": 1e-3, "epochs": 6, "patience": 6, "layers": 1, "held_back": 0.25, "device": "cpu"}
STRANGE = ("", "\x00", "👩🏽‍🚒 good", "ש" * 1000, "(missing)", "a " * 100_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@dataclass(frozen=True)
class Made:
    task: Task
    model: Any
    x: pd.DataFrame
    y: Any
    told: list[str]


def rows(task: Task, count: int = 240) -> tuple[pd.DataFrame, Any]:
    """The target follows from words of a text, and from the table's numbers and categories."""
    draw = np.random.default_rng(0)
    words = np.array(WORDS)[draw.integers(0, len(WORDS), (count, 5))]
    x = pd.DataFrame(
        {
            "size": np.where(draw.random(count) < 0.1, np.nan, draw.normal(size=count)),
            "review": [" ".join(each[: draw.integers(1, 6)]) for each in words],
            "kind": draw.choice(["a", "b"], count),
            "note": draw.choice(["good", "a b"], count),
        }
    ).astype(dict.fromkeys(("review", "kind", "note"), object))
    worth = x["review"].str.count("good|great") - x["review"].str.count("bad|broke") + (x["kind"] == "a") + np.nan_to_num(x["size"])
    if task == "regression":
        return x, 1e6 + 10 * worth.to_numpy()
    return x, np.array(["no", "so", "yes"] if task == "multiclass" else ["no", "yes"], dtype=object)[
        np.digitize(worth, [0, 1] if task == "multiclass" else [0.5])
    ]


def unfitted(task: Task, folder: Path, **params: Any) -> Any:
    return build_model("transformer", task, FEATURES, {**QUICK, **params}, 3, None, {"folder": str(folder)})


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def made(request: pytest.FixtureRequest, folder: Path) -> Made:
    x, y = rows(request.param)
    told: list[str] = []
    return Made(request.param, fit(unfitted(request.param, folder), x, y, 1, Fitting(tell=told.append)), x, y, told)


def version(made: Made, x: pd.DataFrame, folder: Path) -> tuple[Any, Contract]:
    """What the model says of rows, and the contract of a version that has its twin."""
    said = predict(made.model, x, made.task)
    classes = [] if made.task == "regression" else made.model.classes_.tolist()
    contract = Contract(task=made.task, classes=classes, columns={name: InContract(each.kind) for name, each in FEATURES.items()})
    report = twin.make_twin(plugins.part(plugins.ModelFormat, "onnx"), folder, made.model, contract, x, said, 1e-5)
    assert report.accepted, report.reason
    return said, contract


@needs_pytorch
def test_it_is_saved_whole_and_its_twin_says_the_same_of_any_text_at_any_number_of_rows(made: Made, tmp_path: Path) -> None:
    x = pd.concat([made.x.head(len(STRANGE)).assign(review=STRANGE), made.x])
    said, contract = version(made, x, tmp_path)
    save_model(tmp_path / "model", made.model, made.x.head(20), made.x.head(3), made.task, ["scikit-learn"])
    assert np.array_equal(predict(load_model(tmp_path / "model"), x, made.task), said)
    engine = load_engine(tmp_path, contract, 2)
    numbers, texts = x[["size"]].to_numpy(np.float32), x[["review", "kind", "note"]].to_numpy(object)
    for count in (1, 2, 33, len(x)):
        answer = engine.predict(numbers[:count], texts[:count])
        assert np.allclose(answer, said[:count], rtol=1e-6, atol=1e-5), count
    if made.task == "binary":
        judged = Predictions(made.task, (np.r_[made.y[: len(STRANGE)], made.y] == "yes").astype(int), said, 1)
        report = make_int8(Onnx(quantise="int8", int8_decisions=0.8, int8_loss=0.1), tmp_path, made.model, contract, x, judged)
        assert report.accepted, report.reason


@needs_pytorch
def test_it_learns_from_texts_and_from_the_columns_beside_them(made: Made) -> None:
    cut, line = made.told
    assert cut.startswith("column 'review': the first 8 tokens are read of a text, and no more of "), cut
    assert "training rows held back, by pass" in line, line
    before, after = (float(word) for word in line.split(" on ")[0].split()[1::2])
    assert after < before
    said = predict(made.model, made.x, made.task)
    if made.task == "regression":
        assert np.std(said - made.y) < 0.6 * np.std(made.y)
    else:
        right = made.model.classes_[said.argmax(axis=1)] == made.y
        assert right.mean() > (0.8 if made.task == "binary" else 0.7)
    without = predict(made.model, made.x.assign(size=0.0, kind="b"), made.task)
    assert not np.allclose(without, said)


@needs_pytorch
def test_texts_that_were_read_lately_are_not_read_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation shuffles the columns one by one, and a text takes milliseconds."""
    read, embedded = list[str](), SentenceEncoder.embedded

    def noted(encoder: SentenceEncoder, texts: Sequence[str]) -> np.ndarray:
        read.extend(texts)
        return embedded(encoder, texts)

    monkeypatch.setattr(SentenceEncoder, "embedded", noted)
    x = made.x.head(60).assign(review=[f"{text} once" for text in made.x["review"].head(60)])
    said = predict(made.model, x, made.task)
    assert read
    read.clear()
    order = np.random.default_rng(0).permutation(60)
    other = predict(made.model, x.assign(size=0.0), made.task)
    shuffled = predict(made.model, x.iloc[order], made.task)
    assert not read
    assert np.allclose(shuffled, said[order], atol=1e-9) and not np.allclose(other, said)


@needs_pytorch
def test_a_fit_that_was_killed_goes_on_where_it_was_and_ends_at_the_bits_that_one_seed_gives(folder: Path, tmp_path: Path) -> None:
    x, y = rows("binary", 120)
    heard: list[str] = []

    def learned(**during: Any) -> bytes:
        model = fit(unfitted("binary", folder, layers=None), x, y, 1, Fitting(**during))
        return bytes(predict(model, x, "binary").tobytes())

    whole, file = learned(), tmp_path / "fit.npz"
    with pytest.raises(Killed):
        learned(checkpoint=file, say=killed_in(2))
    assert file.is_file()
    assert learned(checkpoint=file, say=heard.append) == whole
    assert heard[0].startswith("pass 3,") and not file.exists()


@needs_pytorch
def test_it_ends_when_its_time_is_over_and_says_so(folder: Path) -> None:
    x, y = rows("binary", 120)
    told: list[str] = []
    fit(unfitted("binary", folder, time_limit_s=1e-9), x, y, 1, Fitting(tell=told.append))
    assert told[1].startswith("stopped in pass 1 of 6, as 1e-09 s were over (train.params.time_limit_s)")


@needs_pytorch
def test_processes_that_learn_together_come_to_the_same_bits_each_time_and_leave_nothing(
    folder: Path, started: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    x, y = rows("binary", 120)
    x = x.assign(kind=[f"level {place}" for place in range(120)])  # a sparse table beside the texts
    heard: list[str] = []

    def learned(processes: int, **during: Any) -> Any:
        model = unfitted("binary", folder, layers=None, dropout=0.0, epochs=3, patience=3, processes=processes)
        return predict(fit(model, x, y, 2, Fitting(**during)), x, "binary")

    alone, together = learned(1), learned(2)
    assert np.allclose(together, alone, atol=1e-3)
    file = tmp_path / "fit.npz"
    with pytest.raises(Killed):
        learned(2, checkpoint=file, say=killed_in(1))
    assert np.array_equal(learned(2, checkpoint=file, say=heard.append), together)
    assert heard[0].startswith("pass 2,") and not file.exists()
    assert not list((tmp_path / "temporary").iterdir())
    assert len(started) == 3 and all(process.returncode is not None for process in started)


@needs_pytorch
def test_processes_that_learn_together_end_when_the_time_of_the_first_is_over(folder: Path, started: list[subprocess.Popen[bytes]]) -> None:
    x, y = rows("binary", 120)
    told: list[str] = []
    fit(unfitted("binary", folder, time_limit_s=1e-9, processes=2), x, y, 2, Fitting(tell=told.append))
    assert told[1].startswith("stopped in pass 1 of 6, as 1e-09 s were over (train.params.time_limit_s)")
    assert [process.returncode is not None for process in started] == [True]


@needs_pytorch
@pytest.mark.parametrize(
    ("worth", "measure", "lower", "said"),
    [
        (0.75, "roc_auc", False, "roc_auc 0.7500 on "),
        (-0.25, "correlation", False, "correlation -0.2500 on "),
        (-0.25, "log_loss", True, "log_loss 0.2500 on "),
        (float("nan"), "roc_auc", False, "loss "),
    ],
)
def test_what_was_gained_is_told_by_what_passes_were_compared_by(
    worth: float, measure: str, said: str, folder: Path, *, lower: bool
) -> None:
    x, y = rows("binary", 60)
    told: list[str] = []
    during = Fitting(worth=lambda _rows, _said: worth, measure=measure, lower_is_better=lower, tell=told.append)
    fit(unfitted("binary", folder, epochs=1, layers=0), x, y, 1, during)
    line = told[-1].removeprefix("no pass was better than the encoder as it came (")
    assert line.startswith(said) and ("roc_auc" in line) is (said.startswith("roc_auc"))


@needs_pytorch
def test_a_class_that_only_rows_held_back_have_is_a_class(folder: Path) -> None:
    x, y = rows("multiclass", 60)
    y = np.where(np.arange(60) >= 57, "zero", y).astype(object)
    model = fit(unfitted("multiclass", folder, epochs=1, layers=0), x, y, 1, Fitting(moments=np.arange(60)))
    assert model.classes_.tolist() == ["no", "so", "yes", "zero"]
    assert np.isfinite(predict(model, x, "multiclass")).all()


@needs_pytorch
@pytest.mark.parametrize(
    ("params", "own", "encoder", "said"),
    [
        ({"layers": 9}, {}, None, "train.params.layers = 9: the encoder has 2: give no more, or null for all and its words"),
        (
            {},
            {"beside": "native"},
            None,
            "train.encoder_params.beside = 'native': transformer has a linear head: use one_hot or target_mean",
        ),
        ({}, None, "one_hot", "train.encoder = 'one_hot': transformer learns on from an encoder of texts: use sentences"),
    ],
)
def test_what_it_cannot_do_is_told_in_one_line(params: Any, own: Any, encoder: str | None, said: str, folder: Path) -> None:
    x, y = rows("binary", 30)
    with pytest.raises(PipelineError) as caught:
        given = None if own is None else {"folder": str(folder), **own}
        fit(build_model("transformer", "binary", FEATURES, {**QUICK, **params}, 0, encoder, given), x, y, 1)
    assert str(caught.value) == said


def test_without_pytorch_the_extra_is_named_in_one_line() -> None:
    part = plugins.part(plugins.Estimator, "transformer")
    with pytest.raises(PipelineError) as caught:
        plugins.check_extra(replace(part, extra=plugins.Extra("no_such_library", "PyTorch", "torch")))
    assert str(caught.value) == "train.estimator: transformer: needs PyTorch: pip install 'mlops-pipeline[torch]' or make torch"


def test_the_last_layers_learn_the_first_stay() -> None:
    names = ["words", "scale", "0 heads", "1 scale 0", "2 wide bias", "head", "head bias"]
    assert [name for name in names if FineTuning(layers=2).learns(name, 3)] == ["1 scale 0", "2 wide bias", "head", "head bias"]
    assert [name for name in names if FineTuning(layers=0).learns(name, 3)] == ["head", "head bias"]
    assert [name for name in names if FineTuning(layers=None).learns(name, 3)] == names
