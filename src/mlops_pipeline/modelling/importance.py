"""How much of a metric is lost when a column is shuffled (Breiman 2001): what a model listens to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline.config.dataset import Task
from mlops_pipeline.config.pipeline import Settings
from mlops_pipeline.contract.evaluation import Importance
from mlops_pipeline.contract.spec import Contract
from mlops_pipeline.modelling.estimators import predict
from mlops_pipeline.modelling.evaluation import figure
from mlops_pipeline.modelling.formats.twin import predict as by_engine
from mlops_pipeline.modelling.metrics import Predictions, direction, point

if TYPE_CHECKING:
    from mlops_pipeline.inference.formats import Engine

Say = Callable[[str, np.ndarray], Any]
"""What a model says of rows when the values of the named column are handed round in that order."""

SHUFFLES = 3
"""How many times each column is shuffled."""

MOST_ASKED = 500_000
"""Where a model would be asked of more rows in all, each column is shuffled once, and of very many columns on fewer rows."""

FEWEST_ROWS = 100
"""On fewer rows than these no figure says anything."""


def importance(model: Any, x: Any, ours: Predictions, settings: Settings) -> list[Importance]:
    """How much of the metric is lost when a column is shuffled, on some held-out rows, as often as :func:`asked` says.

    Of columns where that can be said: some rows may all be of one class, for which the metric is not defined. What is shuffled once
    has no spread.
    """
    from sklearn.inspection import permutation_importance

    if len(x) < 10 or type(getattr(model, "named_steps", {}).get("model")).__name__.startswith("Dummy"):
        return []
    count, shuffles = asked(min(settings.evaluate.importance_rows, len(x)), x.shape[1])
    rows = np.unique(np.linspace(0, len(x) - 1, count).astype(int))
    sign, some = direction(settings.evaluate.metric), x.iloc[rows]
    say, whole = shuffled(model, some, ours.task), said_by(model, some, ours.task)
    # What is shuffled is where each value comes from: it is encoded once, and found again by that.
    places = np.tile(np.arange(len(rows), dtype=np.int32)[:, None], x.shape[1])

    def scored(_model: Any, sources: Any, y: Any) -> float:
        moved = np.flatnonzero((sources != places).any(axis=0))
        said = say(str(x.columns[moved[0]]), sources[:, moved[0]]) if len(moved) else whole
        return sign * point(settings.evaluate.metric, Predictions(ours.task, y, said, ours.positive))

    found = permutation_importance(model, places, ours.y[rows], scoring=scored, n_repeats=shuffles, random_state=settings.seed)
    means, spreads = found.importances_mean, found.importances_std if shuffles > 1 else np.full(x.shape[1], np.nan)
    order = np.argsort(-means, kind="stable")
    return [Importance(str(x.columns[i]), figure(float(means[i])), figure(float(spreads[i]))) for i in order if np.isfinite(means[i])]


def asked(rows: int, columns: int) -> tuple[int, int]:
    """On how many rows each of so many columns is shuffled, and how many times."""
    if SHUFFLES * rows * columns <= MOST_ASKED:
        return rows, SHUFFLES
    return min(rows, max(FEWEST_ROWS, MOST_ASKED // columns)), 1


def inspected(engine: Engine, contract: Contract) -> Any:
    """The model behind an engine, as scikit-learn's inspection takes it."""
    fitted = getattr(engine, "fitted", None)
    return _ByEngine(engine, contract) if fitted is None else fitted


@dataclass(frozen=True)
class _ByEngine:
    """A model of which there is but an engine, as scikit-learn's inspection takes it."""

    engine: Engine
    contract: Contract

    def fit(self, x: Any, y: Any) -> None:
        """Never called."""


def said_by(model: Any, x: Any, task: Task) -> Any:
    """What an inspected model says of raw columns."""
    return by_engine(model.engine, x, model.contract.features) if isinstance(model, _ByEngine) else predict(model, x, task)


def shuffled(model: Any, x: Any, task: Task) -> Say:
    """:func:`said_by` of rows one column of which is shuffled; what an encoder makes of a value is shuffled with it, not made again."""
    from scipy import sparse
    from sklearn.compose import ColumnTransformer

    from mlops_pipeline.modelling.blend import members_of

    steps = getattr(model, "named_steps", {})
    encoder, estimator = steps.get("columns"), steps.get("model")
    if members := members_of(estimator):
        of_each = [shuffled(member, x, task) for member in members]
        return lambda name, order: np.mean([say(name, order) for say in of_each], axis=0, dtype=np.float64)

    def anew(name: str, order: np.ndarray) -> Any:
        other = x.copy()
        other[name] = x[name].to_numpy()[order]
        return said_by(model, other, task)

    if not isinstance(encoder, ColumnTransformer):
        return anew
    matrix, made = encoder.transform(x), made_of_each(encoder)
    if not (isinstance(matrix, np.ndarray) or sparse.issparse(matrix)):
        return anew

    def say(name: str, order: np.ndarray) -> Any:
        if name not in made:
            return anew(name, order)
        other = matrix.tocsc(copy=True) if sparse.issparse(matrix) else matrix.copy()
        for part in made[name]:
            if sparse.issparse(matrix):
                other = sparse.hstack([other[:, : part.start], matrix[order][:, part], other[:, part.stop :]], format="csc")
            else:
                other[:, part] = matrix[order, part]
        return predict(estimator, other.tocsr() if sparse.issparse(other) else other, task)

    return say


def made_of_each(encoder: Any) -> dict[str, list[slice]]:
    """Which columns of a fitted encoder's matrix are made of each raw column, for those of which that is known.

    None where an encoder of somebody's own takes columns by their places.
    """
    found, unknown = defaultdict[str, list[slice]](list), set[str]()
    if not all(
        isinstance(columns, str) or (isinstance(columns, list) and all(isinstance(each, str) for each in columns))
        for _, _, columns in encoder.transformers_
    ):
        return {}
    for name, step, columns in encoder.transformers_:
        whole = encoder.output_indices_[name]
        names = [columns] if isinstance(columns, str) else columns
        widths = [whole.stop - whole.start] if len(names) == 1 else _widths(step, len(names))
        if sum(widths) != whole.stop - whole.start:
            unknown |= set(names)
            continue
        ends = whole.start + np.cumsum([0, *widths])
        for each, start, stop in zip(names, ends.tolist(), ends[1:].tolist(), strict=False):
            found[each].append(slice(start, stop))
    return {name: parts for name, parts in found.items() if name not in unknown}


def _widths(step: Any, count: int) -> list[int]:
    """How many columns a fitted step makes of each of so many; none where it is not known to take one by one."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

    from mlops_pipeline.modelling.encoders import Moments

    if isinstance(step, Pipeline):
        first, *others = (each for _, each in step.steps)
        return _widths(first, count) if all(_widths(each, 1) == [1] for each in others) else []
    if isinstance(step, Moments):
        return [1 + len(parts) * (2 if step.cyclic else 1) for parts in step.parts_]
    if isinstance(step, OneHotEncoder):
        return [len(levels) for levels in step.categories_]
    if isinstance(step, TargetEncoder):
        return [len(step.classes_) if step.target_type_ == "multiclass" else 1] * count
    hands_on = isinstance(step, FunctionTransformer) and step.func is None
    return [1] * count if hands_on or isinstance(step, SimpleImputer | StandardScaler | OrdinalEncoder) else []
