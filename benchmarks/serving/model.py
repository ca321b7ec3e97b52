"""The one model that every server answers with, in the format of each, and what it must answer."""

from __future__ import annotations

import json
import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 1000
TOLERANCE = 1e-5
FOREST_TYPES = ["sklearn.tree._tree.Tree"]


@dataclass(frozen=True)
class Model:
    """Where the model's files lie, rows to ask about, and the probability of class 1 for each of them."""

    folder: Path
    columns: tuple[str, ...]
    rows: np.ndarray
    expected: np.ndarray

    @property
    def onnx(self) -> Path:
        return self.folder / "model.onnx"

    def mlflow(self, form: str) -> Path:
        return self.folder / f"mlflow-{form}"

    @property
    def ours(self) -> Path:
        """A version's folder, as `mlops run` registers it."""
        return self.folder / "ours"

    @property
    def mlserver(self) -> Path:
        return self.folder / "mlserver"


def make(folder: Path) -> Model:
    """Fit a forest of 100 trees on the breast cancer table and write it as skops, ONNX and joblib."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    table, target = load_breast_cancer(return_X_y=True, as_frame=True)
    forest = RandomForestClassifier(random_state=0).fit(table.to_numpy(dtype=np.float32), target)
    # Float64 with the table's own few digits: shorter JSON, and float32 again on arrival.
    rows = np.resize(table.to_numpy(), (BATCH, table.shape[1]))
    model = Model(folder, tuple(table.columns), rows, forest.predict_proba(rows.astype(np.float32))[:, 1])
    _write_onnx(forest, model)
    _write_mlflow(forest, model.mlflow("columns"), table.head(3))
    _write_mlflow(forest, model.mlflow("tensor"), table.head(3).to_numpy())
    _write_mlserver(forest, model)
    _write_ours(forest, table, model)
    return model


def session(path: Path) -> Any:
    """An ONNX Runtime session of one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batch_rate(model: Model, seconds: float) -> float:
    """Rows a second of ONNX Runtime alone, in this process, one thread, a batch a call (the median call)."""
    twin, rows, taken = session(model.onnx), model.rows.astype(np.float32), []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        twin.run(["probabilities"], {"rows": rows})
        taken.append(time.perf_counter() - began)
    return BATCH / float(np.median(taken))


def _write_onnx(forest: Any, model: Model) -> None:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    inputs = [("rows", FloatTensorType([None, len(model.columns)]))]
    twin = to_onnx(forest, initial_types=inputs, options={id(forest): {"zipmap": False}}, target_opset=21)
    model.onnx.write_bytes(twin.SerializeToString())
    said = session(model.onnx).run(["probabilities"], {"rows": model.rows.astype(np.float32)})[0][:, 1]
    if not np.allclose(said, model.expected, rtol=0, atol=TOLERANCE):
        raise SystemExit(f"the ONNX twin differs from the forest by {np.abs(said - model.expected).max():.2g}")


def _write_mlflow(forest: Any, folder: Path, sample: Any) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            forest,
            str(folder),
            serialization_format="skops",
            skops_trusted_types=FOREST_TYPES,
            signature=infer_signature(sample, forest.predict_proba(np.asarray(sample))),
            pip_requirements=["scikit-learn", "skops"],
            pyfunc_predict_fn="predict_proba",
        )


def _write_mlserver(forest: Any, model: Model) -> None:
    import joblib

    model.mlserver.mkdir()
    joblib.dump(forest, model.mlserver / "model.joblib")
    settings = {"name": "champion", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.joblib"}}
    (model.mlserver / "model-settings.json").write_text(json.dumps(settings))


def _write_ours(forest: Any, table: Any, model: Model) -> None:
    """The same forest through the pipeline's own functions."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    from mlops_pipeline.config.dataset import Column
    from mlops_pipeline.modelling.formats import onnx as onnx_twin
    from mlops_pipeline.modelling.formats import skops as model_folder

    names = list(model.columns)
    columns = ColumnTransformer([("numbers", "passthrough", names)], verbose_feature_names_out=False).fit(table)
    whole = Pipeline([("columns", columns), ("model", forest)])
    model_folder.save_model(model.ours, whole, table.head(3), table.head(3), "binary", ["scikit-learn", "skops"])
    (model.ours / "onnx").mkdir()
    (model.ours / "onnx/model.onnx").write_bytes(onnx_twin.convert(whole, dict.fromkeys(names, "number"), "binary"))
    bounds = {name: Column(kind="number", min=0, max=2 * float(table[name].max()), nullable=False) for name in names}
    described = {name: column.model_dump() for name, column in bounds.items()}
    training = {"task": "binary", "classes": [0, 1], "target": "benign", "estimator": "random_forest"}
    training |= {"columns": described, "categories": {}}
    pairs = [[1 - p, p] for p in model.expected[:3].tolist()]
    expected = {"rows": [dict(zip(names, row, strict=True)) for row in model.rows[:3].tolist()], "outputs": pairs}
    for name, content in (("training", training), ("expected", expected), ("evaluation", {"metrics": {}})):
        (model.ours / f"{name}.json").write_text(json.dumps(content))
