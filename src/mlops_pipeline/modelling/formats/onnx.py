"""The ONNX twin of a fitted pipeline: the same predictions without scikit-learn."""

from __future__ import annotations

import copy
import logging
import shutil
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops_pipeline.contract.spec import CATEGORIES, NUMBERS, Contract
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.inference import texts
from mlops_pipeline.inference.texts import Read
from mlops_pipeline.modelling.formats import network_graph
from mlops_pipeline.modelling.formats.twin import NotConvertible, by_kind
from mlops_pipeline.modelling.thresholds import unsettled

if TYPE_CHECKING:
    from pathlib import Path

    from sklearn.pipeline import Pipeline

TARGET_OPSET = {"": 21, "ai.onnx.ml": 3}
"""onnxmltools' LightGBM converter writes trees of ai.onnx.ml 3."""

WORDS = {"datetime": "a moment"}
"""Kinds of columns that neither ONNX nor a reader beside it has an answer for."""

NAMED = 6
"""So many columns that prevent a twin are named."""


def save_twin(folder: Path, model: Pipeline, contract: Contract) -> None:
    """Write the twin; raises :class:`NotConvertible`, or whatever the converter does."""
    alone = [f"'{name}' is {WORDS[kind]}" for name, kind in contract.features.items() if kind in WORDS]
    if alone:
        raise NotConvertible(
            f"{', '.join(alone[:NAMED])}{f' and {len(alone) - NAMED} more' if alone[NAMED:] else ''}: served by scikit-learn"
        )
    read = _save_readers(folder, model, contract)
    content = convert(model, contract.features, contract.task, read)
    (folder / "model.onnx").write_bytes(content)


def _save_readers(folder: Path, model: Pipeline, contract: Contract) -> list[Read]:
    """Write what reads the model's texts, and the list of it; raises :class:`NotConvertible`."""
    shutil.rmtree(folder / texts.FOLDER, ignore_errors=True)
    read: list[Read] = []
    for member in _members(model):
        columns, estimator = member.named_steps["columns"], _inner(member)
        for name, step, column in columns.transformers_:
            if not isinstance(column, str):
                continue
            kind = contract.columns[column].kind
            weights = np.atleast_2d(estimator.coef_)[:, columns.output_indices_[name]].T if hasattr(estimator, "coef_") else None
            saved = step.save_reader(folder / texts.FOLDER / str(len(read)), weights) if hasattr(step, "save_reader") else None
            if saved is None:
                raise NotConvertible(
                    f"'{column}' is {kind}, and {type(estimator).__name__} takes its n-grams as they are: give the encoder `numbers`"
                )
            read.append(Read(column, *saved))
    if read:
        (folder / texts.FOLDER / texts.FILE).write_bytes(msgspec.json.encode(read))
    return read


def _members(model: Pipeline) -> list[Pipeline]:
    """The pipelines that a model is the mean of; itself if it is none."""
    from mlops_pipeline.modelling.blend import Blend

    made_of = model.steps[1][1]
    return [each for member in made_of.members for each in _members(member)] if isinstance(made_of, Blend) else [model]


def _inner(model: Pipeline) -> Any:
    """The estimator of a pipeline, without what puts its center back."""
    estimator = model.steps[1][1]
    return getattr(estimator, "regressor", estimator) if hasattr(estimator, "center") else estimator


def convert(model: Pipeline, kinds: dict[str, str], task: str, read: Sequence[Read] = (), first: int = 0) -> bytes:
    """The ONNX file's bytes of a fitted pipeline, its many named columns gathered into two inputs.

    What ``read`` makes of texts stands behind the numbers; the model's own begins with reader ``first``.
    """
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import convert_sklearn, update_registered_converter
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes, calculate_linear_regressor_output_shapes

    from mlops_pipeline.modelling.blend import Blend
    from mlops_pipeline.modelling.network_estimators import NetworkClassifier, NetworkRegressor

    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
    classifier_options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(
        LGBMClassifier, "LightGbmLGBMClassifier", calculate_linear_classifier_output_shapes, convert_lightgbm, options=classifier_options
    )
    update_registered_converter(
        LGBMRegressor, "LightGbmLGBMRegressor", calculate_linear_regressor_output_shapes, convert_lightgbm, options={"split": None}
    )
    if isinstance(model.steps[1][1], Blend):
        graphs = []
        for member in model.steps[1][1].members:
            graphs.append(convert(member, kinds, task, read, first))
            first += sum(isinstance(names, str) for _, _, names in member.named_steps["columns"].transformers_)
        return _averaged(graphs, model)
    update_registered_converter(
        NetworkClassifier,
        "OurNetworkClassifier",
        calculate_linear_classifier_output_shapes,
        network_graph.write_classifier,
        options=classifier_options,
    )
    update_registered_converter(
        NetworkRegressor, "OurNetworkRegressor", calculate_linear_regressor_output_shapes, network_graph.write_regressor
    )
    numbers, categories = by_kind({name: kind for name, kind in kinds.items() if kind != "text"})
    columns = copy.copy(model.named_steps["columns"])
    width = len(numbers) + sum(each.width for each in read)
    places = {name: index for index, name in enumerate(numbers)} | {name: width + index for index, name in enumerate(categories)}
    at = len(numbers) + sum(each.width for each in read[:first])
    steps = []
    for name, step, names in columns.transformers_:
        if isinstance(names, str):
            steps.append((name, "passthrough", list(range(at, at + read[first].width))))
            at, first = at + read[first].width, first + 1
        elif name != "remainder":
            steps.append((name, step, [places[c] for c in names]))
    gathered = copy.copy(model)
    estimator, inner = model.steps[1][1], _inner(model)
    if hasattr(estimator, "slope_"):
        raise NotConvertible("a line through time is part of it: served by scikit-learn")
    if beyond := unsettled(inner):
        raise NotConvertible(f"its trees tell apart numbers{_named(columns, beyond)} that 32-bit floats do not: served by its own format")
    if read and hasattr(inner, "coef_"):
        inner = _with_texts_added(inner, columns)
    columns.transformers_ = steps
    gathered.steps = [("columns", columns), ("model", inner)]
    inputs = [(NUMBERS, FloatTensorType([None, width]))] if width else []
    inputs += [(CATEGORIES, StringTensorType([None, len(categories)]))] if categories else []
    options = {} if not has_classes(task) else {id(inner): {"zipmap": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = convert_sklearn(gathered, initial_types=inputs, options=options, target_opset=TARGET_OPSET, name="model")
    if hasattr(estimator, "center"):
        _centred(converted, estimator.center)
    # skl2onnx lists the opsets in the order of a set, which is another in every process.
    converted.opset_import.sort(key=lambda opset: opset.domain)
    content: bytes = converted.SerializeToString(deterministic=True)
    return content


def _named(columns: Any, places: list[int]) -> str:
    """Whose numbers those are that stand in some places of an encoder's matrix; nothing where an encoder names none."""
    try:
        made = columns.get_feature_names_out()
    except (AttributeError, ValueError):
        return ""
    names = [f"'{made[place]}'" for place in places]
    return f" of {', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if names[NAMED:] else ''}"


def _with_texts_added(linear: Any, columns: Any) -> Any:
    """A linear model that adds what readers say of texts, a number for each output, to what it says of the other columns."""
    weights = np.atleast_2d(linear.coef_)
    blocks = []
    for name, _, names in columns.transformers_:
        if isinstance(names, str):
            blocks.append(np.eye(len(weights)))
        elif name != "remainder":
            blocks.append(weights[:, columns.output_indices_[name]])
    made = copy.copy(linear)
    together = np.concatenate(blocks, axis=1)
    made.coef_, made.n_features_in_ = together if linear.coef_.ndim > 1 else together[0], together.shape[1]
    return made


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


def _averaged(members: list[bytes], model: Pipeline) -> bytes:
    """One graph of several that take the same inputs, whose last output is the mean of theirs."""
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    graphs = [ModelProto.FromString(content) for content in members]
    made = ModelProto()
    made.CopyFrom(graphs[0])
    for part in (made.graph.node, made.graph.initializer, made.graph.value_info, made.graph.output):
        del part[:]
    said = []
    for place, each in enumerate(graphs):
        own = {name for node in each.graph.node for name in node.output} | {one.name for one in each.graph.initializer}
        for node in each.graph.node:
            node.name = f"{place} {node.name}"
            for names in (node.input, node.output):
                names[:] = [f"{place} {name}" if name in own else name for name in names]
        for one in each.graph.initializer:
            one.name = f"{place} {one.name}"
        made.graph.node.extend(each.graph.node)
        made.graph.initializer.extend(each.graph.initializer)
        said.append((f"{place} {each.graph.output[-1].name}", each.graph.output[-1].type.tensor_type.elem_type))
    wide = TensorProto.DOUBLE if any(held == TensorProto.DOUBLE for _, held in said) else TensorProto.FLOAT
    for name, held in said:
        if held != wide:
            made.graph.node.append(helper.make_node("Cast", [name], [f"{name} wide"], to=wide, name=f"{name} widened"))
    names = [name if held == wide else f"{name} wide" for name, held in said]
    classes = getattr(model, "classes_", None)
    last = "variable" if classes is None else "probabilities"
    # ONNX Runtime has no Mean of 64-bit floats.
    made.graph.initializer.append(helper.make_tensor("members", wide, [1], [len(names)]))
    made.graph.node.append(helper.make_node("Sum", names, ["total"], name="total"))
    made.graph.node.append(helper.make_node("Div", ["total", "members"], [last], name="mean"))
    width = 1 if classes is None else len(classes)
    if classes is not None:
        as_text = not all(isinstance(each, int) for each in classes.tolist())
        labels = np.array([str(each) for each in classes] if as_text else classes, dtype=object if as_text else np.int64)
        made.graph.initializer.append(numpy_helper.from_array(labels, "classes"))
        made.graph.node.append(helper.make_node("ArgMax", [last], ["likeliest"], axis=1, keepdims=0, name="likeliest"))
        made.graph.node.append(helper.make_node("Gather", ["classes", "likeliest"], ["label"], axis=0, name="label"))
        held = TensorProto.STRING if as_text else TensorProto.INT64
        made.graph.output.append(helper.make_tensor_value_info("label", held, [None]))
    made.graph.output.append(helper.make_tensor_value_info(last, wide, [None, width]))
    versions: dict[str, int] = {}
    for each in graphs:
        for opset in each.opset_import:
            versions[opset.domain] = max(versions.get(opset.domain, 0), opset.version)
    del made.opset_import[:]
    made.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sorted(versions.items()))
    content: bytes = made.SerializeToString(deterministic=True)
    return content
