"""A quantised twin: weights in 8 bits, rounded by what stands beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.inference.engine import onnx_engine
from mlops_pipeline.inference.formats import Engine

NAME = "onnx_int8"
ALONE = "one row at a time"
"""A file of that name says that the whole graph is quantised."""

TOLERANCE = 0.05
"""Largest difference from what was expected where it was registered: another processor may round a number to its neighbour."""


class Int8Engine:
    """An engine in 8 bits.

    A quantised graph scales by the greatest number of all rows that it is given: each is asked alone, or its answer would depend on
    its neighbours. One that reads texts is quantised in its encoder only, which sees to that itself.
    """

    name = NAME
    tolerance = TOLERANCE

    def __init__(self, inner: Engine, *, alone: bool) -> None:
        self.precision, self._inner, self._alone = inner.precision, inner, alone
        said = getattr(inner, "notices", None)
        if said is not None:
            self.notices, self.cut_notice = said, inner.cut_notice  # type: ignore[attr-defined]  # of an engine that reads texts

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """As any engine does."""
        count = len(numbers if numbers is not None else categories)  # type: ignore[arg-type]  # a model has columns
        if not self._alone or count < 2:
            return self._inner.predict(numbers, categories)
        rows = (slice(row, row + 1) for row in range(count))
        return np.concatenate(
            [
                self._inner.predict(None if numbers is None else numbers[row], None if categories is None else categories[row])
                for row in rows
            ]
        )


def int8_engine(folder: Path, contract: Contract, threads: int) -> Int8Engine:
    """The engine of the quantised twin in a folder."""
    return Int8Engine(onnx_engine(folder, contract, threads), alone=(folder / ALONE).exists())
