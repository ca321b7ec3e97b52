"""A network as a part of an ONNX graph: its nodes are written from the same function that predicts, and its batch has any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.modelling.networks import outputs

if TYPE_CHECKING:
    from mlops_pipeline.modelling.network_estimators import NetworkClassifier, NetworkRegressor


@dataclass(frozen=True)
class Value:
    """What a node of the graph gives, or a constant, whose shape is known."""

    graph: InGraph
    name: str
    shape: tuple[int, ...] = ()

    def __add__(self, other: Value) -> Value:
        return self.graph.node("Add", self, other)

    def __sub__(self, other: Value) -> Value:
        return self.graph.node("Sub", self, other)

    def __mul__(self, other: Value) -> Value:
        return self.graph.node("Mul", self, other)

    def __matmul__(self, other: Value) -> Value:
        return self.graph.node("MatMul", self, other)


class InGraph:
    """The operations of a network as nodes of skl2onnx's graph."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def node(self, kind: str, *given: Value, **attributes: Any) -> Value:
        """A node of one output."""
        made = Value(self, self._scope.get_unique_variable_name(kind.lower()))
        self.named(kind, made.name, *given, **attributes)
        return made

    def named(self, kind: str, name: str, *given: Value, **attributes: Any) -> None:
        """A node whose output has that name."""
        self._container.add_node(
            kind,
            [each.name for each in given],
            [name],
            op_version=self._container.target_opset,
            name=self._scope.get_unique_operator_name(kind),
            **attributes,
        )

    def constant(self, values: np.ndarray) -> Value:
        """Numbers, whole numbers or texts that stand in the graph."""
        from onnx import TensorProto

        name = self._scope.get_unique_variable_name("constant")
        kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
        kind = kinds.get(values.dtype.kind, TensorProto.STRING)
        flat = values.ravel().tolist() if kind != TensorProto.STRING else [str(each).encode() for each in values.ravel()]
        self._container.add_initializer(name, kind, list(values.shape), flat)
        return Value(self, name, values.shape)

    def clip(self, values: Value, low: Value, high: Value) -> Value:
        return self.node("Min", self.node("Max", values, low), high)

    def relu(self, values: Value) -> Value:
        return self.node("Relu", values)

    def known(self, values: Value) -> tuple[Value, Value]:
        from onnx import TensorProto

        missing = self.node("IsNaN", values)
        there = self.node("Cast", self.node("Not", missing), to=TensorProto.FLOAT)
        return self.node("Where", missing, self.constant(np.zeros(1, np.float32)), values), there

    def rows_of(self, table: Value, places: Value) -> Value:
        from onnx import TensorProto

        return self.node("Gather", table, self.node("Cast", places, to=TensorProto.INT64), axis=0)

    def reshaped(self, values: Value, shape: Sequence[int]) -> Value:
        return self.node("Reshape", values, self.constant(np.array(shape, dtype=np.int64)))

    def moved(self, values: Value, order: Sequence[int]) -> Value:
        return self.node("Transpose", values, perm=list(order))

    def joined(self, values: Sequence[Value]) -> Value:
        return self.node("Concat", *values, axis=-1)

    def dropped(self, values: Value) -> Value:
        return values

    def columns(self, matrix: Value, places: list[int]) -> Value | None:
        """Some columns of the matrix."""
        return self.node("Gather", matrix, self.constant(np.array(places, dtype=np.int64)), axis=1) if places else None

    def mean(self, values: Value, axes: list[int]) -> Value:
        return self.node("ReduceMean", values, self.constant(np.array(axes, dtype=np.int64)), keepdims=0)


def write_classifier(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's converter of a :class:`NetworkClassifier`: the likeliest class, and the probabilities."""
    graph, network = InGraph(scope, container), operator.raw_operator
    label, probabilities = (each.full_name for each in operator.outputs)
    said = graph.mean(graph.node("Softmax", _said(graph, operator), axis=-1), [1])
    graph.named("Identity", probabilities, said)
    classes = network.classes_
    named = graph.constant(classes.astype(np.int64) if classes.dtype.kind in "iub" else classes)
    graph.named("Gather", label, named, graph.node("ArgMax", said, axis=1, keepdims=0), axis=0)


def write_regressor(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's converter of a :class:`NetworkRegressor`: the values, (rows, 1)."""
    graph, network = InGraph(scope, container), operator.raw_operator
    scale, center = (graph.constant(np.array([each], dtype=np.float32)) for each in (network.scale_, network.center_))
    graph.named("Add", operator.outputs[0].full_name, graph.mean(_said(graph, operator), [1]) * scale, center)


def _said(graph: InGraph, operator: Any) -> Value:
    """What each member says."""
    network: NetworkClassifier | NetworkRegressor = operator.raw_operator
    weights = {name: graph.constant(each) for name, each in network.weights_.items()}
    matrix = Value(graph, operator.inputs[0].full_name)
    numbers, codes = graph.columns(matrix, network.numbers_), graph.columns(matrix, network.categories_)
    result: Value = outputs(graph, weights, numbers, codes, network.depth)
    return result
