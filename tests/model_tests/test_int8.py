"""A twin in 8 bits: judged by decisions and a metric, and asked so that a row's neighbours do not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Onnx
from mlops_pipeline.contract.evaluation import TwinReport
from mlops_pipeline.contract.spec import Column, Contract
from mlops_pipeline.inference.engine import load_engine
from mlops_pipeline.modelling.estimators import predict
from mlops_pipeline.modelling.formats.int8 import make_int8
from mlops_pipeline.modelling.formats.twin import make_twin
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.metrics import Predictions
from tests.model_tests.test_networks import unlearned
from tests.model_tests.workbench import FEATURES, KINDS, PROBLEMS, fitted, raw_table, truth


def quantised(folder: Path, model: Any, x: Any, y: Any, task: Any, things: Any = None, **rules: Any) -> tuple[TwinReport, Contract]:
    classes: list[Any] = [] if task == "regression" else [0, 1] if task == "binary" else [0, 1, 2]
    contract = Contract(task=task, classes=classes, columns={name: Column(kind) for name, kind in KINDS.items()})
    said = predict(model, x, task)
    assert make_twin(plugins.part(plugins.ModelFormat, "onnx"), folder, model, contract, x, said, 1e-4).accepted
    return make_int8(Onnx(quantise="int8", **rules), folder, model, contract, x, Predictions(task, y, said, 1, things)), contract


@pytest.mark.parametrize("problem", ["binary", "regression"])
def test_a_network_in_8_bits_decides_alike_whoever_stands_beside_a_row(problem: str, tmp_path: Path) -> None:
    of = PROBLEMS[problem]
    table = raw_table(300)
    x, y = model_input(table, FEATURES), truth(table, of)
    model = unlearned(of, 3, x, y)
    report, contract = quantised(tmp_path, model, x, y, of.task, int8_decisions=0.6, int8_loss=0.1)
    assert report.accepted and report.max_difference, report.reason
    engine = load_engine(tmp_path, contract)
    assert engine.name == "onnx_int8"
    numbers, words = x[["size", "weight", "count", "flag"]].to_numpy(np.float32), x[["kind", "place"]].to_numpy(object)
    alone = np.concatenate([engine.predict(numbers[row : row + 1], words[row : row + 1]) for row in range(9)])
    assert np.array_equal(engine.predict(numbers[:9], words[:9]), alone)
    refused, _ = quantised(tmp_path, model, x, y, of.task, int8_decisions=0.999)
    assert not refused.accepted and " asked; " in refused.reason
    assert refused.reason.endswith("; it takes 3,838 held-out rows to be so sure")
    assert load_engine(tmp_path, contract).name == "onnx"


def test_rows_of_few_patients_tell_less_of_how_often_8_bits_decide_alike(tmp_path: Path) -> None:
    of = PROBLEMS["regression"]
    table = raw_table(300)
    x, y = model_input(table, FEATURES), truth(table, of)
    model = unlearned(of, 3, x, y)
    by_row, _ = quantised(tmp_path, model, x, y, of.task, int8_decisions=0.9, int8_loss=0.1)
    by_patient, _ = quantised(tmp_path, model, x, y, of.task, np.arange(300) % 8, int8_decisions=0.9, int8_loss=0.1)
    assert by_row.accepted, by_row.reason
    assert not by_patient.accepted
    assert by_patient.reason.endswith("; it takes 35 held-out groups to be so sure")


def test_where_a_class_is_in_no_held_out_row_what_8_bits_lose_is_told_by_accuracy(tmp_path: Path) -> None:
    of = PROBLEMS["multiclass"]
    table = raw_table(300)
    x, y = model_input(table, FEATURES), truth(table, of)
    model = unlearned(of, 3, x, y)
    report, _ = quantised(tmp_path, model, x, np.arange(300) % 2, of.task, int8_decisions=0.5, int8_loss=0.1)
    assert report.accepted, report.reason
    assert "; accuracy " in report.reason
    assert "nan" not in report.reason


def test_trees_are_not_quantised(tmp_path: Path) -> None:
    model, x, y = fitted("lightgbm", PROBLEMS["binary"])
    report, contract = quantised(tmp_path, model, x, y, "binary")
    assert report.reason == "not quantised, it holds neither a network nor an encoder of text: onnx.quantise is for these"
    assert load_engine(tmp_path, contract).name == "onnx"
