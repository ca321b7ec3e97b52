"""What model tests share: a learnable table with gaps, targets for every task, fitted models, and version folders made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Column, Task
from mlops_pipeline.contract.evaluation import TwinReport
from mlops_pipeline.contract.spec import Column as ColumnOf
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.files import write_json
from mlops_pipeline.modelling.estimators import build_model, fit, predict
from mlops_pipeline.modelling.formats import twin as twins
from mlops_pipeline.modelling.formats.skops import save_model
from mlops_pipeline.modelling.formats.version import model_digest as digest_of
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.requirements import model_requirements

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


class Killed(Exception):
    """A fit is stopped here."""


def killed_in(turn: int, heard: list[str] | None = None) -> Callable[[str], None]:
    """What hears the lines of a fit, and stops it after so many passes."""

    def hear(line: str) -> None:
        if heard is not None:
            heard.append(line)
        if line.startswith(f"pass {turn},"):
            raise Killed

    return hear


FEATURES = {
    "size": Column(kind="number"),
    "weight": Column(kind="number", min=0),
    "count": Column(kind="integer", nullable=False),
    "flag": Column(kind="boolean"),
    "kind": Column(kind="category"),
    "place": Column(kind="category", nullable=False),
}
KINDS: dict[str, str] = {name: column.kind for name, column in FEATURES.items()}

QUICK: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 12},
    "logistic_regression": {},
    "hist_gradient_boosting": {"max_iter": 15},
    "lightgbm": {"n_estimators": 15},
    "dummy": {},
    "blend": {
        "members": [
            {"estimator": "random_forest", "params": {"n_estimators": 6}},
            {"estimator": "lightgbm", "params": {"n_estimators": 8}},
        ]
    },
    "torch_mlp": {"epochs": 8, "batch_rows": 64, "width": 16, "learning_rate": 0.02},
    "torch_tabm": {"epochs": 8, "batch_rows": 64, "width": 16, "learning_rate": 0.02, "members": 3},
}
"""Parameters with which an estimator is fitted in a blink."""


@dataclass(frozen=True)
class Problem:
    """A task, and the labels it is told in."""

    name: str
    task: Task
    labels: tuple[Any, ...] = ()


PROBLEMS = {
    "binary": Problem("binary", "binary", (0, 1)),
    "binary words": Problem("binary words", "binary", ("no", "yes")),
    "multiclass": Problem("multiclass", "multiclass", ("hail", "rain", "sun")),
    "regression": Problem("regression", "regression"),
}
ESTIMATORS = {name: part for name, part in plugins.parts(plugins.Estimator).items() if not part.race and part.encoder != "sentences"}
"""All but those that need texts, and so other rows (``test_fine_tuning``)."""
LACKING = {name: part.extra for name, part in ESTIMATORS.items() if part.extra is not None and not part.extra.is_here}
"""Estimators that cannot be fitted here, where an extra that no lock holds is not installed."""


def case(name: str, *more: Any) -> Any:
    """Parameters of a test that fits an estimator; where its extra is not installed it is skipped and says how to install it."""
    extra = LACKING.get(name)
    marks = [] if extra is None else [pytest.mark.skip(reason=f"{extra.library} is not installed: make {extra.name}")]
    return pytest.param(name, *more, marks=marks, id=", ".join((name, *more)))


CASES = [case(name, problem) for name, part in ESTIMATORS.items() for problem, of in PROBLEMS.items() if of.task in part.tasks]


def raw_table(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """Numbers and categories, every ninth of most of them null."""
    rng = np.random.default_rng(seed)
    table = pl.DataFrame(
        {
            "size": rng.normal(size=rows).round(3),
            "weight": rng.normal(10, 3, size=rows).clip(0).round(2),
            "count": rng.integers(0, 9, size=rows),
            "flag": pl.Series(rng.integers(0, 2, size=rows), dtype=pl.Int8),
            "kind": rng.choice(["a", "b", "c"], size=rows),
            "place": rng.choice(["here", "there"], size=rows),
        }
    )
    gaps = [name for name, column in FEATURES.items() if column.nullable]
    return table.with_columns(pl.when((pl.int_range(pl.len()) + 2 * k) % 9 != 0).then(pl.col(name)) for k, name in enumerate(gaps))


def truth(table: pl.DataFrame, problem: Problem, seed: int = 0) -> Any:
    """A target that the columns mostly explain."""
    size, kind = table["size"].fill_null(0).to_numpy(), (table["kind"].fill_null("") == "a").to_numpy()
    signal = size + 2 * kind + 0.3 * np.random.default_rng(seed + 1).normal(size=table.height)
    if problem.task == "regression":
        return signal
    cuts = [0.5] if problem.task == "binary" else [0.0, 1.5]
    return np.array(problem.labels, dtype=object if isinstance(problem.labels[0], str) else np.int8)[np.digitize(signal, cuts)]


def fitted(name: str, problem: Problem, threads: int = 1, seed: int = 3, rows: int = 400, **params: Any) -> tuple[Pipeline, Any, Any]:
    """A fitted model, with the rows and the target it was fitted on."""
    table = raw_table(rows)
    x, y = model_input(table, FEATURES), truth(table, problem)
    model = build_model(name, problem.task, FEATURES, {**QUICK.get(name, {}), **params}, seed)
    return fit(model, x, y, threads), x, y


def save(folder: Path, name: str, model: Pipeline, x: Any, task: Task) -> None:
    save_model(
        folder, model, x.head(50), x.head(3), task, model_requirements(of_parts(name, "requirements")), trusted=of_parts(name, "trusted")
    )


def of_parts(name: str, what: str) -> list[str]:
    """What the parts of a model say that it needs."""
    return [each for part in plugins.parts_of_model(name, None) for each in getattr(part, what)]


@dataclass(frozen=True)
class Converted:
    """What became of an ONNX twin, with the bytes of its file if it was kept."""

    twin: TwinReport
    content: bytes | None

    @property
    def accepted(self) -> bool:
        return self.twin.accepted

    @property
    def reason(self) -> str:
        return self.twin.reason

    @property
    def max_difference(self) -> float | None:
        return self.twin.max_difference


def make_twin(model: Pipeline, kinds: Mapping[str, str], x: Any, predicted: Any, task: Task, tolerance: float) -> Converted:
    """The ONNX twin of a model, as evaluation makes it."""
    classes = [] if task == "regression" else list(range(predicted.shape[1]))
    contract = Contract(task=task, classes=classes, columns={name: ColumnOf(kind) for name, kind in kinds.items()})
    with tempfile.TemporaryDirectory() as folder:
        made = twins.make_twin(plugins.part(plugins.ModelFormat, "onnx"), Path(folder), model, contract, x, predicted, tolerance)
        file = Path(folder) / "onnx/model.onnx"
        assert file.is_file() is made.accepted
        return Converted(made, file.read_bytes() if file.is_file() else None)


def model_digest(folder: Path) -> str:
    """The identity of a scikit-learn model."""
    return digest_of(folder, plugins.part(plugins.ModelFormat, "skops"))


def version_folder(folder: Path, name: str, problem: Problem, *, onnx: bool) -> Pipeline:
    """A folder as the registry keeps it: the model, its twin if asked for, and what it was trained on."""
    model, x, _ = fitted(name, problem)
    save(folder, name, model, x, problem.task)
    if onnx:
        twin = make_twin(model, KINDS, x, predict(model, x, problem.task), problem.task, 1e-4)
        assert twin.content is not None, twin.reason
        (folder / "onnx").mkdir()
        (folder / "onnx/model.onnx").write_bytes(twin.content)
    columns = {column: description.model_dump() for column, description in FEATURES.items()}
    seen = {name: sorted(x[name].unique()) for name, kind in KINDS.items() if kind == "category"}
    facts = {"classes": list(problem.labels), "task": problem.task, "columns": columns, "categories": seen}
    write_json(folder / "training.json", facts)
    return model
