"""Arrays in, arrays out: a loaded model, by ONNX Runtime where the version has a twin, else by its skops file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Engine(Protocol):
    """A loaded model; called from one thread at a time."""

    name: str

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """Class probabilities, float32 (rows, classes), or values, float32 (rows,)."""
        ...


class OnnxEngine:
    """The ONNX twin. ``threads`` is what this worker owns of the machine."""

    name = "onnx"

    def __init__(self, content: bytes, task: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait would take the core from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._run = session.run
        self._regression = task == "regression"
        self._outputs = [session.get_outputs()[0 if self._regression else 1].name]
        self._inputs = {given.name for given in session.get_inputs()}

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        feeds: dict[str, np.ndarray] = {}
        if numbers is not None:
            feeds["numbers"] = numbers
        if categories is not None:
            feeds["categories"] = categories
        said: np.ndarray = self._run(self._outputs, feeds)[0]
        return said.reshape(-1) if self._regression else said


class SkopsEngine:
    """The scikit-learn pipeline itself, for a version whose twin was not accepted; needs the training libraries."""

    name = "skops"

    def __init__(self, folder: Path, names: tuple[str, ...], task: str) -> None:
        from mlops_pipeline.modelling.formats.skops import load_model

        self._model: Any = load_model(folder)
        self._names, self._task = names, task

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        import pandas as pd

        columns = [part[:, k] for part in (numbers, categories) if part is not None for k in range(part.shape[1])]
        frame = pd.DataFrame(dict(zip(self._names, columns, strict=True)))
        said = self._model.predict(frame) if self._task == "regression" else self._model.predict_proba(frame)
        return np.ascontiguousarray(said, dtype=np.float32)


def load_engine(folder: Path, names: tuple[str, ...], task: str, threads: int) -> Engine:
    """The faster engine that this version has."""
    twin = folder / "onnx/model.onnx"
    return OnnxEngine(twin.read_bytes(), task, threads) if twin.is_file() else SkopsEngine(folder, names, task)
