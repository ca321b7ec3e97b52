"""The formats that a model may lie in, the fastest first; the loader of each is imported when a model of it is met."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mlops_pipeline.contract.spec import Contract


class Engine(Protocol):
    """A loaded model; called from one thread at a time."""

    name: str
    precision: Any
    """The type of the numbers it takes: float32, or float64."""

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """Class probabilities, float32 (rows, classes), or values, float32 (rows,)."""
        ...


@dataclass(frozen=True)
class Format:
    """A format: the file that shows that a folder holds it, and ``module:function`` that loads it with a contract and threads."""

    name: str
    file: str
    loader: str

    def load(self, folder: Path, contract: Contract, threads: int) -> Engine:
        """The engine of a folder that holds this format."""
        module, _, name = self.loader.partition(":")
        load: Callable[[Path, Contract, int], Any] = getattr(importlib.import_module(module), name)
        engine: Engine = load(folder, contract, threads)
        return engine


FORMATS = (
    Format("onnx", "onnx/model.onnx", "mlops_pipeline.inference.engine:onnx_engine"),
    Format("skops", "model.skops", "mlops_pipeline.modelling.formats.skops:skops_engine"),
)
