"""A model format of one's own: LightGBM's text, which any LightGBM reads, with the numbers of the categories beside it."""

from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json, write_json
from mlops_pipeline.plugins import model_format

TREES, CATEGORIES = "trees.txt", "categories.json"


def save(folder: Path, fitted: Any, contract: Contract) -> None:
    """Write the trees, and of each category column the values in the order in which they are numbered."""
    trees, columns = fitted.named_steps["model"], fitted.named_steps["columns"]
    if not hasattr(trees, "booster_") or not set(columns.named_transformers_) <= {"numbers", "categories"}:
        raise PipelineError("train.format = 'lightgbm_text': holds LightGBM's trees alone: set train.estimator: lightgbm, encoder: ordinal")
    trees.booster_.save_model(folder / TREES)
    numbered = columns.named_transformers_.get("categories")
    names = [name for name, column in contract.columns.items() if column.kind == "category"]
    write_json(folder / CATEGORIES, {} if numbered is None else dict(zip(names, map(list, numbered.categories_), strict=True)))


@model_format("lightgbm_text", save=save, requirements=("lightgbm",), platform="lightgbm_text")
class Trees:
    """LightGBM's own text, read without scikit-learn."""

    name = "lightgbm_text"
    precision = np.float64

    def __init__(self, folder: Path, contract: Contract, threads: int) -> None:
        import lightgbm

        self._trees = lightgbm.Booster(model_file=folder / TREES)
        values = read_json(folder / CATEGORIES).values()
        self._numbers = [{value: number for number, value in enumerate(of_column)} for of_column in values]
        self._task, self._threads = contract.task, threads

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """Class probabilities, (rows, classes), or values, (rows,)."""
        parts = [numbers] if numbers is not None else []
        if categories is not None:
            columns = [[of.get(value, -1) for value in categories[:, place]] for place, of in enumerate(self._numbers)]
            parts.append(np.array(columns, np.float64).T)
        said = np.asarray(self._trees.predict(np.hstack(parts), num_threads=self._threads))
        return (np.column_stack([1 - said, said]) if self._task == "binary" else said).astype(np.float32)
