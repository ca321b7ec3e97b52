"""Networks for tables: an MLP, and TabM, which is many of them that share most weights (Gorishniy and others, 2025).

A network is arrays of weights and one function, :func:`outputs`, that is written in no library's words: NumPy predicts by it,
PyTorch learns by it (``tabular_training``), and ONNX is told by it what to compute (``formats.network_graph``). Only to fit one takes
PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mlops_pipeline.modelling.fitting import Learning

BEYOND = 10.0
"""Standard deviations from the mean at which a number itself goes on as if it were no further away."""

FAR = 1e6
"""The same for the pieces: infinity is a number that is far away."""


class NetworkPlan(Learning, Protocol):
    """What a network is made by (``config.networks``)."""

    members: int
    width: int
    depth: int
    embedding: int
    bins: int
    processes: int


class Arrays(Protocol):
    """What a library calls the few operations that a network is made of; its arrays know ``+``, ``-``, ``*`` and ``@``."""

    def clip(self, values: Any, low: Any, high: Any) -> Any: ...

    def relu(self, values: Any) -> Any: ...

    def known(self, values: Any) -> tuple[Any, Any]:
        """The values with 0 for NaN, and 1.0 where there was a value, 0.0 where there was none."""
        ...

    def rows_of(self, table: Any, places: Any) -> Any:
        """Rows of a table by whole numbers, which may be written as floats."""
        ...

    def reshaped(self, values: Any, shape: Sequence[int]) -> Any: ...

    def moved(self, values: Any, order: Sequence[int]) -> Any:
        """The same with its axes in that order."""
        ...

    def joined(self, values: Sequence[Any]) -> Any:
        """Side by side, along the last axis."""
        ...

    def dropped(self, values: Any) -> Any:
        """Some of them 0 while a network learns; else as they are."""
        ...


def outputs(arrays: Arrays, weights: Mapping[str, Any], numbers: Any, codes: Any, depth: int) -> Any:
    """What each member says, (rows, members, outputs): logits of the classes, or values in standard deviations from the mean.

    ``numbers`` are (rows, numbers), NaN for what is missing, ``codes`` (rows, categories), -1 for a level never seen; either may be None.
    """
    columns = []
    if numbers is not None:
        values, known = arrays.known((numbers - weights["mean"]) * weights["inverse_std"])
        values = arrays.clip(values, weights["least"], weights["most"])
        count = weights["pieces"].shape[0]
        values, known = (arrays.reshaped(arrays.moved(each, (1, 0)), (count, -1, 1)) for each in (values, known))
        pieces = arrays.clip((values - weights["left"]) * weights["slope"], weights["low"], weights["high"])
        embedded = arrays.joined([pieces * known, known]) @ weights["pieces"] + weights["missing"]
        columns.append(arrays.reshaped(arrays.moved(embedded, (1, 0, 2)), (-1, 1, count * weights["pieces"].shape[2])))
    if codes is not None:
        embedded = arrays.rows_of(weights["levels"], codes + weights["first_level"])
        columns.append(arrays.reshaped(embedded, (-1, 1, weights["first_level"].shape[0] * weights["levels"].shape[1])))
    x = arrays.joined(columns) if len(columns) > 1 else columns[0]
    for layer in range(depth):
        x = (x * weights[f"in_{layer}"]) @ weights[f"weight_{layer}"] * weights[f"out_{layer}"] + weights[f"bias_{layer}"]
        x = arrays.dropped(arrays.relu(x))
    said = arrays.moved(x, (1, 0, 2)) @ weights["head"]
    return arrays.moved(said, (1, 0, 2)) + weights["head_bias"]


FIXED = ("mean", "inverse_std", "least", "most", "left", "slope", "low", "high", "first_level")
"""Weights that describe the rows and are not learned."""


def first_weights(numbers: np.ndarray | None, codes: np.ndarray | None, said: int, of: NetworkPlan) -> dict[str, Any]:
    """A network that has learned nothing yet: float32 arrays, drawn as TabM's authors draw them (``tabm`` 0.0.3)."""
    draw, size, members = np.random.default_rng(of.seed), of.embedding, of.members
    found: dict[str, Any] = {}

    def uniform(shape: tuple[int, ...], inputs: int) -> Any:
        return draw.uniform(-(inputs**-0.5), inputs**-0.5, shape)

    chunks = 0
    if numbers is not None:
        found |= _pieces(numbers, of.bins)
        count, pieces = found["slope"].shape[0], found["slope"].shape[2]
        # The last piece is the number itself, and what follows it says that there is one: piecewise parts are learned from 0 on.
        weight = np.zeros((count, pieces + 1, size))
        weight[:, -2:] = uniform((count, 2, size), size)
        found |= {"pieces": weight, "missing": np.zeros((count, 1, size))}
        chunks += count
    if codes is not None:
        levels = codes.max(axis=0).astype(int) + 2
        first = np.concatenate([[0], np.cumsum(levels)[:-1]])
        table = uniform((int(levels.sum()), size), size)
        table[first] = 0  # a level never seen
        found |= {"first_level": (first + 1).astype(np.float64), "levels": table}
        chunks += len(levels)
    width = chunks * size
    for layer in range(of.depth):
        scale = np.ones((members, width))
        if layer == 0 and members > 1:
            # One draw for a column: all that it was turned into is scaled alike at first.
            scale = draw.normal(size=(members, chunks)).repeat(size, axis=1)
        found[f"in_{layer}"] = scale
        found[f"weight_{layer}"] = uniform((width, of.width), width)
        found[f"out_{layer}"] = np.ones((members, of.width))
        found[f"bias_{layer}"] = uniform((1, of.width), width).repeat(members, axis=0)
        width = of.width
    found["head"] = uniform((members, width, said), width)
    found["head_bias"] = uniform((members, said), width)
    return {name: np.ascontiguousarray(each, dtype=np.float32) for name, each in found.items()}


def _pieces(numbers: np.ndarray, bins: int) -> dict[str, Any]:
    """How numbers are scaled and cut at quantiles: each piece goes from 0 to 1 within its bin, and the last is the number itself.

    Beyond both ends a piece goes on by as much as its bin is wide. No edge is the least or the greatest value, which may be one row's.
    """
    count = numbers.shape[1]
    shares = np.linspace(0, 1, bins + 1)
    shares[0], shares[-1] = 0.25 / bins, 1 - 0.25 / bins
    mean, inverse_std = np.zeros(count), np.ones(count)
    left, slope = np.zeros((count, 1, bins + 1)), np.zeros((count, 1, bins + 1))
    low, high = np.zeros_like(left), np.ones_like(left)
    slope[:, 0, -1], low[:, 0, -1], high[:, 0, -1] = 1, -BEYOND, BEYOND
    for place in range(count):
        values = numbers[:, place]
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        # In 32 bits, as both are kept: of values far from zero, edges would be those of other numbers.
        mean[place], spread = np.float32(values.mean()), values.std()
        inverse_std[place] = np.float32(1 / spread) if spread > 1e-12 * max(1.0, abs(mean[place])) else 1.0
        scaled = np.clip((values - mean[place]) * inverse_std[place], -FAR, FAR)
        edges = np.unique(np.quantile(scaled, shares).astype(np.float32)).astype(np.float64)
        widths = np.diff(edges)
        used = len(widths)
        left[place, 0, :used], slope[place, 0, :used] = edges[:-1], 1 / widths
        if used:
            low[place, 0, 0], high[place, 0, used - 1] = -1, 2
    ends = {"least": np.full((1, 1), -FAR), "most": np.full((1, 1), FAR)}
    return {"mean": mean, "inverse_std": inverse_std, **ends, "left": left, "slope": slope, "low": low, "high": high}


class InNumpy:
    """The operations in NumPy, for predictions."""

    def clip(self, values: Any, low: Any, high: Any) -> Any:
        return np.clip(values, low, high, out=values)

    def relu(self, values: Any) -> Any:
        return np.maximum(values, 0, out=values)

    def known(self, values: Any) -> tuple[Any, Any]:
        missing = np.isnan(values)
        return np.where(missing, 0, values), np.where(missing, 0.0, 1.0)

    def rows_of(self, table: Any, places: Any) -> Any:
        return table[places.astype(np.int64)]

    def reshaped(self, values: Any, shape: Sequence[int]) -> Any:
        return values.reshape(shape)

    def moved(self, values: Any, order: Sequence[int]) -> Any:
        return values.transpose(order)

    def joined(self, values: Sequence[Any]) -> Any:
        return np.concatenate(values, axis=-1)

    def dropped(self, values: Any) -> Any:
        return values
