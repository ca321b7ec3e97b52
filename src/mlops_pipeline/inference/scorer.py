"""Predict with a registered version's folder: by its ONNX twin where it has one, else by its skops file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json
from mlops_pipeline.modelling.frame import model_input

if TYPE_CHECKING:
    import polars as pl


class Scorer:
    """A loaded version. ``columns`` are its inputs in order, ``kinds`` their kinds, ``classes`` its labels (none for regression)."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        facts = folder / "training.json"
        if not facts.is_file():
            raise PipelineError(f"{folder}: is no model of this pipeline (training.json is missing): run `mlops run` first")
        training = read_json(facts)
        self.kinds: dict[str, str] = training["features"]
        self.classes: list[Any] = training["classes"]
        self.task = training["task"]
        self.columns = {name: Column.model_validate(column) for name, column in training["columns"].items()}
        twin = folder / "onnx/model.onnx"
        self.engine = "onnx" if twin.exists() else "skops"
        if twin.exists():
            from mlops_pipeline.modelling.formats.onnx import session

            self._model = session(str(twin), threads)
        else:
            from mlops_pipeline.modelling.formats.skops import load_model

            self._model = load_model(folder)

    def predict(self, table: pl.DataFrame) -> Any:
        """Class probabilities, shape (rows, classes), or values, shape (rows,); float64."""
        x = model_input(table, self.columns)
        if self.engine == "onnx":
            from mlops_pipeline.modelling.formats.onnx import run

            return run(self._model, x, self.kinds, self.task)
        from mlops_pipeline.modelling.estimators import predict

        return predict(self._model, x, self.task)


def example_rows(folder: Path) -> pl.DataFrame:
    """The model's input example as a table: a few rows of the training data."""
    import polars as pl

    example = read_json(folder / "input_example.json")
    return pl.DataFrame(example["data"], schema=example["columns"], orient="row", infer_schema_length=None)
