"""A transformer that reads text (Vaswani and others, 2017; BERT and its kin), as one function that ONNX is told by and PyTorch learns by.

Weights are arrays under names of ours, whatever their authors called them (:mod:`mlops_pipeline.modelling.pretrained`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Shape:
    """``layers`` of ``heads`` each; ``epsilon`` is what layers are normalised with; ``pooling`` is how tokens become a text."""

    layers: int
    heads: int
    width: int
    epsilon: float
    pooling: Literal["mean", "first"] = "mean"
    normalised: bool = False


class Arrays(Protocol):
    """What a library calls the operations that a transformer is made of; its arrays know ``+`` and ``@``."""

    def rows_of(self, table: Any, places: Any) -> Any: ...

    def first_rows(self, table: Any, tokens: Any) -> Any:
        """As many rows of a table as there are tokens in a text."""
        ...

    def normalised(self, values: Any, scale: Any, shift: Any, epsilon: float) -> Any:
        """Each token's numbers brought to mean 0 and variance 1, then scaled and shifted."""
        ...

    def gelu(self, values: Any) -> Any: ...

    def softmax(self, values: Any) -> Any: ...

    def in_heads(self, values: Any, heads: int) -> tuple[Any, Any, Any]:
        """Queries (rows, heads, tokens, size), keys (rows, heads, size, tokens) and values, of all of them side by side."""
        ...

    def out_of_heads(self, values: Any, width: int) -> Any:
        """(rows, heads, tokens, size) to (rows, tokens, width)."""
        ...

    def mean_of_tokens(self, values: Any) -> Any:
        """(rows, tokens, width) to (rows, width), by a product: a sum's last digits would depend on how many rows there are."""
        ...

    def first_token(self, values: Any) -> Any: ...

    def of_length_one(self, values: Any) -> Any:
        """Each row's numbers divided by their length."""
        ...

    def dropped(self, values: Any) -> Any:
        """Some of them 0 while a network learns; else as they are."""
        ...


def embeddings(arrays: Arrays, weights: Mapping[str, Any], tokens: Any, of: Shape) -> Any:
    """What a text is turned into, (rows, width), of its tokens, int64 (rows, tokens): texts of equally many tokens, none padded."""
    x = arrays.rows_of(weights["words"], tokens) + arrays.first_rows(weights["places"], tokens)
    x = arrays.dropped(arrays.normalised(x, weights["scale"], weights["shift"], of.epsilon))
    for layer in range(of.layers):

        def linear(values: Any, name: str, layer: int = layer) -> Any:
            return values @ weights[f"{layer} {name}"] + weights[f"{layer} {name} bias"]

        queries, keys, values = arrays.in_heads(linear(x, "heads"), of.heads)
        seen = arrays.softmax(queries @ keys) @ values
        y = arrays.dropped(linear(arrays.out_of_heads(seen, of.width), "out"))
        x = arrays.normalised(x + y, weights[f"{layer} scale 0"], weights[f"{layer} shift 0"], of.epsilon)
        y = arrays.dropped(linear(arrays.gelu(linear(x, "wide")), "narrow"))
        x = arrays.normalised(x + y, weights[f"{layer} scale 1"], weights[f"{layer} shift 1"], of.epsilon)
    said = arrays.mean_of_tokens(x) if of.pooling == "mean" else arrays.first_token(x)
    return arrays.of_length_one(said) if of.normalised else said
