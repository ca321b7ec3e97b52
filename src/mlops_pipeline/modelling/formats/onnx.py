"""The ONNX twin of a fitted pipeline: the same predictions without scikit-learn, or no twin at all."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.config.dataset import Task
from mlops_pipeline.contract.spec import AS_TEXT, CATEGORIES, NUMBERS
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import first_sentences
from mlops_pipeline.inference.engine import OnnxEngine, score
from mlops_pipeline.inference.formats import Engine

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

TARGET_OPSET = {"": 21, "ai.onnx.ml": 3}
"""onnxmltools' LightGBM converter writes trees of ai.onnx.ml 3."""

WORDS = {"text": "free text", "datetime": "a moment"}
"""Kinds of columns that ONNX has no operators for which agree in every language and calendar."""


@dataclass(frozen=True)
class Twin:
    """What became of the conversion. ``content`` is the file's bytes if the twin was accepted."""

    accepted: bool
    max_difference: float | None
    reason: str
    content: bytes | None = None

    def as_json(self) -> dict[str, Any]:
        return {"accepted": self.accepted, "max_difference": self.max_difference, "reason": self.reason}


def make_twin(model: Pipeline, kinds: dict[str, str], x: pd.DataFrame, predicted: Any, task: Task, tolerance: float) -> Twin:
    """Convert the model and compare it with ``predicted``, what the model itself said of the rows ``x``.

    Differences are absolute for probabilities, and in standard deviations of the predictions for regression.
    Accepted only if no row differs by more than ``tolerance``.
    """
    alone = [f"'{name}' is {WORDS[kind]}" for name, kind in kinds.items() if kind in WORDS]
    if alone:
        return Twin(False, None, f"not convertible, {alone[0]}{f' and {len(alone) - 1} more' if alone[1:] else ''}: served by scikit-learn")
    try:
        content = convert(model, kinds, task)
        said = predict(OnnxEngine(content, has_classes=has_classes(task)), x, kinds)
    except Exception as error:  # noqa: BLE001  # whatever a converter cannot do is a reason to serve without it, not to stop the run
        return Twin(False, None, f"not convertible: {type(error).__name__}: {first_sentences(error)}")
    scale = float(np.std(predicted)) or 1.0 if not has_classes(task) else 1.0
    difference = float(np.max(np.abs(said - predicted)) / scale)
    if not difference <= tolerance:
        return Twin(False, round(difference, 9), f"differs by {difference:.2g} on a held-out row, more than {tolerance:g}")
    return Twin(True, round(difference, 9), f"agrees within {difference:.1g} on all {len(x):,} held-out rows", content)


def predict(engine: Engine, x: pd.DataFrame, kinds: dict[str, str]) -> np.ndarray:
    """What an engine says of a model's raw columns: class probabilities, (rows, classes), or values, (rows,); float64."""
    numbers, categories = _by_kind(kinds)
    outputs = score(
        engine,
        x[numbers].to_numpy(dtype=engine.precision) if numbers else None,
        x[categories].to_numpy(dtype=object) if categories else None,
    )
    return outputs.astype(np.float64)


def convert(model: Pipeline, kinds: dict[str, str], task: Task) -> bytes:
    """The ONNX file's bytes of a fitted pipeline, its many named columns gathered into two inputs."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import convert_sklearn, update_registered_converter
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes, calculate_linear_regressor_output_shapes

    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    classifier_options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(
        LGBMClassifier, "LightGbmLGBMClassifier", calculate_linear_classifier_output_shapes, convert_lightgbm, options=classifier_options
    )
    update_registered_converter(
        LGBMRegressor, "LightGbmLGBMRegressor", calculate_linear_regressor_output_shapes, convert_lightgbm, options={"split": None}
    )
    numbers, categories = _by_kind(kinds)
    columns = copy.copy(model.named_steps["columns"])
    places = {name: index for index, name in enumerate([*numbers, *categories])}
    columns.transformers_ = [(name, step, [places[c] for c in names]) for name, step, names in columns.transformers_ if name != "remainder"]
    gathered = copy.copy(model)
    estimator = model.steps[1][1]
    inner = getattr(estimator, "regressor", estimator) if hasattr(estimator, "center") else estimator
    gathered.steps = [("columns", columns), ("model", inner)]
    inputs = [(NUMBERS, FloatTensorType([None, len(numbers)]))] if numbers else []
    inputs += [(CATEGORIES, StringTensorType([None, len(categories)]))] if categories else []
    options = {} if not has_classes(task) else {id(inner): {"zipmap": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = convert_sklearn(gathered, initial_types=inputs, options=options, target_opset=TARGET_OPSET, name="model")
    if inner is not estimator:
        _centred(converted, estimator.center)
    # skl2onnx lists the opsets in the order of a set, which is another in every process.
    converted.opset_import.sort(key=lambda opset: opset.domain)
    content: bytes = converted.SerializeToString(deterministic=True)
    return content


def _centred(converted: Any, center: float) -> None:
    """Let the graph's value get its center back, as a 64-bit float."""
    from onnx import TensorProto, helper

    graph = converted.graph
    value = graph.output[0].name
    graph.initializer.append(helper.make_tensor("center", TensorProto.DOUBLE, [1], [center]))
    graph.node.append(helper.make_node("Cast", [value], ["wide"], to=TensorProto.DOUBLE, name="widened"))
    graph.node.append(helper.make_node("Add", ["wide", "center"], ["centred"], name="centred"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("centred", TensorProto.DOUBLE, [None, 1]))


def _by_kind(kinds: dict[str, str]) -> tuple[list[str], list[str]]:
    return [n for n, kind in kinds.items() if kind not in AS_TEXT], [n for n, kind in kinds.items() if kind in AS_TEXT]
