"""A transformer as an ONNX graph: its nodes are written from the same function that learns, for any number of rows and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops_pipeline.modelling.transformer import Shape, embeddings

OPSET = 21


@dataclass(frozen=True)
class Value:
    """What a node gives, or a constant."""

    graph: Graph
    name: str

    def __add__(self, other: Value) -> Value:
        return self.graph.node("Add", self, other)

    def __matmul__(self, other: Value) -> Value:
        return self.graph.node("MatMul", self, other)


class Graph:
    """The operations of a transformer as nodes of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.int64) -> Value:
        from onnx import numpy_helper

        name = f"constant {len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return Value(self, name)

    def node(self, kind: str, *given: Value, **attributes: Any) -> Value:
        return self.named(f"node {len(self.nodes)}", kind, *given, **attributes)

    def named(self, name: str, kind: str, *given: Value, **attributes: Any) -> Value:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, [each.name for each in given], [name], name=name, **attributes))
        return Value(self, name)

    def rows_of(self, table: Value, places: Value) -> Value:
        return self.node("Gather", table, places, axis=0)

    def first_rows(self, table: Value, tokens: Value) -> Value:
        zero = self.constant([0])
        return self.node("Slice", table, zero, self._count(tokens), zero)

    def normalised(self, values: Value, scale: Value, shift: Value, epsilon: float) -> Value:
        return self.node("LayerNormalization", values, scale, shift, axis=-1, epsilon=epsilon)

    def gelu(self, values: Value) -> Value:
        return self.node("Gelu", values)

    def softmax(self, values: Value) -> Value:
        return self.node("Softmax", values, axis=-1)

    def in_heads(self, values: Value, heads: int) -> tuple[Value, Value, Value]:
        # (rows, tokens, 3 * heads * size) to three of (rows, heads, tokens, size)
        parted = self.node("Reshape", values, self.constant([0, 0, 3 * heads, -1]))
        moved = self.node("Transpose", parted, perm=[0, 2, 1, 3])
        ends = (0, heads, 2 * heads, 3 * heads)
        queries, keys, values = (
            self.node("Slice", moved, self.constant([ends[k]]), self.constant([ends[k + 1]]), self.constant([1])) for k in range(3)
        )
        return queries, self.node("Transpose", keys, perm=[0, 1, 3, 2]), values

    def out_of_heads(self, values: Value, width: int) -> Value:
        return self.node("Reshape", self.node("Transpose", values, perm=[0, 2, 1, 3]), self.constant([0, 0, width]))

    def mean_of_tokens(self, values: Value) -> Value:
        from onnx import TensorProto

        count = self._count(values)
        share = self.node("Div", self.constant([1], np.float32), self.node("Cast", count, to=TensorProto.FLOAT))
        shares = self.node("Expand", share, self.node("Concat", self.constant([1, 1]), count, axis=0))
        return self.node("Squeeze", self.node("MatMul", shares, values), self.constant([1]))

    def first_token(self, values: Value) -> Value:
        return self.node("Gather", values, self.constant(0), axis=1)

    def of_length_one(self, values: Value) -> Value:
        return self.node("LpNormalization", values, axis=-1, p=2)

    def dropped(self, values: Value) -> Value:
        return values

    def _count(self, values: Value) -> Value:
        """How many tokens there are, shape (1,)."""
        return self.node("Shape", values, start=1, end=2)


def encoder_graph(weights: Mapping[str, np.ndarray], of: Shape) -> bytes:
    """The ONNX file's bytes of an encoder: ``tokens``, int64 (rows, tokens), to ``embedding``, float32 (rows, width)."""
    from onnx import TensorProto, helper

    graph = Graph()
    held = {name: graph.constant(each, np.float32) for name, each in weights.items()}
    graph.named("embedding", "Identity", embeddings(graph, held, Value(graph, "tokens"), of))
    made = helper.make_graph(
        graph.nodes,
        "encoder",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [None, None])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [None, of.width])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10, producer_name="mlops-pipeline")
    content: bytes = model.SerializeToString(deterministic=True)
    return content
